"""Figures and tables of notebook 08."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from prefvec.report.figures import COLUMN, label, wrapped
from prefvec.traits import Trait

Show = Callable[..., str]  # `interval_text` for LaTeX, `views.plain` for the notebook


def pole(trait: Trait) -> str:
    """A trait and the pole that the study steers it to: `verbosity (to concise)`."""
    return f"{trait.name} (to {getattr(trait.poles, trait.steer_to)})"


def spill_matrix(
    frame: pd.DataFrame, traits: Mapping[str, str], methods: list[str], title: str
) -> plt.Figure:
    """Standardised effects of each trait's vector (rows) on each trait's score (columns), a panel a
    method, with 95 % intervals; a frame marks the intended effect, bold an interval without 0.
    traits: names, each with the text below its column (`pole`)."""
    names = list(traits)
    values = [_matrix(frame, method, names) for method in methods]
    bound = max(1e-9, np.nanmax(np.abs([v[..., 0] for v in values])))
    side = 0.5 * len(names)
    figure, panels = plt.subplots(
        1, len(methods), figsize=((side + 0.1) * len(methods) + 1.3, side + 1.1), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, method, matrix in zip(panels[0], methods, values, strict=True):
        image = axes.imshow(matrix[..., 0], cmap="PuOr_r", vmin=-bound, vmax=bound)
        for i, j in np.ndindex(len(names), len(names)):
            value, low, high = matrix[i, j]
            colour = "white" if abs(value) > 0.65 * bound else "black"
            weight = "bold" if low > 0 or high < 0 else "normal"
            text = "–" if np.isnan(value) else f"{value:z.2f}"
            axes.text(
                j, i - 0.24, text, ha="center", va="center", color=colour, weight=weight, fontsize=8
            )
            between = "" if np.isnan(low) else f"[{low:z.2f},\n{high:z.2f}]"
            axes.text(j, i + 0.18, between, ha="center", va="center", color=colour, fontsize=6.5)
            if i == j:
                box = plt.Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, ec="0.2", lw=1)
                axes.add_patch(box)
        axes.set_title(label(method))
        axes.set_xticks(range(len(names)), [_pole_below(text) for text in traits.values()])
        axes.set_yticks(range(len(names)), names if axes is panels[0, 0] else [])
        axes.tick_params(length=0, labelsize=7)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("what is measured", fontsize=8)
    panels[0, 0].set_ylabel("whose vector steers", fontsize=8)
    bar = figure.colorbar(image, ax=panels[0, -1], shrink=0.9)
    bar.set_label("effect (SDs of the score)", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def _pole_below(text: str) -> str:
    """`trait (to pole)` in two lines, as narrow as a cell."""
    return text.replace(" (to ", "\n→ ").removesuffix(")")


def size_curve(curve: pd.DataFrame, summary: pd.DataFrame, own_size: int, title: str) -> plt.Figure:
    """Likeness of mapped directions, and transfer efficiency, against the number of alignment rows: a
    line the mean over subsets, small marks the subsets, a band the 95 % interval over prompts."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(COLUMN, 3.6), sharex=True, layout="constrained"
    )
    lines = [
        ("concept_cosine", "held-out styles", "#0072B2", "s", "-"),
        ("cosine_to_own", "the trait: target's own vector", "#D55E00", "^", "--"),
    ]
    for column, text, colour, marker, line in lines:
        top.plot(curve["size"], curve[column], marker, color=colour, ms=3, alpha=0.4)
        top.plot(summary["size"], summary[column], marker + line, color=colour, ms=4, label=text)
    top.set(ylabel="cosine")
    top.set_title(wrapped(title), fontsize=8)
    top.legend(fontsize=7)
    values = np.array([list(e) for e in summary.te], float)
    shown = np.clip(values, -1.5, 2.5)
    dots = np.clip([e.value for e in curve.te], -1.5, 2.5)
    bottom.plot(curve["size"], dots, "s", color="#0072B2", ms=3, alpha=0.4)
    bottom.plot(summary["size"], shown[:, 0], "s-", color="#0072B2", ms=4)
    bottom.fill_between(
        summary["size"], shown[:, 1], shown[:, 2], color="#0072B2", alpha=0.15, lw=0
    )
    for at, style in ((0, "-"), (1, "--")):
        bottom.axhline(at, color="0.5", lw=0.8, ls=style)
    for axes in (top, bottom):
        axes.axvline(own_size, color="0.6", lw=0.6, ls=":")
    bottom.set(xscale="log", xlabel="rows of the alignment set (prompts)")
    bottom.set_ylabel("transfer efficiency\n(0 random, 1 target's own)")
    ticks = list(summary["size"])
    bottom.set_xticks(ticks, [str(t) for t in ticks])
    bottom.minorticks_off()
    return figure


