"""Batches of token sequences: padding, batches of like length, shared beginnings, what memory holds."""

import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil
import torch
from transformers import Cache, DynamicCache

from prefvec.cache import RowCache
from prefvec.models.load import LoadedModel

MIN_SHARED = 8  # tokens that prompts must have in common for their prefix to be computed once
MAX_MEMBERS = 64
MAX_ROWS = {"cpu": 256}  # where matrix products reach their full rate; other devices: 512
MEMORY_SHARE, MEMORY_LIMIT = 0.3, 3 << 30  # of what is free; bytes at most, on a CPU
OWN_WINDOWS = ("window_size", "attention_window_size", "local_attention")  # not told to the cache


class Group(NamedTuple):
    """Sequences (by index) that begin with the same `shared` tokens, which are computed once."""

    shared: int
    members: tuple[int, ...]


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


def pad_id(loaded: LoadedModel) -> int:
    """A token id to pad with; padded positions are masked, so any valid id does."""
    found = loaded.tokenizer.pad_token_id
    return found if found is not None else min(loaded.stop_ids)


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


def shared_beginnings(rows: Sequence[tuple[int, ...]], may_share: bool = True) -> list[Group]:
    """Group sequences by a common beginning, where that saves more than it costs.

    The last token of a sequence belongs to it alone.
    """
    if not may_share:
        return [Group(0, (i,)) for i in range(len(rows))]
    groups: list[Group] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i]):
        if groups:
            shared, members = groups[-1]
            common = common_beginning(rows[members[0]], rows[i])
            if shared:
                common = min(common, shared)
            common = min(common, len(rows[i]) - 1, len(rows[members[0]]) - 1)
            # Do not shrink a good prefix much for one more member.
            if common >= max(MIN_SHARED, 0.75 * shared) and len(members) < MAX_MEMBERS:
                groups[-1] = Group(common, (*members, i))
                continue
        groups.append(Group(0, (i,)))
    return groups


def beginnings(
    loaded: LoadedModel, rows: Sequence[tuple[int, ...]], groups: Sequence[Group]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and positions of what each group shares; all masked where it shares nothing."""
    ids, mask, positions = pad_left(
        [rows[g.members[0]][: max(1, g.shared)] for g in groups], pad_id(loaded), loaded.device
    )
    mask[torch.tensor([g.shared == 0 for g in groups], device=loaded.device)] = 0
    return ids, mask, positions


def rests(
    loaded: LoadedModel,
    rows: Sequence[tuple[int, ...]],
    groups: Sequence[Group],
    forward: Callable[..., object],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Cache | None]:
    """Ids, mask (of all slots), positions and cache for a pass over what groups do not share.

    Rows are the groups' members in order. The beginnings are computed here, by
    `forward(ids, mask, positions, cache)`; without any there is no cache (None).
    """
    members = [(g, rows[i]) for g in groups for i in g.members]
    ids, mask, positions = pad_left(
        [row[g.shared :] for g, row in members], pad_id(loaded), loaded.device
    )
    if not any(g.shared for g in groups):
        return ids, mask, positions, None
    cache = RowCache(loaded.model.config, ids.shape[1])
    begun = beginnings(loaded, rows, groups)
    forward(*begun, cache)
    repeats = torch.tensor([len(g.members) for g in groups], device=loaded.device)
    repeated = torch.arange(len(groups), device=loaded.device).repeat_interleave(repeats)
    cache.keep(repeated, 0, ids.shape[1])
    before = begun[1][repeated]
    positions = positions + before.sum(dim=1, keepdim=True)
    return ids, torch.cat([before, mask], dim=1), positions, cache


def logits_at(loaded: LoadedModel, keep: torch.Tensor, **inputs) -> torch.Tensor:
    """Logits `[rows, kept, vocabulary]` of the tokens at the slots `keep` of a pass without a cache,
    computed for these alone where the model can."""
    if "logits_to_keep" in inspect.signature(loaded.model.forward).parameters:
        return loaded.model(use_cache=False, logits_to_keep=keep, **inputs).logits
    return loaded.model(use_cache=False, **inputs).logits[:, keep]


def fits_window(loaded: LoadedModel, slots: int) -> bool:
    """False where local attention would count padding slots: it reaches back a number of slots,
    and padding between a shared prefix and the rest of a row takes some of them."""
    config = loaded.model.config.get_text_config()
    layers = DynamicCache(config=config).layers  # transformers tells windows and chunks here
    windows = [getattr(layer, "sliding_window", None) for layer in layers]
    windows += [getattr(config, name, None) for name in OWN_WINDOWS]
    return slots <= min((w for w in windows if isinstance(w, int) and w > 0), default=slots)


def rows_that_fit(loaded: LoadedModel, slots: int) -> int:
    """Rows of a batch whose keys, values and logits fit into the free memory; `slots` tokens each."""
    config = loaded.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cached = 2 * loaded.n_layers * heads * head * slots * loaded.dtype.itemsize
    # Merging two batches holds one more layer; logits are held beside their probabilities.
    row = cached * (1 + 1 / loaded.n_layers) + 3 * 4 * config.vocab_size
    if loaded.device.type == "cuda":
        budget = 2 * MEMORY_SHARE * torch.cuda.mem_get_info(loaded.device)[0]
    else:
        budget = min(MEMORY_SHARE * psutil.virtual_memory().available, MEMORY_LIMIT)
    return max(1, min(MAX_ROWS.get(loaded.device.type, 512), int(budget / row)))


def common_beginning(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences share from their start."""
    return next(
        (k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
