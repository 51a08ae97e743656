"""The explorer's plots, as PNG: drawn without pyplot, which is not safe in a background thread."""

import io
import threading

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from prefvec.explore.curves import chance
from prefvec.report.figures import LOOK, label
from prefvec.transfer.sweep import ORACLE, UNSTEERED

SIZE = (4.8, 3.1)  # inches
DPI = 160
OTHER = ("#D55E00", "D", "-")  # a method that has no look of its own
HERE = "#B2182B"
_LOCK = threading.Lock()


def empty_plot(text: str) -> bytes:
    """A plot that is not there yet, and how to get it."""
    figure = Figure(figsize=SIZE)
    figure.text(0.5, 0.5, text, ha="center", va="center", color="0.45", fontsize=10, wrap=True)
    return _png(figure)


def dose_plot(
    scores: pd.DataFrame, unit: str, title: str, method: str, dose: float, poles
) -> bytes:
    """Score by signed dose with 95 % intervals: own vector, the chosen method, a random direction.

    scores: method, dose, score (an `Estimate`); `dose`: where the slider stands; poles: what the two ends
    are called. A method that the scores do not have is left out.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    base = scores[scores.method == UNSTEERED]
    for name in dict.fromkeys((ORACLE, method, "random_0")):
        rows = scores[scores.method == name]
        if rows.empty:
            continue
        points = pd.concat([base.iloc[:1], rows]).sort_values("dose")
        value, low, high = np.array([list(e) for e in points.score], float).T
        colour, marker, line = _look(name)
        axes.fill_between(points.dose, low, high, color=colour, alpha=0.13, lw=0)
        axes.plot(
            points.dose, value, color=colour, marker=marker, ls=line, ms=4.5, label=label(name)
        )
    axes.axvline(dose, color=HERE, lw=1, ls=":", label=f"the slider: {dose:+g}")
    reach = max(1.0, *(abs(scores.dose)), abs(dose)) * 1.08
    axes.set(xlim=(-reach, reach), ylabel=unit, title=title)
    axes.set_xlabel(f"← {poles.negative}    dose (own-vector lengths)    {poles.positive} →")
    axes.legend(fontsize=7, loc="best")
    return _png(figure)


def cosine_layers_plot(
    table: pd.DataFrame, title: str, method: str, layer: int, width: int, saved: float | None
) -> bytes:
    """Cosine to the target's own vector by target block, a line a method; grey: chance.

    table: method, layer, cosine; layer: where the slider stands; width: of the residual stream; saved: what
    the saved run has for the method at that block, if it has.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.axhspan(-chance(width), chance(width), color="0.9", zorder=0, label="chance (95 %)")
    for name, rows in table.groupby("method", sort=False):
        colour, marker, line = _look(name, chosen=name == method)
        axes.plot(
            rows.layer, rows.cosine, color=colour, marker=marker, ls=line, ms=5,
            lw=2 if name == method else 1.2, label=label(name),
        )  # fmt: skip
    if saved is not None:
        axes.plot([layer], [saved], "*", color=HERE, ms=11, label="saved run")
    axes.axvline(layer, color=HERE, lw=1, ls=":")
    axes.set(xlabel="block of the target (0 = first)", ylabel="cosine", title=title)
    axes.set_ylim(min(-0.15, table.cosine.min() - 0.05), max(0.6, table.cosine.max() + 0.1))
    axes.legend(fontsize=7, loc="best")
    return _png(figure)


def cosine_methods_plot(cosines: dict[str, float], title: str, method: str, width: int) -> bytes:
    """Cosine to the target's own vector by method at one block; grey: chance; the chosen one marked."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    names = sorted(cosines, key=cosines.get)
    axes.axvspan(-chance(width), chance(width), color="0.9", zorder=0)
    colours = [HERE if name == method else "#0072B2" for name in names]
    axes.barh([label(name) for name in names], [cosines[n] for n in names], 0.62, color=colours)
    axes.axvline(0, color="0.4", lw=0.7)
    axes.set(xlabel="cosine (grey: chance, 95 %)", title=title)
    axes.tick_params(axis="y", labelsize=7)
    return _png(figure)


def _look(method: str, chosen: bool = False) -> tuple[str, str, str]:
    look = LOOK.get("random" if method.startswith("random") else method)
    if look:
        return look
    if method == "zero_pad" and not chosen:
        return ("#CC79A7", "v", ":")
    return OTHER


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_parse_math(False)  # names are the reader's: a $ is a $
            text.set_fontsize(8.5)
        axes.tick_params(labelsize=8)
        if axes.get_legend():
            axes.get_legend().get_frame().set(alpha=0.85, linewidth=0)
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    with _LOCK:  # the font cache is shared
        figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()
