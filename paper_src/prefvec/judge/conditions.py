"""A cell's saved answers under the judge: what it says of each condition, and beside what."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from prefvec.judge.agreement import (
    Fitness,
    harmonic_mean,
    length_regressed,
    rank_correlation,
)
from prefvec.judge.judging import Judge, judged
from prefvec.judge.rubrics import Rubric
from prefvec.judge.scores import five_point
from prefvec.metrics.content import embedding_cosine
from prefvec.stats import UNKNOWN, Estimate, mean_ci
from prefvec.transfer import UNSTEERED
from prefvec.transfer.saved import Cell

INSTRUCTION = "instruction"


def sample_cell(cell: Cell, methods: Sequence[str], n: int) -> pd.DataFrame:
    """The answers of some methods at the chosen dose to the first n evaluation questions: `method,
    question, text, automatic` (the study's score, positive towards the steered pole), `content`
    (cosine 0–100 to the unsteered answer)."""
    questions = cell.study.splits["evaluation"][:n]
    parts = []
    for method in methods:
        if method == INSTRUCTION:  # asked for, not steered: it has no dose
            chosen = cell.answers[cell.answers.method == method]
            chosen = chosen.drop_duplicates("question").set_index("question").loc[questions]
            parts.append(chosen.reset_index())
        else:
            parts.append(cell.at(method).head(len(questions)))
    table = pd.concat(parts, ignore_index=True)[["method", "question", "text", "score"]]
    plain = cell.at(UNSTEERED).set_index("question").text
    alike = embedding_cosine([plain[q] for q in table.question], table.text.tolist())
    table["automatic"] = cell.study.trait.sign * table.pop("score").astype(float)
    return table.assign(content=100 * np.clip(alike, 0, 1))


def judge_conditions(
    judge: Judge, trait: Rubric, coherence: Rubric, sign: int, table: pd.DataFrame, seed: int = 0
) -> pd.DataFrame:
    """`sample_cell`'s table with the judge's scores 0–100: `trait` (towards the steered pole), `coherence`,
    the reasons for missing ones, `trait_length_free` and `harmonic` (trait, coherence, content).

    All conditions are judged together, in one shuffled order.
    """
    texts, questions = table.text.tolist(), table.question.tolist()
    marks = {r.name: judged(judge, r, questions, texts, seed) for r in (trait, coherence)}
    raw = marks[trait.name].score.to_numpy()
    table = table.assign(
        trait=raw if sign > 0 else 100 - raw,
        trait_reason=marks[trait.name].reason.to_numpy(),
        coherence=marks[coherence.name].score.to_numpy(),
        coherence_reason=marks[coherence.name].reason.to_numpy(),
    )
    return table.assign(
        trait_length_free=length_regressed(table.trait.to_numpy(), texts),
        harmonic=harmonic_mean(table.trait, table.coherence, table.content),
    )


def by_condition(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row a method: means with intervals over the questions, the 1–5 scales, and missing scores."""
    rows = []
    for method, part in table.groupby("method", sort=False):
        means = {
            name: mean_ci(part[name].to_numpy(), seed)
            for name in ("trait", "trait_length_free", "coherence", "content", "harmonic")
        }
        rows.append(
            {
                "method": method,
                "n": len(part),
                **means,
                "trait_1_5": Estimate(*(five_point(x) for x in means["trait"])),
                "coherence_1_5": Estimate(*(five_point(x) for x in means["coherence"])),
                "missing": int(part[["trait", "coherence"]].isna().any(axis=1).sum()),
            }
        )
    return pd.DataFrame(rows)


def with_automatic(table: pd.DataFrame, seed: int = 0) -> dict[str, Estimate]:
    """Rank correlation, over all answers, of the judge's trait score with the automatic one, raw and
    without what length predicts, and with length itself."""
    words = table.text.str.split().str.len().to_numpy(float)
    return {
        "automatic": rank_correlation(table.trait, table.automatic, seed),
        "automatic_length_free": rank_correlation(table.trait_length_free, table.automatic, seed),
        "words": rank_correlation(table.trait, words, seed),
    }


def claimed(estimate: Estimate, *fits: Fitness) -> Estimate:
    """The estimate if every judge behind it is fit, else one that is undefined: a score of an unfit
    judge is used for no claim."""
    return estimate if all(f.fit for f in fits) else UNKNOWN
