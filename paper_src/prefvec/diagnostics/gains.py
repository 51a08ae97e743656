"""What the hypotheses are judged by: effects above those of random directions, and verdicts."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from prefvec.effects import RANDOM_NAME
from prefvec.metrics.trait import UNITS
from prefvec.stats import Estimate
from prefvec.study import Study
from prefvec.transfer.sites import MAX_COLLAPSE
from prefvec.transfer.sweep import UNSTEERED, Site

WORKS = (
    0.5  # a direction "works" if it does at least this share of what the target's own vector does
)

Effects = dict[tuple[str, float], np.ndarray]


class Conclusion(NamedTuple):
    """A verdict, the numbers that it rests on in words, and the rule, fixed before the numbers."""

    verdict: Literal["supported", "rejected", "undecided"]
    reason: str
    rule: str


def hypothesis_record(
    study: Study, site: Site, statement: str, conclusion: Conclusion, **measurements
) -> dict:
    """What a hypothesis file says beside the pair and the splits: the statement that is put to the test,
    the unit of effects, the site, the conclusion, and what was measured."""
    return {
        "statement": statement, "unit": UNITS[study.trait.measure], "site": site,
        "conclusion": conclusion, "measurements": measurements,
    }  # fmt: skip


class Outcome(NamedTuple):
    """What a verdict reads of one direction: `stats.Gain`'s gain and share, and the share of collapsed answers."""

    gain: Estimate
    share: Estimate
    collapse: float

    @property
    def works(self) -> bool:
        """Above random by an interval without 0, half of the own vector's gain or more, coherent."""
        return self.gain.low > 0 and self.share.value >= WORKS and self.collapse <= MAX_COLLAPSE

    @property
    def fails(self) -> bool:
        """Less than half of the own vector's gain, by an interval."""
        return self.share.high < WORKS


def effects_of(study: Study, answers: pd.DataFrame, split: str) -> Effects:
    """Effect `[n]` of each prompt of a split by (method, unsigned dose): change of the score against the
    unsteered answer, positive the way it was steered; a missing score counts as no effect."""
    questions = study.splits[split]
    rows = answers.drop_duplicates(["method", "dose", "question"])
    scores = {
        (method, abs(float(dose))): cell.set_index("question").score.loc[questions]
        for (method, dose), cell in rows.groupby(["method", "dose"], sort=False)
    }
    base = scores.pop((UNSTEERED, 0.0))
    return {
        key: (study.trait.sign * (found - base)).fillna(0.0).to_numpy(float)
        for key, found in scores.items()
    }


def random_effects(effects: Effects, dose: float) -> np.ndarray:
    """Effects `[k, n]` of the random directions at an unsigned dose, in order of their number."""
    names = sorted(m for m, d in effects if d == dose and RANDOM_NAME.fullmatch(m))
    return np.stack([effects[name, dose] for name in names])
