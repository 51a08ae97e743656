"""Parameter modulation: a vector squeezed into sampling parameters, for models without activations.

temperature = base + 0.1 · ‖v‖ · coefficient; the coefficient's sign sets top_p and the repetition
penalty. Only the vector's length enters: every vector of the same length, shuffled or of another
trait, gives the same parameters, so what this does carries no information about a direction.
"""

from typing import NamedTuple

import numpy as np

from prefvec.judge.endpoint import Ask

GAIN = 0.1
LOWEST, HIGHEST = 0.0, 2.0  # temperatures that servers take
# (top_p, repetition penalty) by polarity: wide and free of repetition, as it is, narrow
BY_POLARITY = {1: (0.95, 1.2), 0: (0.9, 1.1), -1: (0.7, 1.0)}


class Sampling(NamedTuple):
    """Sampling parameters of a request."""

    temperature: float
    top_p: float
    repetition_penalty: float

    def ask(self, question: str, system: str, limit: int, seed: int, local: bool) -> Ask:
        """The request of a question. llama.cpp takes the repetition penalty as `repeat_penalty`, and
        is to read every prompt whole: one that goes on from the last request's is rounded otherwise.
        An API that has no such penalty is given the frequency penalty of the same excess over 1."""
        if local:
            own = [("cache_prompt", False), ("repeat_penalty", self.repetition_penalty)]
        else:
            own = [("frequency_penalty", self.repetition_penalty - 1)]
        options = (*own, ("seed", seed), ("top_p", self.top_p))
        return Ask(question, system, limit, self.temperature, options=options)


def modulated(vector: np.ndarray, coefficient: float, base: float = 0.7) -> Sampling:
    """The sampling parameters of a vector `[width]` (residual-stream units) at a coefficient."""
    heat = base + GAIN * float(np.linalg.norm(vector)) * coefficient
    top_p, penalty = BY_POLARITY[int(np.sign(coefficient))]
    return Sampling(round(float(np.clip(heat, LOWEST, HIGHEST)), 6), top_p, penalty)


def shuffled_direction(vector: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same numbers in another order: equal in length, unrelated in direction."""
    return np.random.default_rng(seed).permutation(vector)


def same_length(vector: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A vector scaled to the length of another."""
    return vector * (np.linalg.norm(reference) / np.linalg.norm(vector))


def logit_bias(
    vector: np.ndarray, unembedding: np.ndarray, strength: float, n_tokens: int = 50
) -> dict[int, float]:
    """Biases of the tokens that a vector writes most strongly, through the unembedding `[vocabulary,
    width]` (the logit lens, nostalgebraist 2020): `strength` at the strongest, in nats.

    Unlike the sampling parameters this keeps part of the direction, and turns with its sign.
    """
    read = unembedding @ vector
    read = read - read.mean()
    chosen = np.argsort(-np.abs(read))[:n_tokens]
    scale = strength / np.abs(read[chosen[0]])
    return {int(i): float(read[i] * scale) for i in sorted(chosen)}
