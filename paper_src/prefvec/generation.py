"""Batched steered decoding: one (vector, layer, dose) list a row; finished rows make room for others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from prefvec.abilities import path
from prefvec.batching import rows_that_fit
from prefvec.cache import Part, RowCache
from prefvec.errors import ConfigError
from prefvec.models.load import LoadedModel
from prefvec.prefill import prefill
from prefvec.progress import Bar
from prefvec.sampling import sampled, uniforms
from prefvec.steering import RowSteering, Steer
from prefvec.store import Store, canonical_hash

GENERATION_VERSION = 2  # raise when the text that a request gives changes
PROMPT_TOKENS = 8192  # prompt tokens computed in one pass
REFILL_AT = 0.25  # share of free rows at which waiting ones join
COMPACT_AT = 0.125  # share of finished rows at which they are dropped when none wait


@dataclass(frozen=True)
class Request:
    """One answer to generate: prompt token ids, additions to the row, and a seed for sampling."""

    ids: tuple[int, ...]
    steers: tuple[Steer, ...] = ()
    seed: int = 0


class Generation(NamedTuple):
    """One answer. `n_tokens` counts generated tokens without the stop token; a finish of `length`
    means the answer was cut at the limit, so its length is censored there."""

    text: str
    n_tokens: int
    finish: Literal["stop", "length"]


def generate(
    loaded: LoadedModel,
    requests: Sequence[Request],
    max_new_tokens: int,
    temperature: float = 0.0,
    store: Store | None = None,
    rows_per_batch: int | None = None,
    label: str = "generate",
    on_text: Callable[[int, str], None] | None = None,
) -> list[Generation]:
    """Answers in the order of `requests`; temperature 0 is greedy.

    An answer depends on its own request alone: sampling draws from (seed, prompt), never from the
    batch. Rows that end leave the batch and waiting ones join. `rows_per_batch` None: as many as
    the free memory holds, up to what the device can use. With a store, answers already known are
    read and each new one is kept as it ends, so an interrupted run loses unfinished rows only.
    `on_text(number, text)` is called with a request's number and its text so far after each token,
    and with the whole text at its end; an exception that it raises ends the work and is passed on.

    Raises ConfigError for a bad limit or temperature or a prompt without tokens.
    """
    if max_new_tokens < 1 or temperature < 0:
        raise ConfigError("max_new_tokens must be at least 1 and temperature at least 0")
    if any(not request.ids for request in requests):
        raise ConfigError("generate: a prompt has no tokens")
    keys = [_key(loaded, request, max_new_tokens, temperature) for request in requests]
    done: dict[str, Generation] = {}
    todo: dict[str, int] = {}
    for i, (key, digest) in enumerate(keys):
        if digest in done or digest in todo:
            continue
        found, value = store.peek("generations", key) if store else (False, None)
        if found:
            done[digest] = Generation(*value)
        else:
            todo[digest] = i

    def show(digest: str, text: str) -> None:
        for number, (_, other) in enumerate(keys if on_text else ()):
            if other == digest:
                on_text(number, text)

    for digest, answer in done.items():
        show(digest, answer.text)
    indices = list(todo.values())
    if indices:
        longest = max(len(requests[i].ids) for i in indices)
        rows = rows_per_batch or rows_that_fit(loaded, longest + max_new_tokens)
        rows = -(-len(indices) // -(-len(indices) // rows))  # equal shares: no small last batch
        bar = Bar(len(indices), f"{label} · {loaded.id}", "row")

        def finish(position: int, answer: Generation) -> None:
            key, digest = keys[indices[position]]
            done[digest] = answer
            if store:
                store.put("generations", key, list(answer))
            show(digest, answer.text)
            bar.update()

        asked = [requests[i] for i in indices]
        grown = (lambda i, text: show(keys[indices[i]][1], text)) if on_text else None
        _Decoder(loaded, asked, max_new_tokens, temperature, finish, grown).run(rows)
        bar.close()
    return [done[digest] for _, digest in keys]


def _key(loaded: LoadedModel, request: Request, limit: int, temperature: float) -> tuple[dict, str]:
    key = {
        "version": GENERATION_VERSION,
        "model": loaded.identity(),
        "ids": list(request.ids),
        "steers": [list(steer.key) for steer in request.steers if steer.coefficient != 0.0],
        "limit": limit,
        "temperature": temperature,
        "seed": request.seed if temperature else 0,
    }
    return key, canonical_hash(key)


@dataclass
class _Batch:
    """Rows that are being decoded: request numbers, cache, mask `[rows, slots]`, the last token and
    its position `[rows, 1]`, and which rows are not finished yet."""

    rows: list[int]
    cache: RowCache
    mask: torch.Tensor
    ids: torch.Tensor
    positions: torch.Tensor
    open: list[int]

    def part(self) -> Part:
        """The unfinished rows, without the slots that none of them uses."""
        rows = torch.tensor(self.open, device=self.mask.device)
        return Part(self.cache, rows, int(self.mask[rows].argmax(dim=1).min()))


class _Decoder:
    """Fills a batch, steps it, and gives the places of finished rows to waiting ones."""

    def __init__(
        self,
        loaded: LoadedModel,
        requests: Sequence[Request],
        limit: int,
        temperature: float,
        finish: Callable[[int, Generation], None],
        grown: Callable[[int, str], None] | None = None,
    ):
        self.loaded, self.requests, self.limit = loaded, requests, limit
        self.temperature, self.finish, self.grown = temperature, finish, grown
        self.tokens: dict[int, list[int]] = {}
        self.draws: dict[int, np.ndarray] = {}
        # A stop string that has just been completed lies within the last few tokens.
        self.tail = 4 + max(map(len, loaded.prompt.stop_strings), default=0)

    @torch.inference_mode()
    def run(self, max_rows: int) -> None:
        """Decode all requests, at most `max_rows` at a time; `finish(number, answer)` for each."""
        if path(self.loaded) == "alone":
            for i in range(len(self.requests)):
                self._alone(i)
            return
        waiting = list(range(len(self.requests)))[::-1]
        batch: _Batch | None = None
        while waiting or batch:
            room = max_rows - (len(batch.open) if batch else 0)
            joinable = batch is None or (
                batch.cache.flexible and room >= max(1, REFILL_AT * max_rows)
            )
            if waiting and joinable:
                batch = self._merged(batch, self._started(self._next(waiting, room)))
            else:
                batch = self._stepped(batch, max_rows if waiting else 0)

    def _alone(self, row: int) -> None:
        """Decode one request without a cache, each token from the whole text."""
        request, device = self.requests[row], self.loaded.device
        self.tokens[row] = []
        draws = uniforms(request.ids, request.seed, self.limit) if self.temperature else None
        with RowSteering(self.loaded, [request.steers]) as steering:
            answer = None
            while answer is None:
                ids = torch.tensor([[*request.ids, *self.tokens[row]]], device=device)
                steering.begin_whole(len(request.ids), ids.shape[1])
                logits = self.loaded.model(input_ids=ids, use_cache=False).logits[:, -1]
                step = len(self.tokens[row])
                chosen = (
                    sampled(logits, self.temperature, draws[[step]])
                    if self.temperature
                    else logits.argmax(-1)
                )
                answer = self._advance(row, int(chosen))
        self.finish(row, answer)

    def _next(self, waiting: list[int], room: int) -> list[int]:
        """Take waiting requests for one pass over their prompts."""
        chosen, longest = [], 0
        while waiting and len(chosen) < room:
            longest = max(longest, len(self.requests[waiting[-1]].ids))
            if chosen and longest * (len(chosen) + 1) > PROMPT_TOKENS:
                break
            chosen.append(waiting.pop())
        return chosen

    def _started(self, rows: list[int]) -> _Batch:
        """New rows after their prompts and first tokens."""
        asked = [self.requests[i] for i in rows]
        cache, mask, positions, logits = prefill(
            self.loaded, [r.ids for r in asked], [r.steers for r in asked], self.limit
        )
        for i, request in zip(rows, asked, strict=True):
            self.tokens[i] = []
            if self.temperature:
                self.draws[i] = uniforms(request.ids, request.seed, self.limit)
        batch = _Batch(rows, cache, mask, positions, positions, list(range(len(rows))))
        self._take(batch, logits)
        return batch

    def _merged(self, old: _Batch | None, new: _Batch) -> _Batch | None:
        """The unfinished rows of both."""
        batches = [b for b in (old, new) if b and b.open]
        if len(batches) < 2:
            return batches[0] if batches else None
        parts = [b.part() for b in batches]
        cache = batches[0].cache
        cache.regroup(parts, self.limit)
        masks = [b.mask[p.rows, p.start :] for b, p in zip(batches, parts, strict=True)]
        slots = max(mask.shape[1] for mask in masks)
        masks = [torch.nn.functional.pad(mask, (slots - mask.shape[1], 0)) for mask in masks]
        rows = [b.rows[i] for b in batches for i in b.open]
        ids, positions = (
            torch.cat([getattr(b, name)[p.rows] for b, p in zip(batches, parts, strict=True)])
            for name in ("ids", "positions")
        )
        return _Batch(rows, cache, torch.cat(masks), ids, positions, list(range(len(rows))))

    def _kept(self, batch: _Batch) -> _Batch:
        """The batch without its finished rows."""
        if len(batch.open) == len(batch.rows):
            return batch
        _, keep, start = batch.part()
        start = start if batch.cache.flexible else 0
        batch.cache.keep(keep, start, self.limit)
        return _Batch(
            [batch.rows[i] for i in batch.open],
            batch.cache,
            batch.mask[keep, start:],
            batch.ids[keep],
            batch.positions[keep],
            list(range(len(keep))),
        )

    def _stepped(self, batch: _Batch, refill_to: int) -> _Batch | None:
        """Step until enough rows have ended: for waiting ones to join (`refill_to` rows), or for
        the batch to be worth shrinking (`refill_to` 0)."""
        batch = self._kept(batch)
        n_rows = len(batch.rows)
        enough = int((1 - COMPACT_AT) * n_rows)
        if refill_to and batch.cache.flexible:
            enough = int((1 - REFILL_AT) * refill_to)
        with RowSteering(self.loaded, [self.requests[i].steers for i in batch.rows]) as steering:
            steering.begin_token(n_rows)
            while True:
                batch.mask = torch.cat([batch.mask, batch.mask.new_ones(n_rows, 1)], dim=1)
                logits = self.loaded.model(
                    input_ids=batch.ids,
                    attention_mask=batch.mask,
                    position_ids=batch.positions,
                    past_key_values=batch.cache,
                    use_cache=True,
                ).logits[:, -1]
                self._take(batch, logits)
                if not batch.open:
                    return None
                if len(batch.open) <= enough:
                    return batch

    def _take(self, batch: _Batch, logits: torch.Tensor) -> None:
        """Choose every row's next token `[rows, vocabulary]` and close the rows that end with it."""
        chosen = logits.argmax(dim=-1)
        if self.temperature:
            step = [min(len(self.tokens[i]), self.limit - 1) for i in batch.rows]
            draws = [self.draws[i][k] for i, k in zip(batch.rows, step, strict=True)]
            chosen = sampled(logits, self.temperature, np.array(draws))
        tokens = chosen.tolist()
        still = []
        for k in batch.open:
            answer = self._advance(batch.rows[k], tokens[k])
            if answer is None:
                still.append(k)
            else:
                self.finish(batch.rows[k], answer)
        batch.ids, batch.positions, batch.open = chosen[:, None], batch.positions + 1, still

    def _advance(self, row: int, token: int) -> Generation | None:
        """Add a token to an answer; the finished answer if this was its last."""
        tokens, tokenizer, prompt = self.tokens[row], self.loaded.tokenizer, self.loaded.prompt
        if token in self.loaded.stop_ids:
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            return Generation(text.strip(), len(tokens), "stop")
        tokens.append(token)
        if prompt.stop_strings and prompt.cut(tokenizer.decode(tokens[-self.tail :]))[1]:
            text, stopped = prompt.cut(tokenizer.decode(tokens))
            if stopped:
                count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
                return Generation(text.strip(), count, "stop")
        if len(tokens) == self.limit:
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            return Generation(text.strip(), self.limit, "length")
        if self.grown:
            self.grown(row, tokenizer.decode(tokens, skip_special_tokens=True).strip())
        return None
