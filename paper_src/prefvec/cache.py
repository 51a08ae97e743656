"""Keys and values of a batch whose rows come and go.

transformers' dynamic cache concatenates at every step, which copies the whole cache once a token.
Here each layer writes into a buffer with room for the tokens to come; rows are dropped, repeated
and merged with those of another batch by one gather a layer.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

# Rows to take from a layer: index tensor, or a function of the layer's number that gives one.
Rows = torch.Tensor | Callable[[int], torch.Tensor]


class RowLayer(DynamicLayer):
    """One layer's keys and values `[rows, heads, slots, dim]`, with room for `reserve` more slots.

    Sliding-window layers are kept whole as well: transformers' mask hides what is out of reach.
    """

    def __init__(self, reserve: int):
        super().__init__()
        self.reserve, self.length = reserve, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take shape, type and device from the first keys and values."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = tuple(
            x.new_empty(*x.shape[:2], x.shape[2] + self.reserve, x.shape[3])
            for x in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states, value_states, *_args, **_kwargs):
        """Write new slots; all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        if end > self._buffers[0].shape[2]:
            self._buffers = tuple(self._grown(x, end + self.reserve) for x in self._buffers)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = new
        self.length = end
        self.keys, self.values = (x[:, :, :end] for x in self._buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Slots in use."""
        return self.length

    def _grown(self, x: torch.Tensor, slots: int) -> torch.Tensor:
        out = x.new_empty(*x.shape[:2], slots, x.shape[3])
        out[:, :, : self.length] = x[:, :, : self.length]
        return out

    @classmethod
    def merged(
        cls, parts: Sequence[tuple["RowLayer", torch.Tensor, int]], reserve: int
    ) -> "RowLayer":
        """Rows of several layers in one, right-aligned; `(layer, rows, first slot to keep)` each."""
        out = cls(reserve)
        parts = [part for part in parts if part[0].is_initialized]
        if not parts:
            return out
        out.length = max(layer.length - start for layer, _, start in parts)
        n_rows = sum(len(rows) for _, rows, _ in parts)
        buffers = []
        for which in (0, 1):
            like = parts[0][0]._buffers[which]
            buffer = like.new_empty(n_rows, like.shape[1], out.length + reserve, like.shape[3])
            at = 0
            for layer, rows, start in parts:
                slot = out.length - (layer.length - start)
                buffer[at : at + len(rows), :, :slot] = 0  # masked, but it must not hold a NaN
                kept = layer._buffers[which][:, :, start : layer.length]
                buffer[at : at + len(rows), :, slot : out.length] = kept[rows]
                at += len(rows)
            buffers.append(buffer)
        out._buffers = tuple(buffers)
        out.dtype, out.device, out.is_initialized = like.dtype, like.device, True
        out.keys, out.values = (x[:, :, : out.length] for x in out._buffers)
        return out


class Part(NamedTuple):
    """Rows of one cache, from slot `start` on."""

    cache: "RowCache"
    rows: Rows
    start: int = 0


class RowCache(DynamicCache):
    """A cache of `RowLayer`s. `flexible` is False for models with other kinds of layers (linear
    attention, …): those can only lose rows."""

    def __init__(self, config, reserve: int):
        super().__init__(config=config)
        plain = (DynamicLayer, DynamicSlidingWindowLayer)
        self.flexible = all(type(layer) in plain for layer in self.layers)
        if self.flexible:
            self.layers = [RowLayer(reserve) for _ in self.layers]

    def regroup(self, parts: Sequence[Part], reserve: int) -> None:
        """Hold these rows of these caches (this one may be among them) and no others.

        Layer by layer, so that no more than one layer is held twice.
        """
        for i in range(len(self.layers)):
            chosen = [(p.cache.layers[i], _rows(p.rows, i), p.start) for p in parts]
            self.layers[i] = RowLayer.merged(chosen, reserve)

    def keep(self, rows: torch.Tensor, start: int, reserve: int) -> None:
        """Keep these rows, without the slots before `start`."""
        if self.flexible:
            self.regroup([Part(self, rows, start)], reserve)
        else:
            self.reorder_cache(rows)


def _rows(rows: Rows, layer: int) -> torch.Tensor:
    return rows(layer) if callable(rows) else rows
