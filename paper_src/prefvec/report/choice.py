"""One method for the whole study: chosen on the choice split over all cells, then fixed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.report.cells import BOUND, Gathered, bounded, short, sound
from prefvec.report.figures import label
from prefvec.stats import Estimate, mean_ci
from prefvec.transfer.methods import LEARNED

DEFAULT = "ridge_concept"  # the method of the protocol, where there is no choice split
MIN_CELLS = 3  # fewest cells that an interval over cells is given for
TRUTH_TRAIT = "honest"  # asks for truth, not for a style


class Choice(NamedTuple):
    """The method that is reported for the study, and what chose it."""

    method: str
    reason: str


def choice_cells(study: Gathered) -> pd.DataFrame:
    """Effect and transfer efficiency of every method on the choice split, one row a (cell, method)."""
    rows = []
    for (source, target, trait), manifest in study.manifests.items():
        rows += [
            {"source": source, "target": target, "trait": trait, "method": r["method"],
             "te": np.nan if r["te"][0] is None else r["te"][0], "effect": r["effect"][0]}
            for r in manifest.get("choice", [])
        ]  # fmt: skip
    columns = ["source", "target", "trait", "method", "te", "effect"]
    return pd.DataFrame(rows, columns=columns)


def ranking(cells: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Methods by mean bounded efficiency over the cells where it is defined, best first."""
    chosen = cells[cells.method.isin(methods) & cells.te.notna()]
    bounded = chosen.assign(te=chosen.te.clip(-BOUND, BOUND))
    table = bounded.groupby("method").te.agg(["mean", "count"]).reset_index()
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def choose(study: Gathered) -> tuple[Choice, pd.DataFrame]:
    """The learned map that is best on the choice split over all cells, and the ranking."""
    table = ranking(choice_cells(study), list(LEARNED))
    if table.empty:
        return Choice(DEFAULT, "no cell has a choice split: the protocol's own method"), table
    best = table.iloc[0]
    return Choice(best["method"], f"best on the choice split of {int(best['count'])} cells"), table


def ranking_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The ranking as a reader sees it."""
    return pd.DataFrame(
        {
            "method": [label(m) for m in table["method"]],
            "mean efficiency": [f"{x:.2f}" for x in table["mean"]],
            "cells": table["count"].astype(int),
        }
    )


def mean_efficiency(cells: pd.DataFrame, method: str, seed: int = 0) -> Estimate:
    """Mean over cells of a method's evaluation efficiency (bounded), the interval over cells where there are
    three or more (of two, it is the two values).

    cells: one row a (pair, trait), an `Estimate` in the method's column.
    """
    values = bounded(cells, method)
    found = mean_ci(values, seed)
    few = np.isfinite(values).sum() < MIN_CELLS
    return Estimate(found.value, np.nan, np.nan) if few else found


def gains(
    cells: pd.DataFrame, method: str, others: Sequence[str], seed: int = 0
) -> dict[str, Estimate]:
    """How much higher a method's evaluation efficiency is than another's, by the other: mean of the
    differences in the cells where both have one, the interval over cells."""
    own = bounded(cells, method)
    return {other: mean_ci(own - bounded(cells, other), seed) for other in others}


def family_sets(cells: pd.DataFrame) -> Mapping[str, tuple[str, np.ndarray]]:
    """Sets of cells over which a mean is worth reporting: key → (words, mask `[cells]`).

    `core`: between the models of the first pair, every trait but honesty; `core.main`: the first
    trait alone; `<family>.main`: pairs with a further model, the first trait; `trait.<trait>`:
    one trait over all pairs; `sound`: see there; `all`.
    """
    first = {cells.source.iloc[0], cells.target.iloc[0]}
    main = cells.trait.iloc[0]
    core = (cells.source.isin(first) & cells.target.isin(first)).to_numpy()
    names = " and ".join(map(short, (cells.source.iloc[0], cells.target.iloc[0])))
    of_main = (cells.trait == main).to_numpy()
    sets = {
        "all": ("all cells", np.ones(len(cells), bool)),
        "core": (
            f"{names}, every trait but {TRUTH_TRAIT}",
            core & (cells.trait != TRUTH_TRAIT).to_numpy(),
        ),
        "core.main": (f"{names}, {main}", core & of_main),
    }
    others = [m for m in dict.fromkeys([*cells.source, *cells.target]) if m not in first]
    for family in dict.fromkeys(map(short, others)):
        members = [m for m in others if short(m) == family]
        mine = (cells.source.isin(members) | cells.target.isin(members)).to_numpy()
        sets[f"{family}.main"] = (f"pairs with {family}, {main}", mine & of_main)
    sets["sound"] = ("all cells with sound ends", sound(cells))
    for trait in dict.fromkeys(cells.trait):
        sets[f"trait.{trait}"] = (f"all pairs, {trait}", (cells.trait == trait).to_numpy())
    return sets


def best_frame(cells: pd.DataFrame, method: str, seed: int = 0) -> pd.DataFrame:
    """A method's mean evaluation efficiency by set of cells: key, words, mean, n (defined), of."""
    rows = []
    for key, (words, mask) in family_sets(cells).items():
        part = cells[mask]
        found = mean_efficiency(part, method, seed)
        n = int(np.isfinite(bounded(part, method)).sum())
        rows.append({"key": key, "cells": words, "mean": found, "n": n, "of": len(part)})
    return pd.DataFrame(rows)
