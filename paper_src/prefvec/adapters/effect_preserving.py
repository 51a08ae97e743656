"""A linear map that is trained to preserve what styles do: direction and length of differences."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import above_zero, centred, held_out_groups, principal_axes, whole
from prefvec.errors import ConfigError, VectorError

HELD_OUT = 0.2  # share of the styles that decides when to stop
PATIENCE = 8  # iterations without a smaller held-out effect term before the trial stops


class EffectPreserving(Adapter):
    """Ridge, trained on until differences between styles keep direction and length.

    W `[d_source, d_target]` starts at ridge and lowers, over centred X, Y,

        (‖X W − Y‖² + λ‖W‖²) / ‖Y‖²                               reconstruction: ridge's own criterion
        + effect · mean over pairs of styles of 1 − cos(δ_s W, δ_t) + (‖δ_s W‖ / ‖δ_t‖ − 1)²
        + consistency · ‖Wᵀ XᵀX W − YᵀY‖² / ‖YᵀY‖²                second moments of the target

    with δ the difference of two styles' mean activations in either model, by L-BFGS (Liu & Nocedal
    1989). Styles are the `groups` of `fit`. The number of iterations is the one, up to `steps`, after
    which the effect term of held-out styles (a fifth of them, at least two) is lowest; the map is then
    trained so far on all rows. Zero iterations, where training only fits the training styles, is ridge.

    With X = U S Vᵀ, Z = X V diag(1/√(s² + λ)) and W = V diag(1/√(s² + λ)) Q, the first term is
    ‖Q − Q₀‖² / ‖Y‖² and a constant, where Q₀ = ZᵀY is ridge: the problem is well scaled, and no
    iteration reads the rows.

    `penalty` is λ in units of the mean diagonal of XᵀX. Raises ConfigError for options out of range and
    where all rows are alike, VectorError without groups or with fewer than four.
    """

    name = "effect_preserving"

    def __init__(
        self,
        penalty: float = 10.0,
        effect: float = 1.0,
        consistency: float = 0.1,
        steps: int = 40,
        seed: int = 0,
    ):
        above_zero(self.name, penalty=penalty, effect=effect, consistency=consistency)
        whole(self.name, steps=steps)
        self.penalty, self.effect, self.consistency = penalty, effect, consistency
        self.steps, self.seed = steps, seed

    def _fit_groups(
        self, source: np.ndarray, target: np.ndarray, groups: np.ndarray | None
    ) -> None:
        if groups is None:
            raise VectorError(f"{self.name}: needs groups, the style of each row")
        held_out = held_out_groups(self.name, groups, 2, HELD_OUT, self.seed)
        kept = ~held_out
        trial = _Problem(self, source[kept], target[kept], groups[kept])
        test = trial.style_means(source[held_out], target[held_out], groups[held_out])
        errors = []

        def stop(q: torch.Tensor) -> bool:
            errors.append(float(_effect(q, *test)))
            return len(errors) - 1 - int(np.argmin(errors)) >= PATIENCE

        trial.train(self.steps, stop)
        self.iterations = int(np.argmin(errors))
        self.before, self.after = errors[0], errors[self.iterations]
        whole_set = _Problem(self, source, target, groups)
        self.weights = whole_set.weights(whole_set.train(self.iterations, lambda q: False))

    def _map(self, vector: np.ndarray) -> np.ndarray:
        return vector @ self.weights

    def diagnostics(self) -> dict[str, float]:
        """λ, iterations, and the effect term of held-out styles at ridge and at the end."""
        return {
            "penalty": self.penalty,
            "iterations": self.iterations,
            "effect_ridge": self.before,
            "effect_trained": self.after,
        }


class _Problem:
    """The criterion of `EffectPreserving` on some rows, in the coordinates Q `[r, d_target]`."""

    def __init__(
        self, options: EffectPreserving, source: np.ndarray, target: np.ndarray, groups: np.ndarray
    ):
        self.options = options
        x, y = centred(source), centred(target)
        squares, axes = principal_axes(options.name, x)
        root = np.sqrt(squares + options.penalty * squares.sum() / x.shape[1])
        self.axes = axes / root
        self.start = torch.from_numpy(self.axes.T @ (x.T @ y))
        self.gram = torch.from_numpy(squares / root**2)[:, None]  # ZᵀZ is diagonal
        self.moments = torch.from_numpy(y.T @ y)
        self.means = self.style_means(source, target, groups)
        self.total = float(np.square(y).sum())
        if not self.total > 0:
            raise ConfigError(f"{options.name} needs activations that differ between rows")

    def style_means(
        self, source: np.ndarray, target: np.ndarray, groups: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean of each style, `[styles, r]` in the coordinates of Z and `[styles, d_target]`."""
        means = [
            np.stack([rows[groups == name].mean(axis=0) for name in np.unique(groups)])
            for rows in (source, target)
        ]
        x, y = (centred(side) for side in means)  # differences are all that matters
        return torch.from_numpy(x @ self.axes), torch.from_numpy(y)

    def loss(self, q: torch.Tensor) -> torch.Tensor:
        reconstruction = (q - self.start).square().sum() / self.total
        gap = q.T @ (self.gram * q) - self.moments
        consistency = gap.square().sum() / self.moments.square().sum()
        effect = _effect(q, *self.means)
        return (
            reconstruction + self.options.effect * effect + self.options.consistency * consistency
        )

    def train(self, steps: int, stop: Callable[[torch.Tensor], bool]) -> torch.Tensor:
        """Q after so many iterations from ridge, or when `stop`, called on each Q, is true."""
        if stop(self.start) or not steps:
            return self.start
        unit = float(self.start.square().mean().sqrt()) or 1.0

        def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
            q = torch.from_numpy(flat * unit).view_as(self.start).requires_grad_()
            loss = self.loss(q)
            loss.backward()
            return float(loss.detach()), q.grad.numpy().ravel() * unit

        def callback(intermediate_result) -> None:
            if stop(torch.from_numpy(intermediate_result.x * unit).view_as(self.start)):
                raise StopIteration

        start = self.start.numpy().ravel() / unit
        found = minimize(
            value, start, jac=True, method="L-BFGS-B", callback=callback,
            options={"maxiter": steps, "maxfun": 10 * steps, "ftol": 0, "gtol": 0},
        )  # fmt: skip
        return torch.from_numpy(found.x * unit).view_as(self.start)

    def weights(self, q: torch.Tensor) -> np.ndarray:
        """W `[d_source, d_target]`."""
        return self.axes @ q.numpy()


def _effect(q: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of styles of 1 − cosine + (ratio of lengths − 1)², from inner products."""
    mapped = source @ q

    def of_differences(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        products = a @ b.T
        own = products.diagonal()
        inner = own[:, None] + own[None, :] - products - products.T
        first, second = torch.triu_indices(len(own), len(own), 1)
        return inner[first, second]

    tiny = 1e-12 * float(target.square().mean()) + 1e-300
    squared = of_differences(mapped, mapped).clamp(min=tiny)
    own = of_differences(target, target).clamp(min=tiny)
    cosine = of_differences(mapped, target) / (squared * own).sqrt()
    return (1 - cosine + ((squared / own).sqrt() - 1).square()).mean()
