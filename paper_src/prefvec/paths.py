"""Where things are. Absolute paths, whatever the working directory of a kernel or a test."""

import os
from pathlib import Path

from prefvec.errors import ConfigError

ROOT = Path(os.environ.get("PREFVEC_ROOT", Path(__file__).resolve().parents[2]))
DATA = ROOT / "data"
CONFIG = ROOT / "config"
NOTEBOOKS = ROOT / "notebooks"
TEX = ROOT / "paper_src" / "tex"
RESULTS = Path(os.environ.get("PREFVEC_RESULTS", DATA / "results"))
FIGURES = Path(os.environ.get("PREFVEC_FIGURES", ROOT / "figures"))


def cache_dir() -> Path:
    """Folder for fetched models, activations and generations (never in git).

    `PREFVEC_CACHE`, else `$XDG_CACHE_HOME/prefvec`, else `~/.cache/prefvec`.
    """
    base = os.environ.get("PREFVEC_CACHE")
    if base is None:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "prefvec"
    path = Path(base).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cache folder {path} can't be made ({error.strerror}): "
            "set PREFVEC_CACHE to a folder you can write"
        ) from error
    return path


def shadows(path: Path, built_in: Path) -> bool:
    """Is `built_in` there and another file than `path`? Under one name, their results would share a folder."""
    return built_in.is_file() and not built_in.samefile(path)


def pair_name(source: str, target: str) -> str:
    """Folder name of a directed pair: `source--target`."""
    return f"{slug(source)}--{slug(target)}"


def cell_file(what: str, source: str, target: str, trait: str) -> str:
    """File name of a diagnostic of a cell: `<what>_<source>_to_<target>_<trait>.json`."""
    return f"{what}_{slug(source)}_to_{slug(target)}_{slug(trait)}.json"


def slug(model_id: str) -> str:
    """A model id as one path component (hub ids hold `/`, local paths much more)."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in model_id.strip("/"))


def run_dir(profile: str, *parts: str) -> Path:
    """`data/results/<profile>/<parts…>`, made if missing."""
    path = RESULTS.joinpath(profile, *parts)
    path.mkdir(parents=True, exist_ok=True)
    return path
