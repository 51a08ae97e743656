"""A trait of the reader's own from two sentences: checked field by field, saved as a trait file."""

import shlex
from pathlib import Path

import yaml
from pydantic import ValidationError

from prefvec.errors import TraitError
from prefvec.models.registry import first_problem
from prefvec.paths import ROOT
from prefvec.store import write_text
from prefvec.traits import TRAITS, Trait, load_trait

MAX_CHARACTERS = 1000
MAX_NAME = 40


def problems(name: str, positive: str, negative: str, folder: Path) -> dict[str, str]:
    """What is wrong, one line a field (`name`, `positive`, `negative`); empty if nothing is."""
    found = {}
    for field, text in (("positive", positive), ("negative", negative)):
        if not text.strip():
            found[field] = f"write the {field} instruction: one sentence that asks for this side"
        elif len(text) > MAX_CHARACTERS:
            found[field] = f"{len(text)} characters: at most {MAX_CHARACTERS}"
    if not found and positive.strip() == negative.strip():
        found["negative"] = "the two instructions are the same: they must ask for opposites"
    if not name:
        found["name"] = "give it a name, like poetic"
    elif len(name) > MAX_NAME:
        found["name"] = f"{len(name)} characters: at most {MAX_NAME}"
    elif (TRAITS / f"{name}.yaml").exists():
        found["name"] = f"'{name}' is a built-in trait: choose another name"
    elif (folder / f"{name}.yaml").exists():
        found["name"] = f"you have a trait '{name}' already: choose another name"
    else:
        try:
            _trait(name, "a", "b")
        except TraitError:
            found["name"] = "lower-case letters, digits, - and _, beginning with a letter (a-z)"
    return found


def save(name: str, positive: str, negative: str, folder: Path) -> Path:
    """Write `<folder>/<name>.yaml` atomically, in the format of data/traits, and read it back.

    Raises TraitError with the first problem.
    """
    found = problems(name, positive, negative, folder)
    if found:
        raise TraitError("; ".join(f"{field}: {problem}" for field, problem in found.items()))
    trait = _trait(name, positive.strip(), negative.strip())
    record = {
        "name": trait.name,
        "instructions": [pair.model_dump() for pair in trait.instructions],
        "steer_to": trait.steer_to,
    }
    text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=1000)
    path = write_text(folder / f"{name}.yaml", text)
    if load_trait(path).digest != trait.digest:
        path.unlink()
        raise TraitError(f"{path} can't hold this text: leave out its control characters")
    return path


def commands(path: Path, source: str, target: str) -> list[str]:
    """Shell commands, from the repository, that run the study for a trait file: all of it, one notebook."""
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    pair = f"--source-model {shlex.quote(source)} --target-models {shlex.quote(target)}"
    given = " ".join(
        f"-p {shlex.quote(f'{name}={value}')}"
        for name, value in (("source", source), ("target", target), ("trait", shown))
    )
    return [
        f"./run_all.sh --quick {pair} --trait {shlex.quote(str(shown))}",
        f"prefvec notebook 04 -o out.ipynb --profile quick {given}",
    ]


def _trait(name: str, positive: str, negative: str) -> Trait:
    try:
        return Trait(name=name, instructions=({"positive": positive, "negative": negative},))
    except ValidationError as error:
        raise TraitError(first_problem(error)) from error
