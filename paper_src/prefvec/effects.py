"""From answers to estimates: effect, transfer efficiency, coherence and content, with intervals."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.metrics import content
from prefvec.metrics.coherence import perplexity
from prefvec.metrics.length import direction_score
from prefvec.stats import UNKNOWN, Estimate, difference, mean_ci, transfer_efficiency
from prefvec.study import Study
from prefvec.transfer import LEARNED, NOTHING, ORACLE, RANDOM, UNSTEERED, Site

RANDOM_NAME = re.compile(r"random_\d+")
# Methods whose answers are read for content and coherence: another model has to read them all.
READ = (UNSTEERED, ORACLE, *LEARNED, "random_0")


def pool_random(table: pd.DataFrame) -> pd.DataFrame:
    """Add the pseudo-method `random`: each prompt's mean over the random directions."""
    chosen = table[table.method.str.fullmatch(RANDOM_NAME.pattern)]
    pooled = chosen.groupby(["dose", "question"], as_index=False, sort=False).agg(
        score=("score", "mean"), n_tokens=("n_tokens", "mean"),
        collapsed=("collapsed", "mean"), censored=("censored", "mean"),
    )  # fmt: skip
    return pd.concat([table, pooled.assign(method=RANDOM)], ignore_index=True)


def summarise(study: Study, table: pd.DataFrame, split: str = "evaluation") -> pd.DataFrame:
    """One row a (method, dose): estimates over the prompts of a split.

    `effect` is the change of the score against the unsteered answer, in the score's unit, positive
    when it goes the way it was steered; `te` is the transfer efficiency at the same dose, NaN
    where it has no meaning. The pseudo-method `nothing` has the unsteered answers at every dose of
    the own vector: its efficiency is above 0 where random directions move the score the wrong way. Columns that are estimates hold `Estimate`s.
    """
    table = pool_random(table.assign(censored=table.finish == "length"))
    cells = {
        key: cell.set_index("question").loc[study.splits[split]]
        for key, cell in table.groupby(["method", "dose"], sort=False)
    }
    base = cells[UNSTEERED, 0.0]
    cells |= {(NOTHING, dose): base for method, dose in cells if method == ORACLE}
    seed, sign = study.settings.seed, study.trait.sign
    rows = []
    for (method, dose), cell in cells.items():
        towards = sign if dose == 0 else int(np.sign(dose))
        effect = _filled(towards * (cell.score - base.score))
        te = UNKNOWN
        if (ORACLE, dose) in cells and (RANDOM, dose) in cells and dose * sign > 0:
            own = _filled(towards * (cells[ORACLE, dose].score - base.score))
            noise = [
                _filled(towards * (cells[name, d].score - base.score))
                for name, d in cells
                if RANDOM_NAME.fullmatch(name) and d == dose
            ]
            te = transfer_efficiency(effect, np.stack(noise), own, seed)
        moved = direction_score(cell.score.fillna(base.score), base.score, towards)
        rows.append(
            {
                "method": method,
                "dose": dose,
                "n": len(cell),
                "score": mean_ci(cell.score, seed),
                "effect": mean_ci(effect, seed),
                "te": te,
                "censored": float(cell.censored.mean()),
                "collapse": mean_ci(cell.collapsed.astype(float), seed),
                "direction": mean_ci(moved, seed),
            }
        )
    return pd.DataFrame(rows)


def matched_efficiency(
    study: Study, table: pd.DataFrame, method: str, doses: Mapping[str, float]
) -> Estimate:
    """Transfer efficiency with every direction at a dose of its own (`doses`, unsigned), those at which
    they are equally far from the unsteered model. NaN where a dose is missing."""
    sign, questions = study.trait.sign, study.splits["evaluation"]
    cells = {k: c.set_index("question") for k, c in table.groupby(["method", "dose"])}
    base = table[table.method == UNSTEERED].set_index("question").score.loc[questions]

    def effect(name: str) -> np.ndarray | None:
        cell = cells.get((name, sign * doses.get(name, np.nan)))
        return None if cell is None else _filled(sign * (cell.score.loc[questions] - base))

    noise = [effect(name) for name in doses if RANDOM_NAME.fullmatch(name)]
    found, own = effect(method), effect(ORACLE)
    if found is None or own is None or not noise or any(x is None for x in noise):
        return UNKNOWN
    return transfer_efficiency(found, np.stack(noise), own, study.settings.seed)


