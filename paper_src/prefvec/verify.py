"""Run a profile again, from nothing but the models, and hold every number against the saved results.

Activations, generations and likelihoods are computed anew in a store of its own: a number is not
reproduced by reading it from where the first run left it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from prefvec.errors import PrefvecError, ReportError
from prefvec.paths import ROOT, cache_dir
from prefvec.report.compare import EXACT, Comparison, compare
from prefvec.store import write_json, write_text

AREA = ROOT / ".prefvec" / "verify"
SHARED = ("models", "gguf")  # folders of the cache that hold models, not results

TOLERANCE = (
    "Declared tolerance: `exact` is the same float with the same interval, `as printed` the same after "
    "rounding to the digits that the paper shows, `in the interval` inside the saved number's 95 % "
    "interval. A number that is none of these is `outside`: not reproduced."
)


def verify(saved: Path, profile: str, arguments: list[str], keep: bool = False) -> Comparison:
    """Run `prefvec run --profile <profile> <arguments>` afresh and compare with the folder `saved`.

    arguments: of `prefvec run`, e.g. a single pair or trait: what both have is compared. keep: go on
    from an interrupted verification. Writes `.prefvec/verify/report.md` and `report.json`. Raises
    PrefvecError if the run fails, ReportError if `saved` has no numbers.
    """
    if not list(saved.rglob("numbers_*.json")):
        raise ReportError(f"{saved}: no numbers_*.json, so no results to verify")
    if not keep:
        shutil.rmtree(AREA, ignore_errors=True)
    places = {
        "PREFVEC_RESULTS": AREA / "results",
        "PREFVEC_FIGURES": AREA / "figures",
        "PREFVEC_CACHE": _store_with_models(AREA / "cache"),
    }
    command = [sys.executable, "-m", "prefvec.cli", "run", "--profile", profile, "--no-pdf"]
    environment = os.environ | {name: str(path) for name, path in places.items()}
    done = subprocess.run([*command, *arguments], env=environment)
    if done.returncode:
        raise PrefvecError(
            f"the run that verifies stopped (status {done.returncode}); go on with --keep"
        )
    [again] = (AREA / "results").iterdir()
    found = compare(saved, again)
    write_json(AREA / "report.json", found.as_record())
    write_text(AREA / "report.md", as_markdown(found, saved.name))
    return found


def as_markdown(found: Comparison, name: str) -> str:
    """The report: counts, every number that is outside, texts, verdicts, and the tolerance."""
    rows = [
        f"| {r.key} | {r.before} | {r.low} to {r.high} | {r.after} | {r.status} |"
        for r in found.numbers.itertuples()
        if r.status != EXACT
    ]
    table = ["| number | saved | interval | again | |", "|---|---|---|---|---|", *rows]
    parts = [f"# Verification of `{name}`", "```\n" + found.text() + "\n```", TOLERANCE]
    parts += ["## Every number that is not exact", "\n".join(table) if rows else "None."]
    return "\n\n".join(parts) + "\n"


def _store_with_models(folder: Path) -> Path:
    """A store that has the models of the usual one and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        real = cache_dir() / name
        real.mkdir(exist_ok=True)
        if not (folder / name).exists():
            (folder / name).symlink_to(real, target_is_directory=True)
    return folder
