"""Steering: h' = h + α·v at chosen blocks, with its own vector and dose for every row."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from prefvec.errors import ConfigError, VectorError
from prefvec.models.hooks import Component, block_output, replace_output
from prefvec.models.load import LoadedModel

Positions = Literal["all", "prompt", "generated"]
POSITIONS: tuple[Positions, ...] = ("all", "prompt", "generated")


@dataclass(frozen=True, eq=False)
class Steer:
    """One addition to one row.

    vector: float32 `[width]`; layer: the block whose output it is added to; coefficient: the α in
    h + α·v, in units of the vector itself; positions: `all` (every prompt and generated token),
    `prompt` (prompt tokens only), or `generated` (tokens fed back after the prompt; the first
    generated token is predicted from the prompt and stays unsteered). Padding and the first token
    of a prompt (BOS or attention sink) are never steered.
    """

    vector: np.ndarray
    layer: int
    coefficient: float
    positions: Positions = "all"
    component: Component = "residual"

    def __post_init__(self):
        if self.positions not in POSITIONS:
            raise ConfigError(
                f"positions '{self.positions}' is unknown: use one of {', '.join(POSITIONS)}"
            )
        if not np.isfinite(self.coefficient) or not np.all(np.isfinite(self.vector)):
            raise VectorError("a steering vector or its coefficient is not finite")

    @cached_property
    def key(self) -> tuple:
        """What the addition is, as plain values: equal keys do the same."""
        digest = hashlib.sha256(np.ascontiguousarray(self.vector, np.float32).tobytes()).hexdigest()
        return (digest, self.layer, float(self.coefficient), self.positions, self.component)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Steer) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class RowSteering:
    """Hooks that add each row's vectors during the passes of a batch; a context manager.

    `rows[i]` lists the additions of row i (none: the row is left alone, to the bit). Call
    `begin_prompt(mask)` before a pass over prompt tokens and `begin_token()` before each later one.
    """

    def __init__(self, loaded: LoadedModel, rows: Sequence[Sequence[Steer]]):
        self._loaded = loaded
        self._sites: dict[tuple[int, str], dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        self._where: dict[str, torch.Tensor] = {}
        for i, steers in enumerate(rows):
            for steer in steers:
                self._add(i, len(rows), steer)
        self._modules = {site: loaded.hooks.module(*site) for site in self._sites}

    def _add(self, row: int, n_rows: int, steer: Steer) -> None:
        loaded = self._loaded
        loaded.check_layer(steer.layer)
        if steer.vector.shape != (loaded.width,):
            raise VectorError(
                f"vector of shape {tuple(steer.vector.shape)} does not fit {loaded.id}, whose "
                f"residual stream is {loaded.width} wide: map it with an adapter first"
            )
        if steer.coefficient == 0.0:
            return  # α = 0 must be bit-identical to no hook: nothing is added to the row
        site = self._sites.setdefault((steer.layer, steer.component), {})
        if steer.positions not in site:
            shape = (n_rows, loaded.width)
            site[steer.positions] = (
                torch.zeros(shape, device=loaded.device),
                torch.zeros(n_rows, dtype=torch.bool, device=loaded.device),
            )
        delta, active = site[steer.positions]
        vector = torch.from_numpy(np.asarray(steer.vector, np.float32)).to(loaded.device)
        delta[row] += steer.coefficient * vector
        active[row] = True

    def begin_prompt(
        self, attention_mask: torch.Tensor, continued: bool | torch.Tensor = False
    ) -> None:
        """Tell which positions of a pass are real prompt tokens: a 0/1 mask `[rows, tokens]`.

        The first token of a row is left alone, unless the row began in an earlier pass (`continued`,
        for all rows or as booleans `[rows]`).
        """
        where = attention_mask.bool().clone()
        rows = torch.arange(len(where), device=where.device)
        first = attention_mask.argmax(dim=1)
        begun = torch.as_tensor(continued, device=where.device).expand(len(where))
        where[rows, first] &= begun
        self._where = {"all": where, "prompt": where, "generated": torch.zeros_like(where)}

    def begin_whole(self, prompt_tokens: int, tokens: int) -> None:
        """Tell that the next pass holds one row: its prompt and what was generated after it."""
        at = torch.arange(tokens, device=self._loaded.device)[None]
        prompt = (at > 0) & (at < prompt_tokens)
        self._where = {"all": at > 0, "prompt": prompt, "generated": at >= prompt_tokens}

    def begin_token(self, n_rows: int) -> None:
        """Tell that the next pass holds one generated token a row."""
        one = torch.ones(n_rows, 1, dtype=torch.bool, device=self._loaded.device)
        self._where = {"all": one, "prompt": ~one, "generated": one}

    def __enter__(self) -> "RowSteering":
        self._handles = [
            module.register_forward_hook(self._hook(site)) for site, module in self._modules.items()
        ]
        return self

    def __exit__(self, *_exc) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, key: tuple[int, str]):
        def hook(_module, _inputs, output):
            hidden = block_output(output, len(next(iter(self._where.values()))))
            for where, (delta, active) in self._sites[key].items():
                mask = self._where[where] & active[:, None]  # [rows, tokens]
                steered = hidden + delta[:, None, :].to(hidden.dtype)
                hidden = torch.where(mask[:, :, None], steered, hidden)
            return replace_output(output, hidden)

        return hook
