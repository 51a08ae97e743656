"""Is the steered text still language? Collapse detection, and perplexity under another model."""

from collections.abc import Sequence

import numpy as np
import torch

from prefvec.batching import (
    Group,
    fits_window,
    length_sorted_batches,
    rests,
    shared_beginnings,
)
from prefvec.models.load import LoadedModel
from prefvec.store import Store

# Thresholds fixed on the unsteered answers of the selection split, where none is flagged.
MIN_DISTINCT_BIGRAMS = 0.5
MIN_LETTERS = 0.6
PERPLEXITY_VERSION = 2
PERPLEXITY_TOKENS = 24  # tokens of a text whose perplexity is read
MAX_LOGITS = 1 << 26  # logits held at once: 256 MiB in float32, and as much again for each copy


def is_collapsed(text: str) -> bool:
    """True for an empty answer, one that repeats itself, or one that is hardly made of letters.

    Repetition: fewer than half of the word bigrams are distinct, from eight words on.
    """
    plain = text.strip()
    if not plain:
        return True
    visible = [c for c in plain if not c.isspace()]
    if sum(c.isalpha() for c in visible) / len(visible) < MIN_LETTERS:
        return True
    tokens = plain.lower().split()
    bigrams = list(zip(tokens, tokens[1:], strict=False))
    return len(tokens) >= 8 and len(set(bigrams)) / len(bigrams) < MIN_DISTINCT_BIGRAMS


@torch.inference_mode()
def log_likelihoods(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    store: Store | None = None,
    tokens_per_batch: int = 2048,
) -> list[tuple[float, int]]:
    """Sum of log-probabilities (nats) of each answer's tokens after its prompt, and their number."""

    rows = [(*p, *a) for p, a in zip(prompts, answers, strict=True)]

    def compute() -> list:
        out: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
        asked = [i for i, answer in enumerate(answers) if len(answer)]
        budget = min(tokens_per_batch, MAX_LOGITS // loaded.model.config.vocab_size)
        groups = _groups(loaded, rows, answers, asked, budget)
        costs = [g.shared + sum(len(rows[i]) - g.shared for i in g.members) for g in groups]
        for batch in length_sorted_batches(costs, budget):
            chosen = [groups[k] for k in batch]
            members = [i for group in chosen for i in group.members]
            for i, total in zip(members, _totals(loaded, rows, answers, chosen), strict=True):
                out[i] = (total, len(answers[i]))
        return out

    if store is None:
        return compute()
    key = {
        "version": PERPLEXITY_VERSION,
        "model": loaded.identity(),
        "prompts": [list(p) for p in prompts],
        "answers": [list(a) for a in answers],
    }
    return [tuple(pair) for pair in store.json("likelihoods", key, compute)]


def _groups(loaded: LoadedModel, rows, answers, asked: list[int], budget: int) -> list[Group]:
    """Rows that are asked for, by the beginning they share: at most the prompt but its last token,
    which predicts the answer's first. A group's own tokens stay within the budget."""
    if not asked:
        return []
    longest = max(len(rows[i]) for i in asked)
    own = [len(answers[i]) + 1 for i in asked]
    out = []
    for shared, members in shared_beginnings(
        [rows[i] for i in asked], fits_window(loaded, 2 * longest), own
    ):
        size = max(1, budget // max(len(rows[asked[k]]) - shared for k in members))
        parts = [members[k : k + size] for k in range(0, len(members), size)]
        out += [Group(shared, tuple(asked[k] for k in part)) for part in parts]
    return out


def _totals(loaded: LoadedModel, rows, answers, groups: Sequence[Group]) -> list[float]:
    """Sum of the answer's log-probabilities (nats) for every member of the groups, in order."""

    def begin(ids, mask, positions, cache) -> None:
        loaded.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache
        )

    ids, mask, positions, cache = rests(loaded, rows, groups, begin)
    lengths = [len(answers[i]) for g in groups for i in g.members]
    longest = max(lengths)
    logits = loaded.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=longest + 1,
    ).logits[:, -longest - 1 : -1]
    scores = -torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), ids[:, -longest:], reduction="none"
    )
    return [float(row[longest - n :].sum()) for row, n in zip(scores, lengths, strict=True)]


def perplexity(
    judge: LoadedModel,
    questions: Sequence[str],
    texts: Sequence[str],
    store: Store | None = None,
    max_tokens: int = PERPLEXITY_TOKENS,
) -> np.ndarray:
    """Perplexity of each text after its question, as plain text, under another model; NaN if empty.

    Only the first `max_tokens` tokens count, so that long answers do not weigh by their length.
    """
    pairs = list(dict.fromkeys(zip(questions, texts, strict=True)))
    start = [judge.tokenizer.bos_token_id] if judge.tokenizer.bos_token_id is not None else []
    prompts = [
        [*start, *judge.tokenizer(f"{q}\n", add_special_tokens=False)["input_ids"]]
        for q, _ in pairs
    ]
    answers = [
        judge.tokenizer(t, add_special_tokens=False)["input_ids"][:max_tokens] for _, t in pairs
    ]
    scores = log_likelihoods(judge, prompts, answers, store)
    found = {
        pair: float(np.exp(-total / n)) if n else np.nan
        for pair, (total, n) in zip(pairs, scores, strict=True)
    }
    return np.array([found[pair] for pair in zip(questions, texts, strict=True)])
