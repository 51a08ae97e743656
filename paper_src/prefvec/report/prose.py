"""Numbers in Markdown, each with its key, so that a page says what the results say.

`<!--=key-->0.97 [0.87, 1.07]<!--/-->` is a number with its interval, `<!--#key-->0.97<!--/-->` the value
alone. The comments do not show in a rendered page; the keys are those of the paper (`\\res{key}`).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from prefvec.errors import ReportError
from prefvec.profile import Profile
from prefvec.report.numbers import show_number
from prefvec.report.paper import all_numbers
from prefvec.store import write_text
from prefvec.traits import load_trait

KEYED = re.compile(r"<!--([=#])([^>]*?)-->(.*?)<!--/-->", re.DOTALL)


def filled(text: str, numbers: Mapping[str, dict], name: str = "the text") -> str:
    """The text with every keyed number written anew. Raises ReportError naming the line of a key that
    has no number."""

    def write(found: re.Match) -> str:
        kind, key, _ = found.groups()
        if key not in numbers:
            line = text.count("\n", 0, found.start()) + 1
            raise ReportError(f"{name}:{line}: number '{key}' has no source: no notebook gives it")
        return f"<!--{kind}{key}-->{show_number(numbers[key], kind == '=')}<!--/-->"

    return KEYED.sub(write, text)


def numbers_of(profile: Profile) -> dict[str, dict]:
    """The numbers of a profile by key (`all_numbers`)."""
    traits = [load_trait(trait).name for trait in profile.traits]
    return all_numbers(profile.name, [list(pair) for pair in profile.pairs], traits)


def fill(path: Path, numbers: Mapping[str, dict]) -> int:
    """Write the keyed numbers of a Markdown file; how many there are.

    Raises ReportError for a file that is not there or has a key without a number.
    """
    if not path.is_file():
        raise ReportError(f"{path} does not exist: give a Markdown file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"{path} is not text in UTF-8: give a Markdown file") from error
    if not KEYED.search(text):
        raise ReportError(f"{path} names no number: write <!--=key--><!--/--> where one belongs")
    write_text(path, filled(text, numbers, path.name))
    return len(KEYED.findall(text))
