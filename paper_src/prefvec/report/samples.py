"""Answers as they are: the first evaluation questions under a few conditions, not chosen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from prefvec.report.cells import Gathered, pair_folder
from prefvec.report.figures import label
from prefvec.store import read_rows
from prefvec.transfer.sweep import UNSTEERED

PLAIN = (UNSTEERED, "instruction")  # conditions without a dose
LENGTH = 260  # characters shown of an answer


def samples_of_pair(
    study: Gathered, pair: Sequence[str], methods: Sequence[str], questions: int
) -> dict[str, pd.DataFrame]:
    """`sample_frame` by trait, for the traits of which 04 has run."""
    out = {}
    for trait in study.traits:
        manifest = study.manifests.get((*pair, trait))
        if manifest:
            folder = pair_folder(study.profile, pair, trait)
            out[trait] = sample_frame(folder, manifest["site"]["dose"], methods, questions)
    return out


def sample_frame(
    folder: Path, site_dose: float, methods: Sequence[str], questions: int
) -> pd.DataFrame:
    """Question, condition and answer from a cell's `generations_04.jsonl`, by `first_answers`; no rows if
    nothing was saved."""
    path, rows = folder / "generations_04.jsonl", []
    if path.exists():
        answers = pd.DataFrame(read_rows(path))
        for question, by in first_answers(answers, site_dose, methods, questions).iterrows():
            found = [(label(method), shorten(text)) for method, text in by.dropna().items()]
            rows += [(question if not k else "", *one) for k, one in enumerate(found)]
    return pd.DataFrame(rows, columns=["question", "condition", "answer"])


def first_answers(
    answers: pd.DataFrame, dose: float, methods: Sequence[str], n: int
) -> pd.DataFrame:
    """Answers to the first `n` questions (rows, in the order of the split) under each method (columns, in
    the order given) at a dose of either sign; missing where there is none."""
    at_dose = answers.method.isin(PLAIN) | np.isclose(answers.dose.abs(), dose)
    chosen = answers[at_dose & answers.method.isin(methods)]
    wide = chosen.pivot_table(index="question", columns="method", values="text", aggfunc="first")
    order = list(dict.fromkeys(answers.question))[:n]
    return wide.reindex(index=order, columns=[m for m in methods if m in wide.columns])


def shorten(text: str) -> str:
    """One line of at most `LENGTH` characters; an empty answer says so."""
    text = " ".join(text.split())
    if not text:
        return "(empty)"
    return text if len(text) <= LENGTH else text[: LENGTH - 1].rstrip() + "…"
