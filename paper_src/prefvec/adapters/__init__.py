"""Maps from one model's residual stream to another's. A new one is one file here."""

from prefvec.adapters.base import ADAPTERS, Adapter, make_adapter
from prefvec.adapters.direct import (
    Interpolate,
    NormScaled,
    PCAProjection,
    RandomProjection,
    ZeroPad,
)
from prefvec.adapters.effect_preserving import EffectPreserving
from prefvec.adapters.fewshot import FewShot
from prefvec.adapters.neural import MLPMap
from prefvec.adapters.procrustes import Procrustes
from prefvec.adapters.reduced_rank import CCA, ReducedRank
from prefvec.adapters.residual import MultiScale, Residual, default_adapter
from prefvec.adapters.ridge import Ridge, RidgePath, ridge_path

__all__ = [
    "ADAPTERS", "CCA", "Adapter", "EffectPreserving", "FewShot", "Interpolate", "MLPMap",
    "MultiScale", "NormScaled", "PCAProjection", "Procrustes", "RandomProjection", "ReducedRank",
    "Residual", "Ridge", "RidgePath", "ZeroPad", "default_adapter", "make_adapter", "ridge_path",
]  # fmt: skip
