"""What the hypotheses are judged by: effects above those of random directions, and verdicts."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from prefvec.effects import RANDOM_NAME
from prefvec.metrics.trait import UNITS
from prefvec.stats import RESAMPLES, Estimate
from prefvec.study import Study
from prefvec.transfer.sites import MAX_COLLAPSE
from prefvec.transfer.sweep import UNSTEERED, Site

WORKS = (
    0.5  # a direction "works" if it does at least this share of what the target's own vector does
)
UNKNOWN = Estimate(np.nan, np.nan, np.nan)

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


class Gain(NamedTuple):
    """Mean effect of a direction minus that of random directions of its length: of the direction itself,
    of the target's own vector, and the first over the second (NaN where the own vector has none)."""

    gain: Estimate
    own: Estimate
    share: Estimate


class Outcome(NamedTuple):
    """What a verdict reads of one direction: `Gain`'s gain and share, and the share of collapsed answers."""

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


def gain_over_random(
    method: np.ndarray, random: np.ndarray, own: np.ndarray, own_random: np.ndarray, seed: int = 0
) -> Gain:
    """Gains of a direction and of the target's own vector, each at a dose of its own.

    method, own: effects `[n]`; random, own_random: `[k, n]`, the same k random directions at either
    dose. Intervals (95 %) resample prompts, the same for all, and random directions, as
    `stats.transfer_efficiency`, to which the share reduces at equal doses. The share is NaN unless
    the own vector's gain has an interval above 0.
    """
    generator = np.random.default_rng(seed)
    prompts = generator.integers(len(method), size=(RESAMPLES, len(method)))
    directions = generator.integers(len(random), size=(RESAMPLES, len(random)))

    def draws(effect: np.ndarray, noise: np.ndarray) -> np.ndarray:
        level = np.take_along_axis(noise[directions].mean(axis=1), prompts, axis=1).mean(axis=1)
        return effect[prompts].mean(axis=1) - level

    drawn, drawn_own = draws(method, random), draws(own, own_random)
    value, value_own = method.mean() - random.mean(), own.mean() - own_random.mean()
    gain, gain_own = _interval(value, drawn), _interval(value_own, drawn_own)
    if not gain_own.low > 0:
        return Gain(gain, gain_own, UNKNOWN)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = drawn / drawn_own
    shares = np.where(np.isnan(shares), -np.inf, shares)  # 0/0: count it against the claim
    return Gain(gain, gain_own, _interval(value / value_own, shares))


def _interval(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.percentile(draws, [2.5, 97.5], method="inverted_cdf")
    return Estimate(float(value), float(low), float(high))


def in_words(estimate: Estimate, digits: int = 2) -> str:
    """`value [low, high]`."""
    value, low, high = (f"{x:.{digits}f}" for x in estimate)
    return f"{value} [{low}, {high}]"
