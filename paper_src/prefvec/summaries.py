"""Contrastive pairs that a model writes itself: articles summarised under opposite instructions.

They say whether the model does what the instructions ask, in its own words, and give a second vector:
that of the texts, where the study's own is that of the prompts.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.activations import Prompt
from prefvec.errors import ConfigError, VectorError
from prefvec.generation import Request, generate
from prefvec.models.load import LoadedModel
from prefvec.models.prompt import Example
from prefvec.stats import Estimate, mean_ci
from prefvec.store import write_text
from prefvec.study import Study
from prefvec.tasks import Item, load_task
from prefvec.vectors import SteeringVector, from_prompts

LONGER = 3  # a summary may be so many times as long as an answer of the study


class Pair(NamedTuple):
    """One article summarised in both ways. `instruction`: which pair of the trait's, from 0, or None
    for in-context examples. Truncated: cut at the limit, so longer than its number of tokens says."""

    article: str
    instruction: int | None
    positive: str
    negative: str
    positive_tokens: int
    negative_tokens: int
    positive_truncated: bool
    negative_truncated: bool


class Contrast(NamedTuple):
    """What the instructions change. `ratio`: of lengths in tokens, positive to negative (geometric
    mean); `difference`: of the trait's score, in its unit; intervals resample articles. Where texts
    are cut at the limit (`truncated`: share of either pole), a ratio is nearer to 1 than it would be."""

    n: int
    ratio: Estimate
    difference: Estimate
    truncated: tuple[float, float]


def token_limit(study: Study) -> int:
    """Tokens that a summary may have."""
    return LONGER * study.settings.max_new_tokens


def combinations(study: Study, loaded: LoadedModel) -> list[tuple[Item, int | None]]:
    """The first `num_pairs` combinations of an article (extraction split of task `summarise`) and an
    instruction pair, articles first: the next pair of instructions for each, until all are used.

    A base model has one contrast, the trait's in-context examples, so it writes at most one pair an
    article. None for a trait without instructions. Raises ConfigError where there are too few.
    """
    asked = study.settings.num_pairs
    if not asked or not study.trait.instructions:
        return []
    articles = load_task("summarise").items_of("extraction")
    if loaded.prompt.kind == "examples":
        return [(article, None) for article in articles[:asked]]
    count = min(study.settings.n_instructions, len(study.trait.instructions))
    if asked > len(articles) * count:
        raise ConfigError(
            f"num_pairs is {asked}, but {len(articles)} articles and {count} instruction pairs make "
            f"{len(articles) * count}: lower num_pairs, or raise n_instructions"
        )
    return [
        (article, (i + turn) % count) for turn in range(count) for i, article in enumerate(articles)
    ][:asked]


def pole_prompts(study: Study, loaded: LoadedModel, pole: str) -> list[tuple[int, ...]]:
    """Token ids of every combination's prompt under the `positive` or `negative` side."""
    shown = [Example(e.question, getattr(e, pole)) for e in study.trait.examples]
    render = loaded.prompt.render
    texts = [
        render(article.prompt, examples=shown)
        if i is None
        else render(article.prompt, system=getattr(study.trait.instructions[i], pole))
        for article, i in combinations(study, loaded)
    ]
    return [tuple(loaded.prompt.encode(text)) for text in texts]


def write_pairs(study: Study, loaded: LoadedModel) -> list[Pair]:
    """The pairs that the model writes, of at most `token_limit` tokens; none if none are asked for."""
    chosen = combinations(study, loaded)
    if not chosen:
        return []
    positive, negative = (
        generate(
            loaded, [Request(ids) for ids in pole_prompts(study, loaded, pole)],
            token_limit(study), store=study.store, label=f"{pole} summaries",
        )
        for pole in ("positive", "negative")
    )  # fmt: skip
    return [
        Pair(
            article.id, i, p.text, n.text, p.n_tokens, n.n_tokens,
            p.finish == "length", n.finish == "length",
        )
        for (article, i), p, n in zip(chosen, positive, negative, strict=True)
    ]  # fmt: skip


def save(pairs: list[Pair], path: Path) -> Path:
    """One pair a line, as JSON."""
    lines = [json.dumps(pair._asdict(), ensure_ascii=False) for pair in pairs]
    return write_text(path, "\n".join(lines) + "\n")


def contrast(study: Study, loaded: LoadedModel, pairs: list[Pair]) -> Contrast:
    """Length ratio and score difference. The pairs of an article are averaged first: two summaries
    of one article are not two articles."""
    table = pd.DataFrame(pairs)
    prompts = [article.prompt for article, _ in combinations(study, loaded)]
    scores = {
        pole: study.score(
            loaded, prompts, table[pole], table[f"{pole}_tokens"], token_limit(study)
        )
        for pole in ("positive", "negative")
    }  # fmt: skip
    lengths = table.positive_tokens.clip(lower=1) / table.negative_tokens.clip(lower=1)
    by_article = pd.DataFrame(
        {
            "article": table.article,
            "log_ratio": np.log(lengths),
            "difference": scores["positive"] - scores["negative"],
        }
    ).groupby("article")
    means, seed = by_article.mean(), study.settings.seed
    return Contrast(
        len(pairs),
        Estimate(*np.exp(mean_ci(means.log_ratio, seed))),
        mean_ci(means.difference, seed),
        (float(table.positive_truncated.mean()), float(table.negative_truncated.mean())),
    )


def text_vector(
    study: Study, loaded: LoadedModel, pairs: list[Pair], layers: list[int]
) -> SteeringVector:
    """The direction of the texts themselves: mean activation over the tokens of a summary, after the
    neutral prompt for both poles, positive minus negative (mean response; Chen et al. 2025).

    Pairs with an empty text are left out. Raises VectorError if none is left.
    """
    prompts = [article.prompt for article, _ in combinations(study, loaded)]
    space = " " if loaded.prompt.kind == "examples" else ""

    def written(prompt: str, text: str) -> Prompt:
        ids = study.plain_prompt(loaded, prompt)
        answer = loaded.tokenizer(space + text, add_special_tokens=False)["input_ids"]
        return Prompt((*ids, *answer), len(ids))

    both = [
        (written(prompt, pair.positive), written(prompt, pair.negative))
        for prompt, pair in zip(prompts, pairs, strict=True)
        if pair.positive.strip() and pair.negative.strip()
    ]
    if not both:
        raise VectorError(f"{loaded.id} wrote no pair of summaries: raise max_new_tokens")
    positive, negative = map(list, zip(*both, strict=True))
    return from_prompts(
        loaded, study.trait, positive, negative, layers, pooling="mean", store=study.store
    )
