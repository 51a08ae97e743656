"""What a result was made from and with: one manifest beside every stage's output."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from prefvec import __version__
from prefvec.machine import processor
from prefvec.paths import ROOT
from prefvec.store import canonical_hash, file_sha256, write_json

_STARTED = time.time()

SOURCES = (".", ":!data/results", ":!figures", ":!benchmarks/*.json")  # what results are made from


def git_state() -> dict:
    """Commit and whether tracked files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *SOURCES)
    except OSError:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changed) if commit else None}


def write_manifest(path: Path, stage: str, study=None, extra: dict | None = None) -> Path:
    """Write the manifest of a stage.

    Wall time (s) counts from the start of the process, peak memory (MiB) is its highest resident
    size. `study` adds settings, models, trait and split hashes.
    """
    import torch
    import transformers

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record = {
        "stage": stage,
        "prefvec": __version__,
        "git": git_state(),
        "lock_sha256": _digest(ROOT / "requirements.lock"),
        "python": sys.version.split()[0],
        "processor": processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "wall_seconds": round(time.time() - _STARTED, 1),
        "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }
    if study is not None:
        record |= {
            "settings": study.settings.model_dump(),
            "settings_digest": canonical_hash(study.settings.model_dump())[:16],
            "trait_digest": study.trait.digest,
            "split_hashes": study.split_hashes,
            "models": {m.id: m.identity() for m in study.pool.loaded()},
        }
    return write_json(path, record | (extra or {}))


def _digest(path: Path) -> str | None:
    return file_sha256(path) if path.exists() else None
