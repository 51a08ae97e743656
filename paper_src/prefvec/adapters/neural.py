"""A small network as a map: what a step along the vector does to its output, on average."""

from copy import deepcopy

import numpy as np
import torch
from scipy.special import ndtr

from prefvec.adapters.base import Adapter
from prefvec.adapters.common import above_zero, centred, held_out_groups, whole

HELD_OUT = 0.2  # share of the groups that decides when to stop
BATCH = 128  # rows of one step
PATIENCE = 8  # epochs without a smaller held-out error before training stops


class MLPMap(Adapter):
    """A network with one hidden layer, f; a vector maps to the mean of f(h + v) − f(h).

    f(h) = μ_y + σ_y · (b₂ + GELU(b₁ + ((h − μ_x) / σ_x) A) B) with A `[d_source, hidden]`,
    B `[hidden, d_target]`; μ, σ are means and standard deviations by coordinate (σ is 1 where it is 0).
    Trained by AdamW (Loshchilov & Hutter 2019) on the mean squared error of standardised targets, in
    batches of `BATCH` rows, for about `steps` batches, or until `PATIENCE` epochs have not lowered the
    error on held-out groups (a fifth of the styles, or of the rows where no groups are given); the
    best epoch is kept.

    f(v) would be meaningless, as a steering vector is no activation. The mean is over all source rows
    h of the fit, and means and intercepts cancel in it. The step is the vector at its own length: the
    map is not linear, so 2v may go another way than v, and −v need not go the opposite way.

    Adding a constant to all activations of a side changes nothing but rounding (float32 in training;
    mapped vectors agree to 1e-3 of their length). Raises ConfigError for options out of range,
    VectorError for fewer than two groups.
    """

    name = "mlp"
    kind = "non-linear"

    def __init__(
        self,
        hidden: int = 256,
        weight_decay: float = 0.1,
        learning_rate: float = 1e-3,
        steps: int = 600,
        seed: int = 0,
    ):
        whole(self.name, hidden=hidden, steps=steps)
        above_zero(self.name, weight_decay=weight_decay, learning_rate=learning_rate)
        self.hidden, self.steps, self.seed = hidden, steps, seed
        self.weight_decay, self.learning_rate = weight_decay, learning_rate

    def _fit_groups(
        self, source: np.ndarray, target: np.ndarray, groups: np.ndarray | None
    ) -> None:
        groups = np.arange(len(source)) if groups is None else groups
        held_out = held_out_groups(self.name, groups, 1, HELD_OUT, self.seed)
        x, x_scale = _standardised(source)
        y, y_scale = _standardised(target)
        a, b1, b, b2 = self._train(x, y, held_out)
        self.first, self.last = a / x_scale[:, None], b * y_scale
        self.hidden_input = x @ a + b1  # what the hidden layer gets at every row h
        self.at_rest = _gelu(self.hidden_input).mean(axis=0)

    def _train(self, x: np.ndarray, y: np.ndarray, held_out: np.ndarray) -> list[np.ndarray]:
        generator = torch.Generator().manual_seed(self.seed)
        inputs, outputs = (torch.from_numpy(np.float32(side)) for side in (x, y))
        test = torch.from_numpy(held_out)
        train = torch.nonzero(~test).squeeze(1)

        def layer(rows: int, columns: int) -> list[torch.Tensor]:
            weights = torch.randn(rows, columns, generator=generator) / rows**0.5
            return [weights.requires_grad_(), torch.zeros(columns, requires_grad=True)]

        parameters = layer(x.shape[1], self.hidden) + layer(self.hidden, y.shape[1])
        decayed, plain = parameters[::2], parameters[1::2]
        optimiser = torch.optim.AdamW(
            [{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
            lr=self.learning_rate, weight_decay=self.weight_decay,
        )  # fmt: skip

        def loss(rows: torch.Tensor) -> torch.Tensor:
            a, b1, b, b2 = parameters
            fitted = torch.nn.functional.gelu(inputs[rows] @ a + b1) @ b + b2
            return torch.nn.functional.mse_loss(fitted, outputs[rows])

        best, self.error = None, np.inf
        epochs = max(1, round(self.steps * BATCH / len(train)))
        for epoch in range(1, epochs + 1):
            for rows in train[torch.randperm(len(train), generator=generator)].split(BATCH):
                optimiser.zero_grad()
                loss(rows).backward()
                optimiser.step()
            with torch.no_grad():
                error = float(loss(test))
            if best is None or error < self.error:
                best, self.error, self.stopped = deepcopy(parameters), error, epoch
            elif epoch - self.stopped >= PATIENCE:
                break
        return [p.detach().numpy().astype(np.float64) for p in best]

    def _map(self, vector: np.ndarray) -> np.ndarray:
        steps = vector.reshape(-1, self.first.shape[0]) @ self.first
        moved = [_gelu(self.hidden_input + step).mean(axis=0) - self.at_rest for step in steps]
        out = np.reshape(moved, (len(steps), -1)) @ self.last
        return out.reshape(*vector.shape[:-1], -1)

    def diagnostics(self) -> dict[str, float]:
        """Width of the hidden layer, the epoch kept, and R² on held-out rows of standardised
        coordinates (against the mean of all rows)."""
        return {"hidden": self.hidden, "epochs": self.stopped, "r2_held_out": 1 - self.error}


def _standardised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred rows over their standard deviation by coordinate, and that deviation."""
    x = centred(rows)
    scale = x.std(axis=0)
    scale[scale <= 1e-9 * scale.max(initial=0)] = 1.0
    return x / scale, scale


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * ndtr(x)
