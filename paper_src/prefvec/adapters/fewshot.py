"""A map from the contrast differences of one or two concepts: how far can so little go?"""

import numpy as np

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import above_zero
from prefvec.errors import ConfigError, VectorError

MAX_PAIRS = 2


class FewShot(Adapter):
    """Minimum-norm ridge from the directions of one or two concepts.

    `fit` sees no activations but differences, D_s `[k, d_source]` and D_t `[k, d_target]` with k ≤ 2:
    row i is the contrast direction of concept i in either model. They are not centred. Then

        W = D_sᵀ (D_s D_sᵀ + λ I)⁻¹ D_t,

    which tends to the smallest W with D_s W = D_t as λ → 0 (Hoerl & Kennard 1970, dual form).
    `penalty` is λ in units of the mean squared length of the rows of D_s.

    W has rank k. It sends every vector to the span of the target differences it was given, and what is
    orthogonal to the source differences to 0: a mapped vector of another trait is a mixture of the given
    concepts in the target, by its likeness to them in the source. The concepts must be other traits
    than the one transferred: with its own difference the answer is given away.

    Raises ConfigError when the penalty is out of range or all source differences are 0, VectorError for
    more than two rows.
    """

    name = "few_shot"
    sees = "differences"

    def __init__(self, penalty: float = 0.01):
        above_zero(self.name, penalty=penalty)
        self.penalty = penalty

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        if len(source) > MAX_PAIRS:
            raise VectorError(
                f"{self.name}: takes the differences of at most {MAX_PAIRS} concepts, got "
                f"{len(source)} rows: give contrast directions, not activations"
            )
        gram = source @ source.T
        unit = np.trace(gram) / len(gram)
        if not unit > 0:
            raise ConfigError(f"{self.name} needs source differences other than 0")
        gram += self.penalty * unit * np.eye(len(gram))
        self.read, self.write = np.linalg.solve(gram, source).T, target

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.read @ self.write

    def diagnostics(self) -> dict[str, float]:
        """λ and the number of concepts (the rank of the map)."""
        return {"penalty": self.penalty, "rank": len(self.write)}