def spill_table(frame: pd.DataFrame, methods: Sequence[str], show: Show) -> pd.DataFrame:
    """Vector's trait, measured trait, and a column a method."""
    wide = frame.pivot(index=["vector", "measured"], columns="method", values="effect")
    table = wide[list(methods)].map(lambda e: show(e, 2)).reset_index()
    return table.rename(columns={"vector": "vector of", **{m: label(m) for m in methods}})


def composition_table(rows: pd.DataFrame, traits: tuple[str, str], show: Show) -> pd.DataFrame:
    """Effects of each vector alone, of both, and the interaction."""
    columns = {"a": f"{traits[0]} alone", "b": f"{traits[1]} alone", "both": "both"}
    columns["interaction"] = "interaction"
    table = {"vectors": rows.kind, "measured": rows.measured}
    table |= {text: [show(e, 2) for e in rows[name]] for name, text in columns.items()}
    return pd.DataFrame({**table, "collapsed, both": [f"{c:.2f}" for c in rows.collapsed]})


def size_table(summary: pd.DataFrame, show: Show) -> pd.DataFrame:
    """The size curve: cosines (mean over subsets), effect and efficiency."""
    return pd.DataFrame(
        {
            "rows": [str(size) for size in summary["size"]],
            "subsets": [str(count) for count in summary.subsets],
            "cosine, held-out styles": [f"{v:.2f}" for v in summary.concept_cosine],
            "cosine to own": [f"{v:.2f}" for v in summary.cosine_to_own],
            "effect": [show(e, 1) for e in summary.effect],
            "transfer efficiency": [show(e, 2) for e in summary.te],
        }
    )


def sampling_table(summary: pd.DataFrame, show: Show) -> pd.DataFrame:
    """Effect at a temperature, its spread over seeds, and the variance components' SDs."""
    table = {
        "method": [label(m) for m in summary.method],
        "effect": [show(e, 2) for e in summary.effect],
        "means of the seeds": [
            f"{low:.2f} to {high:.2f}"
            for low, high in zip(summary.lowest, summary.highest, strict=True)
        ],
        "transfer efficiency": [show(e, 2) for e in summary.te],
    }
    for name in ("seed", "prompt", "rest"):
        table[f"SD, {name}"] = [f"{v:.2f}" for v in np.sqrt(summary[name])]
    return pd.DataFrame(table)


def symmetry_table(rows: pd.DataFrame, show: Show) -> pd.DataFrame:
    """Efficiency there and back, by trait."""
    return pd.DataFrame(
        {
            "trait": rows.trait,
            "there": [show(e, 2) for e in rows.there],
            "back": [
                show(e, 2) if ran else "not run"
                for e, ran in zip(rows.back, rows.back_ran, strict=True)
            ],
            "there − back": [show(e, 2) for e in rows.difference],
        }
    )


def linear_table(rows: pd.DataFrame, show: Show) -> pd.DataFrame:
    """Ridge minus the other maps, by trait."""
    return pd.DataFrame(
        {
            "trait": rows.trait,
            "ridge minus": [label(m) for m in rows.other],
            "effect": [show(e, 2) for e in rows.gain],
            "in SDs": [show(e, 2) for e in rows.standardised],
        }
    )


def _matrix(frame: pd.DataFrame, method: str, names: list[str]) -> np.ndarray:
    """Value, low and high of a method's entries `[vector, measured, 3]`."""
    cells = frame[frame.method == method].set_index(["vector", "measured"]).effect
    return np.array([[list(cells[row, column]) for column in names] for row in names], float)
