"""Is the steered text still language? Collapse detection, and perplexity under another model."""

from collections.abc import Sequence

import numpy as np

from prefvec.metrics.likelihood import log_likelihoods
from prefvec.models.load import LoadedModel
from prefvec.store import Store

# Thresholds fixed on the unsteered answers of the selection split, where none is flagged.
MIN_DISTINCT_BIGRAMS = 0.5
MIN_LETTERS = 0.6
PERPLEXITY_TOKENS = 24  # tokens of a text whose perplexity is read


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
    return len(plain.split()) >= 8 and distinct_bigrams(plain) < MIN_DISTINCT_BIGRAMS


def distinct_bigrams(text: str) -> float:
    """Share of a text's word bigrams that are distinct; NaN with fewer than two words."""
    tokens = text.lower().split()
    bigrams = list(zip(tokens, tokens[1:], strict=False))
    return len(set(bigrams)) / len(bigrams) if bigrams else float("nan")


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
