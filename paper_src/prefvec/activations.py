"""Capture: activations of many prompts at chosen layers, without computing what nobody reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from prefvec.errors import ConfigError
from prefvec.models.architecture import Component, block_output
from prefvec.models.load import LoadedModel
from prefvec.store import Store

Pooling = Literal["last", "mean"]
CAPTURE_VERSION = 1  # raise when the numbers that capture returns change


MIN_SHARED = 8  # tokens that prompts must have in common for their prefix to be computed once
MAX_MEMBERS = 64


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
    stops after the deepest layer, and a beginning that prompts share is computed once. With a store, a repeated call costs a file read.

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


class _Group(NamedTuple):
    """Prompts (by index) that begin with the same `shared` tokens, which are computed once."""

    shared: int
    members: tuple[int, ...]


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
    bar = tqdm(total=len(prompts), desc=f"{label} · {loaded.id}", unit="prompt", disable=None)
    groups = _groups(prompts, pooling, _window(loaded))
    # What a group costs: its prefix and the rest of each member.
    costs = [g.shared + sum(len(prompts[i].ids) - g.shared for i in g.members) for g in groups]
    for batch in length_sorted_batches(costs, tokens_per_batch):
        chosen = [groups[i] for i in batch]
        members = [i for group in chosen for i in group.members]
        pooled = _pass(loaded, prompts, chosen, layers, component, pooling)
        for layer in layers:
            out[layer][members] = pooled[layer].float().cpu().numpy()
        bar.update(len(members))
    bar.close()
    return {str(layer): array for layer, array in out.items()}


def _window(loaded: LoadedModel) -> int:
    """Tokens that local attention reaches back, if the model has local attention."""
    config = loaded.model.config.get_text_config()
    local = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return (config.sliding_window if local else None) or 1 << 30


def _groups(prompts: Sequence[Prompt], pooling: Pooling, window: int = 1 << 30) -> list[_Group]:
    """Group prompts by a common beginning, where that saves more than it costs.

    Only the last token is read from a group, so `mean` pooling never shares. Padding between a
    prefix and a rest counts towards a local attention window, so prompts that might not fit in it
    twice over are left alone.
    """
    if pooling != "last" or 2 * max(len(p.ids) for p in prompts) > window:
        return [_Group(0, (i,)) for i in range(len(prompts))]
    groups: list[_Group] = []
    for i in sorted(range(len(prompts)), key=lambda i: prompts[i].ids):
        if groups:
            shared, members = groups[-1]
            common = _common(prompts[members[0]].ids, prompts[i].ids)
            if shared:
                common = min(common, shared)
            # Never share a whole prompt (its last token is read), nor shrink a good prefix much.
            common = min(common, len(prompts[i].ids) - 1, len(prompts[members[0]].ids) - 1)
            if common >= max(MIN_SHARED, 0.75 * shared) and len(members) < MAX_MEMBERS:
                groups[-1] = _Group(common, (*members, i))
                continue
        groups.append(_Group(0, (i,)))
    return groups


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next(
        (k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _pass(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    groups: Sequence[_Group],
    layers: list[int],
    component: Component,
    pooling: Pooling,
) -> dict[int, torch.Tensor]:
    """Pooled activations of some groups, members in order: prefixes first, then the rests."""
    from transformers import DynamicCache

    pad, device = pad_id(loaded), loaded.device
    pooled: dict[int, torch.Tensor] = {}
    rests = [prompts[i].ids[g.shared :] for g in groups for i in g.members]
    ids, mask, positions = pad_left(rests, pad, device)
    whole = [
        Prompt(rest, prompts[i].answer_start)
        for rest, i in zip(rests, (i for g in groups for i in g.members), strict=True)
    ]
    weights = _pooling_weights(whole, ids.shape[1], pooling).to(device)
    cache = None
    if any(g.shared for g in groups):
        cache = DynamicCache(config=loaded.model.config)
        first = [prompts[g.members[0]].ids[: max(1, g.shared)] for g in groups]
        prefix_ids, prefix_mask, prefix_positions = pad_left(first, pad, device)
        alone = torch.tensor([g.shared == 0 for g in groups], device=device)
        prefix_mask[alone] = 0  # a prompt on its own has no prefix: nothing of it may be attended
        with _reading(loaded, layers, component, torch.zeros(prefix_ids.shape, device=device), {}):
            _forward(loaded, prefix_ids, prefix_mask, prefix_positions, cache)
        repeats = torch.tensor([len(g.members) for g in groups], device=device)
        rows = torch.arange(len(groups), device=device).repeat_interleave(repeats)
        cache.batch_select_indices(rows)
        prefix_mask = prefix_mask[rows]
        positions = positions + prefix_mask.sum(dim=1, keepdim=True)
        mask = torch.cat([prefix_mask, mask], dim=1)
    with _reading(loaded, layers, component, weights, pooled):
        _forward(loaded, ids, mask, positions, cache)
    return pooled


def _forward(loaded: LoadedModel, ids, mask, positions, cache) -> None:
    with suppress(_Deepest):
        loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=positions,
            past_key_values=cache, use_cache=cache is not None,
        )  # fmt: skip


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
