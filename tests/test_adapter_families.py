"""Map families: each finds what is in its class, none invents a transfer, all refuse bad input."""

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA as SklearnCCA
from threadpoolctl import threadpool_limits

from prefvec.adapters import ADAPTERS, EffectPreserving, Ridge, default_adapter, make_adapter
from prefvec.adapters.base import KINDS, SEES
from prefvec.adapters.common import held_out_groups
from prefvec.errors import ConfigError, VectorError

LINEAR = ("ridge", "reduced_rank", "cca", "residual", "multiscale", "effect_preserving")
PAIRED = (*LINEAR, "procrustes", "mlp")
SHARE = {"reduced_rank": {"share": 1.0}, "cca": {"share": 1.0}}
CONCEPTS = 2  # rows that `few_shot` is given


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small products: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def cosine(a, b):
    """0 for a map that gives nothing."""
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def planted(seed, shared, n_styles=30, per_style=8, d_source=40, d_target=30, noise=0.3):
    """Two `models` that read hidden, skewed factors: the same ones (`shared`) or each its own.

    Returns rows, styles, and what either model makes of a trait and of two concepts (`[3, d]` each),
    which are directions in the space of factors that the rows do not show as such.
    """
    generator = np.random.default_rng(seed)
    styles = np.repeat(np.arange(n_styles), per_style)

    def factors():
        shown = generator.gamma(1.0, size=(n_styles, 10))[styles]
        return shown + 0.3 * generator.normal(size=(len(styles), 10))

    ours = factors()
    theirs = ours if shared else factors()
    read = generator.normal(size=(10, d_source)), generator.normal(size=(10, d_target))
    x = ours @ read[0] + noise * generator.normal(size=(len(styles), d_source))
    y = theirs @ read[1] + noise * generator.normal(size=(len(styles), d_target))
    directions = generator.normal(size=(3, 10))
    other = directions if shared else generator.normal(size=(3, 10))
    return x, y, styles, directions @ read[0], other @ read[1]


