"""Prediction: a planted cause is found in pairs that were left out, noise is not, and nothing leaks."""

import numpy as np
import pandas as pd
import pytest

from prefvec.report import prediction
from prefvec.report.cells import Gathered
from prefvec.stats import Estimate
from study_records import PAIRS

TRAITS = ["verbosity", "formality", "silly", "honest"]
STUDY = Gathered("p", PAIRS, TRAITS, [], {}, [])


def planted(monkeypatch, cause, seed=0):
    """24 cells whose efficiency is the trait's mean, plus `cause` of a predictor, plus a little noise."""
    rng = np.random.default_rng(seed)
    rows = [{"source": a, "target": b, "trait": t} for a, b in PAIRS for t in TRAITS]
    known = pd.DataFrame(rows)
    for name in prediction.PREDICTORS:
        known[name] = rng.normal(size=len(known))
    means = known.trait.map(dict(zip(TRAITS, (0.8, 0.6, 0.4, 0.2), strict=True)))
    values = means + cause(known) + 0.05 * rng.normal(size=len(known))
    cells = known[["source", "target", "trait"]].assign(
        cca=[Estimate(v, v - 0.1, v + 0.1) for v in values]
    )
    monkeypatch.setattr(prediction, "known_before", lambda study, cells: known)
    return cells


def test_a_predictor_that_matters_beats_the_trait_s_mean_in_pairs_left_out(monkeypatch):
    cells = planted(monkeypatch, lambda known: 0.3 * known.concepts)
    found = prediction.predict(STUDY, cells, "cca")
    assert found.verdict == "beats" and found.gain.low > 0.05 and found.rank > 0.8
    assert found.error["all"].value < 0.5 * found.error["trait"].value


@pytest.mark.parametrize("seed", range(4))
def test_predictors_that_do_not_matter_do_not_beat_it(monkeypatch, seed):
    cells = planted(monkeypatch, lambda known: 0.0 * known.concepts, seed)
    assert prediction.predict(STUDY, cells, "cca").verdict == "does not beat"


def test_a_cell_s_own_value_and_its_reverse_do_not_enter_its_prediction(monkeypatch):
    cells = planted(monkeypatch, lambda known: 0.3 * known.concepts)
    before = prediction.predict(STUDY, cells, "cca").rows
    pair = set(PAIRS[0])
    mine = [{r.source, r.target} == pair for r in cells.itertuples()]
    cells["cca"] = [Estimate(-1, -1, -1) if m else e for m, e in zip(mine, cells.cca, strict=True)]
    after = prediction.predict(STUDY, cells, "cca").rows
    np.testing.assert_allclose(before.foretold[mine], after.foretold[mine])
    assert not np.allclose(before.foretold[~np.array(mine)], after.foretold[~np.array(mine)])


def test_cells_without_a_value_are_left_out_and_too_few_decide_nothing(monkeypatch):
    cells = planted(monkeypatch, lambda known: 0.3 * known.concepts)
    cells["cca"] = [
        e if i < 7 else Estimate(np.nan, np.nan, np.nan) for i, e in enumerate(cells.cca)
    ]
    found = prediction.predict(STUDY, cells, "cca")
    assert (len(found.rows), found.verdict) == (7, "undecided") and np.isnan(found.gain.value)
    prediction.prediction_figure(found.rows)
