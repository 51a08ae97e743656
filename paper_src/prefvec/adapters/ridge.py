"""Ridge regression between residual streams: the whole λ path, and two ways to choose λ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import svd
from sklearn.model_selection import GroupKFold, KFold

from prefvec.adapters.base import Adapter
from prefvec.errors import ConfigError

# λ in units of the mean diagonal of XᵀX, so that one grid serves any model and sample size.
DEFAULT_PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)


class _Decomposition:
    """Thin SVD of centred X; every λ follows from it without another solve."""

    def __init__(self, source: np.ndarray, target: np.ndarray):
        self.source_mean, self.target_mean = source.mean(axis=0), target.mean(axis=0)
        x = source - self.source_mean
        u, self.s, self.vt = svd(x, full_matrices=False)
        self.uty = u.T @ (target - self.target_mean)
        self.unit = float(np.square(self.s).sum() / x.shape[1])  # mean diagonal of XᵀX

    def weights(self, penalty: float) -> np.ndarray:
        """W(λ) = V diag(s / (s² + λ)) Uᵀ Y, `[d_source, d_target]`; λ in units of the diagonal."""
        return self.vt.T @ (self._shrinkage(penalty)[:, None] * self.uty)

    def map(self, rows: np.ndarray, penalty: float) -> np.ndarray:
        """rows · W(λ) without forming W."""
        return (rows @ self.vt.T * self._shrinkage(penalty)) @ self.uty

    def degrees_of_freedom(self, penalty: float) -> float:
        """Σ s² / (s² + λ) (Hastie, Tibshirani & Friedman, eq. 3.50)."""
        squares = np.square(self.s)
        return float((squares / (squares + penalty * self.unit)).sum())

    def _shrinkage(self, penalty: float) -> np.ndarray:
        return self.s / (np.square(self.s) + penalty * self.unit)


class Ridge(Adapter):
    """min ‖X W − Y‖² + λ‖W‖² over centred X, Y, in closed form (Hoerl & Kennard 1970).

    `penalty` is λ in units of the mean diagonal of XᵀX. Both sides are centred before the fit, so
    a difference of activations maps by W alone.
    """

    name = "ridge"

    def __init__(self, penalty: float = 10.0):
        if not penalty > 0:
            raise ConfigError(f"ridge penalty must be above 0, got {penalty}")
        self.penalty = penalty

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        decomposition = _Decomposition(source, target)
        self.weights = decomposition.weights(self.penalty)
        self.degrees_of_freedom = decomposition.degrees_of_freedom(self.penalty)

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.weights

    def diagnostics(self) -> dict[str, float]:
        """λ and effective degrees of freedom."""
        return {"penalty": self.penalty, "degrees_of_freedom": self.degrees_of_freedom}


@dataclass(frozen=True)
class RidgePath:
    """Cross-validated quality of every λ, and the λ that each rule chooses.

    `r2`: reconstruction of held-out prompts, random folds. `r2_styles`: the same with whole styles
    held out. `concept_cosine`: mean cosine between the mapped and the target's own direction of
    held-out styles (style mean minus the mean of the training styles). `concept_norm`: length of
    the mapped direction over the target's own.
    """

    penalties: tuple[float, ...]
    r2: tuple[float, ...]
    r2_styles: tuple[float, ...]
    concept_cosine: tuple[float, ...]
    concept_norm: tuple[float, ...]
    degrees_of_freedom: tuple[float, ...]

    @property
    def best_r2(self) -> float:
        """λ by reconstruction: highest R² on random folds, as is usual."""
        return self.penalties[int(np.argmax(self.r2))]

    @property
    def best_concept(self) -> float:
        """λ by transfer: highest mean cosine on held-out concepts."""
        return self.penalties[int(np.argmax(self.concept_cosine))]

    def rows(self) -> list[dict[str, float]]:
        """One record a λ, for tables and figures."""
        names = ("r2", "r2_styles", "concept_cosine", "concept_norm", "degrees_of_freedom")
        columns = zip(*(getattr(self, name) for name in names), strict=True)
        return [
            {"penalty": penalty, **dict(zip(names, values, strict=True))}
            for penalty, values in zip(self.penalties, columns, strict=True)
        ]


def ridge_path(
    source: np.ndarray,
    target: np.ndarray,
    styles: Sequence[str],
    penalties: Sequence[float] = DEFAULT_PATH,
    folds: int = 5,
    seed: int = 0,
) -> RidgePath:
    """Score a λ grid by cross-validation, one decomposition a fold.

    source, target: paired activations `[n, d_source]`, `[n, d_target]`; styles: the style of each
    row. Raises ConfigError when there are fewer styles than folds.
    """
    styles = np.asarray(styles)
    if len(set(styles)) < folds:
        raise ConfigError(f"{folds} folds need at least as many styles, got {len(set(styles))}")
    x, y = source.astype(np.float64), target.astype(np.float64)
    random_folds = KFold(folds, shuffle=True, random_state=seed).split(x)
    r2 = [_r2(x, y, train, test, penalties) for train, test in random_folds]
    r2_styles, cosines, norms = [], [], []
    for train, test in GroupKFold(folds).split(x, groups=styles):
        fitted = _Decomposition(x[train], y[train])
        r2_styles.append(_r2(x, y, train, test, penalties, fitted))
        cosine, norm = _concepts(x, y, styles, test, penalties, fitted)
        cosines.append(cosine)
        norms.append(norm)
    whole = _Decomposition(x, y)
    return RidgePath(
        penalties=tuple(penalties),
        r2=tuple(np.mean(r2, axis=0).tolist()),
        r2_styles=tuple(np.mean(r2_styles, axis=0).tolist()),
        concept_cosine=tuple(np.concatenate(cosines, axis=1).mean(axis=1).tolist()),
        concept_norm=tuple(np.concatenate(norms, axis=1).mean(axis=1).tolist()),
        degrees_of_freedom=tuple(whole.degrees_of_freedom(p) for p in penalties),
    )


def _r2(x, y, train, test, penalties, fitted: _Decomposition | None = None) -> list[float]:
    fitted = fitted or _Decomposition(x[train], y[train])
    truth = y[test] - fitted.target_mean
    total = np.square(truth).sum()
    rows = x[test] - fitted.source_mean
    return [1 - np.square(truth - fitted.map(rows, p)).sum() / total for p in penalties]


def _concepts(x, y, styles, test, penalties, fitted: _Decomposition):
    """Cosine and relative length of mapped style directions, `[n_penalties, n_styles]` each."""
    held_out = sorted(set(styles[test]))
    pick = [test[styles[test] == style] for style in held_out]
    source = np.stack([x[rows].mean(axis=0) for rows in pick]) - fitted.source_mean
    truth = np.stack([y[rows].mean(axis=0) for rows in pick]) - fitted.target_mean
    length = np.linalg.norm(truth, axis=1)
    cosines, norms = [], []
    for penalty in penalties:
        mapped = fitted.map(source, penalty)
        size = np.linalg.norm(mapped, axis=1)
        cosines.append((mapped * truth).sum(axis=1) / (size * length))
        norms.append(size / length)
    return np.array(cosines), np.array(norms)
