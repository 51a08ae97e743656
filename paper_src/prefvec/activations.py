"""Capture: activations of many prompts at chosen layers, without computing what nobody reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from prefvec.errors import ConfigError
from prefvec.models.architecture import Component, block_output
from prefvec.models.load import LoadedModel
from prefvec.store import Store

Pooling = Literal["last", "mean"]
CAPTURE_VERSION = 1  # raise when the numbers that capture returns change


class _Deepest(Exception):
    """Raised by the hook on the deepest layer asked for: nothing after it is computed."""


class Prompt(tuple):
    """Token ids with the position where the answer begins (for mean-response pooling)."""

    __slots__ = ()

    def __new__(cls, ids: Sequence[int], answer_start: int | None = None):
        return super().__new__(cls, (tuple(ids), answer_start))

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids."""
        return self[0]

    @property
    def answer_start(self) -> int | None:
        """Index of the first answer token, or None for a prompt without an answer."""
        return self[1]


def capture(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    component: Component = "residual",
    pooling: Pooling = "last",
    store: Store | None = None,
    tokens_per_batch: int = 4096,
    label: str = "capture",
) -> dict[int, np.ndarray]:
    """Pooled activations by layer: float32 `[n_prompts, width]` in the order of `prompts`.

    Layer i is the output of block i. `last` takes the last token; `mean` the answer's tokens
    (all tokens but the first if a prompt has no answer). The first token (BOS or attention sink)
    and padding are never in a mean. The forward pass
    stops after the deepest layer. With a store, a repeated call costs a file read.

    Raises ConfigError for a layer out of range or an empty prompt list.
    """
    layers = sorted({loaded.check_layer(layer) for layer in layers})
    if not prompts or not layers:
        raise ConfigError("capture needs at least one prompt and one layer")
    if any(not prompt.ids for prompt in prompts):
        raise ConfigError("capture: a prompt has no tokens")

    def compute() -> dict[str, np.ndarray]:
        return _capture(loaded, prompts, layers, component, pooling, tokens_per_batch, label)

    if store is None:
        found = compute()
    else:
        key = {
            "version": CAPTURE_VERSION,
            "model": loaded.identity(),
            "prompts": [[list(p.ids), p.answer_start] for p in prompts],
            "layers": layers,
            "component": component,
            "pooling": pooling,
        }
        found = store.arrays("activations", key, compute)
    return {layer: found[str(layer)] for layer in layers}


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left-padded ids, attention mask and position ids, each `[rows, longest]`.

    Positions count real tokens from 0, so padding changes nothing for the real ones.
    """
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, longest - len(row) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return ids.to(device), mask.to(device), positions.to(device)


def length_sorted_batches(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Indices in batches of similar length whose padded size stays within the token budget."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        widest = lengths[batches[-1][0]] if batches else 0
        if batches and (len(batches[-1]) + 1) * widest <= tokens_per_batch:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def pad_id(loaded: LoadedModel) -> int:
    """A token id to pad with; padded positions are masked, so any valid id does."""
    found = loaded.tokenizer.pad_token_id
    return found if found is not None else min(loaded.stop_ids)


@torch.inference_mode()
def _capture(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    layers: list[int],
    component: Component,
    pooling: Pooling,
    tokens_per_batch: int,
    label: str,
) -> dict[str, np.ndarray]:
    out = {layer: np.empty((len(prompts), loaded.width), np.float32) for layer in layers}
    batches = length_sorted_batches([len(p.ids) for p in prompts], tokens_per_batch)
    bar = tqdm(total=len(prompts), desc=f"{label} · {loaded.id}", unit="prompt", disable=None)
    for batch in batches:
        chosen = [prompts[i] for i in batch]
        ids, mask, positions = pad_left([p.ids for p in chosen], pad_id(loaded), loaded.device)
        weights = _pooling_weights(chosen, ids.shape[1], pooling).to(loaded.device)
        pooled: dict[int, torch.Tensor] = {}
        with _reading(loaded, layers, component, weights, pooled), suppress(_Deepest):
            loaded.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
            )
        for layer in layers:
            out[layer][batch] = pooled[layer].float().cpu().numpy()
        bar.update(len(batch))
    bar.close()
    return {str(layer): array for layer, array in out.items()}


def _pooling_weights(prompts: Sequence[Prompt], width: int, pooling: Pooling) -> torch.Tensor:
    """Weights `[rows, tokens]`, each row summing to 1 over the tokens to pool."""
    if pooling not in ("last", "mean"):
        raise ConfigError(f"pooling '{pooling}' is unknown: use last or mean")
    weights = torch.zeros(len(prompts), width)
    for row, prompt in enumerate(prompts):
        first = width - len(prompt.ids)  # left padding
        if pooling == "last":
            weights[row, -1] = 1.0
            continue
        start = prompt.answer_start or min(1, len(prompt.ids) - 1)
        weights[row, first + start :] = 1.0 / (len(prompt.ids) - start)
    return weights


@contextmanager
def _reading(
    loaded: LoadedModel,
    layers: list[int],
    component: Component,
    weights: torch.Tensor,
    pooled: dict[int, torch.Tensor],
) -> Iterator[None]:
    def reader(layer: int):
        def hook(_module, _inputs, output) -> None:
            hidden = block_output(output).float()
            pooled[layer] = torch.einsum("bt,btd->bd", weights, hidden)
            if layer == layers[-1]:
                raise _Deepest

        return hook

    handles = [
        loaded.hooks.module(layer, component).register_forward_hook(reader(layer))
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
