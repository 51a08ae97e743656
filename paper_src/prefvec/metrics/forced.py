"""What a steered model makes of given answers: log-probabilities, and distance from the unsteered.

The answer is fixed (teacher forcing), so these need no generation and have no length to confound them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from prefvec.abilities import path
from prefvec.batching import length_sorted_batches, logits_at, pad_id, pad_left
from prefvec.errors import ConfigError
from prefvec.models.load import LoadedModel
from prefvec.steering import RowSteering, Steer
from prefvec.store import Store

FORCED_VERSION = 1
MAX_LOGITS = 1 << 26  # logits held at once: 256 MiB in float32

Row = tuple[tuple[int, ...], tuple[int, ...]]


class Forced(NamedTuple):
    """One answer under steering. `log_prob`: sum over its tokens (nats); `kl`: mean over its tokens of
    KL(unsteered ‖ steered) between next-token distributions (nats); `n_tokens` of the answer."""

    log_prob: float
    kl: float
    n_tokens: int


def forced_scores(
    loaded: LoadedModel,
    rows: Sequence[Row],
    conditions: Sequence[tuple[Steer, ...]],
    store: Store | None = None,
    tokens_per_batch: int = 2048,
) -> list[list[Forced]]:
    """Scores by condition and row. rows: (prompt ids, answer ids), neither empty.

    Additions with positions `all` act on the prompt and on the answer's tokens, as in generation. The
    unsteered distributions are computed once for all conditions.
    """
    if any(not prompt or not answer for prompt, answer in rows):
        raise ConfigError("forced scores: a prompt or an answer has no tokens")
    keys = [
        {
            "version": FORCED_VERSION,
            "model": loaded.identity(),
            "rows": [[list(p), list(a)] for p, a in rows],
            "steers": [list(s.key) for s in steers],
        }
        for steers in conditions
    ]
    found = [store.peek("forced", key) if store else (False, None) for key in keys]
    todo = [i for i, (known, _) in enumerate(found) if not known]
    if todo:
        fresh = _compute(loaded, rows, [conditions[i] for i in todo], tokens_per_batch)
        for i, scores in zip(todo, fresh, strict=True):
            found[i] = (True, [list(score) for score in scores])
            if store:
                store.put("forced", keys[i], found[i][1])
    return [[Forced(*score) for score in scores] for _, scores in found]


@torch.inference_mode()
def _compute(
    loaded: LoadedModel,
    rows: Sequence[Row],
    conditions: Sequence[tuple[Steer, ...]],
    tokens_per_batch: int,
) -> list[list[Forced]]:
    lengths = [len(p) + len(a) for p, a in rows]
    longest = max(len(a) for _, a in rows)
    vocabulary = loaded.model.config.get_text_config().vocab_size
    budget = max(1, min(tokens_per_batch, MAX_LOGITS // vocabulary * max(lengths) // longest))
    if path(loaded) == "alone":
        budget = 1
    out: list[list] = [[None] * len(rows) for _ in conditions]
    for batch in length_sorted_batches(lengths, budget):
        chosen = [rows[i] for i in batch]
        plain = _log_probabilities(loaded, chosen, ())
        for k, steers in enumerate(conditions):
            steered = _log_probabilities(loaded, chosen, steers) if _acts(steers) else plain
            for i, score in zip(batch, _scores(chosen, plain, steered), strict=True):
                out[k][i] = score
    return out


def _acts(steers: tuple[Steer, ...]) -> bool:
    return any(s.coefficient != 0.0 for s in steers)


def _log_probabilities(
    loaded: LoadedModel, rows: Sequence[Row], steers: tuple[Steer, ...]
) -> torch.Tensor:
    """Next-token log-probabilities `[rows, longest answer, vocabulary]`, right-aligned."""
    whole = [(*p, *a) for p, a in rows]
    ids, mask, positions = pad_left(whole, pad_id(loaded), loaded.device)
    longest = max(len(a) for _, a in rows)
    with RowSteering(loaded, [steers] * len(rows)) as steering:
        steering.begin_prompt(mask)
        given = {"attention_mask": mask, "position_ids": positions}
        given = {} if path(loaded) == "alone" else given
        keep = torch.arange(ids.shape[1] - longest - 1, ids.shape[1] - 1, device=loaded.device)
        logits = logits_at(loaded, keep, input_ids=ids, **given)
    return torch.log_softmax(logits.float(), dim=-1)


def _scores(rows: Sequence[Row], plain: torch.Tensor, steered: torch.Tensor) -> list[Forced]:
    out = []
    for i, (_, answer) in enumerate(rows):
        mine = steered[i, -len(answer) :]
        target = torch.tensor(answer, device=mine.device)
        total = float(mine.gather(1, target[:, None]).sum())
        kl = 0.0
        if steered is not plain:
            before = plain[i, -len(answer) :]
            kl = float((before.exp() * (before - mine)).sum(dim=-1).mean())
        out.append(Forced(total, kl, len(answer)))
    return out


def matched_coefficient(
    coefficients: Sequence[float], distances: Sequence[float], wanted: float
) -> float:
    """The coefficient (> 0) at which the distance is `wanted`, between measured ones.

    log KL is interpolated over log coefficient, where it is close to a line (KL grows as α² for
    small α), and continued along the outer pieces. NaN where fewer than two distances are positive.
    """
    pairs = [(c, d) for c, d in zip(coefficients, distances, strict=True) if c > 0 and d > 0]
    if len(pairs) < 2 or not wanted > 0:
        return float("nan")
    x, y = np.log(np.array(sorted(pairs))).T
    y = np.maximum.accumulate(y)
    slopes = np.diff(y) / np.diff(x)
    goal = np.log(wanted)
    if goal <= y[0] or goal >= y[-1]:
        at, slope = (0, slopes[0]) if goal <= y[0] else (-1, slopes[-1])
        return float(np.exp(x[at] + (goal - y[at]) / slope)) if slope > 0 else float(np.exp(x[at]))
    return float(np.exp(np.interp(goal, y, x)))
