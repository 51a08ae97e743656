"""Linear maps through a few directions: reduced-rank ridge regression and canonical correlations."""

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import above_zero, centred, choose_rank, rank_options
from prefvec.adapters.ridge import Ridge
from prefvec.errors import ConfigError


class ReducedRank(Adapter):
    """Ridge cut to a rank k (reduced-rank regression, Izenman 1975).

    min ‖X W − Y‖² + λ‖W‖² over centred X, Y and over W `[d_source, d_target]` of rank k at most.
    With the ridge solution W_λ, the minimum is W_λ P Pᵀ, where P `[d_target, k]` are the first right
    singular vectors of the fitted values of ridge; with a penalty, of the fitted values of the rows
    [X; √λ I], which are the eigenvectors of Yᵀ X W_λ (Mukherjee & Zhu 2011). Without a rank,
    k is the smallest that holds `share` of the sum of their eigenvalues, that is, of the sum of
    squares that ridge explains. Every vector is sent to the k directions P.

    `penalty` is λ in units of the mean diagonal of XᵀX. Raises ConfigError when an option is out of
    range, when k is above d_target, and where `Ridge` does.
    """

    name = "reduced_rank"

    def __init__(self, penalty: float = 10.0, rank: int | None = None, share: float = 0.99):
        above_zero(self.name, penalty=penalty)
        rank_options(self.name, rank, share)
        self.penalty, self.rank, self.share = penalty, rank, share

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        ridge = Ridge(self.penalty).fit(source, target)
        explained = centred(target).T @ (centred(source) @ ridge.weights)
        energy, vectors = np.linalg.eigh((explained + explained.T) / 2)
        energy, vectors = np.maximum(energy[::-1], 0), vectors[:, ::-1]
        self.k = choose_rank(self.name, energy, self.rank, self.share)
        self.write = vectors[:, : self.k]
        self.read = ridge.weights @ self.write
        self.held = float(energy[: self.k].sum() / energy.sum())

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.read @ self.write.T

    def diagnostics(self) -> dict[str, float]:
        """λ, k, and the share of what ridge explains that k directions keep."""
        return {"penalty": self.penalty, "rank": self.k, "share": self.held}


class CCA(Adapter):
    """Through the first k canonical directions (Hotelling 1936), with ridge (Vinod 1976).

    With C_x = XᵀX + λ_x I and C_y = YᵀY + λ_y I of centred X, Y and the singular value decomposition
    C_x^(-1/2) XᵀY C_y^(-1/2) = U ρ Vᵀ, the map is

        v ↦ v C_x^(-1/2) U_k diag(ρ_k) V_kᵀ C_y^(1/2):

    the vector's canonical coordinates, each times its canonical correlation (its best prediction in
    the target), put back along the target's canonical loadings. With all directions this is ridge with
    λ_x, whatever λ_y. `penalty` gives λ_x and λ_y, in units of the mean diagonals of XᵀX and YᵀY.
    Without a rank, k is the smallest that holds `share` of Σρ².

    Raises ConfigError when an option is out of range, when k is above min(d_source, d_target), when λ
    is too small for float64, and when all rows of a side are alike.
    """

    name = "cca"

    def __init__(self, penalty: float = 10.0, rank: int | None = None, share: float = 0.9):
        above_zero(self.name, penalty=penalty)
        rank_options(self.name, rank, share)
        self.penalty, self.rank, self.share = penalty, rank, share

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        x, y = centred(source), centred(target)
        root_x, root_y = self._root(x), self._root(y)  # any roots will do: C = L Lᵀ
        half = solve_triangular(root_x, x.T @ y, lower=True)
        u, rho, vt = svd(solve_triangular(root_y, half.T, lower=True).T, full_matrices=False)
        self.k = choose_rank(self.name, np.square(rho), self.rank, self.share)
        self.read = solve_triangular(root_x, u[:, : self.k] * rho[: self.k], lower=True, trans="T")
        self.write = root_y @ vt[: self.k].T
        self.correlation = float(rho[0])

    def _root(self, x: np.ndarray) -> np.ndarray:
        """Lower triangular root of XᵀX + λI."""
        moments = x.T @ x
        unit = np.trace(moments) / len(moments)
        if not unit > 0:
            raise ConfigError(f"{self.name} needs activations that differ between rows")
        np.einsum("ii->i", moments)[:] += self.penalty * unit
        try:
            return cholesky(moments, lower=True)
        except np.linalg.LinAlgError as error:
            raise ConfigError(
                f"{self.name} penalty {self.penalty} is too small for float64"
            ) from error

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.read @ self.write.T

    def diagnostics(self) -> dict[str, float]:
        """λ, k, and the first (regularised) canonical correlation."""
        return {"penalty": self.penalty, "rank": self.k, "correlation": self.correlation}
