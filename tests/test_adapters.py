"""Maps: right against independent computations, and unable to invent a transfer."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import GroupKFold, KFold
from threadpoolctl import threadpool_limits

from prefvec.adapters import ADAPTERS, Ridge, make_adapter, ridge_path
from prefvec.adapters import ridge as ridge_module
from prefvec.errors import ConfigError, VectorError


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(60, 20)) + 3, generator.normal(size=(60, 12)) - 5


def test_ridge_equals_scikit_learn(data):
    x, y = data
    unit = np.square(x - x.mean(axis=0)).sum() / x.shape[1]
    ours = Ridge(0.3).fit(x, y)
    theirs = SklearnRidge(alpha=0.3 * unit).fit(x, y)
    np.testing.assert_allclose(ours.weights, theirs.coef_.T, rtol=1e-6, atol=1e-9)


def test_degrees_of_freedom_are_the_trace_of_the_hat_matrix(data):
    x, y = data
    centred = x - x.mean(axis=0)
    penalty = 0.7 * np.square(centred).sum() / x.shape[1]
    hat = centred @ np.linalg.solve(centred.T @ centred + penalty * np.eye(20), centred.T)
    assert Ridge(0.7).fit(x, y).degrees_of_freedom == pytest.approx(np.trace(hat))
    path = ridge_path(x, y, np.arange(60), penalties=(0.7,))
    assert path.degrees_of_freedom == pytest.approx([np.trace(hat)])


def fitted(name, x, y):
    """On ten styles; on two rows where a map sees differences."""
    adapter = make_adapter(name)
    rows = slice(2) if adapter.sees == "differences" else slice(None)
    return adapter.fit(x[rows], y[rows], (np.arange(len(x)) % 10)[rows])


def test_a_difference_maps_without_intercept(data):
    x, y = data
    for name in ADAPTERS:
        adapter = fitted(name, x, y)
        a, b = x[0], x[1]
        if adapter.kind != "non-linear":
            np.testing.assert_allclose(
                adapter.map(a) - adapter.map(b), adapter.map(a - b), rtol=1e-3, atol=1e-4
            )
        assert np.allclose(adapter.map(np.zeros(20)), 0)


def test_every_map_has_the_target_width_and_maps_batches(data):
    x, y = data
    for name in ADAPTERS:
        adapter = fitted(name, x, y)
        assert adapter.map(x[0]).shape == (12,)
        np.testing.assert_allclose(adapter.map(x[:3])[1], adapter.map(x[1]), rtol=1e-5)


def test_procrustes_recovers_a_rotation_and_its_scale():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(200, 8))
    rotation, _ = np.linalg.qr(generator.normal(size=(8, 8)))
    adapter = make_adapter("procrustes").fit(x, 2.5 * x @ rotation + 7)
    np.testing.assert_allclose(adapter.rotation, rotation, atol=1e-8)
    assert adapter.scale == pytest.approx(2.5)


def test_zero_pad_and_truncate_keep_the_first_coordinates():
    wide, narrow = np.zeros((1, 5)), np.zeros((1, 3))
    v = np.arange(1.0, 6.0)
    np.testing.assert_array_equal(make_adapter("zero_pad").fit(wide, narrow).map(v), [1, 2, 3])
    np.testing.assert_array_equal(
        make_adapter("zero_pad").fit(narrow, wide).map(v[:3]), [1, 2, 3, 0, 0]
    )


def planted(seed, shared, n_styles=30, per_style=8, d_source=40, d_target=30, noise=0.3):
    """Two `models` whose activations follow hidden factors. With `shared`, the same factors drive
    both; without, each has its own: they are unrelated."""
    generator = np.random.default_rng(seed)
    styles = np.repeat(np.arange(n_styles), per_style)
    factors = generator.normal(size=(n_styles, 10))[styles] + 0.3 * generator.normal(
        size=(len(styles), 10)
    )
    others = factors if shared else generator.normal(size=(n_styles, 10))[styles]
    read = generator.normal(size=(10, d_source)), generator.normal(size=(10, d_target))
    x = factors @ read[0] + noise * generator.normal(size=(len(styles), d_source))
    y = others @ read[1] + noise * generator.normal(size=(len(styles), d_target))
    trait = generator.normal(size=10)
    other_trait = trait if shared else generator.normal(size=10)
    return x, y, styles, trait @ read[0], other_trait @ read[1]


def test_a_shared_structure_is_found():
    x, y, styles, source, target = planted(0, shared=True)
    path = ridge_path(x, y, styles)
    assert cosine(Ridge(path.best_concept).fit(x, y).map(source), target) > 0.9
    assert max(path.concept_cosine) > 0.9


def test_unrelated_models_transfer_nothing():
    """The tautology test: disjoint alignment data from unrelated models give no direction."""
    found = []
    for seed in range(20):
        x, y, styles, source, target = planted(seed, shared=False)
        found.append(
            cosine(Ridge(ridge_path(x, y, styles).best_concept).fit(x, y).map(source), target)
        )
    standard_error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * standard_error + 0.05


def test_fitting_on_the_contrast_data_would_be_a_tautology():
    """Why the alignment set must not know the trait: on its own contrast data with no more rows than
    columns, a map gives the native vector back even between tables of noise."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 64)), generator.normal(size=(20, 48))
    source = x[:10].mean(axis=0) - x[10:].mean(axis=0)
    native = y[:10].mean(axis=0) - y[10:].mean(axis=0)
    assert cosine(Ridge(1e-8).fit(x, y).map(source), native) > 0.999


