"""Direct transfer: no pairing of prompts is used. The baselines that a real map must beat."""

import numpy as np

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import centred, choose_rank, principal_axes, rank_options
from prefvec.errors import ConfigError


class ZeroPad(Adapter):
    """Keep the first min(d_source, d_target) coordinates; pad with zeros or truncate."""

    name = "zero_pad"
    kind = "direct"
    sees = "widths"

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return zero_padded(vector, self.d_target)


class NormScaled(Adapter):
    """Zero-padding times the ratio of the mean lengths of the residual streams.

    v ↦ (mean ‖y‖ / mean ‖x‖) · pad(v), over the activations as they are, not centred: a vector keeps
    its share of a typical activation's length. It has the direction of `zero_pad`, and differs from it
    only where directions are not rescaled. Depends on each side's own rows and on their means.
    `fit` raises ConfigError when all source activations are 0.
    """

    name = "norm_scaled"
    kind = "direct"
    sees = "unpaired activations"

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        length = np.linalg.norm(source, axis=1).mean()
        if not length > 0:
            raise ConfigError(f"{self.name} needs source activations other than 0")
        self.scale = float(np.linalg.norm(target, axis=1).mean() / length)

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return self.scale * zero_padded(vector, self.d_target)

    def diagnostics(self) -> dict[str, float]:
        """Ratio of mean lengths, target over source."""
        return {"scale": self.scale}


class Interpolate(Adapter):
    """Resample the coordinates linearly, as if they were samples of a curve."""

    name = "interpolate"
    kind = "direct"
    sees = "widths"

    def _map(self, vector: np.ndarray) -> np.ndarray:
        at = np.linspace(0, self.d_source - 1, self.d_target)
        rows = np.atleast_2d(vector)
        out = np.stack([np.interp(at, np.arange(self.d_source), row) for row in rows])
        return out.reshape(*vector.shape[:-1], self.d_target)


class RandomProjection(Adapter):
    """A fixed Gaussian matrix with entries of variance 1/d_target (Johnson–Lindenstrauss)."""

    name = "random_projection"
    kind = "control"
    sees = "widths"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def _map(self, vector: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng([self.seed, self.d_source, self.d_target])
        return (
            vector @ generator.normal(size=(self.d_source, self.d_target)) / np.sqrt(self.d_target)
        )


class PCAProjection(Adapter):
    """Coordinates on the source's first k principal axes, put on the target's first k.

    v ↦ v V_s diag(σ_t / σ_s) V_tᵀ, where V_s `[d_source, k]`, V_t `[d_target, k]` are the axes of
    either side, in order of variance, and σ the standard deviations along them. With `scaled=False`
    the σ are left out. An axis has no sign of its own: it is turned so that the skewness of the
    activations' coordinates on it is positive, which says nothing where they are symmetric.

    Each side is decomposed by itself, so the order of its rows does not matter. `rank` is k; without
    it, k is the smallest that holds `share` of the variance on one of the sides. `fit` raises
    ConfigError when k is more than a side has axes, or when all rows of a side are alike.
    """

    name = "pca_projection"
    kind = "direct"
    sees = "unpaired activations"

    def __init__(self, rank: int | None = None, share: float = 0.9, scaled: bool = True):
        rank_options(self.name, rank, share)
        self.rank, self.share, self.scaled = rank, share, scaled

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        sides = [_oriented_axes(self.name, centred(rows)) for rows in (source, target)]
        self.k = min(choose_rank(self.name, s, self.rank, self.share) for s, _ in sides)
        (source_squares, v_source), (target_squares, v_target) = sides
        ratio = np.sqrt(target_squares[: self.k] / source_squares[: self.k])
        self.read = v_source[:, : self.k] * (ratio if self.scaled else 1.0)
        self.write = v_target[:, : self.k]
        self.held = tuple(float(s[: self.k].sum() / s.sum()) for s, _ in sides)

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.read @ self.write.T

    def diagnostics(self) -> dict[str, float]:
        """k, and the share of either side's variance on its first k axes."""
        return {"rank": self.k, "share_source": self.held[0], "share_target": self.held[1]}


def zero_padded(vector: np.ndarray, width: int) -> np.ndarray:
    """The first coordinates of `[..., d]`, as many as fit, in `[..., width]`; zeros after them."""
    shared = min(vector.shape[-1], width)
    out = np.zeros((*vector.shape[:-1], width))
    out[..., :shared] = vector[..., :shared]
    return out


def _oriented_axes(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal variances and axes of centred rows, each turned to a positive third moment."""
    squares, axes = principal_axes(name, x)
    third = ((x @ axes) ** 3).mean(axis=0)
    return squares, axes * np.where(third < 0, -1.0, 1.0)
