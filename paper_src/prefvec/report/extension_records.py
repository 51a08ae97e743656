"""Records of notebook 08: the keys of `results_04.json`, and `analysis`."""

from collections.abc import Mapping

import pandas as pd

from prefvec.report.records import record
from prefvec.stats import Estimate
from prefvec.study import Study
from prefvec.transfer.saved import Cell
from prefvec.transfer.sweep import Site


def spill_records(cells: Mapping[str, Cell], frame: pd.DataFrame) -> list[dict]:
    """Standardised effects; `measured_trait` names the column, `trait` the vector."""
    return [
        extended(
            cells[r.vector].study, cells[r.vector].site, "spill", r.method, "effect_sd", r.effect, r.n,
            measured_trait=r.measured,
        )
        for r in frame.itertuples()
    ]  # fmt: skip


def composition_records(first: Cell, second: Cell, rows: pd.DataFrame) -> list[dict]:
    """Effects of a, b and both, and the interaction, on each trait's score; `dose` is the first trait's,
    `second_dose` the second's."""
    other = {"second_trait": second.study.trait.name, "second_dose": second.dose}
    return [
        extended(
            first.study, first.site, "composition", f"{r.kind}.{name}", metric, getattr(r, column), r.n,
            measured_trait=r.measured, **other,
        )
        for r in rows.itertuples()
        for name, column, metric in (
            ("a", "a", "effect_sd"), ("b", "b", "effect_sd"), ("a+b", "both", "effect_sd"),
            ("a+b", "interaction", "interaction_sd"),
        )
    ]  # fmt: skip


def size_records(
    study: Study, site: Site, curve: pd.DataFrame, summary: pd.DataFrame
) -> list[dict]:
    """Every subset, and every size's mean over its subsets (`subset` None)."""
    rows = [*curve.assign(n=summary.n.iloc[0]).to_dict("records"), *summary.to_dict("records")]
    return [
        extended(
            study, site, "size_curve", "ridge_concept", metric, row[metric], row["n"],
            row["te"] if metric == "effect" else None, size=row["size"], subset=row.get("seed"),
        )
        for row in rows
        for metric in ("effect", "concept_cosine", "cosine_to_own")
    ]  # fmt: skip


def sampling_records(cell: Cell, rows: pd.DataFrame, temperature: float, seeds: int) -> list[dict]:
    """Effects at a temperature, and the variance components."""
    metrics = {"effect": "effect"} | {f"variance_{k}": k for k in ("seed", "prompt", "rest")}
    return [
        extended(
            cell.study, cell.site, "sampling", row["method"], metric, row[column], row["n"],
            row["te"] if metric == "effect" else None, temperature=temperature, n_seeds=seeds,
        )
        for row in rows.to_dict("records")
        for metric, column in metrics.items()
    ]  # fmt: skip


def symmetry_records(cells: Mapping[str, Cell], rows: pd.DataFrame) -> list[dict]:
    """Difference of the efficiencies there and back, where both have been run."""
    return [
        extended(
            cells[r.trait].study, cells[r.trait].site, "symmetry", "ridge_concept", "te_difference",
            r.difference, len(cells[r.trait].study.splits["evaluation"]),
        )
        for r in rows[rows.back_ran].itertuples()
    ]  # fmt: skip


def linear_records(cells: Mapping[str, Cell], rows: pd.DataFrame) -> list[dict]:
    """Effect of the ridge map minus another map's."""
    return [
        extended(
            cells[r.trait].study, cells[r.trait].site, "linear", "ridge_concept", f"effect_minus_{r.other}",
            r.gain, r.n,
        )
        for r in rows.itertuples()
    ]  # fmt: skip


def extended(
    study: Study, site: Site, analysis: str, method: str, metric: str, value: Estimate | float, n: int,
    te: Estimate | None = None, **extra,
) -> dict:  # fmt: skip
    """One record of `results_08.json`, with the analysis it belongs to and what else names it."""
    dose = study.trait.sign * site.dose
    return record(study, site, method, dose, metric, value, n, te, analysis=analysis, **extra)
