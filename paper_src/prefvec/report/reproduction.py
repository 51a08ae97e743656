"""Second runs of a study, on record: what came out the same, and how far the rest moved."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from prefvec.errors import ReportError
from prefvec.paths import slug
from prefvec.report.compare import EXACT, INTERVAL, OUTSIDE, PRINTED, Comparison
from prefvec.report.provenance import manifests
from prefvec.store import read_json, write_json

FOLDER = "reproductions"
SAVED, ANOTHER = "saved results", "another run"


def check_name(name: str) -> None:
    """Raises ReportError for a name without letters or digits."""
    if not any(c.isalnum() for c in name):
        raise ReportError(f"--record '{name}': give the run a name, as 'second run, bfloat16'")


def record(
    found: Comparison, saved: Path, again: Path, name: str, into: Path | None = None
) -> Path:
    """Keep a comparison beside the saved results: `<saved>/reproductions/<name>.json`, which notebook 09
    prints as an appendix. into: other results to keep it beside, where two further runs of them were
    held against each other. Raises ReportError by `check_name`."""
    check_name(name)
    kept = into or saved
    stages = manifests(again)
    models = [model for stage in stages for model in stage.get("models", {}).values()]
    values = {
        "name": name,
        "against": SAVED if kept.absolute() == saved.absolute() else ANOTHER,
        "commits": _different(s["git"]["commit"][:10] for s in stages if s["git"]["commit"]),
        "torch": _different(s["torch"] for s in stages),
        "processors": _different(s["processor"] for s in stages if "processor" in s),
        "threads": _different(s["threads"] for s in stages),
        "arithmetic": _different(f"{m['dtype']}, {m['device']}" for m in models),
        "stages": len(stages),
        "shifts": shifts(found.numbers),
        "changed": [verdict for verdict, *_ in found.changed],
        **found.as_record(),
        "alone": len(found.alone),
    }
    return write_json(kept / FOLDER / f"{slug(name)}.json", values)


def shifts(numbers: pd.DataFrame) -> dict[str, float | int | None]:
    """How far numbers with an interval moved, in half-widths of the first run's: n, median, p95, max."""
    rows = numbers.dropna(subset=["low", "high"])
    values = rows[["before", "after", "low", "high"]].apply(pd.to_numeric, errors="coerce")
    values = values.replace([np.inf, -np.inf], np.nan).dropna()
    half = (values.high - values.low) / 2
    moved = ((values.after - values.before).abs() / half)[half > 0].to_numpy()
    if not len(moved):
        return {"n": 0, "median": None, "p95": None, "max": None}
    median, p95, most = np.quantile(moved, [0.5, 0.95, 1.0])
    return {"n": len(moved), "median": float(median), "p95": float(p95), "max": float(most)}


def recorded(results: Path) -> list[dict]:
    """The second runs on record for a results folder, by name."""
    return [read_json(path) for path in sorted((results / FOLDER).glob("*.json"))]


def reproduction_table(records: Sequence[dict]) -> pd.DataFrame:
    """One row a second run: what it was computed with and how much of it is the same."""
    rows = []
    for one in records:
        counts = one["numbers"]
        share = one["same_answers"] / one["answers"] if one["answers"] else np.nan
        rows.append(
            {
                "second run": one["name"],
                "held against": one["against"],
                "arithmetic": "; ".join(one["arithmetic"]),
                "numbers": sum(counts.values()),
                **{status: counts[status] for status in (EXACT, PRINTED, INTERVAL, OUTSIDE)},
                "same side of 0": f"{one['same_side']} of {one['effects']}",
                "same answers": "–" if np.isnan(share) else f"{share:.1%}",
                "median shift": _plain(one["shifts"]["median"]),
                "changed verdicts": ", ".join(one["changed"])
                or ("none" if one["verdicts"] else "–"),
            }
        )
    return pd.DataFrame(rows)


def reproduction_numbers(records: Sequence[dict]) -> dict[str, int]:
    """Numbers of the text: `reproduced.runs`, and over all of them numbers, exact and outside."""
    counts = [one["numbers"] for one in records]
    return {
        "reproduced.runs": len(counts),
        "reproduced.numbers": sum(sum(c.values()) for c in counts),
        "reproduced.exact": sum(c[EXACT] for c in counts),
        "reproduced.outside": sum(c[OUTSIDE] for c in counts),
    }


def _different(values) -> list:
    return sorted(set(values))


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
