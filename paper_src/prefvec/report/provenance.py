"""Where the results came from: a checklist and the cost of every kind of stage, from the manifests."""

from pathlib import Path

import pandas as pd

from prefvec.errors import ReportError
from prefvec.store import read_json

SHORT = 10  # characters shown of a digest
SPLITS = {
    "extraction": "n_extraction",
    "alignment": "n_alignment",
    "selection": "n_selection",
    "choice": "n_choice",
    "evaluation": "n_evaluation",
}


def manifests(results: Path, last: str = "09_paper") -> list[dict]:
    """Every stage's manifest in a results folder but that of the paper itself.

    Raises ReportError if there is none.
    """
    found = [read_json(path) for path in sorted(results.rglob("manifest_*.json"))]
    found = [record for record in found if record["stage"] != last]
    if not found:
        raise ReportError(f"{results}: no manifests, so no finished stage")
    return found


def stage_frame(found: list[dict]) -> pd.DataFrame:
    """By notebook: runs, wall time (minutes, those that read the store included), peak memory (GiB)."""
    table = pd.DataFrame(
        [(r["stage"], r["wall_seconds"], r["peak_memory_mib"]) for r in found],
        columns=["notebook", "seconds", "memory"],
    )
    by = table.groupby("notebook")
    return pd.DataFrame(
        {
            "notebook": list(by.groups),
            "runs": by.size().to_list(),
            "minutes, all": [f"{s / 60:.1f}" for s in by.seconds.sum()],
            "minutes, longest": [f"{s / 60:.1f}" for s in by.seconds.max()],
            "peak memory (GiB)": [f"{m / 1024:.1f}" for m in by.memory.max()],
        }
    )


def checklist(found: list[dict]) -> pd.DataFrame:
    """What a reader asks of a computed result, answered from the manifests: item and answer."""
    studies = [r for r in found if "settings" in r]
    models = {
        name: f"{name} ({m['fingerprint'][:SHORT]}, {m['dtype']}, {m['device']})"
        for r in studies
        for name, m in r["models"].items()
    }
    sizes = [
        f"{name} {_values(r['settings'].get(key) for r in studies)}" for name, key in SPLITS.items()
    ]
    dirty = sum(r["git"]["dirty"] is not False for r in found)
    rows = [
        ("Commits that computed the results", _values((r["git"]["commit"] or "unknown")[:SHORT] for r in found)),
        ("Stages with uncommitted changes", f"{dirty} of {len(found)}"),
        ("Locked dependencies (sha256)", _values((r["lock_sha256"] or "unknown")[:SHORT] for r in found)),
        ("Python; torch; transformers", "; ".join(_values(r[k] for r in found) for k in ("python", "torch", "transformers"))),
        ("Processors, where noted", _values(r.get("processor") for r in found) or "not noted"),
        ("Threads", _values(r["threads"] for r in found)),
        ("Models (fingerprint, type, device)", "; ".join(models[name] for name in sorted(models))),
        ("Seeds", _values(r["settings"]["seed"] for r in studies)),
        ("Questions of the splits (disjoint by hash)", "; ".join(sizes)),
        ("Norm-matched random directions", _values(r["settings"].get("n_random") for r in studies)),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["item", "answer"])


def provenance_numbers(found: list[dict]) -> dict[str, tuple]:
    """Key → (value, unit, digits): stages, hours, peak memory."""
    seconds = sum(r["wall_seconds"] for r in found)
    return {
        "run.stages": (len(found), "", 0),
        "run.hours": (seconds / 3600, "", 1),
        "run.memory": (max(r["peak_memory_mib"] for r in found) / 1024, "", 1),
        "run.dirty": (sum(r["git"]["dirty"] is not False for r in found), "", 0),
    }


def _values(values) -> str:
    """The different values, in order of appearance."""
    return ", ".join(dict.fromkeys(str(v) for v in values if v is not None))
