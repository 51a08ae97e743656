"""Which layers correspond, and what the architectures advise."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group

from prefvec.errors import ConfigError
from prefvec.models.architecture import recommended_strategy
from prefvec.study import Alignment
from prefvec.transfer import correspondence
from prefvec.transfer.correspondence import (
    corresponding_layers,
    layer_cka,
    linear_cka,
    named_function,
)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(60, 20)) * np.arange(1, 21)


def test_cka_is_one_for_a_rotated_shifted_and_rescaled_copy(rows):
    rotated = 3 * rows @ ortho_group.rvs(20, random_state=0) + 100
    assert linear_cka(rows, rotated) == pytest.approx(1.0)
    assert linear_cka(rows, np.pad(rotated, ((0, 0), (0, 7)))) == pytest.approx(1.0)


def test_cka_of_independent_rows_is_zero_even_with_more_columns_than_rows():
    generator = np.random.default_rng(0)
    for n, d in ((400, 10), (40, 400)):
        draws = [
            linear_cka(generator.normal(size=(n, d)), generator.normal(size=(n, d)))
            for _ in range(20)
        ]
        assert abs(np.mean(draws)) < 0.02
    x, y = generator.normal(size=(2, 40, 400))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    biased = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert biased > 0.8  # what the plain estimate says of the same noise


def test_cka_is_the_sum_over_distinct_rows_that_defines_it():
    """Song et al. 2012, eq. 4, by brute force on uncentred rows."""
    from itertools import permutations

    x, y = np.random.default_rng(3).normal(size=(2, 6, 3)) + 2

    def hsic(k, m):
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)]  # fmt: skip
        return np.mean(terms)

    k, m = x @ x.T, y @ y.T
    assert linear_cka(x, y) == pytest.approx(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


def test_cka_refuses_what_it_can_not_compare(rows):
    with pytest.raises(ConfigError, match="at least 4 rows, got 3"):
        linear_cka(rows[:3], rows[:3])
    with pytest.raises(ConfigError, match="paired rows, got 60 and 59"):
        linear_cka(rows, rows[1:])
    with pytest.raises(ConfigError, match="all alike"):
        linear_cka(rows, np.ones((60, 4)))


def fake_study(rows, intervention=-1):
    noise = np.random.default_rng(5).normal(size=(60, 12))
    settings = SimpleNamespace(source="a", target="b", intervention_layer=intervention)
    return SimpleNamespace(
        settings=settings,
        source=SimpleNamespace(n_layers=11),
        target=SimpleNamespace(n_layers=21, layer_at=lambda fraction: round(20 * fraction)),
        alignment=Alignment({4: rows, 5: noise}, {8: noise, 12: rows @ rows.T}, (), ()),
    )


def test_every_rule_names_its_own_layer(rows, monkeypatch):
    monkeypatch.setattr(
        correspondence, "validate", lambda *_: (None, {"layer": 14, "effect": 3.0, "dose": 2.0})
    )
    study = fake_study(rows)
    cka = layer_cka(study)
    assert cka.shape == (2, 2) and cka.loc[5, 8] == pytest.approx(1.0)
    found = corresponding_layers(study, 4, cka).set_index("rule").layer_target
    assert dict(found) == {
        "named function": 12, "proportional depth": 8, "linear CKA": 12, "effectiveness": 14
    }  # fmt: skip
    given = corresponding_layers(fake_study(rows, intervention=4), 4, cka)
    assert "effectiveness" not in set(given.rule)


def test_the_nearest_named_function_is_taken():
    names = [named_function(layer, 11)[0] for layer in (0, 3, 4, 7, 8, 10)]
    assert names == [
        "feature extraction", "feature extraction", "representation", "representation",
        "decision making", "decision making",
    ]  # fmt: skip
    assert named_function(0, 1)[0] == "feature extraction"


@pytest.mark.parametrize(
    ("overall", "dimension", "expected"),
    [(0.81, 0.1, "direct"), (0.8, 0.71, "scaled"), (0.8, 0.7, "adapted")],
)
def test_the_advice_follows_the_thresholds(overall, dimension, expected):
    assert recommended_strategy({"overall": overall, "dimension": dimension}) == expected


def test_the_heat_map_names_both_models(rows):
    from prefvec.report.figures import heatmap

    axes = heatmap(layer_cka(fake_study(rows)), "t", "CKA").axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer of b", "layer of a")
    assert isinstance(layer_cka(fake_study(rows)), pd.DataFrame)
