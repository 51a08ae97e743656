"""Orthogonal Procrustes (Schönemann 1966), for any two widths."""

import numpy as np
from scipy.linalg import svd

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import centred


class Procrustes(Adapter):
    """A rotation between centred X and Y, with a scale.

    XᵀY = U S Vᵀ gives Q = U Vᵀ, which maximises tr(Qᵀ Xᵀ Y): a rotation where the widths are equal,
    a partial isometry of rank min(d_source, d_target) where not; then s = tr(S) / ‖X Q‖² is the best
    scale for that Q. For d_source ≤ d_target this minimises ‖s·X Q − Y‖; for d_source > d_target,
    where ‖X Q‖ depends on Q, that problem has no closed form and Q is the usual approximation.
    """

    name = "procrustes"

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        x, y = centred(source), centred(target)
        u, s, vt = svd(x.T @ y, full_matrices=False)
        self.rotation = u @ vt
        fitted = x @ self.rotation
        self.scale = float(s.sum() / np.square(fitted).sum())
        self.r2 = float(1 - np.square(y - self.scale * fitted).sum() / np.square(y).sum())

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return self.scale * (vector @ self.rotation)

    def diagnostics(self) -> dict[str, float]:
        """Scale and in-sample R²."""
        return {"scale": self.scale, "r2_in_sample": self.r2}
