"""Answers as they are: the first evaluation questions under a few conditions, not chosen."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from prefvec.report.cells import Gathered, pair_folder
from prefvec.report.figures import label
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
    """Question, condition and answer from a cell's `generations_04.jsonl`: the first questions in the order
    of the split, the methods in the order given, at the site's dose. No rows if nothing was saved."""
    path = folder / "generations_04.jsonl"
    rows = []
    if path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    order = list(dict.fromkeys(row["question"] for row in rows))[:questions]
    out = []
    for question in order:
        shown = question
        for method in methods:
            for row in rows:
                at_dose = method in PLAIN or abs(abs(row["dose"]) - site_dose) < 1e-9
                if (row["question"], row["method"]) == (question, method) and at_dose:
                    out.append((shown, label(method), shorten(row["text"])))
                    shown = ""
                    break
    return pd.DataFrame(out, columns=["question", "condition", "answer"])


def shorten(text: str) -> str:
    """One line of at most `LENGTH` characters; an empty answer says so."""
    text = " ".join(text.split())
    if not text:
        return "(empty)"
    return text if len(text) <= LENGTH else text[: LENGTH - 1].rstrip() + "…"
