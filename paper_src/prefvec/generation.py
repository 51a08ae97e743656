"""Batched steered decoding: one (vector, layer, dose) list a row, finished rows leave the batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from prefvec.activations import pad_id, pad_left
from prefvec.errors import ConfigError
from prefvec.models.load import LoadedModel
from prefvec.steering import RowSteering, Steer
from prefvec.store import Store, canonical_hash

GENERATION_VERSION = 1  # raise when the text that a request gives changes
COMPACT_AT = 0.2  # share of finished rows at which the batch is compacted


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
    rows_per_batch: int = 160,
    label: str = "generate",
) -> list[Generation]:
    """Answers in the order of `requests`; temperature 0 is greedy.

    An answer depends on its own request alone: sampling draws from (seed, prompt), never from the
    batch. With a store, answers already known are read and each batch is kept as it ends, so an
    interrupted run loses one batch at most.

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
    indices = list(todo.values())
    indices.sort(key=lambda i: -len(requests[i].ids))  # similar lengths share a batch
    bar = tqdm(total=len(indices), desc=f"{label} · {loaded.id}", unit="row", disable=None)
    batches = -(-len(indices) // rows_per_batch)
    for part in np.array_split(indices, batches) if batches else ():  # equal sizes: none is small
        answers = _decode(loaded, [requests[i] for i in part], max_new_tokens, temperature, bar)
        for i, answer in zip(part, answers, strict=True):
            key, digest = keys[i]
            done[digest] = answer
            if store:
                store.put("generations", key, list(answer))
    bar.close()
    return [done[digest] for _, digest in keys]


def _key(loaded: LoadedModel, request: Request, limit: int, temperature: float) -> tuple[dict, str]:
    key = {
        "version": GENERATION_VERSION,
        "model": loaded.identity(),
        "ids": list(request.ids),
        "steers": [_steer_key(steer) for steer in request.steers if steer.coefficient != 0.0],
        "limit": limit,
        "temperature": temperature,
        "seed": request.seed if temperature else 0,
    }
    return key, canonical_hash(key)


def _steer_key(steer: Steer) -> list:
    vector = np.ascontiguousarray(steer.vector, np.float32)
    digest = hashlib.sha256(vector.tobytes()).hexdigest()
    return [digest, steer.layer, float(steer.coefficient), steer.positions, steer.component]


@torch.inference_mode()
def _decode(
    loaded: LoadedModel, requests: list[Request], limit: int, temperature: float, bar: tqdm
) -> list[Generation]:
    from transformers import DynamicCache

    rows = len(requests)
    ids, mask, positions = pad_left([r.ids for r in requests], pad_id(loaded), loaded.device)
    cache = DynamicCache(config=loaded.model.config)
    draws = _uniforms(requests, limit) if temperature else None
    tokens: list[list[int]] = [[] for _ in range(rows)]
    finished: list[Generation | None] = [None] * rows
    alive = list(range(rows))  # request index of each batch row
    with RowSteering(loaded, [r.steers for r in requests]) as steering:
        steering.begin_prompt(mask)
        for step in range(limit):
            logits = loaded.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen = _choose(logits, temperature, draws, alive, step)
            for row, token in zip(alive, chosen.tolist(), strict=True):
                if finished[row] is None:
                    finished[row] = _advance(loaded, tokens[row], token, limit)
                    bar.update(finished[row] is not None)
            open_rows = [i for i, row in enumerate(alive) if finished[row] is None]
            if not open_rows:
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            if len(open_rows) <= (1 - COMPACT_AT) * len(alive):
                keep = torch.tensor(open_rows, device=loaded.device)
                cache.batch_select_indices(keep)
                steering.keep(keep)
                ids, positions, mask = ids[keep], positions[keep], mask[keep]
                alive = [alive[i] for i in open_rows]
            steering.begin_token(len(alive))
    return finished


def _advance(loaded: LoadedModel, tokens: list[int], token: int, limit: int) -> Generation | None:
    """Add a token to an answer; the finished answer if this was its last."""
    if token in loaded.stop_ids:
        text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        return Generation(text.strip(), len(tokens), "stop")
    tokens.append(token)
    if loaded.prompt.stop_strings:
        text, stopped = loaded.prompt.cut(loaded.tokenizer.decode(tokens))
        if stopped:
            count = len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
            return Generation(text.strip(), count, "stop")
    if len(tokens) == limit:
        text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        return Generation(text.strip(), limit, "length")
    return None


def _choose(
    logits: torch.Tensor,
    temperature: float,
    draws: np.ndarray | None,
    alive: list[int],
    step: int,
) -> torch.Tensor:
    """Next token of every row `[rows]`: the most likely one, or by inverse CDF of the row's draw."""
    if draws is None:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    level = torch.as_tensor(draws[alive, step], device=logits.device)[:, None]
    chosen = torch.searchsorted(probabilities.cumsum(dim=-1), level)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def _uniforms(requests: list[Request], limit: int) -> np.ndarray:
    """Uniform draws `[rows, limit]` that depend on a row's seed and prompt only."""
    seeds = [
        int.from_bytes(hashlib.sha256(repr((r.seed, r.ids)).encode()).digest()[:8], "big")
        for r in requests
    ]
    return np.stack([np.random.default_rng(seed).random(limit) for seed in seeds])
