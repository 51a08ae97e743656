"""The protocol every map follows."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from prefvec.errors import ConfigError, VectorError

ADAPTERS: dict[str, type["Adapter"]] = {}
KINDS = ("direct", "linear", "non-linear", "control")
SEES = ("widths", "unpaired activations", "paired activations", "differences")


class Adapter(ABC):
    """A map of vectors from a source to a target residual stream.

    `fit` sees paired activations `[n, d_source]`, `[n, d_target]` of the same prompts, and for maps
    that hold out or compare whole styles the style of each row; a map that learns nothing takes the
    widths only. `map` acts on differences of activations (steering vectors): it never adds an
    intercept.

    For tables: `name`; `kind`, one of `KINDS`; `sees`, what of the activations the fit depends on,
    one of `SEES`; `describe()`, one line.
    """

    name: str
    kind: str = "linear"
    sees: str = "paired activations"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if getattr(cls, "name", None):
            ADAPTERS[cls.name] = cls

    @classmethod
    def describe(cls) -> str:
        """What the map does: the first line of its docstring, without the full stop."""
        return cls.__doc__.strip().splitlines()[0].removesuffix(".")

    def fit(
        self, source: np.ndarray, target: np.ndarray, groups: Sequence[str] | None = None
    ) -> "Adapter":
        """Fit on paired activations; groups: the style of each row, where the map uses styles.

        Raises VectorError when the rows are not paired, are not all finite, or their groups are not
        one a row.
        """
        if source.ndim != 2 or target.ndim != 2 or len(source) != len(target) or not len(source):
            raise VectorError(
                f"{self.name}: activations must be paired [n, d]; got {source.shape} and {target.shape}"
            )
        if groups is not None:
            groups = np.asarray(groups)
            if groups.shape != (len(source),):
                raise VectorError(
                    f"{self.name}: groups must name the style of each of the {len(source)} rows; "
                    f"got {groups.shape}"
                )
        x, y = source.astype(np.float64), target.astype(np.float64)
        for side, rows in (("source", x), ("target", y)):
            if not np.isfinite(rows).all():
                raise VectorError(f"{self.name}: {side} activations are not all finite")
        self._fit_groups(x, y, groups)
        self.d_source, self.d_target = x.shape[1], y.shape[1]
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

    def _fit_groups(
        self, source: np.ndarray, target: np.ndarray, groups: np.ndarray | None
    ) -> None:
        """For maps that use the groups; the others have `_fit`."""
        self._fit(source, target)

    def _fit(self, source: np.ndarray, target: np.ndarray) -> None:
        return None

    @abstractmethod
    def _map(self, vector: np.ndarray) -> np.ndarray: ...


def make_adapter(name: str, **options) -> Adapter:
    """An unfitted adapter by name.

    Raises VectorError with the known names, ConfigError for an option that the adapter does not have.
    """
    if name not in ADAPTERS:
        raise VectorError(f"adapter '{name}' is unknown: use one of {', '.join(sorted(ADAPTERS))}")
    known = [p for p in inspect.signature(ADAPTERS[name]).parameters if p not in ("args", "kwargs")]
    for option in options:
        if option not in known:
            has = f"use one of {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"adapter '{name}' has no option '{option}': {has}")
    return ADAPTERS[name](**options)
