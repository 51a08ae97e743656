"""Ridge regression between residual streams: the whole λ path, and two ways to choose λ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold, KFold

from prefvec.adapters.base import Adapter
from prefvec.errors import ConfigError
from prefvec.progress import Bar

# λ in units of the mean diagonal of XᵀX, so that one grid serves any model and sample size.
DEFAULT_PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
FLOAT32_FROM = 1e10  # multiplications of one product [n, r] · [r, d_target]; float64 below
MAX_ERROR = 1e-4  # relative; what rounding may grow to in the held-out residuals
LEAF = 128  # a triangle of this size is inverted at once, a larger one by halves


class Ridge(Adapter):
    """min ‖X W − Y‖² + λ‖W‖² over centred X, Y, in closed form (Hoerl & Kennard 1970).

    `penalty` is λ in units of the mean diagonal of XᵀX. Both sides are centred before the fit, so
    a difference of activations maps by W alone. `fit` raises ConfigError when λ is too small for
    float64 or all rows of the source are alike.
    """

    name = "ridge"

    def __init__(self, penalty: float = 10.0):
        if not penalty > 0:
            raise ConfigError(f"ridge penalty must be above 0, got {penalty}")
        self.penalty = penalty

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        x, y = _centred(source), _centred(target)
        gram = _gram(x)
        unit = _unit(x, gram)
        size = len(gram)
        np.einsum("ii->i", gram)[:] += self.penalty * unit
        try:
            inverse = _inverse(gram)
        except np.linalg.LinAlgError as error:
            raise ConfigError(f"ridge penalty {self.penalty} is too small for float64") from error
        # The same W, with the smaller of the two matrices inverted.
        wide = size < x.shape[1]
        self.weights = x.T @ (inverse @ y) if wide else inverse @ (x.T @ y)
        self.degrees_of_freedom = float(size - self.penalty * unit * np.trace(inverse))

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
    """Score a λ grid by cross-validation, with one decomposition for every fold and every λ.

    source, target: paired activations `[n, d_source]`, `[n, d_target]`; styles: the style of each
    row. No fold is fitted: its held-out residuals follow from the fit on all rows
    (`_Decomposition`) and equal those of a fit on its training rows. In a fold, λ is `penalties`
    times the mean diagonal of XᵀX of all rows, times the share 1 − 1/folds that is trained on.

    Raises ConfigError when there are fewer styles than folds, when a penalty is not above 0 or too
    small for float64, and when all rows of the source are alike.
    """
    styles = np.asarray(styles)
    if len(set(styles)) < folds:
        raise ConfigError(f"{folds} folds need at least as many styles, got {len(set(styles))}")
    if not min(penalties) > 0:
        raise ConfigError(f"ridge penalties must be above 0, got {min(penalties)}")
    random = KFold(folds, shuffle=True, random_state=seed).split(source)
    grouped = GroupKFold(folds).split(source, groups=styles)
    records = []
    steps = len(penalties) + 1  # the decomposition, then every λ
    with Bar(steps, "ridge path", "λ", leave=False) as bar:
        whole = _Decomposition(source, target)
        held_out = [_Fold(whole.y, test) for _, test in random]
        held_out += [_Fold(whole.y, test, styles) for _, test in grouped]
        for penalty in penalties:
            bar.update()
            residuals = whole.held_out(penalty * (1 - 1 / folds), held_out)
            scored = [fold.scores(rest) for fold, rest in zip(held_out, residuals, strict=True)]
            r2 = [r2 for r2, _ in scored]
            concepts = np.concatenate([concepts for _, concepts in scored], axis=1)
            records.append((np.mean(r2[:folds]), np.mean(r2[folds:]), *concepts.mean(axis=1)))
        bar.update()
    r2, r2_styles, cosine, norm = (tuple(column) for column in np.transpose(records).tolist())
    freedom = tuple(whole.degrees_of_freedom(penalty) for penalty in penalties)
    return RidgePath(tuple(penalties), r2, r2_styles, cosine, norm, freedom)


class _Fold:
    """Held-out rows, and the part of their scores that no λ changes. y: centred, `[n, d_target]`."""

    def __init__(self, y: np.ndarray, rows: np.ndarray, styles: np.ndarray | None = None):
        self.rows = rows
        # Relative to the mean of all rows, which is 0.
        train_mean = -y[rows].sum(axis=0) / (len(y) - len(rows))
        self.total = np.square(y[rows] - train_mean).sum()
        labels = [] if styles is None else styles[rows]
        own = [labels == name for name in np.unique(labels)]
        own = np.reshape(own, (len(own), len(rows)))
        self.average = own / own.sum(axis=1, keepdims=True)  # [styles, rows]
        self.truth = self.average @ y[rows] - train_mean  # the target's own directions

    def scores(self, residuals: np.ndarray) -> tuple[float, np.ndarray]:
        """R² of the rows; cosine and relative length of the mapped style directions `[2, styles]`.

        A mapped direction is the style's mean prediction minus the training mean.
        """
        r2 = 1 - np.square(residuals).sum(dtype=np.float64) / self.total
        mapped = self.truth - self.average @ residuals
        size, length = np.linalg.norm(mapped, axis=1), np.linalg.norm(self.truth, axis=1)
        cosine = (mapped * self.truth).sum(axis=1) / (size * length)
        return r2, np.stack([cosine, size / length])


class _Decomposition:
    """Centred X in its principal axes, and from it the residuals of any held-out rows at any λ.

    With X = U S Vᵀ and Z = X V = U S `[n, r]`, the fit on all rows (free intercept) has residuals
    E = (I − H) Y, H = 11ᵀ/n + Z diag(1 / (s² + λ)) Zᵀ. Rows t, left out of a fit at the same λ,
    have residuals (I − H_tt)⁻¹ E_t: PRESS (Allen 1974; Golub, Heath & Wahba 1979; Hastie,
    Tibshirani & Friedman, eq. 7.64) for blocks of rows.

    The decomposition is float64. The products are float64 too, or float32 where they are large
    and every ‖(I − H_tt)⁻¹‖, by which rounding is multiplied, is small enough. It is not at small
    λ when a fold trains on hardly more rows than columns. Against refits, scores are within 1e-9
    in float64 and 1e-4 in float32.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray):
        x, y = _centred(source), _centred(target)
        gram = _gram(x)
        self.unit = _unit(x, gram)
        squares, vectors = np.linalg.eigh(gram)
        self.squares = np.maximum(squares, 0)  # s², ascending
        z = vectors * np.sqrt(self.squares) if len(x) < x.shape[1] else x @ vectors
        # XXᵀ has the eigenvector 1 with the eigenvalue 0, up to rounding that small λ would magnify.
        z -= z.mean(axis=0)
        del x, gram, vectors
        self.y = y
        self._arrays = {np.float64: (z, y, z.T @ y)}
        self._dtype = np.float32 if z.size * y.shape[1] > FLOAT32_FROM else np.float64
        self._arrays[self._dtype] = tuple(
            a.astype(self._dtype, copy=False) for a in self._arrays[np.float64]
        )

    def held_out(self, penalty: float, folds: Sequence[_Fold]) -> Iterator[np.ndarray]:
        """What fits without a fold's rows leave of them, `[rows, d_target]` each.

        penalty: λ in units of the mean diagonal of XᵀX of all rows.
        """
        root = 1 / np.sqrt(self.squares + penalty * self.unit)
        for dtype in dict.fromkeys((self._dtype, np.float64)):
            z, y, zty = self._arrays[dtype]
            weight = root.astype(dtype)
            scaled = z * weight
            inverses = _complements(scaled, [fold.rows for fold in folds])
            if inverses is not None:
                break
        else:
            raise ConfigError("a ridge penalty is too small for float64: drop the smallest ones")
        residuals = y - scaled @ (weight[:, None] * zty)
        for fold, inverse in zip(folds, inverses, strict=True):
            yield inverse @ residuals[fold.rows]

    def degrees_of_freedom(self, penalty: float) -> float:
        """Σ s² / (s² + λ) (Hastie, Tibshirani & Friedman, eq. 3.50)."""
        return float((self.squares / (self.squares + penalty * self.unit)).sum())


