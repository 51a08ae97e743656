"""Options that commands share, and checks that cost nothing: bad input is refused before any model loads."""

import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated

import typer

from prefvec.errors import ConfigError

Model = Annotated[str, typer.Option(help="id of data/models.yaml, hub id, folder or .gguf file")]
Trait = Annotated[str, typer.Option(help="a built-in trait or a trait file")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


@contextmanager
def only_results() -> Iterator[None]:
    """What is printed meanwhile (a model that is converted, …) goes to stderr: stdout is for results."""
    with redirect_stdout(sys.stderr):
        yield


def numbers(text: str, option: str) -> list[float]:
    """Different finite numbers separated by commas, in the order given."""
    return _listed(text, option, float, "a number", "1,2.5")


def whole_numbers(text: str, option: str) -> list[int]:
    """Different whole numbers of 0 or more, separated by commas, in the order given."""
    found = _listed(text, option, int, "a whole number", "10,12")
    if min(found) < 0:
        raise ConfigError(f"{option} {text}: {min(found)} is below 0: the first block is layer 0")
    return found


def _listed(text: str, option: str, kind: type, name: str, example: str) -> list:
    values = []
    for part in text.split(","):
        try:
            values.append(kind(part))
        except ValueError:
            raise ConfigError(
                f"{option} '{text}': '{part.strip()}' is not {name}: separate them by commas, like {example}"
            ) from None
        if not math.isfinite(values[-1]):
            raise ConfigError(f"{option} '{text}': '{part.strip()}' is not finite")
    return list(dict.fromkeys(values))


def asked(prompts: Sequence[str], file: Path | None) -> list[str]:
    """The prompts given one by one and those of a file, one a line (empty lines are left out)."""
    found = list(prompts)
    for i, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise ConfigError(f"--prompt: number {i} is empty: give a question")
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigError(
                f"--prompts-file {file} can't be read ({reason}): give a text file"
            ) from error
        lines = [line.strip() for line in lines if line.strip()]
        if not lines:
            raise ConfigError(f"--prompts-file {file}: has no prompt: write one a line")
        found += lines
    if not found:
        raise ConfigError(
            "no prompt: give --prompt TEXT, several times if you like, or --prompts-file"
        )
    return list(dict.fromkeys(found))


def writable(path: Path, option: str = "--output", folder: bool = False) -> Path:
    """The absolute path of a file (or folder) to write, if it can be written there."""
    path = Path(path).expanduser().absolute()
    if path.exists() and path.is_dir() != folder:
        have, want = ("file", "folder") if folder else ("folder", "file")
        raise ConfigError(f"{option} {path} is a {have}: name a {want}")
    place = path if folder else path.parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return path
    except OSError as error:
        raise ConfigError(
            f"{option} {path} can't be written ({place}: {error.strerror}): "
            "name a place that you can write to"
        ) from error


def check_model(name: str, device: str, dtype: str, layers: Sequence[int] = ()) -> None:
    """Refuse a model, device, dtype or layer that isn't there. How deep a model is can't be known
    before it has been fetched: then its layers are checked when it is loaded."""
    from prefvec.models.load import pick_device, pick_dtype
    from prefvec.models.registry import require_white_box, resolve
    from prefvec.plan.shapes import outline

    require_white_box(resolve(name))
    pick_dtype(pick_device(device), dtype)
    depth = None
    with suppress(ConfigError):
        depth = outline(name, exact=False).shape.layers
    for layer in layers:
        if depth is not None and layer >= depth:
            raise ConfigError(
                f"--layer {layer} is out of range: {name} has {depth} blocks, layers 0 … {depth - 1}"
            )