def fitted(name, data, **options):
    """The adapter on activations, or, where it sees differences, on those of the two concepts."""
    x, y, styles, source, target = data
    adapter = make_adapter(name, **options)
    if adapter.sees == "differences":
        return adapter.fit(source[1:], target[1:])
    return adapter.fit(x, y, styles)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_every_adapter_says_what_it_is(name):
    adapter = ADAPTERS[name]
    assert adapter.kind in KINDS and adapter.sees in SEES
    line = adapter.describe()
    assert line and "\n" not in line and not line.endswith(".")
    assert adapter.__doc__ != adapter.__mro__[1].__doc__


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_shapes_batches_and_repeated_fits(name):
    data = planted(0, shared=True)
    first, second = fitted(name, data), fitted(name, data)
    vectors = data[3]
    mapped = first.map(vectors)
    assert mapped.shape == (3, 30) and mapped.dtype == np.float32 and np.isfinite(mapped).all()
    assert first.map(vectors[0]).shape == (30,)
    np.testing.assert_allclose(first.map(vectors[1]), mapped[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(second.map(vectors), mapped)
    assert not first.map(np.zeros(40)).any()
    assert all(np.isfinite(value) for value in first.diagnostics().values())


@pytest.mark.parametrize("name", sorted({*PAIRED, "pca_projection"}))
def test_constants_on_either_side_change_nothing(name):
    """No intercept. `mlp` is trained in float32: agreement to 1e-3 of the length. (`norm_scaled` is
    defined by the lengths of activations as they are; `few_shot` sees differences.)"""
    x, y, styles, source, target = planted(1, shared=True)
    generator = np.random.default_rng(0)
    a, b = 5 * generator.normal(size=40), 5 * generator.normal(size=30)
    plain = fitted(name, (x, y, styles, source, target)).map(source)
    moved = fitted(name, (x + a, y + b, styles, source, target)).map(source)
    tolerance = 1e-3 if name == "mlp" else 1e-5
    assert np.abs(moved - plain).max() < tolerance * np.linalg.norm(plain[0])


@pytest.mark.parametrize("name", LINEAR)
def test_a_planted_linear_map_is_recovered(name):
    generator = np.random.default_rng(2)
    x, weights = generator.normal(size=(200, 20)), generator.normal(size=(20, 12))
    options = {"penalty": 1e-8} | SHARE.get(name, {})
    adapter = make_adapter(name, **options).fit(x, x @ weights + 3, np.arange(200) // 10)
    vectors = generator.normal(size=(5, 20))
    np.testing.assert_allclose(adapter.map(vectors), vectors @ weights, atol=1e-4)


@pytest.mark.parametrize("name", PAIRED)
def test_a_shared_structure_is_found(name):
    """Procrustes can't: the two models read the factors by matrices that no rotation relates."""
    options = {} if name in ("procrustes", "mlp") else {"penalty": 0.1} | SHARE.get(name, {})
    found = []
    for seed in range(3):
        data = planted(seed, shared=True)
        found.append(cosine(fitted(name, data, **options).map(data[3][0]), data[4][0]))
    assert np.mean(found) > (0.5 if name == "procrustes" else 0.85)


@pytest.mark.parametrize("name", sorted({*PAIRED, "pca_projection", "few_shot"}))
def test_unrelated_models_transfer_nothing(name):
    """Alignment rows (or concepts) other than the trait, from models that have nothing in common."""
    found = []
    for seed in range(30):
        data = planted(seed, shared=False)
        found.append(cosine(fitted(name, data).map(data[3][0]), data[4][0]))
    standard_error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * standard_error + 0.05


def test_reduced_rank_minimises_the_penalised_criterion():
    """Against the singular vectors of augmented rows, and against any other map of that rank."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 15)), generator.normal(size=(50, 9))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    unit = np.square(x).sum() / 15
    rows = np.vstack([x, np.sqrt(0.3 * unit) * np.eye(15)])
    answers = np.vstack([y, np.zeros((15, 9))])
    free = np.linalg.lstsq(rows, answers, rcond=None)[0]
    axes = np.linalg.svd(rows @ free)[2][:3].T
    weights = make_adapter("reduced_rank", penalty=0.3, rank=3).fit(x, y).map(np.eye(15))
    np.testing.assert_allclose(weights, free @ axes @ axes.T, atol=1e-6)
    assert np.linalg.matrix_rank(weights, tol=1e-4) == 3

    def criterion(w):
        return np.square(rows @ w - answers).sum()

    for _ in range(20):
        nearby = weights @ (np.eye(9) + 0.05 * generator.normal(size=(9, 9)))
        assert criterion(weights) < criterion(nearby) + 1e-6


def test_reduced_rank_beats_ridge_where_the_truth_has_low_rank():
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(40, 2)) @ generator.normal(size=(2, 30))
    x = generator.normal(size=(80, 40))
    y = x @ weights + 4 * generator.normal(size=(80, 30))

    def best(name, **options):
        maps = [make_adapter(name, penalty=p, **options).fit(x, y) for p in (0.03, 0.1, 0.3, 1.0)]
        return min(np.square(m.map(np.eye(40)) - weights).sum() for m in maps)

    assert best("reduced_rank", rank=2) < 0.6 * best("ridge")


def test_the_share_of_reduced_rank_is_of_what_ridge_explains():
    data = planted(0, shared=True)
    shares = [fitted("reduced_rank", data, share=s).diagnostics() for s in (0.5, 0.9, 1.0)]
    ranks = [entry["rank"] for entry in shares]
    assert ranks == sorted(ranks) and ranks[0] < ranks[1] < 15 and ranks[2] == 30
    assert all(e["share"] >= s - 1e-9 for e, s in zip(shares, (0.5, 0.9, 1.0), strict=True))


def test_cca_with_all_directions_is_ridge_and_has_the_known_correlation():
    x, y, _, source, _ = planted(4, shared=True)
    whole = make_adapter("cca", penalty=0.2, share=1.0).fit(x, y).map(source)
    np.testing.assert_allclose(whole, Ridge(0.2).fit(x, y).map(source), rtol=1e-4, atol=1e-5)
    x, y = x[:, :6], y[:, :4] + 20 * np.random.default_rng(0).normal(size=(240, 4))
    theirs = SklearnCCA(1, max_iter=5000, tol=1e-12).fit(x, y)
    expected = np.corrcoef(*(side[:, 0] for side in theirs.transform(x, y)))[0, 1]
    ours = make_adapter("cca", penalty=1e-9, rank=1).fit(x, y)
    assert ours.correlation == pytest.approx(expected, abs=1e-4)
    assert np.linalg.matrix_rank(ours.map(np.eye(6)), tol=1e-4) == 1


def test_cca_is_blind_to_how_the_target_is_scaled():
    """Which directions are kept does not depend on the units of the target's coordinates."""
    x, y, _, source, _ = planted(5, shared=True)
    units = np.logspace(-1, 1, 30)
    options = {"penalty": 1e-9, "rank": 3}
    plain = make_adapter("cca", **options).fit(x, y).map(source)
    scaled = make_adapter("cca", **options).fit(x, y * units).map(source) / units
    assert cosine(plain[0], scaled[0]) > 0.98


def test_pca_projection_recovers_a_rotation_without_pairing():
    generator = np.random.default_rng(0)
    spread = 0.7 ** np.arange(8)
    basis, rotation = (np.linalg.qr(generator.normal(size=(8, 8)))[0] for _ in range(2))
    latent = (generator.exponential(size=(3000, 8)) - 1) * generator.choice([-1, 1], size=8)
    x = latent * spread @ basis
    y = 3 * x @ rotation + 1
    vectors = generator.normal(size=(4, 8))
    shuffled = generator.permutation(y)
    adapter = make_adapter("pca_projection", share=1.0).fit(x, shuffled)
    np.testing.assert_allclose(adapter.map(vectors), 3 * vectors @ rotation, atol=1e-4)
    unscaled = make_adapter("pca_projection", share=1.0, scaled=False).fit(x, shuffled)
    np.testing.assert_allclose(unscaled.map(vectors), vectors @ rotation, atol=1e-4)


def test_pca_projection_sees_no_pairing():
    x, y, _, source, _ = planted(6, shared=True)
    order = np.random.default_rng(0).permutation(len(x))
    adapter = make_adapter("pca_projection", rank=6)
    plain = adapter.fit(x, y).map(source)
    np.testing.assert_allclose(adapter.fit(x[order], y).map(source), plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(adapter.fit(x, y[order]).map(source), plain, rtol=1e-4, atol=1e-5)
    assert np.linalg.matrix_rank(adapter.map(np.eye(40)), tol=1e-4) == 6


def test_norm_scaled_is_zero_padding_at_the_ratio_of_lengths():
    x, y, _, source, _ = planted(0, shared=False)
    ratio = np.linalg.norm(y, axis=1).mean() / np.linalg.norm(x, axis=1).mean()
    padded = make_adapter("zero_pad").fit(x, y).map(source)
    scaled = make_adapter("norm_scaled").fit(x, y).map(source)
    np.testing.assert_allclose(scaled, ratio * padded, rtol=1e-5)


@pytest.mark.parametrize("d_target", [9, 15, 22])
def test_residual_is_ridge_that_shrinks_to_zero_padding(d_target):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 15)), generator.normal(size=(60, d_target))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    unit = 0.4 * np.square(x).sum() / 15
    padding = np.eye(15, d_target)
    expected = np.linalg.solve(x.T @ x + unit * np.eye(15), x.T @ y + unit * padding)
    found = make_adapter("residual", penalty=0.4).fit(x, y).map(np.eye(15))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    rigid = make_adapter("residual", penalty=1e9).fit(x, y).map(np.eye(15))
    np.testing.assert_allclose(rigid, padding, atol=1e-6)


def test_the_default_map_depends_on_how_far_the_widths_differ():
    assert default_adapter(896, 576) == default_adapter(576, 896) == "ridge"
    assert default_adapter(896, 896) == default_adapter(81, 100) == "residual"
    assert default_adapter(80, 100) == "ridge"  # 20 % is not less than 20 %
    with pytest.raises(VectorError, match="d_source, d_target must be 1 or more"):
        default_adapter(0, 5)


def test_multiscale_weights_undo_the_shrinkage_of_the_band_that_predicts():
    """At penalty 1 a band of equal variances is halved, so its weight is 2. Noise has hardly any."""
    generator = np.random.default_rng(0)
    scales = np.repeat([8.0, 2.0, 0.3], [4, 8, 18])  # as many axes in each band
    latent = generator.normal(size=(400, 30)) * scales
    x = latent @ np.linalg.qr(generator.normal(size=(30, 30)))[0]
    styles = np.arange(400) // 10
    bands = {"coarse": slice(0, 4), "middle": slice(4, 12), "fine": slice(12, 30)}
    for band, axes in bands.items():
        signal = latent[:, axes] @ generator.normal(size=(axes.stop - axes.start, 20))
        y = signal + 0.5 * signal.std() * generator.normal(size=(400, 20))
        found = make_adapter("multiscale", cuts=(0.85, 0.985)).fit(x, y, styles).diagnostics()
        assert found[band] == pytest.approx(2, abs=0.3) and found["r2_held_out"] > 0.6
    adapter = make_adapter("multiscale").fit(x, generator.normal(size=(400, 20)), styles)
    assert (adapter.band_weights >= 0).all() and adapter.band_weights.max() < 0.5


def test_multiscale_takes_weights_that_are_given():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 12)), generator.normal(size=(60, 5))
    given = make_adapter("multiscale", band_weights=[1, 2, 0]).fit(x, y)
    assert list(given.band_weights) == [1, 2, 0]
    parts = [make_adapter("multiscale", band_weights=w).fit(x, y).map(x[0]) for w in np.eye(3)]
    np.testing.assert_allclose(given.map(x[0]), parts[0] + 2 * parts[1], atol=1e-6)
    with pytest.raises(ConfigError, match="band_weights must be three"):
        make_adapter("multiscale", band_weights=[1.0])


