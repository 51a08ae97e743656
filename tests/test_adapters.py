"""Maps: right against independent computations, and unable to invent a transfer."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from prefvec.adapters import ADAPTERS, Ridge, make_adapter, ridge_path
from prefvec.adapters.ridge import _Decomposition
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
    assert _Decomposition(x, y).degrees_of_freedom(0.7) == pytest.approx(np.trace(hat))


def test_a_difference_maps_without_intercept(data):
    x, y = data
    for name in ADAPTERS:
        adapter = make_adapter(name).fit(x, y)
        a, b = x[0], x[1]
        np.testing.assert_allclose(
            adapter.map(a) - adapter.map(b), adapter.map(a - b), rtol=1e-3, atol=1e-4
        )
        assert np.allclose(adapter.map(np.zeros(20)), 0)


def test_every_map_has_the_target_width_and_maps_batches(data):
    x, y = data
    for name in ADAPTERS:
        adapter = make_adapter(name).fit(x, y)
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
