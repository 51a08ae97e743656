"""Sites, doses and methods are chosen by what they are said to be chosen by."""

import numpy as np
import pandas as pd
import pytest

from prefvec.report.choice import mean_efficiency, ranking
from prefvec.stats import Estimate
from prefvec.transfer.doses import matched_doses
from prefvec.transfer.methods import (
    CONTROLS_OF,
    both_ways,
    centred_by,
    controls_of,
    strongest_wrong,
)
from prefvec.transfer.sites import best_cell, specific_effects


def answers(effects: dict[tuple[str, int, float], float], collapsed=()) -> pd.DataFrame:
    """Four answers a cell: base score 50, moved by the effect downwards."""
    rows = [("unsteered", -1, 0.0, 50.0, False)] * 4
    for (method, layer, dose), effect in effects.items():
        rows += [(method, layer, -dose, 50.0 - effect, (layer, dose) in collapsed)] * 4
    return pd.DataFrame(rows, columns=["method", "layer", "dose", "score", "collapsed"])


EFFECTS = {
    ("ridge_concept", 5, 1.0): 20.0, ("shuffled_pairing", 5, 1.0): 2.0, ("random_0", 5, 1.0): 0.0,
    ("ridge_concept", 5, 2.0): 40.0, ("shuffled_pairing", 5, 2.0): 38.0, ("random_0", 5, 2.0): 20.0,
    ("ridge_concept", 9, 1.0): 30.0, ("shuffled_pairing", 9, 1.0): 4.0, ("random_0", 9, 1.0): 0.0,
}  # fmt: skip


def test_a_dose_at_which_controls_do_the_same_is_not_chosen():
    cells = specific_effects(answers(EFFECTS), "ridge_concept", -1)
    strongest = best_cell(cells, "effect")
    assert (strongest.layer, strongest.dose) == (5, -2.0)
    best = best_cell(cells, "specific")
    assert (best.layer, best.dose) == (9, -1.0)
    assert best.specific == pytest.approx(28.0) and best.control == pytest.approx(2.0)


def test_a_dose_that_breaks_the_controls_is_no_evidence():
    broken = {
        ("ridge_concept", 5, 1.0): 8.3, ("shuffled_pairing", 5, 1.0): -2.0, ("random_0", 5, 1.0): -1.0,
        ("ridge_concept", 5, 2.0): 8.1, ("shuffled_pairing", 5, 2.0): -40.0, ("random_0", 5, 2.0): -38.0,
    }  # fmt: skip
    cells = specific_effects(answers(broken), "ridge_concept", -1)
    assert best_cell(cells, "specific").dose == -1.0
    assert cells.specific.tolist() == pytest.approx(cells.effect.tolist())


def test_a_setting_that_collapses_is_not_chosen():
    cells = specific_effects(answers(EFFECTS, collapsed={(9, 1.0)}), "ridge_concept", -1)
    assert best_cell(cells, "specific").layer == 5


def test_matched_doses_are_equally_far():
    doses = [0.5, 1.0, 2.0]
    curve = pd.DataFrame(
        [(m, d, scale * d**2) for m, scale in (("oracle", 1.0), ("weak", 0.25)) for d in doses],
        columns=["method", "dose", "kl"],
    )
    found = matched_doses(curve, "oracle", 1.0)
    assert found == {"oracle": 1.0, "weak": pytest.approx(2.0)}


def test_rows_are_centred_by_group_and_nothing_else():
    rows = np.random.default_rng(0).normal(size=(6, 3))
    groups = ["a", "b", "a", "b", "c", "a"]
    out = centred_by(rows, groups)
    for name in "abc":
        chosen = [i for i, g in enumerate(groups) if g == name]
        np.testing.assert_allclose(out[chosen].mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(np.diff(out[chosen], axis=0), np.diff(rows[chosen], axis=0))


def test_methods_are_ranked_by_their_mean_over_the_cells_where_it_is_defined():
    cells = pd.DataFrame(
        [("a", 0.9), ("a", 0.7), ("b", 99.0), ("b", np.nan), ("c", -9.0), ("random", 5.0)],
        columns=["method", "te"],
    )
    table = ranking(cells, ["a", "b", "c"])
    assert list(table.method) == ["b", "a", "c"]
    assert list(table["mean"]) == pytest.approx([1.5, 0.8, -1.5])
    assert list(table["count"]) == [1, 2, 1]


def test_the_mean_over_cells_bounds_each_and_leaves_undefined_ones_out():
    nan = float("nan")
    cells = pd.DataFrame({"a": [Estimate(v, nan, nan) for v in (1.0, 0.5, 9.0, nan)]})
    assert mean_efficiency(cells, "a").value == pytest.approx(1.0)


def test_the_wrong_trait_is_turned_the_way_that_moves_the_score_more():
    directions = {
        name: np.ones(3) for name in ("multiscale", "wrong_trait", "wrong_trait_multiscale")
    }
    both = both_ways(directions)
    assert (both["wrong_trait_reversed"] == -1).all() and "multiscale_reversed" not in both
    effects = {"wrong_trait": -2.0, "wrong_trait_reversed": 1.0}
    effects |= {"wrong_trait_multiscale": 3.0, "wrong_trait_multiscale_reversed": -3.0}
    turned = strongest_wrong(directions, effects)
    assert (turned["wrong_trait"] == -1).all() and (turned["wrong_trait_multiscale"] == 1).all()
    assert (turned["multiscale"] == 1).all()


def test_a_map_has_controls_of_its_own_or_those_of_ridge():
    assert controls_of("multiscale") == CONTROLS_OF["multiscale"]
    assert controls_of("procrustes") == controls_of("ridge_concept") == CONTROLS_OF["ridge_concept"]
