"""Ridge around a prior guess, and ridge by bands of principal axes."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls
from sklearn.model_selection import GroupKFold, KFold

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import above_zero, centred, principal_axes, whole
from prefvec.adapters.direct import zero_padded
from prefvec.adapters.ridge import Ridge
from prefvec.errors import ConfigError, VectorError

SIMILAR = 0.2  # widths that differ by less, relative to the larger, count as similar


class Residual(Adapter):
    """Zero-padding plus a ridge map of what it leaves over.

    v ↦ pad(v) + v W with W = argmin ‖X W − (Y − pad(X))‖² + λ‖W‖² over centred X, Y. In terms of the
    whole map M = Z + W, where Z is the matrix of `zero_pad`, this is ridge that shrinks to Z and not
    to 0: min ‖X M − Y‖² + λ‖M − Z‖². Directions that the alignment rows do not show are carried by
    coordinate, which makes sense only where the two models share a basis.

    `penalty` is λ in units of the mean diagonal of XᵀX. Errors as in `Ridge`.
    """

    name = "residual"

    def __init__(self, penalty: float = 10.0):
        above_zero(self.name, penalty=penalty)
        self.penalty = penalty

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        rest = target - zero_padded(source, target.shape[1])
        self.width = target.shape[1]
        self.ridge = Ridge(self.penalty).fit(source, rest)
        total = np.square(centred(target)).sum()
        self.left = float(np.square(centred(rest)).sum() / total) if total > 0 else np.inf

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return zero_padded(vector, self.width) + vector @ self.ridge.weights

    def diagnostics(self) -> dict[str, float]:
        """λ, effective degrees of freedom of the ridge part, and what zero-padding leaves of the
        target's variance (above 1: it is worse than nothing)."""
        return {**self.ridge.diagnostics(), "left_by_padding": self.left}


def default_adapter(d_source: int, d_target: int) -> str:
    """Name of the map to begin with: `residual` where the widths differ by less than 20 % of the
    larger one, else `ridge`. Raises VectorError for widths below 1."""
    if min(d_source, d_target) < 1:
        raise VectorError(f"widths d_source, d_target must be 1 or more: {d_source}, {d_target}")
    similar = abs(d_source - d_target) < SIMILAR * max(d_source, d_target)
    return "residual" if similar else "ridge"


class MultiScale(Adapter):
    """Three ridge maps on coarse, middle and fine principal axes, with learned weights.

    The axes V of centred X (singular values s) are cut into three bands: those that hold the first
    `cuts[0]` of the variance, those up to `cuts[1]`, and the rest, each of one axis at least. Band b
    has the ridge map W_b = V_b diag(1 / (s_b² + λ_b)) V_bᵀ XᵀY, with λ_b = `penalty` times the mean
    s² of the band, so that a fine band is not shrunk away by the variance of a coarse one. The map is
    W = Σ w_b W_b. The weights w ≥ 0 minimise ‖Y − Σ w_b Ŷ_b‖² over predictions of rows that the band's
    map was not fitted on (stacked regressions, Breiman 1996; non-negative least squares, Lawson &
    Hanson 1974): `folds` folds of whole groups, or of random rows by `seed` where no groups are given.
    The map is 0 if no band predicts anything. `band_weights`: three w that are given, not fitted.

    Raises ConfigError when an option is out of range or the rows have fewer than three principal axes,
    VectorError when there are fewer groups (or rows) than folds.
    """

    name = "multiscale"

    def __init__(
        self,
        penalty: float = 1.0,
        cuts: Sequence[float] = (0.5, 0.9),
        folds: int = 5,
        seed: int = 0,
        band_weights: Sequence[float] | None = None,
    ):
        above_zero(self.name, penalty=penalty)
        whole(self.name, folds=folds)
        if folds < 2:
            raise ConfigError(f"{self.name} folds must be 2 or more, got {folds}")
        if len(cuts) != 2 or not 0 < cuts[0] < cuts[1] < 1:
            raise ConfigError(f"{self.name} cuts must be two rising shares in (0, 1), got {cuts}")
        if band_weights is not None and np.shape(band_weights) != (3,):
            raise ConfigError(f"{self.name} band_weights must be three, got {band_weights}")
        self.penalty, self.cuts, self.folds, self.seed = penalty, tuple(cuts), folds, seed
        self.given = band_weights

    def _fit_groups(
        self, source: np.ndarray, target: np.ndarray, groups: np.ndarray | None
    ) -> None:
        units = len(source) if groups is None else len(np.unique(groups))
        if units < self.folds:
            raise VectorError(f"{self.name}: {self.folds} folds need as many groups, got {units}")
        if groups is None:
            split = KFold(self.folds, shuffle=True, random_state=self.seed).split(source)
        else:
            split = GroupKFold(self.folds).split(source, groups=groups)
        predicted = np.empty((3, *target.shape))
        truth = np.empty_like(target)
        for train, test in split:
            x_mean, y_mean = source[train].mean(axis=0), target[train].mean(axis=0)
            bands = self._bands(source[train] - x_mean, target[train] - y_mean)
            predicted[:, test] = (source[test] - x_mean) @ bands
            truth[test] = target[test] - y_mean
        self.band_weights = (
            nnls(predicted.reshape(3, -1).T, truth.ravel())[0]
            if self.given is None
            else np.asarray(self.given, float)
        )
        left = np.square(truth - np.tensordot(self.band_weights, predicted, 1)).sum()
        self.r2 = float(1 - left / np.square(truth).sum())
        bands = self._bands(centred(source), centred(target))
        self.weights = np.tensordot(self.band_weights, bands, 1)

    def _bands(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The three ridge maps of centred rows, `[3, d_source, d_target]`."""
        squares, axes = principal_axes(self.name, x)
        if len(squares) < 3:
            raise ConfigError(f"{self.name} needs 3 principal axes or more, got {len(squares)}")
        held = np.cumsum(squares) / squares.sum()
        first = int(np.clip(np.searchsorted(held, self.cuts[0]) + 1, 1, len(squares) - 2))
        second = int(np.clip(np.searchsorted(held, self.cuts[1]) + 1, first + 1, len(squares) - 1))
        moments = x.T @ y
        maps = []
        for band in (slice(0, first), slice(first, second), slice(second, None)):
            s2, v = squares[band], axes[:, band]
            maps.append((v / (s2 + self.penalty * s2.mean())) @ (v.T @ moments))
        return np.stack(maps)

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.weights

    def diagnostics(self) -> dict[str, float]:
        """λ, the three weights, and R² of held-out rows (in-sample for the weights alone)."""
        named = dict(zip(("coarse", "middle", "fine"), self.band_weights.tolist(), strict=True))
        return {"penalty": self.penalty, **named, "r2_held_out": self.r2}
