"""One method for the whole study: chosen on the choice split over all cells, then fixed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from prefvec.report.paper import pair_folder
from prefvec.stats import Estimate, mean_ci
from prefvec.store import read_json

BOUND = (
    1.5  # an efficiency beyond ± this counts as this: a ratio with a small denominator has no limit
)


def choice_cells(profile: str, pairs: Sequence, traits: Sequence[str]) -> pd.DataFrame:
    """Effect and transfer efficiency of every method on the choice split, one row a (cell, method)."""
    rows = []
    for source, target in pairs:
        for trait in traits:
            manifest = read_json(pair_folder(profile, [source, target], trait) / "manifest_04.json")
            rows += [
                {"source": source, "target": target, "trait": trait, "method": r["method"],
                 "te": np.nan if r["te"][0] is None else r["te"][0], "effect": r["effect"][0]}
                for r in manifest.get("choice", [])
            ]  # fmt: skip
    return pd.DataFrame(rows, columns=["source", "target", "trait", "method", "te", "effect"])


def ranking(cells: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Methods by mean bounded efficiency over the cells where it is defined, best first."""
    chosen = cells[cells.method.isin(methods) & cells.te.notna()]
    bounded = chosen.assign(te=chosen.te.clip(-BOUND, BOUND))
    table = bounded.groupby("method").te.agg(["mean", "count"]).reset_index()
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def mean_efficiency(cells: pd.DataFrame, method: str, seed: int = 0) -> Estimate:
    """Mean over cells of a method's evaluation efficiency (bounded), the interval over cells.

    cells: one row a (pair, trait), an `Estimate` in the method's column.
    """
    values = np.array([e.value for e in cells[method]], float)
    return mean_ci(np.clip(values, -BOUND, BOUND), seed)