def _complements(scaled: np.ndarray, blocks: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """(I − H_tt)⁻¹ for blocks t of rows of H = 11ᵀ/n + scaled · scaledᵀ.

    None when one has a norm that the precision of `scaled` does not allow.
    """
    inverses = []
    limit = MAX_ERROR / np.finfo(scaled.dtype).eps
    for rows in blocks:
        part = scaled[rows]
        rest = part @ part.T
        rest += scaled.dtype.type(1 / len(scaled))
        np.negative(rest, out=rest)
        np.einsum("ii->i", rest)[:] += 1
        try:
            inverses.append(_inverse(rest))
        except np.linalg.LinAlgError:
            return None
        if not np.abs(inverses[-1]).sum(axis=1).max() < limit:  # the ∞-norm bounds the 2-norm
            return None
    return inverses


def _centred(rows: np.ndarray) -> np.ndarray:
    rows = np.array(rows, np.float64)
    rows -= rows.mean(axis=0)
    return rows


def _gram(x: np.ndarray) -> np.ndarray:
    """The smaller of XᵀX and XXᵀ; they share their eigenvalues other than 0."""
    return x @ x.T if len(x) < x.shape[1] else x.T @ x


def _unit(x: np.ndarray, gram: np.ndarray) -> float:
    """Mean diagonal of XᵀX. Raises ConfigError when the rows are all alike."""
    unit = float(np.trace(gram)) / x.shape[1]
    if not unit > 0:
        raise ConfigError("ridge needs source activations that differ between rows")
    return unit


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix, by Cholesky.

    Mostly matrix products, so faster than `numpy.linalg.inv`, and as accurate. Raises LinAlgError
    when rounding has left the matrix indefinite.
    """
    root = _inverse_of_triangle(np.linalg.cholesky(matrix))
    return root.T @ root


def _inverse_of_triangle(lower: np.ndarray) -> np.ndarray:
    """Inverse of a lower triangular matrix, by halves."""
    if len(lower) <= LEAF:
        return np.linalg.inv(lower)
    half = len(lower) // 2
    out = np.zeros_like(lower)
    out[:half, :half] = _inverse_of_triangle(lower[:half, :half])
    out[half:, half:] = _inverse_of_triangle(lower[half:, half:])
    out[half:, :half] = -out[half:, half:] @ (lower[half:, :half] @ out[:half, :half])
    return out
