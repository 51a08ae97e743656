r"""Numbers for LaTeX: every number in the paper is `\res{key}`, and every key has one source.

A notebook collects its numbers and writes them to one JSON file; the paper notebook merges the
files into `generated/numbers.tex`. A key given twice, or used without a source, fails the build.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from prefvec.errors import ReportError
from prefvec.report.tables import escape
from prefvec.stats import Estimate
from prefvec.store import read_json, write_json, write_text

KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")
COMMENT = re.compile(r"(?<!\\)%.*")
USE = re.compile(r"\\res(?:ci)?\{([^}]*)\}")


def number_key(*parts: str) -> str:
    """A key from names that may hold anything (local paths, accents): `parts` joined by dots."""
    plain = (re.sub(r"[^a-z0-9._-]", "-", part.lower()).lstrip("._-") for part in parts)
    return ".".join(plain)


class Numbers:
    """The numbers of one notebook run."""

    def __init__(self, source: str):
        self.source = source
        self.values: dict[str, dict] = {}

    def add(
        self, key: str, value: float | int | str | Estimate, unit: str = "", digits: int = 2
    ) -> None:
        """Record a number under a key (`a-z0-9._-`). An Estimate brings its interval along.

        Raises ReportError for a malformed key, or one this notebook has given already.
        """
        if not KEY.fullmatch(key):
            raise ReportError(f"number key '{key}': use lower-case letters, digits, '.', '_', '-'")
        if key in self.values:
            raise ReportError(f"number key '{key}' is given twice in {self.source}")
        low = high = None
        if isinstance(value, Estimate):
            value, low, high = value.as_json()
        elif isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not np.isfinite(value):
            value = None
        self.values[key] = {
            "value": value,
            "low": low,
            "high": high,
            "unit": unit,
            "digits": digits,
        }

    def save(self, path: Path) -> Path:
        """Write the JSON file that the paper is built from."""
        return write_json(path, {"source": self.source, "numbers": self.values})


def merge(files: list[Path]) -> dict[str, dict]:
    """All numbers of several files, each with its `source`. Raises ReportError on a double key."""
    merged: dict[str, dict] = {}
    for path in sorted(files):
        record = read_json(path)
        for key, number in record["numbers"].items():
            if key in merged:
                raise ReportError(
                    f"number key '{key}' has two sources: {merged[key]['source']} and "
                    f"{record['source']}: rename one"
                )
            merged[key] = {**number, "source": record["source"]}
    return merged


def write_tex(numbers: dict[str, dict], path: Path) -> Path:
    r"""Write the macros behind `\res{key}` (value) and `\resci{key}` (value with interval)."""
    lines = ["% Written by notebooks/09_paper. Do not edit: every number has a source notebook."]
    for key, number in sorted(numbers.items()):
        plain, interval = format_number(number), format_number(number, interval=True)
        lines.append(rf"\prefvecnumber{{{key}}}{{{plain}}}{{{interval}}}% {number['source']}")
    return write_text(path, "\n".join(lines) + "\n")


def format_number(number: dict, interval: bool = False) -> str:
    """LaTeX for a number, with its 95 % interval in brackets if asked for and known."""
    value, unit = number["value"], number["unit"]
    if value is None:
        return "undefined"
    if isinstance(value, str):
        return escape(value)
    suffix = {"": "", "%": r"\,\%"}.get(unit, rf"\,{escape(unit)}")
    return " ".join(f"${part}$" for part in _parts(number, interval)) + suffix


def show_number(number: dict, interval: bool = False) -> str:
    """The same as plain text, with a minus sign that is one."""
    value, unit = number["value"], number["unit"]
    if value is None:
        return "undefined"
    if isinstance(value, str):
        return value
    text = " ".join(_parts(number, interval)).replace("-", "−")
    return f"{text} {unit}" if unit else text


def _parts(number: dict, interval: bool) -> list[str]:
    """The value, rounded, and its interval in brackets if asked for and known."""

    def show(x: float) -> str:
        scaled = 100 * x if number["unit"] == "%" else x
        return str(scaled) if isinstance(scaled, int) else f"{scaled:z.{number['digits']}f}"

    parts = [show(number["value"])]
    if interval and number["low"] is not None and number["high"] is not None:
        parts.append(f"[{show(number['low'])}, {show(number['high'])}]")
    return parts


def check_uses(numbers: dict[str, dict], tex_files: list[Path]) -> set[str]:
    r"""Every `\res{…}` in the sources must have a number; the set of keys used.

    Raises ReportError naming the file, line and key.
    """
    used = set()
    for where, key in uses(USE, tex_files):
        if key not in numbers:
            raise ReportError(f"{where}: \\res{{{key}}} has no source: no notebook gives that key")
        used.add(key)
    return used


def uses(pattern: re.Pattern, tex_files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """`file:line` and what the pattern's group holds, for each use in TeX sources outside comments."""
    for path in tex_files:
        for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for found in pattern.findall(COMMENT.sub("", line)):
                yield f"{path.name}:{at}", found
