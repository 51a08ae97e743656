"""What notebook 06 shows: tables and figures of a judge and of what it says."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from prefvec.judge.agreement import FIT_AUC, Fitness
from prefvec.report.figures import label
from prefvec.report.tables import interval_text
from prefvec.report.views import plain


def fitness_table(found: Sequence[Fitness], latex: bool = False) -> pd.DataFrame:
    """One row a rubric: agreement with the gold set, length bias, missing share, verdict."""
    text = interval_text if latex else plain
    return pd.DataFrame(
        [
            {
                "rubric": f.rubric,
                "pairs": f.n,
                "AUC": text(f.auc),
                "AUC, length-regressed": text(f.auc_length_free),
                "length bias": text(f.length_bias),
                "missing": f"{100 * f.missing:.0f} %",
                "verdict": "fit" if f.fit else "unfit",
            }
            for f in found
        ]
    )


def condition_table(table: pd.DataFrame, latex: bool = False) -> pd.DataFrame:
    """One row a condition: the judge's scores, 0–100 and 1–5, and their harmonic mean."""
    text = interval_text if latex else plain
    return pd.DataFrame(
        {
            "condition": table.method.map(label),
            "trait": [text(e, 0) for e in table.trait],
            "length-regressed": [text(e, 0) for e in table.trait_length_free],
            "coherence": [text(e, 0) for e in table.coherence],
            "content": [text(e, 0) for e in table.content],
            "harmonic mean": [text(e, 0) for e in table.harmonic],
            "trait, 1–5": [text(e, 1) for e in table.trait_1_5],
            "coherence, 1–5": [text(e, 1) for e in table.coherence_1_5],
            "missing": [f"{m} of {n}" for m, n in zip(table.missing, table.n, strict=True)],
        }
    )


def gold_figure(found: Sequence[Fitness], title: str) -> plt.Figure:
    """Area under the curve by rubric, raw and length-regressed, with the line a judge must reach."""
    figure, axes = plt.subplots(figsize=(4.6, 0.6 * len(found) + 1.1))
    at = np.arange(len(found))[::-1]
    looks = (("auc", "#0072B2", "o", 0.12, "raw"), ("auc_length_free", "#D55E00", "^", -0.12, "length-regressed"))  # fmt: skip
    for name, colour, marker, shift, text in looks:
        values = np.array([list(getattr(f, name)) for f in found], float)
        axes.hlines(at + shift, values[:, 1], values[:, 2], color=colour, lw=1.6)
        axes.plot(values[:, 0], at + shift, marker, color=colour, ms=4, label=text)
    axes.axvline(0.5, color="0.6", lw=0.8, ls=":")
    axes.axvline(FIT_AUC, color="0.3", lw=0.8, ls="--")
    axes.text(FIT_AUC, len(found) - 0.45, " fit if the raw interval lies right of this", fontsize=7, color="0.3")  # fmt: skip
    axes.set_yticks(at, [f"{f.rubric} ({'fit' if f.fit else 'unfit'})" for f in found])
    axes.set(xlabel="area under the curve on texts of known order (0.5: guessing)", title=title)
    axes.set(xlim=(0, 1.03), ylim=(-0.6, len(found) - 0.15))
    axes.legend(fontsize=7, loc="lower left")
    return figure


def condition_figure(table: pd.DataFrame, fits: dict[str, Fitness], title: str) -> plt.Figure:
    """The judge's mean scores by condition, with intervals; a panel says when its judge is unfit."""
    panels = {"trait": fits["trait"], "coherence": fits["coherence"], "content": None, "harmonic": None}  # fmt: skip
    names = {
        "trait": "trait\n(steered pole: 100)",
        "coherence": "coherence\n",
        "content": "content\n(embedding cosine)",
        "harmonic": "harmonic mean\n",
    }
    figure, all_axes = plt.subplots(1, 4, figsize=(7.6, 0.32 * len(table) + 1.2), sharey=True)
    at = np.arange(len(table))[::-1]
    for axes, (name, fit) in zip(all_axes, panels.items(), strict=True):
        values = np.array([list(e) for e in table[name]], float)
        axes.hlines(at, values[:, 1], values[:, 2], color="#0072B2", lw=1.6)
        axes.plot(values[:, 0], at, "o", color="#0072B2", ms=4)
        unfit = not fit.fit if fit else name == "harmonic" and not all(f.fit for f in fits.values())
        axes.set(xlim=(0, 104), xlabel="score (0–100)")
        axes.set_title(names[name] + ("\njudge unfit: no claim" if unfit else "\n"), fontsize=8)
    all_axes[0].set_yticks(at, table.method.map(label))
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    return figure
