"""The study's cells (directed pair × trait): what was found in each, and what is missing and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.errors import ReportError, TraitError
from prefvec.metrics.trait import UNITS
from prefvec.models.registry import resolve
from prefvec.paths import RESULTS, pair_name, slug
from prefvec.stats import UNKNOWN, Estimate
from prefvec.store import read_json
from prefvec.traits import load_trait
from prefvec.transfer.methods import CONTROLS, DIRECT, LEARNED
from prefvec.transfer.sites import MAX_COLLAPSE
from prefvec.transfer.sweep import NOTHING, ORACLE, RANDOM

PAIR_STAGES = ("03", "04")
SCALED = ("unscaled", "norm_scaled")  # the source's vector at a length of its own
SHOWN = (*DIRECT, *SCALED, *LEARNED, *CONTROLS, NOTHING)
NO_UNIT = "score"  # of a trait whose file is gone
NO_EFFECT = "the own vector does not beat random directions"
BOUND = (
    1.5  # an efficiency beyond ± this counts as this: a ratio with a small denominator has no limit
)


class Gathered(NamedTuple):
    """What the stages of all cells wrote.

    manifests: of the last stage that ran, by (source, target, trait); missing: one row a stage that
    has not run, with its reason.
    """

    profile: str
    pairs: list
    traits: list
    records: list[dict]
    manifests: dict[tuple[str, str, str], dict]
    missing: list[dict]


def pair_folder(profile: str, pair: Sequence[str], trait: str) -> Path:
    """Results folder of a directed pair and trait."""
    return RESULTS / profile / pair_name(*pair) / trait


def own_vector(profile: str, model: str, trait: str) -> dict | None:
    """What notebook 02 found of a trait's vector in its own model; None where it has not run."""
    path = RESULTS / profile / slug(model) / trait / "results_02.json"
    return read_json(path)[0] if path.exists() else None


def gather(profile: str, pairs: Sequence, traits: Sequence[str]) -> Gathered:
    """The records of all pairs and traits; what has not run is listed, not dropped.

    Raises ReportError if there is nothing at all.
    """
    records, manifests, missing, seen = [], {}, [], set()
    for pair in pairs:
        for trait in traits:
            folder = pair_folder(profile, pair, trait)
            for stage in PAIR_STAGES:
                manifest = folder / f"manifest_{stage}.json"
                if not manifest.exists():  # it is written last: without it the stage is incomplete
                    missing.append(
                        {
                            "source": pair[0],
                            "target": pair[1],
                            "trait": trait,
                            "what": f"notebook {stage}",
                            "reason": "has not run",
                        }
                    )
                    continue
                manifests[pair[0], pair[1], trait] = read_json(manifest)
                for record in read_json(folder / f"results_{stage}.json"):
                    key = tuple(
                        record[k] for k in ("source", "target", "trait", "method", "dose", "metric")
                    )
                    if key not in seen:  # references appear in both stages, with the same values
                        seen.add(key)
                        records.append(record)
    if not records:
        raise ReportError(
            f"no results of profile '{profile}' under {RESULTS / profile}: run notebooks 03 and 04 of "
            f"{' → '.join(pairs[0])} first"
        )
    return Gathered(profile, list(pairs), list(traits), records, manifests, missing)


def site_frame(study: Gathered) -> pd.DataFrame:
    """The records at each cell's chosen site: every method at the signed dose (`dose`), the unsteered
    and instructed answers at dose 0."""
    frame = pd.DataFrame(study.records)
    parts = []
    for cell, manifest in study.manifests.items():
        own = _of_cell(frame, cell)
        dose = _signed_dose(own, manifest["site"]["dose"])
        parts.append(own[(own.dose == dose) | own.method.isin(["unsteered", "instruction"])])
    return pd.concat(parts, ignore_index=True)


