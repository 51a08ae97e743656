"""Paired bootstrap intervals and transfer efficiency.

The unit of resampling is the prompt: every condition answers the same prompts, so a resample takes
the same prompts of all of them (Efron & Tibshirani 1993). Where random directions are the reference,
they are resampled too.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 4000


class Estimate(NamedTuple):
    """A value with its 95 % percentile interval; `low`/`high` are NaN where it has none."""

    value: float
    low: float
    high: float

    def as_json(self) -> list[float | None]:
        """[value, low, high] with None for what is undefined."""
        return [None if not np.isfinite(x) else float(x) for x in self]

    def in_words(self, digits: int = 2) -> str:
        """`value [low, high]`, or the value where it has no interval, without negative zeros; a dash
        where it is undefined."""
        if not np.isfinite(self.value):
            return "--"
        value, low, high = (f"{x:z.{digits}f}" for x in self)
        return value if "nan" in (low, high) else f"{value} [{low}, {high}]"

    @classmethod
    def from_json(cls, values: Iterable[float | None]) -> "Estimate":
        """The estimate that `as_json` wrote; what is None is NaN."""
        return cls(*(np.nan if v is None else float(v) for v in values))


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def paired_bootstrap(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """Percentile interval of a statistic of paired samples.

    samples: arrays `[n]`, one value a prompt, same prompts in the same order; statistic: takes the
    samples and `axis`, as scipy.stats.bootstrap asks. Needs n ≥ 2, else the interval is NaN.
    """
    value = float(statistic(*samples, axis=-1))
    if len(samples[0]) < 2:
        return Estimate(value, np.nan, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = bootstrap(
            tuple(samples), statistic, paired=True, vectorized=True, n_resamples=resamples,
            confidence_level=level, method="percentile", rng=np.random.default_rng(seed),
        )  # fmt: skip
    return _percentile(value, result.bootstrap_distribution, level)


def _percentile(value: float, draws: np.ndarray, level: float = 0.95) -> Estimate:
    """A value with the percentile interval of its resamples."""
    draws = np.where(np.isnan(draws), -np.inf, draws)  # 0/0: count it against the claim
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], method="inverted_cdf")
    return Estimate(float(value), float(low), float(high))


def mean_ci(values: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of the values that are there, with its interval."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return UNKNOWN
    return paired_bootstrap([values], np.mean, seed)


class Gain(NamedTuple):
    """Mean effect of a direction minus that of random directions of its length: of the direction itself,
    of the target's own vector, and the first over the second (NaN where the own vector has none)."""

    gain: Estimate
    own: Estimate
    share: Estimate


def transfer_efficiency(
    method: np.ndarray, random: np.ndarray, oracle: np.ndarray, seed: int = 0
) -> Estimate:
    """(method − random) / (oracle − random) of mean effects at one dose: 0 as good as a random direction
    of the same length, 1 as good as the target's own vector. Shapes, interval and NaN as
    `gain_over_random`."""
    return gain_over_random(method, random, oracle, random, seed).share


def gain_over_random(
    method: np.ndarray, random: np.ndarray, own: np.ndarray, own_random: np.ndarray, seed: int = 0
) -> Gain:
    """Gains of a direction and of the target's own vector, each at a dose of its own.

    method, own: effects `[n]`, one a prompt; random, own_random: `[k, n]`, one row a random direction,
    the same k at either dose. Intervals (95 %) resample prompts, the same for all, and random
    directions: a few of them stand for all. The share is NaN unless the own vector's gain has an
    interval above 0: without an effect to transfer, its share has no meaning.
    """
    random, own_random = np.atleast_2d(random), np.atleast_2d(own_random)
    generator = np.random.default_rng(seed)
    prompts = generator.integers(len(method), size=(RESAMPLES, len(method)))
    directions = generator.integers(len(random), size=(RESAMPLES, len(random)))

    def draws(effect: np.ndarray, noise: np.ndarray) -> np.ndarray:
        level = np.take_along_axis(noise[directions].mean(axis=1), prompts, axis=1).mean(axis=1)
        return effect[prompts].mean(axis=1) - level

    drawn, drawn_own = draws(method, random), draws(own, own_random)
    value, value_own = method.mean() - random.mean(), own.mean() - own_random.mean()
    gain, gain_own = _percentile(value, drawn), _percentile(value_own, drawn_own)
    if not gain_own.low > 0:
        return Gain(gain, gain_own, UNKNOWN)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Gain(gain, gain_own, _percentile(value / value_own, drawn / drawn_own))


def paired_auc(positive: np.ndarray, negative: np.ndarray, seed: int = 0) -> Estimate:
    """Area under the curve of scores `[n]` of texts of either pole, with its interval: the share of
    (positive, negative) texts in the right order (Mann & Whitney 1947), ties and missing scores
    counting half. positive[i] and negative[i] answer one question, and are resampled together."""

    def area(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        a, b = a[..., :, None], b[..., None, :]
        return 0.5 + 0.5 * ((a > b).mean(axis=(-2, -1)) - (a < b).mean(axis=(-2, -1)))

    return paired_bootstrap([np.asarray(positive, float), np.asarray(negative, float)], area, seed)


def difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Estimate:
    """mean(a) − mean(b) over the same prompts, with its paired interval."""
    return paired_bootstrap([a, b], _difference, seed)


def _difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    return a.mean(axis=axis) - b.mean(axis=axis)
