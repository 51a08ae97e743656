"""Length with censoring: answers cut at the token limit have a length that is only known to be
at least the limit."""

import numpy as np


def restricted_mean(n_tokens: np.ndarray, limit: int, axis: int = -1) -> np.ndarray:
    """Restricted mean length: mean of min(length, limit), in tokens (Royston & Parmar 2013).

    It is what a mean can honestly be when some lengths are censored at `limit`: the expected number
    of tokens used out of a budget of `limit`.
    """
    return np.minimum(n_tokens, limit).mean(axis=axis)


def censored_share(finish: list[str]) -> float:
    """Share of answers cut at the limit, in [0, 1]."""
    return float(np.mean([f == "length" for f in finish]))


def direction_score(steered: np.ndarray, unsteered: np.ndarray, sign: int) -> np.ndarray:
    """Direction score of each prompt: 1 if the score moved the way it was steered (of length, with
    sign −1: shorter), 0 if the other way, 0.5 if not at all (both censored, say)."""
    moved = np.sign(np.asarray(steered) - np.asarray(unsteered)) * sign
    return (moved + 1) / 2


def words(text: str) -> int:
    """Whitespace-separated words."""
    return len(text.split())
