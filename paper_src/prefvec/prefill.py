"""Prompts of a batch, each part computed once for all rows that have it in common.

Two things are shared. Prompts with the same beginning and the same additions have the same keys and
values there: one pass computes the beginnings, a second the rests. And rows with the same prompt are
the same up to the first block at which they are steered: the blocks up to there (the fork) see each
distinct prompt once, and the residual stream is repeated for the rows after it.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from prefvec.abilities import may_share
from prefvec.batching import beginnings, pad_id, pad_left, shared_beginnings
from prefvec.cache import Part, RowCache
from prefvec.models.hooks import block_output, replace_output
from prefvec.models.load import LoadedModel
from prefvec.steering import RowSteering, Steer

Steers = tuple[Steer, ...]


class Prefilled(NamedTuple):
    """Rows whose prompts are computed: cache, 0/1 mask `[rows, slots]`, position of the last
    token `[rows, 1]`, and the logits of the first answer token `[rows, vocabulary]`."""

    cache: RowCache
    mask: torch.Tensor
    positions: torch.Tensor
    logits: torch.Tensor


@dataclass(frozen=True)
class _Rows:
    """The rows of a pass. Blocks up to the fork see `lower` rows, later ones `upper` rows;
    `lower_of[u]` is the lower row that upper row u comes from, `steers[u]` its additions."""

    lower: list
    upper: list
    lower_of: list[int]
    steers: list[Steers]


def prefill(
    loaded: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    steers: Sequence[Steers],
    reserve: int,
) -> Prefilled:
    """Run the prompts of a batch, one list of additions a row; `reserve` slots are kept free."""
    cache = RowCache(loaded.model.config, reserve)
    acting = [_on_prompt(row) for row in steers]
    fork = _fork(loaded, [s for row in acting for s in row])
    if not cache.flexible:  # every row on its own
        fork, acting = -1, [(*row, i) for i, row in enumerate(acting)]
    texts = sorted(set(prompts))
    text_of = {text: i for i, text in enumerate(texts)}
    longest = max(len(text) for text in texts)
    groups = shared_beginnings(texts, may_share(loaded, 2 * longest + reserve))
    group_of = {i: g for g, group in enumerate(groups) for i in group.members}

    wanted = [(text_of[text], row) for text, row in zip(prompts, acting, strict=True)]
    rests = _rows(wanted, fork)
    whole_mask, continued = None, False
    if any(group.shared for group in groups):
        starts = _rows([(group_of[text], row) for text, row in rests.upper], fork)
        chosen = [groups[g] for g, _ in starts.lower]
        ids, whole_mask, positions = beginnings(loaded, texts, chosen)
        _pass(loaded, starts, fork, ids, whole_mask, whole_mask, positions, cache, False, False)
        lower_start = {row: i for i, row in enumerate(starts.lower)}
        upper_start = {row: i for i, row in enumerate(starts.upper)}
        lower = _index(loaded, [lower_start[group_of[t], row] for t, row in rests.lower])
        upper = _index(loaded, [upper_start[group_of[t], row] for t, row in rests.upper])
        cache.regroup([Part(cache, lambda i: lower if i <= fork else upper)], longest)
        whole_mask = whole_mask[lower]
        continued = whole_mask.any(dim=1)

    ends = [texts[t][groups[group_of[t]].shared :] for t, _ in rests.lower]
    ids, mask, positions = pad_left(ends, pad_id(loaded), loaded.device)
    if whole_mask is None:
        whole_mask = mask
    else:
        positions = positions + whole_mask.sum(dim=1, keepdim=True)
        whole_mask = torch.cat([whole_mask, mask], dim=1)
    logits = _pass(loaded, rests, fork, ids, mask, whole_mask, positions, cache, continued)

    upper_row = {row: i for i, row in enumerate(rests.upper)}
    upper_of = [upper_row[row] for row in wanted]
    upper = _index(loaded, upper_of)
    lower = _index(loaded, [rests.lower_of[u] for u in upper_of])
    if cache.flexible:
        cache.regroup([Part(cache, lambda i: lower if i <= fork else upper)], reserve)
    return Prefilled(cache, whole_mask[lower], positions[lower, -1:], logits[upper])


def _on_prompt(steers: Steers) -> Steers:
    """The additions that act on prompt tokens."""
    return tuple(s for s in steers if s.coefficient != 0.0 and s.positions != "generated")


def _fork(loaded: LoadedModel, steers: Sequence[Steer]) -> int:
    """The last block that does not depend on any addition; −1 if rows can't share blocks.

    The stream can be repeated inside a pass where all that blocks receive beside it is a mask and
    rotary position embeddings, one a row.
    """
    if not steers:
        return loaded.n_layers - 1
    takes = inspect.signature(loaded.hooks.blocks[0].forward).parameters
    if "position_embeddings" not in takes:
        return -1
    return min(s.layer - (s.component != "residual") for s in steers)


def _rows(wanted: Sequence[tuple[int, tuple]], fork: int) -> _Rows:
    """Distinct (text, additions) as upper rows, distinct texts as lower ones if there is a fork."""
    upper = list(dict.fromkeys(wanted))
    shared = [(text, ()) for text, _ in upper] if fork >= 0 else upper
    lower = list(dict.fromkeys(shared))
    number = {row: i for i, row in enumerate(lower)}
    return _Rows(
        lower,
        upper,
        [number[row] for row in shared],
        [tuple(s for s in row if isinstance(s, Steer)) for _, row in upper],
    )


def _pass(
    loaded: LoadedModel,
    rows: _Rows,
    fork: int,
    ids: torch.Tensor,
    mask: torch.Tensor,
    whole_mask: torch.Tensor,
    positions: torch.Tensor,
    cache: RowCache,
    continued: bool | torch.Tensor,
    with_logits: bool = True,
) -> torch.Tensor | None:
    """One pass over tokens `[lower rows, tokens]`; the last token's logits `[upper rows, …]`."""
    lower_of = _index(loaded, rows.lower_of)
    if isinstance(continued, torch.Tensor):
        continued = continued[lower_of]
    steering = RowSteering(loaded, rows.steers)
    with ExitStack() as stack:
        if len(rows.lower) != len(rows.upper):
            stack.enter_context(_repeat_after(loaded, fork, lower_of, len(rows.lower)))
        stack.enter_context(steering)
        steering.begin_prompt(mask[lower_of], continued)
        stack.enter_context(_contiguous_head(loaded))
        model = loaded.model if with_logits else loaded.model.base_model
        keep = {"logits_to_keep": 1} if with_logits else {}
        out = model(
            input_ids=ids, attention_mask=whole_mask, position_ids=positions,
            past_key_values=cache, use_cache=True, **keep,
        )  # fmt: skip
        return out.logits[:, -1] if with_logits else None


@contextmanager
def _contiguous_head(loaded: LoadedModel) -> Iterator[None]:
    """The last tokens are a slice of all, which a linear layer multiplies five times slower."""
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _module, args: (args[0].contiguous(),))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _repeat_after(
    loaded: LoadedModel, fork: int, lower_of: torch.Tensor, n_lower: int
) -> Iterator[None]:
    """Repeat the stream, and what later blocks receive beside it, after a block."""

    def repeated(value):
        if isinstance(value, torch.Tensor) and value.ndim >= 2 and value.shape[0] == n_lower:
            return value[lower_of]
        return tuple(map(repeated, value)) if isinstance(value, tuple) else value

    def stream(_module, _inputs, output):
        return replace_output(output, block_output(output, n_lower)[lower_of])

    def beside(_module, args, kwargs):
        # The stream itself has as many rows as there are upper ones by now.
        return tuple(map(repeated, args)), {k: repeated(v) for k, v in kwargs.items()}

    blocks = loaded.hooks.blocks
    handles = [blocks[fork].register_forward_hook(stream)]
    handles += [b.register_forward_pre_hook(beside, with_kwargs=True) for b in blocks[fork + 1 :]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _index(loaded: LoadedModel, rows: Sequence[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.long, device=loaded.device)
