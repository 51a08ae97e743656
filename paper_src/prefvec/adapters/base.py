"""The protocol every map follows."""

from abc import ABC, abstractmethod

import numpy as np

from prefvec.errors import VectorError

ADAPTERS: dict[str, type["Adapter"]] = {}


class Adapter(ABC):
    """A map of vectors from a source to a target residual stream.

    `fit` sees paired activations `[n, d_source]`, `[n, d_target]` of the same prompts; a map that
    learns nothing takes their widths only. `map` acts on differences of activations (steering
    vectors): it never adds an intercept.
    """

    name: str

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if getattr(cls, "name", None):
            ADAPTERS[cls.name] = cls

    def fit(self, source: np.ndarray, target: np.ndarray) -> "Adapter":
        """Fit on paired activations. Raises VectorError when they are not paired."""
        if source.ndim != 2 or target.ndim != 2 or len(source) != len(target) or not len(source):
            raise VectorError(
                f"{self.name}: activations must be paired [n, d]; got {source.shape} and {target.shape}"
            )
        self.d_source, self.d_target = source.shape[1], target.shape[1]
        self._fit(source.astype(np.float64), target.astype(np.float64))
        return self

    def map(self, vector: np.ndarray) -> np.ndarray:
        """Map `[d_source]` to `[d_target]`, or a batch `[k, d_source]` to `[k, d_target]`."""
        if not hasattr(self, "d_source"):
            raise VectorError(f"{self.name}: fit it before mapping a vector")
        if vector.shape[-1] != self.d_source:
            raise VectorError(
                f"{self.name} was fitted for width {self.d_source}, the vector has {vector.shape[-1]}"
            )
        return self._map(np.asarray(vector, np.float64)).astype(np.float32)

    def diagnostics(self) -> dict[str, float]:
        """Hyper-parameters and quality of the fit, for reports."""
        return {}

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        return None

    @abstractmethod
    def _map(self, vector: np.ndarray) -> np.ndarray: ...


def make_adapter(name: str, **options) -> Adapter:
    """An unfitted adapter by name. Raises VectorError with the known names."""
    if name not in ADAPTERS:
        raise VectorError(f"adapter '{name}' is unknown: use one of {', '.join(sorted(ADAPTERS))}")
    return ADAPTERS[name](**options)
