"""What notebook 07 shows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from prefvec.blackbox.sweep import BIAS, INSTRUCTION, PLAIN
from prefvec.report.tables import interval_text
from prefvec.report.views import plain

LOOKS = {
    "own vector": ("#0072B2", "s", "-"),
    "direction shuffled": ("#D55E00", "^", "--"),
    "wrong trait": ("#7F7F7F", "x", ":"),
    BIAS: ("#009E73", "D", "-."),
}


def effect_table(table: pd.DataFrame, latex: bool = False) -> pd.DataFrame:
    """One row a condition and coefficient."""
    text = interval_text if latex else plain
    shown = table[table.condition != PLAIN]
    return pd.DataFrame(
        {
            "condition": shown.condition,
            "coefficient": [f"{c:g}" for c in shown.coefficient],
            "temperature": [f"{t:.2f}" for t in shown.temperature],
            "effect": [text(e, 1) for e in shown.effect],
            "lost": [str(n) for n in shown.lost],
        }
    )


def sweep_figure(table: pd.DataFrame, unit: str, title: str) -> plt.Figure:
    """Effect by coefficient, a line a condition, with 95 % intervals; instruction as a band."""
    figure, axes = plt.subplots(figsize=(4.8, 3.0))
    shifts = np.linspace(-0.012, 0.012, len(LOOKS)) * np.ptp(table.coefficient.astype(float))
    for shift, (name, (colour, marker, line)) in zip(shifts, LOOKS.items(), strict=True):
        rows = table[table.condition == name].sort_values("coefficient")
        if rows.empty:
            continue
        values = np.array([list(e) for e in rows.effect], float)
        at = rows.coefficient.to_numpy(float) + shift  # beside each other, not on top
        axes.plot(at, values[:, 0], color=colour, marker=marker, ls=line, ms=4, label=name)
        axes.vlines(at, values[:, 1], values[:, 2], color=colour, lw=1, alpha=0.7)
    told = table[table.condition == INSTRUCTION].effect.iloc[0]
    axes.axhspan(told.low, told.high, color="0.9", zorder=0)
    axes.axhline(told.value, color="0.4", lw=0.8, label="instruction in the prompt")
    axes.axhline(0, color="0.7", lw=0.6)
    axes.set(xlabel="coefficient", ylabel=unit, title=title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
