"""What rows of one model may share in a pass, found by trying it on two short rows.

Padding, a beginning that is computed once, and branches of a tree are each right only if the model takes
what a token sees and where it stands from the mask and the positions. Most do; recurrent ones, some that
compute positions from slots (ALiBi, absolute) and some with windows of their own don't. So each is
compared with plain rows once a model, and where it differs the rows go another way.
"""

import logging
from collections.abc import Callable
from typing import Literal

import torch

from prefvec.batching import Group, fits_window, pad_id, pad_left, rests
from prefvec.cache import RowCache
from prefvec.models.load import LoadedModel

Path = Literal["shared", "padded", "alone"]
CLOSE = {torch.float32: 1e-3}  # of the largest logit; other types
CLOSE_ROUNDED = 0.05
SHARED = 8  # tokens that the two rows begin with
FAILURES = (
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
    AssertionError,
)

Rows = list[tuple[int, ...]]


def path(loaded: LoadedModel) -> Path:
    """How rows go through a model: `shared` (padded, common beginnings computed once), `padded`, or
    `alone` (one at a time, and decoded without a cache: slow, but right for any causal model)."""
    if tried(loaded, "shares", lambda rows: _cached(loaded, rows, SHARED)):
        return "shared"
    if tried(loaded, "pads", lambda rows: _cached(loaded, rows, 0)):
        return "padded"
    if "warned" not in loaded.abilities:
        loaded.abilities["warned"] = True
        logging.getLogger("prefvec").warning(
            "%s: padding or cached keys and values change its numbers, so its rows go one at a time, "
            "each new token from the whole text (slow)",
            loaded.id,
        )
    return "alone"


def may_share(loaded: LoadedModel, slots: int) -> bool:
    """Whether rows of up to `slots` tokens and padding may share a beginning."""
    return fits_window(loaded, slots) and path(loaded) == "shared"


@torch.inference_mode()
def tried(loaded: LoadedModel, name: str, compute: Callable[[Rows], torch.Tensor]) -> bool:
    """Whether `compute(rows)` gives the logits `[rows, 2, vocabulary]` of the last two tokens of each
    row that a plain pass gives; tried once a model. A failure of the model counts as a no."""
    if name not in loaded.abilities:
        rows = _rows(loaded)
        plain = torch.stack([
            loaded.model(input_ids=torch.tensor([row], device=loaded.device), use_cache=False).logits[0, -2:]
            for row in rows
        ]).float()  # fmt: skip
        try:
            found = compute(rows).float()
            off = float((found - plain).abs().max() / plain.abs().max())
        except FAILURES:
            off = float("inf")
        loaded.abilities[name] = off <= CLOSE.get(loaded.dtype, CLOSE_ROUNDED)
    return loaded.abilities[name]


def _rows(loaded: LoadedModel) -> Rows:
    """Two rows that begin alike and end at different lengths."""
    top = min(250, loaded.model.config.get_text_config().vocab_size)
    ids = [5 + 7 * i % (top - 5) for i in range(SHARED + 14)]
    return [tuple(ids[: SHARED + 3]), tuple(ids[:SHARED] + ids[SHARED + 3 :])]


def _cached(loaded: LoadedModel, rows: Rows, shared: int) -> torch.Tensor:
    """The last token of each row after a pass over all before it, padded, with its keys and values."""
    begun = [row[:-1] for row in rows]
    cache = RowCache(loaded.model.config, len(rows[-1]))
    if shared and not cache.flexible:
        raise ValueError("recurrent layers have a state, not slots")

    def forward(ids, mask, positions, cache):
        return loaded.model(
            input_ids=ids, attention_mask=mask, position_ids=positions,
            past_key_values=cache, use_cache=True,
        ).logits[:, -1]  # fmt: skip

    if shared:
        ids, mask, positions, cache = rests(loaded, begun, [Group(shared, (0, 1))], forward)
    else:
        ids, mask, positions = pad_left(begun, pad_id(loaded), loaded.device)
    before = forward(ids, mask, positions, cache)
    last = torch.tensor([[row[-1]] for row in rows], device=loaded.device)
    mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    after = forward(last, mask, positions[:, -1:] + 1, cache)
    return torch.stack([before, after], dim=1)
