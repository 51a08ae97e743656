"""Which way an answer's length moved."""

import numpy as np


def direction_score(steered: np.ndarray, unsteered: np.ndarray, sign: int) -> np.ndarray:
    """Direction score of each prompt: 1 if the score moved the way it was steered (of length, with
    sign −1: shorter), 0 if the other way, 0.5 if not at all (both censored, say)."""
    moved = np.sign(np.asarray(steered) - np.asarray(unsteered)) * sign
    return (moved + 1) / 2
