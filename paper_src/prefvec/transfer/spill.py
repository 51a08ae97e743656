"""What each preference's vector does to the other preferences, from answers that are there already."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from prefvec.stats import UNKNOWN, Estimate, mean_ci, paired_bootstrap
from prefvec.study import Study
from prefvec.transfer.saved import Cell
from prefvec.transfer.sweep import ORACLE, UNSTEERED

SPILL_METHODS = (ORACLE, "ridge_concept", "random_0")
Effects = dict[tuple[str, str, str], np.ndarray]  # (method, vector's trait, measured trait) → [n]


def score_as(study: Study, answers: pd.DataFrame, limit: int) -> np.ndarray:
    """The score `[n]` of a study's trait in answers that its target gave, for whatever purpose; limit:
    the limit in tokens under which they were generated."""
    return study.score(study.target, answers.question, answers.text, answers.n_tokens, limit)


def spill_scores(cells: Mapping[str, Cell], methods: Sequence[str]) -> pd.DataFrame:
    """Every trait's score of the answers under every trait's vector.

    Columns: method, vector (the trait whose vector steers), measured (the trait that is scored),
    question, score. Nothing is generated.
    """
    tables = []
    for vector, cell in cells.items():
        answers = pd.concat([cell.at(m) for m in (UNSTEERED, *methods)], ignore_index=True)
        limit = cell.study.settings.max_new_tokens
        for measured, other in cells.items():
            table = answers[["method", "question"]].assign(vector=vector, measured=measured)
            tables.append(table.assign(score=score_as(other.study, answers, limit)))
    return pd.concat(tables, ignore_index=True)


def spill_effects(scores: pd.DataFrame, signs: Mapping[str, int]) -> Effects:
    """Standardised paired effects, one a prompt, by (method, vector's trait, measured trait).

    Change against the unsteered answer, towards the pole that the study steers the *measured* trait
    to (`signs`), in units of one yardstick a column (`yardsticks`). An answer without a score counts as
    no effect; where the yardstick is 0, NaN.
    """
    spreads = yardsticks(scores)
    by_cell = {
        key: cell.set_index("question").score
        for key, cell in scores.groupby(["method", "vector", "measured"], sort=False)
    }
    out = {}
    for (method, vector, measured), cell in by_cell.items():
        if method != UNSTEERED:
            base = by_cell[UNSTEERED, vector, measured].loc[cell.index]
            change = (signs[measured] * (cell - base)).fillna(0.0).to_numpy(float)
            out[method, vector, measured] = change / spreads[measured]
    return out


def yardsticks(scores: pd.DataFrame) -> dict[str, float]:
    """SD of each trait's score over what its target writes unsteered and under its own vector, both
    together, NaN where it is 0; scores: as of `spill_scores`.

    Not over the unsteered answers alone: where nearly all of them reach the limit of a length, their
    spread is next to nothing, and any effect would be many of it.
    """
    own = scores[scores.method.isin([UNSTEERED, ORACLE]) & (scores.vector == scores.measured)]
    return {trait: spread(cell.score) for trait, cell in own.groupby("measured", sort=False)}


def spread(scores: pd.Series) -> float:
    """Standard deviation of the scores that there are, NaN where it is 0."""
    return float(scores.astype(float).std(ddof=1)) or np.nan


def spill_frame(effects: Effects, seed: int = 0) -> pd.DataFrame:
    """Mean effects with intervals over prompts: method, vector, measured, n, effect (`Estimate`)."""
    rows = [(*key, len(values), mean_ci(values, seed)) for key, values in effects.items()]
    return pd.DataFrame(rows, columns=["method", "vector", "measured", "n", "effect"])


def spill_ratio(effects: Effects, method: str, seed: int = 0) -> Estimate:
    """Mean |effect| off the diagonal over the mean effect on it: 0, each vector moves its own trait
    alone. The interval resamples prompts, for all entries at once; it is missing where the traits'
    prompts differ in number. Infinite where the diagonal is not above 0.

    An absolute value of a noisy mean is above 0 without any spill, so compare it with that of a random
    direction (`spill_level`).
    """
    return _over_matrix(effects, method, _ratio, seed)


def spill_level(effects: Effects, method: str, seed: int = 0) -> Estimate:
    """Mean |effect| off the diagonal, SDs, with its interval as in `spill_ratio`."""
    return _over_matrix(effects, method, lambda own, off: off, seed)


def _over_matrix(effects: Effects, method: str, combine, seed: int) -> Estimate:
    chosen = {k[1:]: v for k, v in effects.items() if k[0] == method}
    own = [v for (vector, measured), v in chosen.items() if vector == measured]
    off = [v for (vector, measured), v in chosen.items() if vector != measured]
    if not off:
        return UNKNOWN

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        means = [s.mean(axis=axis) for s in samples]
        diagonal = np.mean(means[: len(own)], axis=0)
        return combine(diagonal, np.mean(np.abs(means[len(own) :]), axis=0))

    samples = [*own, *off]
    if len({len(s) for s in samples}) > 1:
        return Estimate(float(statistic(*samples)), np.nan, np.nan)
    return paired_bootstrap(samples, statistic, seed)


def _ratio(own: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Undefined without an intended effect; in a resample that counts as the largest ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(own > 0, off / own, np.inf)