def test_mlp_beats_linear_maps_where_the_truth_bends():
    """A step saturates: its effect is less than the slope at rest says, by coordinate differently."""
    generator = np.random.default_rng(0)
    first, last = generator.normal(size=(8, 12)) / 2, generator.normal(size=(12, 10))

    def truth(h):
        return np.tanh(h @ first) @ last

    x = generator.normal(size=(1500, 8)) + 0.5
    y = truth(x) + 0.05 * generator.normal(size=(1500, 10))
    steps = 2 * generator.normal(size=(10, 8))
    effects = np.stack([(truth(x + step) - truth(x)).mean(axis=0) for step in steps])

    def error(adapter):
        mapped = adapter.fit(x, y).map(steps)
        return np.square(mapped - effects).sum() / np.square(effects).sum()

    linear = error(make_adapter("ridge", penalty=1e-3))
    assert error(make_adapter("mlp", hidden=64, weight_decay=1e-3, learning_rate=5e-3)) < linear / 2


def test_mlp_takes_the_step_from_every_row_and_is_not_odd():
    """max(h, 0) by coordinate: a step up counts for most rows, one down only where h was above 0."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, size=(2000, 3))
    adapter = make_adapter("mlp", hidden=64, weight_decay=1e-3, learning_rate=5e-3)
    adapter.fit(x, np.maximum(x, 0))
    for step in ([1.5, 0, 0], [-1.5, 0, 0]):
        step = np.array(step)
        exact = (np.maximum(x + step, 0) - np.maximum(x, 0)).mean(axis=0)
        np.testing.assert_allclose(adapter.map(step), exact, atol=0.12)
    up, down = adapter.map(np.array([[1.5, 0, 0], [-1.5, 0, 0]]))
    assert up[0] > -1.6 * down[0]


def test_mlp_depends_on_its_seed_alone_and_leaves_torch_s_as_it_was():
    data = planted(0, shared=True)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fitted("mlp", data, hidden=16, steps=5)
    assert torch.rand(1) == expected
    again = fitted("mlp", data, hidden=16, steps=5).map(data[3])
    other = fitted("mlp", data, hidden=16, steps=5, seed=1).map(data[3])
    np.testing.assert_array_equal(first.map(data[3]), again)
    assert np.abs(other - again).max() > 1e-3


def test_whole_groups_are_held_out():
    groups = np.array([f"style {i % 7}" for i in range(70)])
    held_out = held_out_groups("mlp", groups, 1, 0.3, 0)
    assert len(set(groups[held_out])) == 2
    assert not set(groups[held_out]) & set(groups[~held_out])


def effect_of(adapter, x, y, styles):
    """Mean cosine and relative length of mapped differences of styles, one by one."""
    means = [[side[styles == s].mean(axis=0) for s in np.unique(styles)] for side in (x, y)]
    cosines, lengths = [], []
    for i in range(len(means[0])):
        for j in range(i):
            mapped = adapter.map(means[0][i] - means[0][j])
            own = means[1][i] - means[1][j]
            cosines.append(cosine(mapped, own))
            lengths.append(np.linalg.norm(mapped) / np.linalg.norm(own))
    return np.array(cosines), np.array(lengths)


def test_effect_preserving_keeps_differences_of_styles_it_has_not_seen():
    x, y, styles, *_ = planted(7, shared=True, n_styles=40, noise=1.0)
    seen = styles < 30
    unseen = x[~seen], y[~seen], styles[~seen]
    ridge = Ridge(3.0).fit(x[seen], y[seen])
    trained = EffectPreserving(penalty=3.0).fit(x[seen], y[seen], styles[seen])
    (before, short), (after, long) = effect_of(ridge, *unseen), effect_of(trained, *unseen)
    assert np.mean(np.square(long - 1)) < 0.7 * np.mean(np.square(short - 1))
    assert after.mean() > before.mean() + 0.02
    found = trained.diagnostics()
    assert found["iterations"] > 0 and found["effect_trained"] < found["effect_ridge"]


def test_the_effect_term_is_the_one_documented():
    """The term at ridge, as reported, against one that takes pair by pair."""
    x, y, styles, *_ = planted(8, shared=True, n_styles=12)
    adapter = EffectPreserving(penalty=2.0).fit(x, y, styles)
    held_out = held_out_groups("effect_preserving", styles, 2, 0.2, 0)
    ridge = Ridge(2.0).fit(x[~held_out], y[~held_out])
    cosines, lengths = effect_of(ridge, x[held_out], y[held_out], styles[held_out])
    expected = np.mean(1 - cosines + np.square(lengths - 1))
    assert adapter.diagnostics()["effect_ridge"] == pytest.approx(expected, rel=1e-4)


def test_effect_preserving_weighs_its_terms():
    """Hardly any effect: ridge, but for the second moments; strong consistency: their size."""
    x, y, styles, source, _ = planted(9, shared=True)
    ridge = Ridge(10.0).fit(x, y)
    idle = EffectPreserving(effect=1e-9, consistency=1e-9).fit(x, y, styles)
    np.testing.assert_allclose(idle.map(source), ridge.map(source), rtol=1e-3, atol=1e-3)
    bound = EffectPreserving(effect=1e-3, consistency=100.0).fit(x, y, styles)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)

    def gap(adapter):
        mapped = adapter.map(x)
        return np.square(mapped.T @ mapped - y.T @ y).sum() / np.square(y.T @ y).sum()

    assert gap(bound) < 0.2 * gap(ridge)


def test_few_shot_returns_what_it_was_given_and_stays_in_its_span():
    *_, source, target = planted(0, shared=False)
    adapter = make_adapter("few_shot", penalty=1e-9).fit(source[1:], target[1:])
    np.testing.assert_allclose(adapter.map(source[1:]), target[1:], rtol=1e-4, atol=1e-4)
    mapped = adapter.map(np.random.default_rng(0).normal(size=(6, 40)))
    assert np.linalg.matrix_rank(np.vstack([mapped, target[1:]]), tol=1e-4) == CONCEPTS
    basis = np.linalg.qr(source[1:].T)[0]
    orthogonal = source[0] - basis @ (basis.T @ source[0])
    assert np.abs(adapter.map(orthogonal)).max() < 1e-5
    one = make_adapter("few_shot").fit(source[1:2], target[1:2]).map(source[0])
    assert abs(cosine(one, target[1])) > 0.9999
    exact = np.linalg.pinv(source[1:]) @ target[1:]  # the smallest of all that interpolate
    np.testing.assert_allclose(adapter.map(np.eye(40)), exact, atol=1e-5)


def test_few_shot_carries_a_mixture_of_its_concepts():
    *_, source, target = planted(1, shared=True)
    mix = np.array([0.6, -0.8])
    adapter = make_adapter("few_shot").fit(source[1:], target[1:])
    assert cosine(adapter.map(mix @ source[1:]), mix @ target[1:]) > 0.99


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pca_projection", {"rank": 0}, "pca_projection rank must be a whole number from 1, got 0"),
        ("pca_projection", {"share": 1.5}, "pca_projection share must be above 0 and at most 1"),
        ("reduced_rank", {"penalty": 0}, "reduced_rank penalty must be above 0, got 0"),
        ("reduced_rank", {"rank": 2.5}, "reduced_rank rank must be a whole number"),
        ("cca", {"penalty": "much"}, "cca penalty must be above 0, got 'much'"),
        ("cca", {"share": 0}, "cca share must be above 0"),
        ("residual", {"penalty": float("nan")}, "residual penalty must be above 0"),
        ("multiscale", {"penalty": -1}, "multiscale penalty must be above 0"),
        ("multiscale", {"folds": 1}, "multiscale folds must be 2 or more"),
        ("multiscale", {"cuts": (0.9, 0.5)}, "multiscale cuts must be two rising shares"),
        ("mlp", {"hidden": 0}, "mlp hidden must be a whole number from 1, got 0"),
        ("mlp", {"steps": True}, "mlp steps must be a whole number"),
        ("mlp", {"learning_rate": 0}, "mlp learning_rate must be above 0"),
        ("effect_preserving", {"effect": -1}, "effect_preserving effect must be above 0"),
        ("effect_preserving", {"steps": 0}, "effect_preserving steps must be a whole number"),
        ("few_shot", {"penalty": 0}, "few_shot penalty must be above 0"),
        ("reduced_rank", {"ranks": 3}, "has no option 'ranks': use one of penalty, rank, share"),
        ("zero_pad", {"rank": 3}, "has no option 'rank': it has none"),
    ],
)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_adapter(name, **options)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_bad_rows_are_refused_by_name(name):
    x, y, styles, *_ = planted(0, shared=False)
    adapter = make_adapter(name)
    with pytest.raises(VectorError, match=f"{name}: activations must be paired"):
        adapter.fit(x, y[:-1], styles)
    with pytest.raises(VectorError, match=f"{name}: activations must be paired"):
        adapter.fit(x[0], y[0])
    with pytest.raises(VectorError, match=f"{name}: groups must name the style of each of the 240"):
        adapter.fit(x, y, styles[:-1])
    with pytest.raises(VectorError, match=f"{name}: fit it before"):
        adapter.map(x[0])
    x[3, 2] = np.nan
    with pytest.raises(VectorError, match=f"{name}: source activations are not all finite"):
        adapter.fit(x, y, styles)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_vector_of_another_width_is_refused(name):
    adapter = fitted(name, planted(0, shared=False))
    with pytest.raises(VectorError, match=f"{name} was fitted for width 40, the vector has 39"):
        adapter.map(np.ones(39))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pca_projection", {"rank": 31}, "pca_projection rank 31 is above 30"),
        ("reduced_rank", {"rank": 31}, "reduced_rank rank 31 is above 30"),
        ("cca", {"rank": 31}, "cca rank 31 is above 30"),
    ],
)
def test_a_rank_that_the_rows_do_not_allow_is_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        fitted(name, planted(0, shared=False), **options)


def test_rows_and_groups_that_do_not_suffice_are_refused():
    x, y, styles, source, target = planted(0, shared=False)
    with pytest.raises(VectorError, match="effect_preserving: needs groups"):
        make_adapter("effect_preserving").fit(x, y)
    with pytest.raises(VectorError, match="needs 4 or more groups of rows .styles., got 3"):
        make_adapter("effect_preserving").fit(x, y, styles % 3)
    with pytest.raises(VectorError, match="mlp: needs 2 or more groups"):
        make_adapter("mlp").fit(x, y, styles * 0)
    with pytest.raises(VectorError, match="multiscale: 5 folds need as many groups, got 4"):
        make_adapter("multiscale").fit(x, y, styles % 4)
    with pytest.raises(ConfigError, match="multiscale needs 3 principal axes or more, got 2"):
        make_adapter("multiscale").fit(x[:, :2], y, styles)
    with pytest.raises(VectorError, match="at most 2 concepts, got 3 rows"):
        make_adapter("few_shot").fit(source, target)
    with pytest.raises(ConfigError, match="few_shot needs source differences other than 0"):
        make_adapter("few_shot").fit(0 * source[:2], target[:2])
    with pytest.raises(ConfigError, match="norm_scaled needs source activations other than 0"):
        make_adapter("norm_scaled").fit(0 * x, y)
    for name in ("pca_projection", "reduced_rank", "cca", "residual", "multiscale"):
        with pytest.raises(ConfigError, match="differ between rows"):
            make_adapter(name).fit(np.ones_like(x), y, styles)
    with pytest.raises(ConfigError, match="effect_preserving needs activations that differ"):
        make_adapter("effect_preserving").fit(x, np.ones_like(y), styles)
