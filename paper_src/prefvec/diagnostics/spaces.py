"""How alike two residual streams are, against what chance gives.

Two questions that a rotation tells apart. Do the same prompts differ in the same ways (row space, CKA,
canonical correlations: blind to the basis)? And do they differ along the same coordinates?
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular, svd

from prefvec.adapters.common import centred, held_out_groups, principal_axes
from prefvec.adapters.direct import zero_padded
from prefvec.errors import ConfigError
from prefvec.transfer.correspondence import cka_of_grams, gram

PERMUTATIONS = 200
AXES = 10  # principal axes of either side whose angles are measured
CCA_AXES = 40  # principal axes of either side that canonical directions are made of
ROWS_PER_AXIS = 5  # rows that an axis needs, so that few prompts get few axes


class Calibrated(NamedTuple):
    """A statistic, its mean and 95th percentile under permutation, and the permutation p-value."""

    value: float
    null_mean: float
    null_high: float
    p: float


def calibrated(value: float, null: Sequence[float]) -> Calibrated:
    """A statistic against its permutation null (larger is more alike)."""
    draws = np.asarray(null, float)
    p = (1 + np.sum(draws >= value)) / (1 + len(draws))
    return Calibrated(float(value), float(draws.mean()), float(np.percentile(draws, 95)), float(p))


def crossed_orders(
    styles: Sequence[str],
    questions: Sequence[str],
    seed: int = 0,
    count: int = PERMUTATIONS,
    held_out: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Random orders of the rows of a grid of styles and questions: styles are permuted whole, and so are
    questions, so that the dependence between rows of a style or a question stays as it is.

    held_out: bool `[n]`, whole styles; styles then change places within their half alone. Raises
    ConfigError unless every style has every question once.
    """
    _, style = np.unique(np.asarray(styles), return_inverse=True)
    _, question = np.unique(np.asarray(questions), return_inverse=True)
    shape = (style.max() + 1, question.max() + 1)
    grid = np.full(shape, -1)
    grid[style, question] = np.arange(len(style))
    if len(style) != grid.size or (grid < 0).any():
        raise ConfigError("permutations need every style with every question, once each")
    half = np.zeros(shape[0], bool)
    if held_out is not None:
        half[style[held_out]] = True
    generator = np.random.default_rng(seed)
    orders = []
    for _ in range(count):
        new = np.arange(shape[0])
        for part in (np.flatnonzero(half), np.flatnonzero(~half)):
            new[part] = generator.permutation(part)
        orders.append(grid[new[style], generator.permutation(shape[1])[question]])
    return orders


def calibrated_cka(x: np.ndarray, y: np.ndarray, orders: Sequence[np.ndarray]) -> Calibrated:
    """Debiased linear CKA of paired activations `[n, d_x]`, `[n, d_y]` against permuted rows."""
    k, m = gram(x), gram(y)
    null = [cka_of_grams(k, m[np.ix_(order, order)]) for order in orders]
    return calibrated(cka_of_grams(k, m), null)


class Angles(NamedTuple):
    """Principal angles (degrees, rising) between two subspaces of k axes, and their overlap (the mean
    squared cosine: 1 for the same subspace) against its null."""

    degrees: tuple[float, ...]
    overlap: Calibrated


def row_angles(x: np.ndarray, y: np.ndarray, orders: Sequence[np.ndarray]) -> Angles:
    """Angles between the subspaces of `R^n` in which the first principal axes of either side vary over
    the prompts. No basis enters: 0° for a rotation. The null permutes the prompts of one side."""
    k = _axes(len(x), AXES, x, y)
    a, b = (_scores(rows, k) for rows in (x, y))
    return _angles(a.T @ b, [a.T @ b[order] for order in orders])


def coordinate_angles(
    x: np.ndarray, y: np.ndarray, seed: int = 0, count: int = PERMUTATIONS
) -> Angles:
    """Angles between the spans of the first principal axes themselves, the source's zero-padded or
    truncated to the target's width: 0° if both vary along the same coordinates. The null permutes
    the source's coordinates."""
    k = _axes(len(x), AXES, x, y)
    axes_x, axes_y = (principal_axes("angles", centred(rows))[1][:, :k] for rows in (x, y))
    shared = min(len(axes_x), len(axes_y))
    padded = zero_padded(axes_x.T, len(axes_y)).T
    generator = np.random.default_rng(seed)

    def cosines(axes: np.ndarray) -> np.ndarray:
        return np.linalg.qr(axes)[0].T @ axes_y

    null = []
    for _ in range(count):
        order = np.arange(len(padded))
        order[:shared] = generator.permutation(shared)
        null.append(cosines(padded[order]))
    return _angles(cosines(padded), null)