def paired_gain(study: Study, table: pd.DataFrame, a: str, b: str, dose: float) -> Estimate:
    """Effect of method `a` minus effect of method `b` at one signed dose, over the same prompts."""
    table = pool_random(table.assign(censored=table.finish == "length"))
    found = [
        _filled(
            table[(table.method == name) & (table.dose == dose)]
            .set_index("question")
            .score.loc[study.splits["evaluation"]]
        )
        for name in (a, b)
    ]
    return difference(*(study.trait.sign * scores for scores in found), seed=study.settings.seed)


def content_and_coherence(
    study: Study, table: pd.DataFrame, site: Site, methods: Sequence[str]
) -> pd.DataFrame:
    """Content kept against the unsteered answer, and perplexity under the source model.

    One row a method at the chosen dose (the unsteered and the instructed answers at dose 0), each
    column an `Estimate`; perplexity is averaged as its logarithm and given back as perplexity.
    """
    questions = study.splits["evaluation"]
    base = _texts(table, UNSTEERED, 0.0, questions)
    dose = study.trait.sign * site.dose
    doses = {m: 0.0 if m in (UNSTEERED, "instruction") else dose for m in methods}
    texts_of = {m: _texts(table, m, doses[m], questions) for m in methods}
    every = [text for texts in texts_of.values() for text in texts]
    read = np.log(perplexity(study.source, questions * len(texts_of), every, study.store))
    rows = []
    for (method, texts), logs in zip(
        texts_of.items(), read.reshape(-1, len(questions)), strict=True
    ):
        scores = {
            **content.rouge(base, texts),
            "tfidf": content.tfidf_cosine(base, texts),
            "entities": content.entity_retention(base, texts),
            "embedding": content.embedding_cosine(base, texts),
        }
        row = {name: mean_ci(values, study.settings.seed) for name, values in scores.items()}
        row["perplexity"] = Estimate(*np.exp(mean_ci(logs, study.settings.seed)))
        rows.append({"method": method, **row})
    return pd.DataFrame(rows)


def _texts(table: pd.DataFrame, method: str, dose: float, questions: list[str]) -> list[str]:
    cell = table[(table.method == method) & (table.dose == dose)].set_index("question")
    return list(cell.text.loc[questions])


def _filled(values: pd.Series) -> np.ndarray:
    """A text without a score (an empty answer) counts as no effect, not as missing at random."""
    return values.fillna(0.0).to_numpy()


class VerdictH1(NamedTuple):
    """H1: does the model's own vector steer it? `passed` if the direction score is above 0.7."""

    direction: Estimate
    effect: Estimate
    passed: bool

    def __str__(self) -> str:
        word = "holds" if self.passed else "does not hold"
        return f"H1 {word}: {self.direction.in_words()} of the answers moved as steered, by {self.effect.in_words()}"

    def as_record(self) -> dict:
        """Plain values for a results file."""
        return {
            "h1_direction": self.direction.as_json(),
            "h1_effect": self.effect.as_json(),
            "h1_passed": self.passed,
        }


def verdict_h1(study: Study, answers: pd.DataFrame, choice: dict) -> VerdictH1:
    """Direction score and effect of a model's own vector at the setting that validation chose.

    These come from the selection split, on which the setting was chosen: they say that the vector
    works, not how well it will on new prompts.
    """
    questions = study.splits["selection"]
    own = (answers.layer == choice["layer"]) & (answers.dose.abs() == choice["dose"])
    base = answers[answers.method == UNSTEERED].set_index("question").loc[questions]
    cell = answers[own & (answers.method == "own")].set_index("question").loc[questions]
    effect = study.trait.sign * (cell.score - base.score)
    moved = (np.sign(effect.fillna(0.0)) + 1) / 2
    direction = mean_ci(moved.to_numpy(), study.settings.seed)
    return VerdictH1(
        direction, mean_ci(_filled(effect), study.settings.seed), direction.value > 0.7
    )
