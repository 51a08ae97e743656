"""Direct transfer: change the width, learn nothing. The baselines that a real map must beat."""

import numpy as np

from prefvec.adapters.base import Adapter


class ZeroPad(Adapter):
    """Keep the first min(d_source, d_target) coordinates; pad with zeros or truncate."""

    name = "zero_pad"

    def _map(self, vector: np.ndarray) -> np.ndarray:
        shared = min(self.d_source, self.d_target)
        out = np.zeros((*vector.shape[:-1], self.d_target))
        out[..., :shared] = vector[..., :shared]
        return out


class Interpolate(Adapter):
    """Resample the coordinates linearly, as if they were samples of a curve."""

    name = "interpolate"

    def _map(self, vector: np.ndarray) -> np.ndarray:
        at = np.linspace(0, self.d_source - 1, self.d_target)
        rows = np.atleast_2d(vector)
        out = np.stack([np.interp(at, np.arange(self.d_source), row) for row in rows])
        return out.reshape(*vector.shape[:-1], self.d_target)


class RandomProjection(Adapter):
    """A fixed Gaussian matrix with entries of variance 1/d_target (Johnson–Lindenstrauss)."""

    name = "random_projection"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def _map(self, vector: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng([self.seed, self.d_source, self.d_target])
        return (
            vector @ generator.normal(size=(self.d_source, self.d_target)) / np.sqrt(self.d_target)
        )
