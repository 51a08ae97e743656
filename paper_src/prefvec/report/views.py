"""Summaries as a reader sees them: a table for the notebook and the same one for LaTeX."""

import math
from collections.abc import Mapping
from textwrap import shorten

import numpy as np
import pandas as pd

from prefvec.report.figures import label
from prefvec.report.samples import first_answers
from prefvec.report.tables import interval_text
from prefvec.stats import Estimate

QUALITY = {
    "rougeL": "ROUGE-L",
    "tfidf": "TF-IDF",
    "entities": "entities kept",
    "embedding": "embedding cosine",
    "perplexity": "perplexity",
}


plain = Estimate.in_words  # for the notebook what `interval_text` is for LaTeX


def at_dose(summary: pd.DataFrame, methods: list[str], dose: float) -> pd.DataFrame:
    """The rows of methods at a signed dose; the unsteered and instructed answers have dose 0."""
    zero = summary.method.isin(["unsteered", "instruction"])
    chosen = summary[zero | (summary.dose == dose)].drop_duplicates("method")
    return chosen.set_index("method").loc[methods].reset_index()


def method_table(summary: pd.DataFrame, methods: list[str], dose: float) -> pd.DataFrame:
    """For LaTeX: score, transfer efficiency, censored and collapsed shares of each method."""
    return _methods(summary, methods, dose, interval_text)


def method_frame(summary: pd.DataFrame, methods: list[str], dose: float) -> pd.DataFrame:
    """The same for the notebook."""
    return _methods(summary, methods, dose, plain).set_index("method")


def choice_records(summary: pd.DataFrame | None, dose: float) -> list[dict]:
    """What the choice among methods rests on: effect and transfer efficiency of each at the dose."""
    if summary is None:
        return []
    rows = summary[summary.dose == dose]
    return [
        {"method": r.method, "n": r.n, "effect": r.effect.as_json(), "te": r.te.as_json()}
        for r in rows.itertuples()
    ]


def plain_records(table: pd.DataFrame) -> list[dict]:
    """Rows for a results file: an `Estimate` as [value, low, high], what is undefined as None."""
    return [plain_value(row) for row in table.to_dict("records")]


def plain_value(value):
    """A value as JSON knows it: data frames as records, estimates as [value, low, high], records
    and other named tuples as mappings, what is undefined or infinite as None."""
    if isinstance(value, pd.DataFrame):
        return plain_records(value)
    if isinstance(value, Estimate):
        return value.as_json()
    if hasattr(value, "as_record"):
        return value.as_record()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {k: plain_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain_value(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def quality_table(quality: pd.DataFrame) -> pd.DataFrame:
    """For LaTeX: content and coherence scores."""
    return _quality(quality, interval_text)


def quality_frame(quality: pd.DataFrame) -> pd.DataFrame:
    """The same for the notebook."""
    return _quality(quality, plain).set_index("method")


def examples(answers: pd.DataFrame, dose: float, methods: list[str], n: int) -> pd.DataFrame:
    """The first `n` prompts with each method's answer, in the order of the split: not chosen; as text,
    whatever markup they hold."""
    wide = first_answers(answers, dose, methods, n)
    shown = wide.rename(index=lambda prompt: shorten(prompt, 200))
    styled = shown.T.style.format(escape="html").format_index(escape="html", axis=1)
    return styled.set_properties(
        **{"text-align": "left", "white-space": "pre-wrap", "vertical-align": "top"}
    )


def _methods(summary, methods, dose, show) -> pd.DataFrame:
    rows = at_dose(summary, methods, dose)
    return pd.DataFrame(
        {
            "method": [label(m) for m in rows.method],
            "score": [show(e, 1) for e in rows.score],
            "transfer efficiency": [show(e, 2) for e in rows.te],
            "censored": [f"{share:.2f}" for share in rows.censored],
            "collapsed": [show(e, 2) for e in rows.collapse],
        }
    )


def _quality(quality, show) -> pd.DataFrame:
    columns = {"method": [label(m) for m in quality.method]}
    for name, text in QUALITY.items():
        columns[text] = [show(e, 1 if name == "perplexity" else 2) for e in quality[name]]
    return pd.DataFrame(columns)
