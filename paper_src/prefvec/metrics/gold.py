"""Texts whose label is known, that no score was made from: `data/gold/<trait>.jsonl`."""

import json
from typing import NamedTuple

from prefvec.errors import TraitError
from prefvec.paths import DATA

GOLD = DATA / "gold"


class GoldPair(NamedTuple):
    """A question answered in the trait's positive and in its negative pole."""

    question: str
    positive: str
    negative: str


def load_gold(trait: str) -> tuple[GoldPair, ...]:
    """The labelled answers of a trait, one pair a question; empty if the trait has no file.

    Raises TraitError naming the file and the line or pair at fault.
    """
    path = GOLD / f"{trait}.jsonl"
    if not path.is_file():
        return ()
    found: dict[object, dict] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            pole = {1: "positive", -1: "negative"}[row["label"]]
            pair = found.setdefault(row["pair"], {"question": row["question"]})
            pair[pole] = row["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise TraitError(f"{path.name}, line {number}: {error!r}") from error
    for name, pair in found.items():
        if len(pair) != 3:
            raise TraitError(
                f"{path.name}: pair {name} needs a text of label 1 and one of label -1"
            )
    return tuple(GoldPair(**pair) for pair in found.values())
