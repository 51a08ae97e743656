"""Turn a `pip freeze` into requirements.lock and environment.yml (called by scripts/lock.sh)."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"
HEADER = f"""\
# Every package of the environment, pinned; written by scripts/lock.sh from pyproject.toml.
# {TORCH} is installed first, on its own: the CPU build, or the CUDA build where a GPU is found.
"""


def main(freeze: Path) -> None:
    """Write both files from one list of pins."""
    lines = freeze.read_text().splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith("#")]
    pins = [
        p for p in pins if not p.lower().startswith(("torch==", "nvidia-", "triton==", "cuda-"))
    ]
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(pins) + "\n")
    lines = [
        "# For conda users: the same versions as requirements.lock.",
        "name: prefvec",
        "channels: [conda-forge]",
    ]
    lines += ["dependencies:", "  - python=3.11", "  - pip", "  - pip:", f"      - {TORCH}"]
    lines += [f"      - {pin}" for pin in pins] + ["      - --editable ."]
    (ROOT / "environment.yml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
