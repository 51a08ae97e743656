"""Two runs of one profile, number by number: is a result reproduced?"""

import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from prefvec.errors import ReportError
from prefvec.report.numbers import format_number, merge
from prefvec.store import read_json

EXACT, PRINTED, INTERVAL, OUTSIDE = "exact", "as printed", "in the interval", "outside"
ORDER = (EXACT, PRINTED, INTERVAL, OUTSIDE)
EFFECT = re.compile(
    r"\.(te|te_kl|gain\w*|effect\w*)(\.|$)"
)  # keys of numbers whose 0 means no effect
ABOVE, BELOW, ACROSS = "above 0", "below 0", "reaches 0"
ROW = ("method", "layer", "dose", "question")  # those of them that a file has


class Comparison(NamedTuple):
    """numbers: one row a key that both runs have (`key, before, after, low, high, status`); sides: one row
    an effect, gain or efficiency with an interval in both (`key, before, after`: `side`); texts: one row
    a generations file (`file, rows, same`); verdicts: (name, before, after); alone: keys that only
    one run has."""

    numbers: pd.DataFrame
    sides: pd.DataFrame
    texts: pd.DataFrame
    verdicts: list[tuple[str, str, str]]
    alone: list[str]

    @property
    def changed(self) -> list[tuple[str, str, str]]:
        """The verdicts that are not the same in both runs."""
        return [v for v in self.verdicts if v[1] != v[2]]

    def as_record(self) -> dict:
        """Plain values: counts by status, the numbers that are outside, texts and verdicts."""
        count = Counter(self.numbers.status)
        outside = self.numbers[self.numbers.status == OUTSIDE].astype(object)
        outside = outside.where(outside.notna(), None)  # NaN is no JSON
        return {
            "numbers": {status: count[status] for status in ORDER},
            "outside": outside[["key", "before", "after", "low", "high"]].to_dict("records"),
            "effects": len(self.sides),
            "same_side": int((self.sides.before == self.sides.after).sum()),
            "other_side": self.sides[self.sides.before != self.sides.after].to_dict("records"),
            "alone": self.alone,
            "answers": int(self.texts["rows"].sum()),
            "same_answers": int(self.texts["same"].sum()),
            "verdicts": [dict(zip(("name", "before", "after"), v, strict=True)) for v in self.verdicts],
        }  # fmt: skip

    def text(self) -> str:
        """What a reader wants to know, in a few lines."""
        record = self.as_record()
        total = max(1, len(self.numbers))
        shares = ", ".join(
            f"{n} {status} ({n / total:.0%})" for status, n in record["numbers"].items()
        )
        lines = [f"{len(self.numbers)} numbers in both: {shares}"]
        lines += [
            f"  {r['key']}: {r['before']}{interval} -> {r['after']}"
            for r in record["outside"]
            for interval in ["" if r["low"] is None else f" [{r['low']}, {r['high']}]"]
        ]
        if self.alone:
            lines.append(
                f"{len(self.alone)} numbers in one run only: {', '.join(self.alone[:5])} …"
            )
        if record["effects"]:
            lines.append(
                f"{record['same_side']} of {record['effects']} effects and efficiencies on the same side of 0"
            )
            lines += [f"  {r['key']}: {r['before']} -> {r['after']}" for r in record["other_side"]]
        if record["answers"]:
            share = record["same_answers"] / record["answers"]
            lines.append(f"{record['answers']} answers in both: {share:.1%} have the same text")
        lines += [
            f"verdict {name}: {a}" + ("" if a == b else f" -> {b}") for name, a, b in self.verdicts
        ]
        return "\n".join(lines)


def compare(before: Path, after: Path) -> Comparison:
    """Compare two results folders of a profile (`data/results/<profile>`).

    A number is exact (the same float, and the same interval), as printed (the same after rounding to
    the digits that the paper shows), in the interval (inside the first run's 95 % interval), or outside.
    Of runs over different pairs or traits, only what belongs to one model or cell is compared.
    Raises ReportError where a folder has no numbers.
    """
    whole = _study(before) == _study(after)
    one, two = (_numbers(folder, whole) for folder in (before, after))
    rows, effects = [], []
    for key in sorted(one.keys() & two.keys()):
        a, b = one[key], two[key]
        rows.append((key, a["value"], b["value"], a["low"], a["high"], status(a, b)))
        if EFFECT.search(key) and side(a) and side(b):
            effects.append((key, side(a), side(b)))
    numbers = pd.DataFrame(rows, columns=["key", "before", "after", "low", "high", "status"])
    verdicts = _verdicts(before, after) if whole else []
    sides = pd.DataFrame(effects, columns=["key", "before", "after"])
    return Comparison(
        numbers, sides, _texts(before, after), verdicts, sorted(one.keys() ^ two.keys())
    )


def status(a: dict, b: dict) -> str:
    """How well the second record of a number repeats the first."""
    if all(a[k] == b[k] for k in ("value", "low", "high")):
        return EXACT
    if format_number(a, interval=True) == format_number(
        {**a, **{k: b[k] for k in ("value", "low", "high")}}, interval=True
    ):
        return PRINTED
    bounds = a["low"], b["value"], a["high"]
    known = all(isinstance(x, int | float) and math.isfinite(x) for x in bounds)
    return INTERVAL if known and bounds[0] <= bounds[1] <= bounds[2] else OUTSIDE


def side(record: dict) -> str:
    """On which side of 0 a number's interval lies; empty where it has none."""
    low, high = record["low"], record["high"]
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in (low, high)):
        return ""
    return ABOVE if low > 0 else BELOW if high < 0 else ACROSS


def _study(folder: Path) -> tuple:
    """Pairs and traits of a run that was finished, as its last manifest has them."""
    manifest = folder / "manifest_09.json"
    record = read_json(manifest) if manifest.exists() else {}
    return record.get("pairs"), record.get("traits")


def _numbers(folder: Path, whole: bool) -> dict[str, dict]:
    files = sorted(folder.rglob("numbers_*.json" if whole else "*/*/numbers_*.json"))
    if not files:
        raise ReportError(f"{folder}: no numbers_*.json, so no results of a profile")
    return merge(files)


def _texts(before: Path, after: Path) -> pd.DataFrame:
    rows = []
    for path in sorted(before.rglob("generations_*.jsonl")):
        other = after / path.relative_to(before)
        if other.exists():
            one, two = (_answers(p) for p in (path, other))
            keys = [name for name in (*ROW, "occurrence") if name in one and name in two]
            both = one.merge(two, on=keys, suffixes=("_a", "_b"))
            same = int((both.text_a == both.text_b).sum())
            rows.append((str(path.relative_to(before)), len(both), same))
    return pd.DataFrame(rows, columns=["file", "rows", "same"])


def _answers(path: Path) -> pd.DataFrame:
    """A generations file; answers under the same name (seeds, coefficients) are told apart by order."""
    table = pd.read_json(path, lines=True, dtype=False)
    names = [name for name in ROW if name in table]
    return table[[*names, "text"]].assign(occurrence=table.groupby(names).cumcount())


def _verdicts(before: Path, after: Path) -> list[tuple[str, str, str]]:
    files = [folder / "verdicts.json" for folder in (before, after)]
    if not all(file.exists() for file in files):
        return []
    one, two = map(read_json, files)
    return [
        (name, one[name]["status"], two[name]["status"])
        for name in sorted(one.keys() & two.keys())
        if isinstance(one[name], dict) and "status" in one[name]
    ]
