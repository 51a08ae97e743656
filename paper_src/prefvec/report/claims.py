r"""Claims: every sentence of the paper that asserts something rests on a condition that is checked.

In LaTeX, `\claim{name}{sentence}` prints the sentence only where the condition of that name holds. For a
profile whose results the text was written for (`claims: true` in its file) one that does not hold, or
whose number is missing, stops the build with its name.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from prefvec.errors import ReportError
from prefvec.report.numbers import uses
from prefvec.store import write_text

USE = re.compile(r"\\claim\{([^}]*)\}")
OFF_AXIS_COSINE = 0.5  # a cosine below this is called far from 1
POOR_AUC = 0.65  # an area under the curve below this is called hardly better than chance
ALIKE = 0.7  # of the effect on its own trait: a vector that does this to another does not tell them apart


class Found:
    """The paper's numbers as conditions read them. A number that is missing or undefined is a KeyError."""

    def __init__(self, numbers: Mapping[str, dict]):
        self.numbers = numbers

    def value(self, key: str) -> float | int | str:
        """The number itself, or the word (a verdict, a method)."""
        return self._get(key, "value")

    def low(self, key: str) -> float:
        """Lower end of the number's 95 % interval."""
        return self._get(key, "low")

    def high(self, key: str) -> float:
        """Upper end of the number's 95 % interval."""
        return self._get(key, "high")

    def _get(self, key: str, part: str):
        found = self.numbers[key][part]
        if found is None:
            raise KeyError(key)
        return found


CLAIMS: dict[str, Callable[[Found], bool]] = {
    "chosen-method-transfers": lambda n: n.low("best.te.all") > 0,
    "best-beats-shuffled": lambda n: n.low("best.gain.shuffled") > 0,
    "best-beats-wrong-trait": lambda n: n.low("best.gain.wrong_trait") > 0,
    "another-trait-goes-far": lambda n: (
        2 * n.value("best.above_zero.wrong_trait") > n.value("best.n.all")
    ),
    "best-beats-direct": lambda n: n.low("best.gain.zero_pad") > 0,
    "tone-of-honesty-stays": lambda n: (
        2 * n.value("best.n.trait.honest") < n.value("truth.pairs")
        and n.value("scores.auc.honest") < POOR_AUC
    ),
    "styles-are-one": lambda n: (
        n.low("spill.styles.oracle") > ALIKE and n.low("spill.styles.ridge_concept") > ALIKE
    ),
    "mapped-beats-random": lambda n: n.low("main.gain_over_random") > 0,
    "concepts-beat-reconstruction": lambda n: n.low("main.gain_over_r2") > 0,
    "cosine-understates": lambda n: (
        n.value("main.cosine.ridge_concept") < OFF_AXIS_COSINE and n.low("main.te.ridge_concept") > 0
    ),
    "shuffled-pairs-fail": lambda n: n.high("main.te.shuffled_pairing") < n.low(
        "main.te.ridge_concept"
    ),
    "direction-and-length": lambda n: (
        n.low("diagnosed.beyond.direction") > 0 and n.low("diagnosed.beyond.norm") > 0
    ),
}  # fmt: skip


def judged(numbers: Mapping[str, dict]) -> dict[str, str]:
    """Every claim by name: empty if it holds, else why not."""
    found, out = Found(numbers), {}
    for name, holds in CLAIMS.items():
        try:
            out[name] = "" if holds(found) else "the results say otherwise"
        except KeyError as error:
            out[name] = f"number {error.args[0]!r} is missing or undefined"
    return out


def check_claims(
    numbers: Mapping[str, dict], tex_files: list[Path], strict: bool
) -> dict[str, str]:
    r"""What becomes of the claims that the sources make (`judged`).

    Raises ReportError naming file, line and claim for one without a condition, and, if `strict`, for
    one that does not hold.
    """
    state, used = judged(numbers), {}
    for where, name in uses(USE, tex_files):
        if name not in state:
            raise ReportError(f"{where}: claim '{name}' has no condition in report/claims.py")
        if strict and state[name]:
            raise ReportError(f"{where}: claim '{name}' does not hold: {state[name]}")
        used[name] = state[name]
    return used


def write_tex(claims: Mapping[str, str], path: Path) -> Path:
    r"""The claims that hold, for `\claim{name}{sentence}`."""
    lines = [
        "% Written by notebooks/09_paper. Do not edit: the conditions are in report/claims.py."
    ]
    lines += [rf"\prefvecclaim{{{name}}}" for name, why in sorted(claims.items()) if not why]
    return write_text(path, "\n".join(lines) + "\n")
