"""Is the steered text still language? Collapse detection, and perplexity under another model."""

from collections.abc import Sequence

import numpy as np
import torch

from prefvec.batching import length_sorted_batches, pad_id, pad_left
from prefvec.models.load import LoadedModel
from prefvec.store import Store

# Thresholds fixed on the unsteered answers of the selection split, where none is flagged.
MIN_DISTINCT_BIGRAMS = 0.5
MIN_LETTERS = 0.6
PERPLEXITY_VERSION = 1
MAX_LOGITS = 1 << 27  # logits held at once: 512 MiB in float32


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

    def compute() -> list:
        out: list[tuple[float, int]] = [(0.0, 0)] * len(prompts)
        rows = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
        budget = min(tokens_per_batch, MAX_LOGITS // loaded.model.config.vocab_size)
        for batch in length_sorted_batches([len(r) for r in rows], budget):
            ids, mask, positions = pad_left([rows[i] for i in batch], pad_id(loaded), loaded.device)
            longest_answer = max(len(answers[i]) for i in batch)
            if longest_answer == 0:
                continue
            logits = loaded.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                logits_to_keep=longest_answer + 1,
            ).logits[:, :-1]
            truth = ids[:, -longest_answer:]
            scores = -torch.nn.functional.cross_entropy(
                logits.float().transpose(1, 2), truth, reduction="none"
            )
            for row, i in enumerate(batch):
                n = len(answers[i])
                out[i] = (float(scores[row, longest_answer - n :].sum()) if n else 0.0, n)
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


def perplexity(
    judge: LoadedModel,
    questions: Sequence[str],
    texts: Sequence[str],
    store: Store | None = None,
    max_tokens: int = 24,
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