class Shared(NamedTuple):
    """Canonical directions found on half of the styles and tested on the others.

    correlations: on held-out styles, `[k]`; threshold: 95th percentile of the largest one under
    permutation; kept: bool `[k]`, those above; weights, loadings: `[d, k]` of either side. An
    activation's canonical variates are its products with the weights; it moves along the loadings when
    they change.
    """

    correlations: np.ndarray
    threshold: float
    kept: np.ndarray
    source: tuple[np.ndarray, np.ndarray]
    target: tuple[np.ndarray, np.ndarray]


def shared_directions(
    x: np.ndarray, y: np.ndarray, styles: Sequence[str], questions: Sequence[str], seed: int = 0
) -> Shared:
    """Canonical correlation analysis of the first principal axes of paired activations (Raghu et al.
    2017, SVCCA), with directions that hold on styles that it did not see."""
    held_out = held_out_groups("canonical directions", np.asarray(styles), 2, 0.5, seed)
    k = _axes(int((~held_out).sum()), CCA_AXES, x[~held_out], y[~held_out])
    sides = [_whitened(rows, held_out, k) for rows in (x, y)]
    (a, weights_x, loadings_x), (b, weights_y, loadings_y) = sides

    def canonical(order: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        paired = b[order]
        u, _, vt = svd(a[~held_out].T @ paired[~held_out], full_matrices=False)
        both = centred(a[held_out] @ u), centred(paired[held_out] @ vt.T)
        size = np.linalg.norm(both[0], axis=0) * np.linalg.norm(both[1], axis=0)
        found = np.einsum("ij,ij->j", *both) / np.where(size > 0, size, 1.0)
        return found, u, vt.T

    found, u, v = canonical(slice(None))
    orders = crossed_orders(styles, questions, seed, held_out=held_out)
    threshold = float(np.percentile([canonical(order)[0].max() for order in orders], 95))
    return Shared(
        found, threshold, found > threshold,
        (weights_x @ u, loadings_x @ u), (weights_y @ v, loadings_y @ v),
    )  # fmt: skip


def share_of_length(vector: np.ndarray, directions: np.ndarray) -> float:
    """Share of a vector's squared length in the span of directions `[d, k]`; 0 if there are none."""
    if not directions.shape[1]:
        return 0.0
    base = np.linalg.qr(directions)[0]
    total = float(np.square(vector).sum())
    return float(np.square(base.T @ vector).sum()) / total if total > 0 else float("nan")


class Whitener:
    """Whitening by the covariance of activations `[n, d]`: dimensions are standardised, and their
    correlations shrunk towards none (Ledoit & Wolf 2004)."""

    def __init__(self, rows: np.ndarray):
        from sklearn.covariance import ledoit_wolf

        self.sd = rows.std(axis=0, dtype=np.float64)
        self.sd[self.sd == 0] = 1.0
        correlations, self.shrinkage = ledoit_wolf(centred(rows.astype(np.float64)) / self.sd)
        self.root = np.linalg.cholesky(correlations + 1e-9 * np.eye(len(self.sd)))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors `[d]` or `[k, d]`, whitened."""
        scaled = np.atleast_2d(vectors) / self.sd
        out = solve_triangular(self.root, scaled.T, lower=True).T
        return out.reshape(np.shape(vectors))

    def weights(self, weights: np.ndarray) -> np.ndarray:
        """Linear read-outs `[d, k]` as directions of the whitened space: products with whitened vectors
        equal those with the vectors themselves."""
        return self.root.T @ (weights * self.sd[:, None])


def _axes(rows: int, most: int, *sides: np.ndarray) -> int:
    """How many principal axes so many rows allow, and both sides have."""
    enough = min(most, max(1, rows // ROWS_PER_AXIS))
    return min(enough, *(min(side.shape[1], rows - 1) for side in sides))


def _scores(rows: np.ndarray, k: int) -> np.ndarray:
    """Orthonormal coordinates `[n, k]` of the rows on their first principal axes."""
    x = centred(rows.astype(np.float64))
    squares, axes = principal_axes("angles", x)
    return (x @ axes[:, :k]) / np.sqrt(squares[:k])


def _whitened(rows: np.ndarray, held_out: np.ndarray, k: int):
    """Coordinates `[n, k]` on the training rows' principal axes, of unit variance there; the weights and
    loadings `[d, k]` of these axes."""
    train = rows[~held_out].astype(np.float64)
    squares, axes = principal_axes("canonical directions", centred(train))
    sd = np.sqrt(squares[:k] / (len(train) - 1))
    weights, loadings = axes[:, :k] / sd, axes[:, :k] * sd
    return (rows - train.mean(axis=0)) @ weights, weights, loadings


def _angles(products: np.ndarray, null: Sequence[np.ndarray]) -> Angles:
    def cosines(matrix: np.ndarray) -> np.ndarray:
        return np.clip(svd(matrix, compute_uv=False), 0.0, 1.0)

    found = cosines(products)
    overlaps = [float(np.square(cosines(m)).mean()) for m in null]
    degrees = tuple(float(d) for d in np.degrees(np.arccos(found)))
    return Angles(degrees, calibrated(float(np.square(found).mean()), overlaps))