def test_the_path_reports_both_rules_and_shrinks():
    x, y, styles, *_ = planted(0, shared=True)
    path = ridge_path(x, y, styles)
    assert list(path.degrees_of_freedom) == sorted(path.degrees_of_freedom, reverse=True)
    assert path.best_r2 == path.penalties[int(np.argmax(path.r2))]
    assert path.best_concept == path.penalties[int(np.argmax(path.concept_cosine))]
    assert len(path.rows()) == len(path.penalties)


def refitted(x, y, styles, penalties, folds=5, seed=0):
    """The plain reference of `ridge_path`: scikit-learn fits every fold at every λ.
    Returns r2, r2_styles, concept_cosine, concept_norm, `[4, n_penalties]`."""
    unit = np.square(x - x.mean(axis=0)).sum() / x.shape[1] * (1 - 1 / folds)
    random = list(KFold(folds, shuffle=True, random_state=seed).split(x))
    grouped = list(GroupKFold(folds).split(x, groups=styles))
    records = []
    for penalty in penalties:
        r2, directions = [], []
        for i, (train, test) in enumerate(random + grouped):
            fit = SklearnRidge(alpha=penalty * unit, solver="svd").fit(x[train], y[train])
            source_mean, target_mean = x[train].mean(axis=0), y[train].mean(axis=0)
            error = np.square(y[test] - fit.predict(x[test])).sum()
            r2.append(1 - error / np.square(y[test] - target_mean).sum())
            for style in np.unique(styles[test]) if i >= folds else ():
                rows = styles == style
                mapped = fit.coef_ @ (x[rows].mean(axis=0) - source_mean)
                own = y[rows].mean(axis=0) - target_mean
                length = np.linalg.norm(mapped) / np.linalg.norm(own)
                directions.append((cosine(mapped, own), length))
        records.append((np.mean(r2[:folds]), np.mean(r2[folds:]), *np.mean(directions, axis=0)))
    return np.transpose(records)


GRID = (1e-4, 1e-2, 1.0, 30.0, 1000.0)
SHAPES = {  # rows, source width, target width: the ratios of real fits
    "rows 5000, width 4096": (150, 123, 40),  # a fold trains on fewer rows than columns
    "rows 816, width 896": (109, 120, 77),
    "rows 320, width 576": (80, 144, 144),
    "rows 50, width 576": (26, 300, 20),
    "many rows": (200, 20, 30),
}


def uneven(n, d_source, d_target, outlier=10.0):
    """Rows with a falling spectrum, one dominant direction, a large mean, and styles of unequal
    size, the last of one row."""
    generator = np.random.default_rng(n)
    styles = np.minimum(generator.integers(0, 9, size=n), 7)
    styles[:10], styles[-1] = np.arange(10) % 8, 8
    spectrum = np.arange(1, d_source + 1) ** -0.7
    centres = generator.normal(size=(9, d_source))
    x = (generator.normal(size=(n, d_source)) + centres[styles]) * spectrum
    y = x @ (generator.normal(size=(d_source, d_target)) * spectrum[:, None])
    y += 0.3 * generator.normal(size=y.shape)
    x[:, 0] *= outlier
    return x + 3, y - 5, styles


def scores(path):
    return np.array([path.r2, path.r2_styles, path.concept_cosine, path.concept_norm])


@pytest.fixture(scope="module", params=[(s, o) for s in SHAPES for o in (1.0, 300.0)], ids=str)
def problem(request):
    """Paired rows with their styles, and the scores that refits give them."""
    shape, outlier = request.param
    rows = uneven(*SHAPES[shape], outlier)
    with threadpool_limits(1):  # small products: threads only wait for each other
        return rows, refitted(*rows, GRID)


def test_the_path_equals_a_refit_of_every_fold(problem, monkeypatch):
    monkeypatch.setattr(ridge_module, "LEAF", 8)  # small folds take the road of large ones
    rows, expected = problem
    np.testing.assert_allclose(scores(ridge_path(*rows, GRID)), expected, rtol=1e-9)


def test_float32_products_keep_the_documented_tolerance(problem, monkeypatch):
    monkeypatch.setattr(ridge_module, "FLOAT32_FROM", 0)
    rows, expected = problem
    np.testing.assert_allclose(scores(ridge_path(*rows, GRID)), expected, rtol=1e-4, atol=1e-5)


def test_the_inverse_is_as_accurate_as_the_condition_allows():
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.normal(size=(400, 400)))
    values = np.logspace(0, -8, 400)
    inverse = ridge_module._inverse((basis * values) @ basis.T)
    exact = (basis / values) @ basis.T
    assert np.abs(inverse - exact).max() < 1e-7 * np.abs(exact).max()


def test_bad_input_is_refused_by_name(data):
    x, y = data
    with pytest.raises(VectorError, match="must be paired"):
        Ridge().fit(x, y[:-1])
    with pytest.raises(VectorError, match="fitted for width 20, the vector has 19"):
        Ridge().fit(x, y).map(np.ones(19))
    with pytest.raises(VectorError, match="fit it before"):
        Ridge().map(np.ones(20))
    with pytest.raises(VectorError, match="'rigde' is unknown: use one of"):
        make_adapter("rigde")
    with pytest.raises(ConfigError, match="above 0"):
        Ridge(0)
    with pytest.raises(ConfigError, match="at least as many styles"):
        ridge_path(x, y, ["a"] * 60)
    with pytest.raises(ConfigError, match="above 0, got 0"):
        ridge_path(x, y, np.arange(60), penalties=(1.0, 0))
    with pytest.raises(ConfigError, match="too small for float64"):
        ridge_path(x[:20], y[:20], np.arange(20), penalties=(1e-20,))
    with pytest.raises(ConfigError, match="differ between rows"):
        Ridge().fit(np.ones((5, 3)), y[:5])
