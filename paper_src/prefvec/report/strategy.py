"""Does compatibility say which method to use? And how far must one go along the graduated protocol?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prefvec.models.architecture import recommended_strategy
from prefvec.report.cells import RESULTS, SCALED, Gathered, bounded, why
from prefvec.report.verdicts import Record, succeeded
from prefvec.stats import UNKNOWN, Estimate, mean_ci
from prefvec.store import read_json
from prefvec.transfer.methods import DIRECT, LEARNED

KINDS = {"direct": DIRECT, "scaled": SCALED, "adapted": tuple(LEARNED)}
# The protocol tries the next step where the one before did not succeed; of a step's methods the first
# that was run stands for it.
STEPS = {
    "direct": ("zero_pad",),
    "scaled": SCALED,
    "linear": ("ridge_concept",),
    "multi-scale": ("multiscale",),
}


@dataclass(frozen=True)
class Strategy(Record):
    """Advice from compatibility against what was best: share of the cells in which they agree."""

    agreement: Estimate
    n: int
    of: int
    rows: list[dict]


@dataclass(frozen=True)
class Protocol(Record):
    """The steps from direct transfer to a map in bands: each one's mean efficiency over cells, and how
    many cells it is the first to succeed in."""

    rows: list[dict]


def strategy(study: Gathered, cells: pd.DataFrame) -> Strategy:
    """The advised kind of method in each cell, and the kind whose best method has the highest
    evaluation efficiency. The best of many is flattered by chance: this describes, it chooses nothing."""
    path = RESULTS / study.profile / "results_00.json"
    scores = {frozenset(r["pair"]): r for r in read_json(path)} if path.exists() else {}
    rows, agree = [], []
    for cell in cells.to_dict("records"):
        found = scores.get(frozenset([cell["source"], cell["target"]]))
        te = {m: cell[m].value for of in KINDS.values() for m in of if np.isfinite(cell[m].value)}
        best = max(te, key=te.get) if te else ""
        kind = next((k for k, methods in KINDS.items() if best in methods), "")
        advised = recommended_strategy(found) if found else ""
        missing = "" if found else "no compatibility scores: notebook 00 has not run for this pair"
        missing = missing or ("" if te else why(cell, "ridge_concept"))
        if found and te:
            agree.append(float(advised == kind))
        rows.append(
            {
                **{k: cell[k] for k in ("source", "target", "trait")},
                "overall": found["overall"] if found else np.nan,
                "dimension": found["dimension"] if found else np.nan,
                "advised": advised,
                "best": kind,
                "best_method": best,
                "best_efficiency": te.get(best, np.nan),
                "missing": missing,
            }
        )
    return Strategy(mean_ci(agree), len(agree), len(cells), rows)


def protocol(cells: pd.DataFrame) -> Protocol:
    """Mean efficiency of each step of the protocol, and in how many cells it succeeds first."""
    rows, open_cells = [], cells.to_dict("records")
    for step, methods in STEPS.items():
        ran = [m for m in methods if any(m in cell["ran"] for cell in cells.to_dict("records"))]
        if not ran:
            rows.append(
                {
                    "step": step,
                    "method": methods[0],
                    "mean": UNKNOWN,
                    "n": 0,
                    "first_success": 0,
                    "missing": "the method was not run",
                }
            )
            continue
        values = bounded(cells, ran[0])
        done = [cell for cell in open_cells if succeeded(cell, ran[0])]
        open_cells = [cell for cell in open_cells if not succeeded(cell, ran[0])]
        known = int(np.isfinite(values).sum())
        missing = "" if known else why(cells.to_dict("records")[0], ran[0])
        rows.append(
            {
                "step": step,
                "method": ran[0],
                "mean": mean_ci(values),
                "n": known,
                "first_success": len(done),
                "missing": missing,
            }
        )
    return Protocol(rows)
