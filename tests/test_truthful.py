"""Honesty as truth: what 04 measured for every pair, and how often it is beyond doubt."""

import pytest

from prefvec.report.cells import Gathered
from prefvec.report.truthful import SHOWN, truth_cells, truth_numbers, truth_table
from prefvec.report.views import plain
from study_records import MODELS

QWEN, SMOL, GEMMA = MODELS


def measured(changes):
    rows = {"unsteered": (0, 0, 0), **dict.fromkeys(SHOWN, (0.0, -0.1, 0.1)), **changes}
    return [
        {
            "method": m, "n": 24, "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0,
            "change": c[0], "change_low": c[1], "change_high": c[2],
        }
        for m, c in rows.items()
    ]  # fmt: skip


@pytest.fixture
def cells():
    manifests = {
        (QWEN, SMOL, "honest"): {"truth": measured({"oracle": (-0.11, -0.18, -0.05), "ridge_concept": (-0.08, -0.16, -0.01)})},
        (SMOL, QWEN, "honest"): {"truth": measured({"oracle": (0.2, 0.1, 0.3)})},
        (SMOL, QWEN, "verbosity"): {"truth": []},
        (QWEN, GEMMA, "honest"): {},
    }  # fmt: skip
    return truth_cells(Gathered("p", [], [], [], manifests, []))


def test_pairs_without_the_measurement_have_no_row(cells):
    assert list(zip(cells.source, cells.target, strict=True)) == [(QWEN, SMOL), (SMOL, QWEN)]
    shown = truth_table(cells, plain)
    assert (shown.pair[0], shown.accuracy[0]) == ("Qwen2.5 → SmolLM2", "0.90")
    assert shown["own vector"][0] == "-0.11 [-0.18, -0.05]"


def test_only_intervals_without_zero_are_counted_each_way(cells):
    found = truth_numbers(cells)
    assert found["truth.pairs"] == 2
    assert found["truth.lower.oracle"] == found["truth.higher.oracle"] == 1
    assert (found["truth.lower.ridge_concept"], found["truth.higher.ridge_concept"]) == (1, 0)
    assert found["truth.lower.random_0"] == found["truth.higher.random_0"] == 0


def test_a_study_without_honesty_has_an_empty_table():
    nothing = truth_cells(Gathered("p", [], [], [], {}, []))
    assert truth_numbers(nothing)["truth.pairs"] == 0
    assert truth_table(nothing, plain).shape == (0, 7)
