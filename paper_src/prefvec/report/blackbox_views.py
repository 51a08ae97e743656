"""What notebook 07 shows."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from prefvec.blackbox.sweep import (
    BIAS,
    BIAS_SHUFFLED,
    DOORS,
    INSTRUCTION,
    OWN,
    PLAIN,
    SHUFFLED,
    WRONG,
    Door,
)
from prefvec.report.tables import interval_text
from prefvec.report.views import plain

LOOKS = {
    OWN: ("#0072B2", "s", "-"),
    SHUFFLED: ("#D55E00", "^", "--"),
    WRONG: ("#7F7F7F", "x", ":"),
    BIAS: ("#009E73", "D", "-."),
    BIAS_SHUFFLED: ("#CC79A7", "v", "--"),
}


def effect_table(table: pd.DataFrame, digits: int, latex: bool = False) -> pd.DataFrame:
    """One row a condition and coefficient."""
    text = interval_text if latex else plain
    shown = table[table.condition != PLAIN]
    return pd.DataFrame(
        {
            "condition": shown.condition,
            "coefficient": [f"{c:g}" for c in shown.coefficient],
            "temperature": [f"{t:.2f}" for t in shown.temperature],
            "effect": [text(e, digits) for e in shown.effect],
            "lost": [str(n) for n in shown.lost],
        }
    )


def door_table(found: Sequence[Door], digits: int, latex: bool = False) -> pd.DataFrame:
    """One row a door: what it does with the vector, with the shuffled one, and beyond that."""
    text = interval_text if latex else plain
    return pd.DataFrame(
        [
            {
                "door": d.name,
                "own vector": text(d.swing, digits),
                "shuffled": text(d.control, digits),
                "beyond": text(d.beyond, digits),
                "same answers": f"{100 * d.identical:.0f} %",
                "direction gets through": d.carries,
            }
            for d in found
        ]
    )


def sweep_figure(table: pd.DataFrame, unit: str, title: str) -> plt.Figure:
    """Effect with 95 % intervals by coefficient: modulation on the left, logit bias on the right, the
    instruction as a band in both."""
    figure, panels = plt.subplots(1, 2, figsize=(6.4, 3.0), sharey=True, layout="constrained")
    told = table[table.condition == INSTRUCTION].effect.iloc[0]
    sides = {
        "coefficient of the modulation": DOORS["parameter modulation"],
        "bias of the strongest token (nats)": DOORS[BIAS],
    }
    for axes, (text, names) in zip(panels, sides.items(), strict=True):
        axes.axhspan(told.low, told.high, color="0.9", zorder=0)
        named = "instruction in the prompt" if axes is panels[0] else None  # once in the legend
        axes.axhline(told.value, color="0.4", lw=0.8, label=named)
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
    panels[0].set_ylabel(unit)
    figure.legend(loc="outside lower center", ncols=3, fontsize=6.5)
    figure.suptitle(title, fontsize=9)
    return figure