def pair_cells(study: Gathered) -> pd.DataFrame:
    """Transfer efficiency of each method at each cell's chosen dose, one row a (pair, trait).

    Columns: source, target, trait, dose (signed; NaN if unknown), ran (methods with records there),
    missing (why the cell has no numbers, or ""), effects (by method, an `Estimate` in the score's unit),
    broken (share of collapsed answers, by method),
    and an `Estimate` for every method of `SHOWN`, NaN where it is unknown (`why` says why).
    """
    frame = site_frame(study)
    effect, collapse = (frame[frame.metric == metric] for metric in ("effect", "collapse"))
    rows = []
    for source, target in study.pairs:
        for trait in study.traits:
            cell = _of_cell(effect, (source, target, trait)).set_index("method")
            steered = cell[cell.dose != 0]
            gone = [
                f"{m['what']} {m['reason']}"
                for m in study.missing
                if (m["source"], m["target"], m["trait"]) == (source, target, trait)
            ]
            row = {"source": source, "target": target, "trait": trait}
            row["dose"] = float(steered.dose.iloc[0]) if len(steered) else np.nan
            row["ran"] = frozenset(cell.index)
            row["missing"] = "; ".join(gone) if gone else ""
            row["effects"] = {
                r.Index: _estimate(r.value, r.ci_low, r.ci_high) for r in cell.itertuples()
            }
            broken = _of_cell(collapse, (source, target, trait))
            row["broken"] = dict(zip(broken.method, broken.value, strict=True))
            for method in SHOWN:
                row[method] = _efficiency(cell.loc[method]) if method in cell.index else UNKNOWN
            rows.append(row)
    return pd.DataFrame(rows)


def why(cell, method: str) -> str:
    """Why a cell (a row of `pair_cells`) has no efficiency of a method; "" if it has."""
    if np.isfinite(cell[method].value):
        return ""
    if method in cell["ran"]:
        return NO_EFFECT
    return cell["missing"] or "the method was not run"


def sound(cells: pd.DataFrame) -> np.ndarray:
    """Cells `[cells]` whose two ends can be trusted: neither the target's own vector nor random directions
    break more than `MAX_COLLAPSE` of the answers there."""
    return np.array(
        [max(b.get(ORACLE, 1.0), b.get(RANDOM, 1.0)) <= MAX_COLLAPSE for b in cells["broken"]], bool
    )


def defined(cells: pd.DataFrame, method: str) -> pd.DataFrame:
    """The cells in which a method has an efficiency."""
    return cells[np.isfinite([e.value for e in cells[method]])]


def bounded(cells: pd.DataFrame, method: str) -> np.ndarray:
    """A method's efficiencies `[cells]`, within ± `BOUND`; NaN where unknown."""
    return np.clip(np.array([e.value for e in cells[method]], float), -BOUND, BOUND)


def curve_frame(study: Gathered) -> pd.DataFrame:
    """Mean score by signed dose: the unsteered answers at 0, and the methods at the profile's doses
    and the chosen one (not at the doses that are matched by distance)."""
    frame = pd.DataFrame(study.records)
    frame = frame[frame.metric == "score"]
    parts = []
    for cell, manifest in study.manifests.items():
        doses = [0.0, manifest["site"]["dose"], *manifest["settings"]["doses"]]
        own = _of_cell(frame, cell)
        parts.append(own[own.dose.abs().isin(doses) & (own.method != "instruction")])
    return pd.concat(parts, ignore_index=True)


def trait_unit(study: Gathered, trait: str) -> str:
    """Unit of a trait's score, as its file says."""
    units = (manifest_unit(m) for (_, _, name), m in study.manifests.items() if name == trait)
    return next(units, NO_UNIT)


def manifest_unit(manifest: dict) -> str:
    """Unit of the score that a stage of a trait read, or `NO_UNIT`."""
    try:
        return UNITS[load_trait(manifest["settings"]["trait"]).measure]
    except TraitError:
        return NO_UNIT


def short(model: str) -> str:
    """A model's family where the registry knows it."""
    family = resolve(model).family
    return model if family == "unknown" else family


def arrow(source: str, target: str) -> str:
    """`source → target` by family."""
    return f"{short(source)} → {short(target)}"


def _of_cell(frame: pd.DataFrame, cell: tuple[str, str, str]) -> pd.DataFrame:
    source, target, trait = cell
    return frame[(frame.source == source) & (frame.target == target) & (frame.trait == trait)]


def _signed_dose(records: pd.DataFrame, dose: float) -> float:
    signed = records[records.dose.abs() == dose].dose
    return float(signed.iloc[0]) if len(signed) else np.nan


def _efficiency(record: pd.Series) -> Estimate:
    return _estimate(*record[["transfer_efficiency", "te_ci_low", "te_ci_high"]])


def _estimate(*values: float | None) -> Estimate:
    return Estimate(*(np.nan if pd.isna(v) else float(v) for v in values))
