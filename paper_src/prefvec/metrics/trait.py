"""How much of the trait is in an answer: one number a text, higher towards the positive pole."""

from collections.abc import Sequence

import numpy as np

from prefvec.metrics.classifier import TraitClassifier
from prefvec.metrics.content import encode
from prefvec.metrics.likelihood import log_likelihoods
from prefvec.models.load import LoadedModel
from prefvec.store import Store
from prefvec.traits import Trait

UNITS = {
    "length": "tokens",
    "classifier": "log-odds",
    "likelihood": "nats/token",
    "embedding": "cosine",
}
JUDGED_TOKENS = 48  # tokens of a text that a likelihood score reads


def decimals(unit: str) -> int:
    """Digits after the point of a mean score or effect: tokens move by tens, other scores by tenths."""
    return 1 if unit == UNITS["length"] else 2


def trait_scores(
    trait: Trait,
    questions: Sequence[str],
    texts: Sequence[str],
    n_tokens: Sequence[int],
    limit: int,
    judge: LoadedModel | None = None,
    store: Store | None = None,
    classifier: TraitClassifier | None = None,
) -> np.ndarray:
    """Scores `[n]` in the unit `UNITS[trait.measure]`.

    length: min(tokens, limit), whose mean is the restricted mean length (Royston & Parmar 2013), what
    a mean can be when answers are cut at the limit; classifier: log-odds of the positive pole;
    likelihood: mean log-probability per token under
    the positive minus under the negative instruction, by `judge` (not the model that wrote the text);
    embedding: cosine to the mean positive text minus cosine to the mean negative one. An empty text
    has no likelihood or embedding score: NaN.
    """
    if trait.measure == "length":
        return np.minimum(np.asarray(n_tokens, float), limit)
    if trait.measure == "classifier":
        return classifier.scores(texts)
    empty = np.array([not text.strip() for text in texts])
    if trait.measure == "likelihood":
        scores = likelihood_ratio(trait, questions, texts, judge, store)
    else:
        poles = [
            encode(group).mean(axis=0) for group in (trait.positive_texts, trait.negative_texts)
        ]
        positive, negative = (pole / np.linalg.norm(pole) for pole in poles)
        scores = encode(texts) @ (positive - negative)
    return np.where(empty, np.nan, scores)


def likelihood_ratio(
    trait: Trait,
    questions: Sequence[str],
    texts: Sequence[str],
    judge: LoadedModel,
    store: Store | None,
    max_tokens: int = JUDGED_TOKENS,
) -> np.ndarray:
    """Mean log-probability per token (nats) of each text under the trait's positive minus under its
    negative instruction, by `judge`; 0 for an empty text."""
    pair = trait.instructions[0]
    answers = [
        judge.tokenizer(t, add_special_tokens=False)["input_ids"][:max_tokens] for t in texts
    ]
    sums = []
    for instruction in (pair.positive, pair.negative):
        prompts = [
            judge.prompt.encode(judge.prompt.render(q, system=instruction)) for q in questions
        ]
        sums.append(
            np.array([total for total, _ in log_likelihoods(judge, prompts, answers, store)])
        )
    counts = np.array([max(1, len(a)) for a in answers])
    return (sums[0] - sums[1]) / counts
