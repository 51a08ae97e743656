"""What several maps share: checks of options, principal axes, choice of a rank, held-out groups."""

from numbers import Integral, Real

import numpy as np

from prefvec.errors import ConfigError, VectorError

ROUNDING = 1e-10  # axes with less than this share of the largest axis' variance are left out


def above_zero(name: str, **options: float) -> None:
    """Raises ConfigError, naming the option, unless all are finite numbers above 0."""
    for option, value in options.items():
        if not isinstance(value, Real) or not 0 < value < np.inf:
            raise ConfigError(f"{name} {option} must be above 0, got {value!r}")


def whole(name: str, **options: int) -> None:
    """Raises ConfigError, naming the option, unless all are whole numbers of 1 or more."""
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ConfigError(f"{name} {option} must be a whole number from 1, got {value!r}")


def rank_options(name: str, rank: int | None, share: float) -> None:
    """Raises ConfigError unless rank is None or from 1, and share is in (0, 1]."""
    if rank is not None:
        whole(name, rank=rank)
    if not isinstance(share, Real) or not 0 < share <= 1:
        raise ConfigError(f"{name} share must be above 0 and at most 1, got {share!r}")


def choose_rank(name: str, energy: np.ndarray, rank: int | None, share: float) -> int:
    """The rank given, or the smallest that holds a share of the energy `[r]` (falling, from 0).

    Raises ConfigError when the rank is above r, or when there is no energy.
    """
    if not energy.sum() > 0:
        raise ConfigError(f"{name} needs activations that differ between rows")
    if rank is None:
        held = np.cumsum(energy) / energy.sum()
        return min(len(energy), int(np.searchsorted(held, share - 1e-12)) + 1)
    if rank > len(energy):
        raise ConfigError(
            f"{name} rank {rank} is above {len(energy)}, the most that these activations allow"
        )
    return int(rank)


def centred(rows: np.ndarray) -> np.ndarray:
    """Rows minus their mean."""
    return rows - rows.mean(axis=0)


def principal_axes(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances times n − 1 (s², falling, `[r]`) and axes (V, `[d, r]`) of centred rows `[n, d]`.

    From the eigenvectors of the smaller of XᵀX and XXᵀ. Axes that hold less than `ROUNDING` of the
    first one's variance are left out. Raises ConfigError when all rows are alike.
    """
    wide = len(x) < x.shape[1]
    squares, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    if not squares[0] > 0:
        raise ConfigError(f"{name} needs activations that differ between rows")
    kept = squares > ROUNDING * squares[0]
    squares, vectors = squares[kept], vectors[:, kept]
    return squares, x.T @ (vectors / np.sqrt(squares)) if wide else vectors


def held_out_groups(
    name: str, groups: np.ndarray, at_least: int, share: float, seed: int
) -> np.ndarray:
    """Which rows are held out, bool `[n]`: all rows of a random share of the groups.

    Raises VectorError unless `at_least` groups are there to hold out and as many to train on.
    """
    names = np.unique(groups)
    if len(names) < 2 * at_least:
        raise VectorError(
            f"{name}: needs {2 * at_least} or more groups of rows (styles), got {len(names)}"
        )
    count = max(at_least, round(share * len(names)))
    chosen = np.random.default_rng(seed).permutation(names)[:count]
    return np.isin(groups, chosen)
