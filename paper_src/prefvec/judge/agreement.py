"""Is the judge any good? Against texts whose label is known, and against the automatic scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from prefvec.judge.judging import Judge, judged
from prefvec.judge.rubrics import Rubric, load_rubric
from prefvec.metrics.gold import GoldPair
from prefvec.stats import UNKNOWN, Estimate, paired_auc, paired_bootstrap

COHERENCE = "coherence"
# Fixed before any judge was looked at.
FIT_AUC = 0.7  # the lower end of the interval must reach it
FIT_MISSING = 0.1  # share of missing scores that is still allowed
MIN_WORDS = 8  # shuffling fewer words changes little


class Fitness(NamedTuple):
    """How a judge does on texts of known order. auc: share of (better, worse) texts in the right order;
    auc_length_free: the same after the regression on length; length_bias: rank correlation of score
    and length within the poles; missing: share of scores that are not there."""

    rubric: str
    n: int
    auc: Estimate
    auc_length_free: Estimate
    length_bias: Estimate
    missing: float

    @property
    def fit(self) -> bool:
        """Whether its scores may be used for a claim."""
        return bool(self.auc.low >= FIT_AUC and self.missing <= FIT_MISSING)


def n_words(texts: Sequence[str]) -> np.ndarray:
    """Words of each text."""
    return np.array([len(text.split()) for text in texts], float)


def length_regressed(scores: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Scores without what log(1 + words) predicts of them (least squares over all), mean kept."""
    scores, length = np.asarray(scores, float), np.log1p(n_words(texts))
    there = ~np.isnan(scores)
    centred = length - length[there].mean() if there.any() else length
    spread = float((centred[there] ** 2).sum())
    if spread == 0:
        return scores
    plain = scores - centred * float((centred[there] * scores[there]).sum()) / spread
    return plain.round(9)  # a score that is all length leaves ties, not rounding errors


def rank_correlation(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Estimate:
    """Spearman's correlation of the pairs where both values are there, with its interval; NaN where one
    does not vary."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    there = ~(np.isnan(a) | np.isnan(b))
    a, b = a[there], b[there]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return UNKNOWN
    return paired_bootstrap([a, b], _spearman, seed)


def _spearman(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    a, b = rankdata(a, axis=axis), rankdata(b, axis=axis)
    a, b = a - a.mean(axis=axis, keepdims=True), b - b.mean(axis=axis, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a * b).sum(axis) / np.sqrt((a**2).sum(axis) * (b**2).sum(axis))


def shuffled_words(text: str, seed: int) -> str:
    """The same words in another order."""
    words = text.split()
    return " ".join(np.random.default_rng(seed).permutation(words))


def corrupted(text: str, seed: int) -> str:
    """Every third word replaced by one of the text's other words written backwards, and the first
    words repeated at the end."""
    words = text.split()
    draws = np.random.default_rng(seed).integers(len(words), size=len(words))
    mixed = [words[d][::-1] if i % 3 == 2 else w for i, (w, d) in enumerate(zip(words, draws))]  # noqa: B905
    return " ".join([*mixed, *3 * words[:3]])


def broken_pairs(pairs: Sequence[GoldPair], limit: int, seed: int = 0) -> list[GoldPair]:
    """Gold texts (positive) beside broken copies (negative), shuffled and corrupted in turn."""
    texts = [(p.question, t) for p in pairs for t in (p.positive, p.negative)]
    long = [(q, t) for q, t in texts if len(t.split()) >= MIN_WORDS]
    chosen = long[:: max(1, len(long) // max(1, limit))][:limit]
    breaks = (shuffled_words, corrupted)
    return [GoldPair(q, t, breaks[i % 2](t, seed + i)) for i, (q, t) in enumerate(chosen)]


def judge_gold(
    judge: Judge, rubric: Rubric, pairs: Sequence[GoldPair], seed: int = 0
) -> pd.DataFrame:
    """The judge's scores of both texts of every pair: `rubric, pair, label, question, text, score, …`."""
    rows = [
        {"rubric": rubric.name, "pair": i, "label": label, "question": pair.question, "text": text}
        for i, pair in enumerate(pairs)
        for label, text in ((1, pair.positive), (-1, pair.negative))
    ]
    found = judged(judge, rubric, [r["question"] for r in rows], [r["text"] for r in rows], seed)
    return pd.concat([pd.DataFrame(rows), found], axis=1)


def fitness(gold: pd.DataFrame, seed: int = 0) -> Fitness:
    """What the scores of `judge_gold` say about the judge; missing scores count half in an AUC."""
    gold = gold.assign(plain=length_regressed(gold.score.to_numpy(), gold.text))
    poles = {label: part.sort_values("pair") for label, part in gold.groupby("label")}
    within = gold.score - gold.groupby("label").score.transform("mean")
    words = np.log1p(n_words(gold.text))
    length = words - pd.Series(words, gold.index).groupby(gold.label).transform("mean")
    auc, free = (
        paired_auc(poles[1][column].to_numpy(), poles[-1][column].to_numpy(), seed)
        for column in ("score", "plain")
    )
    return Fitness(
        rubric=gold.rubric.iloc[0],
        n=len(poles[1]),
        auc=auc,
        auc_length_free=free,
        length_bias=rank_correlation(within.to_numpy(), length.to_numpy(), seed),
        missing=float(gold.score.isna().mean()),
    )


def unmeasured(rubric: Rubric) -> Fitness:
    """A judge of unknown quality, for want of labelled texts: unfit."""
    return Fitness(rubric.name, 0, UNKNOWN, UNKNOWN, UNKNOWN, 0.0)


def coherence_rubric() -> Rubric:
    """The rubric that asks whether a text is language at all."""
    return load_rubric(COHERENCE)


def harmonic_mean(*parts: np.ndarray) -> np.ndarray:
    """Harmonic mean of scores 0–100 `[n]` each (as in AxBench, Wu et al. 2025): 0 where one is 0, NaN
    where one is missing."""
    stacked = np.clip(np.stack([np.asarray(p, float) for p in parts]), 0, 100)
    with np.errstate(divide="ignore"):
        return len(parts) / (1 / stacked).sum(axis=0)
