"""Honesty as truth: the margin of true over false statements, over all pairs.

The trait's score is a classifier's verdict on tone; this is what notebook 04 measures beside it
(`transfer/truth.py`).
"""

from collections.abc import Callable

import pandas as pd

from prefvec.report.cells import Gathered, arrow
from prefvec.stats import Estimate

NAMES = {
    "oracle": "own vector",
    "ridge_concept": "ridge (concepts)",
    "shuffled_pairing": "shuffled pairs",
    "wrong_trait": "wrong trait",
    "random_0": "random",
}
SHOWN = tuple(NAMES)


def truth_cells(study: Gathered) -> pd.DataFrame:
    """One row a pair for which 04 measured it: source, target, accuracy (unsteered share of statements
    whose true answer is likelier, an `Estimate`), n, and by method the change of the margin (nats per
    token) at the site's dose; a negative change is towards the false answer."""
    rows = []
    for (source, target, _), manifest in study.manifests.items():
        found = {record["method"]: record for record in manifest.get("truth", [])}
        if not found:
            continue
        plain = found["unsteered"]
        row = {"source": source, "target": target, "n": plain["n"]}
        row["accuracy"] = _estimate(plain, "accuracy")
        rows.append(row | {m: _estimate(found[m], "change") for m in SHOWN})
    return pd.DataFrame(rows, columns=["source", "target", "n", "accuracy", *SHOWN])


def truth_table(cells: pd.DataFrame, show: Callable[..., str]) -> pd.DataFrame:
    """The same as text. show: `interval_text` for LaTeX, `views.plain` for the notebook."""
    pairs = zip(cells.source, cells.target, strict=True)
    frame = {
        "pair": [arrow(*pair) for pair in pairs],
        "accuracy": [f"{e.value:.2f}" for e in cells.accuracy],
    }
    return pd.DataFrame(frame | {NAMES[m]: [show(e) for e in cells[m]] for m in SHOWN})


def truth_numbers(cells: pd.DataFrame) -> dict[str, int]:
    """In how many pairs the change is beyond doubt, by method, and either way."""
    out = {"truth.pairs": len(cells)}
    for method in SHOWN:
        out[f"truth.lower.{method}"] = sum(e.high < 0 for e in cells[method])
        out[f"truth.higher.{method}"] = sum(e.low > 0 for e in cells[method])
    return out


def _estimate(record: dict, name: str) -> Estimate:
    return Estimate(record[name], record[f"{name}_low"], record[f"{name}_high"])
