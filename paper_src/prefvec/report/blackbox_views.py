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
    """Effect with 95 % intervals by coefficient: modulation on the left, logit bias on the right, the
    instruction as a band in both."""
    figure, panels = plt.subplots(1, 2, figsize=(6.4, 2.8), sharey=True)
    told = table[table.condition == INSTRUCTION].effect.iloc[0]
    sides = {
        "coefficient of the modulation": [name for name in LOOKS if name != BIAS],
        "bias of the strongest token (nats)": [BIAS],
    }
    for axes, (text, names) in zip(panels, sides.items(), strict=True):
        axes.axhspan(told.low, told.high, color="0.9", zorder=0)
        axes.axhline(told.value, color="0.4", lw=0.8, label="instruction in the prompt")
        axes.axhline(0, color="0.7", lw=0.6)
        for k, name in enumerate(names):
            colour, marker, line = LOOKS[name]
            rows = table[table.condition == name].sort_values("coefficient")
            values = np.array([list(e) for e in rows.effect], float)
            at = rows.coefficient.to_numpy(float)
            at = at + (k - (len(names) - 1) / 2) * 0.03 * np.ptp(at)  # beside each other
            axes.plot(at, values[:, 0], color=colour, marker=marker, ls=line, ms=4, label=name)
            axes.vlines(at, values[:, 1], values[:, 2], color=colour, lw=1, alpha=0.7)
        axes.set(xlabel=text)
        axes.legend(fontsize=6.5)
    panels[0].set_ylabel(unit)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    return figure
