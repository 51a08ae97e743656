"""Tasks: what a model is asked to do with an item, e.g. answer a question or summarise an article.

A task is one file: a template with one placeholder, and the file that its items come from.
"""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prefvec.errors import TraitError
from prefvec.models.registry import first_problem
from prefvec.paths import DATA
from prefvec.traits import read_yaml

TASKS = DATA / "tasks"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
ASKED_BY = {  # the settings that say how many items of a split are used
    "extraction": "n_extraction",
    "selection": "n_selection + n_choice",
    "evaluation": "n_evaluation",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(NamedTuple):
    """One prompt of a task, and the id of what it is about."""

    id: str
    prompt: str


class Splits(_Frozen):
    """What the study's splits are called in the file of items."""

    extraction: str = "extraction"
    selection: str = "selection"
    evaluation: str = "evaluation"


class Task(_Frozen):
    """What is asked of the models.

    `template` holds one `{placeholder}`. `items`: a `.yaml` file with a list of texts for each split,
    or a `.jsonl` file whose lines have `split` and the field that the placeholder names; with a
    relative path, it is looked for beside the task file.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    description: str = ""
    template: str
    items: Path
    splits: Splits = Splits()

    @field_validator("template")
    @classmethod
    def _one_placeholder(cls, template: str) -> str:
        found = PLACEHOLDER.findall(template)
        if len(found) != 1:
            raise ValueError(f"it must hold one {{placeholder}}, it has {len(found)}")
        return template

    def items_of(self, split: str, limit: int | None = None) -> list[Item]:
        """The first `limit` items of a split (all if None), rendered.

        Raises TraitError naming the file of items, and the setting when it has fewer.
        """
        [field] = PLACEHOLDER.findall(self.template)
        name = getattr(self.splits, split)
        texts = _texts(self.items, field).get(name, ())
        if not texts:
            raise TraitError(f"task '{self.name}': {self.items} has no items of split '{name}'")
        if limit is not None and limit > len(texts):
            raise TraitError(
                f"task '{self.name}': split '{name}' of {self.items.name} has {len(texts)} items, "
                f"{limit} were asked for: lower {ASKED_BY[split]}, or add items"
            )
        return [
            Item(item, self.template.replace(f"{{{field}}}", text)) for item, text in texts[:limit]
        ]

    def prompts(self, split: str, limit: int | None = None) -> list[str]:
        """The prompts of `items_of`."""
        return [item.prompt for item in self.items_of(split, limit)]


def task_file(name: str | Path) -> Path:
    """The file that a task's name or path means. Raises TraitError listing the built-in ones."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = TASKS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in TASKS.glob("*.yaml")))
        raise TraitError(
            f"unknown task '{name}': use a built-in one ({known}) or the path of a task file"
        )
    return path


def load_task(name: str | Path) -> Task:
    """A built-in task by name, or a task file (.yaml) by path, with its items checked.

    Raises TraitError naming the file and field.
    """
    path = task_file(name)
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise TraitError(f"task file {path}: it must be a mapping with `name`, `template`, `items`")
    if isinstance(raw.get("items"), str):
        raw = {**raw, "items": (path.parent / raw["items"]).resolve()}
    try:
        task = Task(**raw)
    except (ValidationError, TypeError) as error:
        raise TraitError(f"task file {path}: {first_problem(error)}") from error
    for split in Splits.model_fields:
        task.items_of(split)
    return task


@lru_cache
def _texts(path: Path, field: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """(id, text) of every item by split."""
    found: dict[str, list] = {}
    if path.suffix == ".jsonl":
        for number, line in enumerate(_lines(path), 1):
            try:
                row = json.loads(line)
                text, split = row[field], row["split"]
            except (ValueError, KeyError, TypeError) as error:
                problem = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise TraitError(f"{path}:{number}: {problem}") from error
            found.setdefault(split, []).append((str(row.get("id", number)), text))
    else:
        raw = read_yaml(path)
        if not isinstance(raw, dict) or not all(isinstance(v, list) for v in raw.values()):
            raise TraitError(f"{path}: it must hold a list of texts for each split")
        for split, texts in raw.items():
            found[split] = [(f"{split}-{i}", text) for i, text in enumerate(texts, 1)]
    for split, items in found.items():
        for item, text in items:
            if not isinstance(text, str) or not text.strip():
                raise TraitError(f"{path}: item {item} of split '{split}' is not a text")
    return {split: tuple(items) for split, items in found.items()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraitError(f"{path} can't be read: {error}") from error
