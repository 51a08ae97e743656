"""Capture: activations of many prompts at chosen layers, without computing what nobody reads."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

import numpy as np
import torch

from prefvec.abilities import may_share, path
from prefvec.batching import (
    Group,
    length_sorted_batches,
    rests,
    shared_beginnings,
)
from prefvec.errors import ConfigError
from prefvec.models.hooks import Component, block_output
from prefvec.models.load import LoadedModel
from prefvec.progress import Bar
from prefvec.store import Store

Pooling = Literal["last", "mean"]
CAPTURE_VERSION = 2  # raise when the numbers that capture returns change
SHARD = 1024  # prompts a file: what an interrupted capture loses at most


class Site(NamedTuple):
    """A place that is read: a block's output, or its attention's or MLP's."""

    layer: int
    component: Component = "residual"


class _Deepest(Exception):
    """Raised when everything asked for is read: nothing after it is computed."""


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
    """Pooled activations of one component by layer: `capture_sites` for the usual case."""
    sites = [Site(layer, component) for layer in layers]
    found = capture_sites(loaded, prompts, sites, pooling, store, tokens_per_batch, label)
    return {site.layer: array for site, array in found.items()}


def capture_sites(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    sites: Sequence[Site],
    pooling: Pooling = "last",
    store: Store | None = None,
    tokens_per_batch: int = 4096,
    label: str = "capture",
) -> dict[Site, np.ndarray]:
    """Pooled activations by site: float32 `[n_prompts, width]` in the order of `prompts`.

    Layer i is block i. `last` takes the last token; `mean` the answer's tokens (all tokens but the
    first if a prompt has no answer). The first token (BOS or attention sink) and padding are never
    in a mean. All sites are read in one pass that stops after the last of them; a beginning that
    prompts share is computed once. With a store, each site of each 1024 prompts is kept under its
    content as soon as it is read: what is known is not computed again, whatever it was asked with,
    and an interrupted capture goes on where it was.

    Raises ConfigError for a layer out of range, an empty prompt list or an unknown pooling.
    """
    sites = sorted({Site(loaded.check_layer(layer), component) for layer, component in sites})
    if not prompts or not sites:
        raise ConfigError("capture needs at least one prompt and one layer")
    if any(not prompt.ids for prompt in prompts):
        raise ConfigError("capture: a prompt has no tokens")
    if pooling not in ("last", "mean"):
        raise ConfigError(f"pooling '{pooling}' is unknown: use last or mean")
    for site in sites:
        loaded.hooks.module(*site)
    bar = Bar(len(prompts), f"{label} · {loaded.id}", "prompt")
    shards = []
    for start in range(0, len(prompts), SHARD):
        shard = prompts[start : start + SHARD]
        shards.append(_stored(loaded, shard, sites, pooling, store, tokens_per_batch, bar))
    bar.close()
    return {site: np.concatenate([shard[site] for shard in shards]) for site in sites}


def _stored(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    sites: list[Site],
    pooling: Pooling,
    store: Store | None,
    tokens_per_batch: int,
    bar: Bar,
) -> dict[Site, np.ndarray]:
    """One shard: read from the store where it is there, else captured and kept."""
    keys = {
        site: {
            "version": CAPTURE_VERSION,
            "model": loaded.identity(),
            "prompts": [[list(p.ids), p.answer_start] for p in prompts],
            "site": list(site),
            "pooling": pooling,
        }
        for site in sites
    }
    found = {}
    for site in sites if store else ():
        known = store.peek_arrays("activations", keys[site])
        if known is not None:
            found[site] = known["activations"]
    missing = [site for site in sites if site not in found]
    if not missing:
        bar.update(len(prompts))
        return found
    fresh = _captured(loaded, prompts, missing, pooling, tokens_per_batch, bar)
    for site in missing if store else ():
        store.put_arrays("activations", keys[site], {"activations": fresh[site]})
    return found | fresh


@torch.inference_mode()
def _captured(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    sites: list[Site],
    pooling: Pooling,
    tokens_per_batch: int,
    bar: Bar,
) -> dict[Site, np.ndarray]:
    out = {site: np.empty((len(prompts), loaded.width), np.float32) for site in sites}
    rows = [p.ids for p in prompts]
    # Only the last token is read from a group, so a mean is never taken over shared tokens.
    longest = max(map(len, rows))
    groups = shared_beginnings(rows, pooling == "last" and may_share(loaded, 2 * longest))
    if path(loaded) == "alone":
        tokens_per_batch = 1
    # What a group costs: its prefix and the rest of each member.
    costs = [g.shared + sum(len(rows[i]) - g.shared for i in g.members) for g in groups]
    for batch in length_sorted_batches(costs, tokens_per_batch):
        chosen = [groups[i] for i in batch]
        members = [i for group in chosen for i in group.members]
        pooled = _pass(loaded, prompts, chosen, sites, pooling)
        for site in sites:
            out[site][members] = pooled[site].float().cpu().numpy()
        bar.update(len(members))
    return out


def _pass(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    groups: Sequence[Group],
    sites: list[Site],
    pooling: Pooling,
) -> dict[Site, torch.Tensor]:
    """Pooled activations of some groups, members in order: prefixes first, then the rests."""
    pooled: dict[Site, torch.Tensor] = {}

    def begin(*inputs) -> None:
        with _reading(loaded, sites, None, {}):
            _forward(loaded, *inputs)

    ids, mask, positions, cache = rests(loaded, [p.ids for p in prompts], groups, begin)
    members = [prompts[i] for g in groups for i in g.members]
    pool = _pool(members, ids.shape[1], pooling, loaded.device)
    with _reading(loaded, sites, pool, pooled):
        _forward(loaded, ids, mask, positions, cache)
    return pooled


def _forward(loaded: LoadedModel, ids, mask, positions, cache) -> None:
    with suppress(_Deepest):
        if path(loaded) == "alone":
            loaded.model(input_ids=ids, use_cache=False)
        else:
            loaded.model(
                input_ids=ids, attention_mask=mask, position_ids=positions,
                past_key_values=cache, use_cache=cache is not None,
            )  # fmt: skip


def _pool(
    prompts: Sequence[Prompt], width: int, pooling: Pooling, device: torch.device
) -> Callable[[object], torch.Tensor]:
    """What turns the output of a hooked module into pooled activations `[rows, d]`."""
    rows = len(prompts)
    if pooling == "last":  # a copy: some blocks add in place later
        return lambda output: block_output(output, rows)[:, -1].to(torch.float32, copy=True)
    weights = torch.zeros(len(prompts), width)
    for row, prompt in enumerate(prompts):
        first = width - len(prompt.ids)  # left padding
        start = prompt.answer_start or min(1, len(prompt.ids) - 1)
        weights[row, first + start :] = 1.0 / (len(prompt.ids) - start)
    weights = weights.to(device)
    return lambda output: torch.einsum("bt,btd->bd", weights, block_output(output, rows).float())


@contextmanager
def _reading(
    loaded: LoadedModel,
    sites: list[Site],
    pool: Callable[[object], torch.Tensor] | None,
    pooled: dict[Site, torch.Tensor],
) -> Iterator[None]:
    """Hooks that pool each site's output into `pooled` (`pool` None: read nothing) and end the
    pass once every site was reached."""
    reached: set[Site] = set()

    def reader(site: Site):
        def hook(_module, _inputs, output) -> None:
            reached.add(site)
            if pool is not None:
                pooled[site] = pool(output)
            if len(reached) == len(sites):
                raise _Deepest

        return hook

    handles = [loaded.hooks.module(*site).register_forward_hook(reader(site)) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
