"""Figures over all cells of the study, legible at the width of a printed page."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from prefvec.report.cells import NO_EFFECT, SHOWN, arrow, defined, why
from prefvec.report.choice import mean_efficiency
from prefvec.report.figures import WIDTH, label
from prefvec.report.verdicts import succeeded
from prefvec.transfer.methods import controls_of

CURVES = {
    "oracle": ("#000000", "o", "-"),
    "chosen": ("#0072B2", "s", "-"),
    "random_0": ("#7F7F7F", "x", ":"),
}
CHOSEN, WRITTEN = ("#0072B2", "s"), ("#CC79A7", "v")
CONTROL_LOOKS = ("#7F7F7F", "x"), ("#E69F00", "+")  # shuffled pairs, wrong trait
STEP = 0.17  # between the methods of a row, in rows
EFFICIENCY_LIMITS = (-1.0, 2.0)
SHORT_REASON = {NO_EFFECT: "undefined", "the method was not run": "not run"}


def pair_efficiencies(cells: pd.DataFrame, method: str) -> plt.Figure:
    """Transfer efficiency by directed pair, a panel a trait, with 95 % intervals: the chosen map, the
    vector written as it is, and two controls. Traits without any value have no panel; a row without
    one says why."""
    pairs = _pairs(cells)
    traits = _with_values(cells, method)
    controls = dict(zip(controls_of(method), CONTROL_LOOKS, strict=True))
    looks = {method: CHOSEN, "zero_pad": WRITTEN, **controls}
    figure, all_axes = plt.subplots(
        1, len(traits), sharey=True, squeeze=False, layout="constrained",
        figsize=(min(WIDTH, 2.4 + 1.8 * len(traits)), 0.42 * len(pairs) + 1.2),
    )  # fmt: skip
    handles = {}
    for axes, trait in zip(all_axes[0], traits, strict=True):
        axes.axvline(0, color="0.5", lw=0.8)
        axes.axvline(1, color="0.5", lw=0.8, ls="--")
        for cell in cells[cells.trait == trait].to_dict("records"):
            row = -pairs.index((cell["source"], cell["target"]))
            if not np.isfinite(cell[method].value):
                axes.text(0.06, row, _reason(cell, method), va="center", fontsize=7, color="0.4")
                continue
            for i, (name, (colour, marker)) in enumerate(looks.items()):
                known = np.array(cell[name], float)
                value, low, high = np.clip(known, *EFFICIENCY_LIMITS)
                at = row + STEP * (len(looks) / 2 - 0.5 - i)
                axes.hlines(at, low, high, color=colour, lw=1.3)
                for end, arrow_head, cut in ((low, "<", known < low), (high, ">", known > high)):
                    if cut.any():  # the interval goes on
                        axes.plot(end, at, arrow_head, color=colour, ms=3, clip_on=False)
                [handles[label(name)]] = axes.plot(value, at, marker, color=colour, ms=4.5)
        axes.set(xlim=EFFICIENCY_LIMITS, ylim=(0.6 - len(pairs), 0.6))
        axes.set_title(trait, fontsize=9)
    all_axes[0, 0].set_yticks(-np.arange(len(pairs)), [arrow(*pair) for pair in pairs])
    figure.supxlabel(
        "transfer efficiency (0 = random direction, 1 = target's own vector)", fontsize=8
    )
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncol=4, fontsize=7.5)  # fmt: skip
    return figure


def success_matrix(cells: pd.DataFrame, method: str) -> plt.Figure:
    """Transfer efficiency of one method by pair and trait, with intervals; hatched where it does not
    succeed (`succeeded`), grey with the reason where it is unknown."""
    pairs, traits = _pairs(cells), list(dict.fromkeys(cells.trait))
    colours = plt.get_cmap("PuOr_r")
    norm = plt.Normalize(-1, 1)
    figure, axes = plt.subplots(
        figsize=(min(WIDTH, 3.3 + 1.2 * len(traits)), 1.1 + 0.5 * len(pairs)), layout="constrained"
    )
    for cell in cells.to_dict("records"):
        x, y = traits.index(cell["trait"]), pairs.index((cell["source"], cell["target"]))
        value, low, high = cell[method]
        known = np.isfinite(value)
        face = colours(norm(value)) if known else (0.93, 0.93, 0.93, 1)
        hatch = "" if not known or succeeded(cell, method) else "////"
        axes.add_patch(Rectangle((x, y), 1, 1, fc=face, ec="0.55", lw=0, hatch=hatch))
        axes.add_patch(Rectangle((x, y), 1, 1, fc="none", ec="white", lw=1.5))
        text = f"{value:.2f}\n[{low:.2f}, {high:.2f}]" if known else _reason(cell, method)
        light = known and abs(value) > 0.75 and not hatch
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "lw": 0, "alpha": 0.85}
        axes.text(
            x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7.5,
            color="white" if light else "black", bbox=box if hatch else None,
        )  # fmt: skip
    axes.set(xlim=(0, len(traits)), ylim=(len(pairs), 0))
    axes.set_xticks(np.arange(len(traits)) + 0.5, traits)
    axes.set_yticks(np.arange(len(pairs)) + 0.5, [arrow(*pair) for pair in pairs])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{label(method)}; hatched: not above 0 or not above its control", fontsize=8.5)
    bar = figure.colorbar(plt.cm.ScalarMappable(norm, colours), ax=axes, extend="both", pad=0.02)
    bar.set_label("transfer efficiency", fontsize=8)
    return figure


def scores_comparison(cells: pd.DataFrame, chosen: str) -> plt.Figure:
    """Mean transfer efficiency of every method that was run, a panel a trait, 95 % intervals over
    cells. Traits without any value have no panel."""
    ran = frozenset().union(*cells["ran"])
    methods = [m for m in SHOWN if m in ran]
    traits = _with_values(cells, chosen)
    figure, all_axes = plt.subplots(
        1, len(traits), sharey=True, squeeze=False, layout="constrained",
        figsize=(min(WIDTH, 2.6 + 1.5 * len(traits)), 0.19 * len(methods) + 1.0),
    )  # fmt: skip
    at = -np.arange(len(methods))
    for axes, trait in zip(all_axes[0], traits, strict=True):
        part = cells[cells.trait == trait]
        found = np.array([list(mean_efficiency(part, m)) for m in methods], float)
        axes.axvline(0, color="0.5", lw=0.8)
        axes.axvline(1, color="0.5", lw=0.8, ls="--")
        colours = ["#D55E00" if m == chosen else "#0072B2" for m in methods]
        axes.hlines(at, found[:, 1], found[:, 2], color=colours, lw=1.5)
        for y, x, colour in zip(at, found[:, 0], colours, strict=True):
            axes.plot(x, y, "D" if colour == "#D55E00" else "o", color=colour, ms=4)
        known = int(sum(np.isfinite(e.value) for e in part[methods[0]]))
        axes.set_title(f"{trait}\n{known} of {len(part)} cells", fontsize=8)
        axes.set_xlim(-1.05, 1.55)
    all_axes[0, 0].set_yticks(at, [label(m) for m in methods])
    figure.supxlabel(
        "mean transfer efficiency (0 = random direction, 1 = target's own vector; ◆ = chosen method)",
        fontsize=8,
    )
    return figure


def performance_radar(cells: pd.DataFrame, method: str) -> plt.Figure:
    """One radar a directed pair: transfer efficiency by trait on fixed axes from 0 to 1, values beyond
    them drawn at the limit; an unknown one is left out and said so at its axis."""
    pairs, traits = _pairs(cells), list(dict.fromkeys(cells.trait))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, all_axes = plt.subplots(
        rows, columns, squeeze=False, subplot_kw={"projection": "polar"}, layout="constrained",
        figsize=(max(4.2, min(WIDTH, 3 * columns)), 2.4 * rows + 0.9),
    )  # fmt: skip
    angles = np.linspace(0, 2 * np.pi, len(traits), endpoint=False)
    looks = {
        method: ("#0072B2", "o", "-", 0.2),
        controls_of(method)[0]: ("#D55E00", "x", "--", 0.0),
    }
    for axes, pair in zip(all_axes.flat, pairs, strict=False):
        part = cells[(cells.source == pair[0]) & (cells.target == pair[1])].set_index("trait")
        for name, (colour, marker, line, alpha) in looks.items():
            values = np.array([part.loc[t, name].value for t in traits], float)
            known = np.isfinite(values)
            if not known.any():
                continue
            r = np.clip(values[known], 0, 1)
            axes.plot(angles[known], r, marker, color=colour, ms=4, clip_on=False)
            if known.all() and len(traits) > 2:
                axes.plot([*angles, angles[0]], [*r, r[0]], ls=line, color=colour, lw=1.2)
                axes.fill(angles, r, color=colour, alpha=alpha, lw=0)
            else:  # no polygon over an axis without a value
                axes.vlines(angles[known], 0, r, color=colour, lw=1.2, ls=line)
        unknown = [not np.isfinite(part.loc[t, method].value) for t in traits]
        names = [f"{t}\n(no value)" if u else t for t, u in zip(traits, unknown, strict=True)]
        axes.set(ylim=(0, 1), yticks=[0.5, 1], theta_offset=np.pi / 4)
        axes.set_rlabel_position(45)
        axes.tick_params(axis="x", pad=5)
        axes.set_yticklabels(["0.5", "1"], fontsize=6.5, color="0.4")
        axes.set_xticks(angles, names, fontsize=7)
        axes.set_title(arrow(*pair), fontsize=8, pad=10)
        axes.grid(lw=0.5, color="0.8")
        axes.spines["polar"].set(lw=0.5, color="0.6")
    for axes in all_axes.flat[len(pairs) :]:
        axes.set_visible(False)
    keys = [
        plt.Line2D([], [], color=colour, marker=marker, ls=line, ms=4, lw=1.2, label=label(name))
        for name, (colour, marker, line, _) in looks.items()
    ]
    figure.legend(handles=keys, loc="outside lower center", ncol=2, fontsize=7)
    figure.suptitle("transfer efficiency, cut to [0, 1]", fontsize=8.5)
    return figure


def dose_multiples(
    curve: pd.DataFrame, cells: pd.DataFrame, methods: Sequence[str], units: dict[str, str]
) -> plt.Figure:
    """Score by signed dose, a panel a pair and trait, with 95 % intervals; dashed: unsteered.

    curve: `curve_frame`; methods: the first that was run at several doses is drawn as the mapped vector.
    """
    pairs, traits = _pairs(cells), list(dict.fromkeys(cells.trait))
    figure, all_axes = plt.subplots(
        len(pairs), len(traits), squeeze=False, sharey="col", layout="constrained",
        figsize=(max(4.2, min(WIDTH, 1.4 + 1.9 * len(traits))), 1.2 * len(pairs) + 0.9),
    )  # fmt: skip
    handles = {}
    for cell in cells.itertuples():
        row, column = pairs.index((cell.source, cell.target)), traits.index(cell.trait)
        axes = all_axes[row, column]
        part = curve[(curve.source == cell.source) & (curve.target == cell.target)]
        part = part[part.trait == cell.trait]
        base = part[part.method == "unsteered"]
        if row == 0:
            axes.set_title(f"{cell.trait} ({units[cell.trait]})", fontsize=8)
        if column == 0:
            axes.set_ylabel(arrow(*pairs[row]).replace(" → ", "\n→ "), fontsize=7)
        axes.tick_params(labelsize=6.5)
        if base.empty:
            axes.text(0.5, 0.5, "missing", transform=axes.transAxes, ha="center", fontsize=7)
            axes.set_xticks([])
            continue
        axes.axhline(base.value.iloc[0], color="0.6", lw=0.7, ls="--")
        mapped = next((m for m in methods if (part.method == m).sum() > 1), None)
        for look, method in (("oracle", "oracle"), ("chosen", mapped), ("random_0", "random_0")):
            points = pd.concat([base, part[part.method == method]]).sort_values("dose")
            if len(points) < 2:
                continue
            colour, marker, line = CURVES[look]
            [handles[label(method)]] = axes.plot(
                points.dose, points.value, color=colour, marker=marker, ls=line, ms=3, lw=1
            )
            low, high = points.ci_low.astype(float), points.ci_high.astype(float)
            axes.fill_between(points.dose, low, high, color=colour, alpha=0.15, lw=0)
    figure.supxlabel("signed dose (lengths of the target's own vector)", fontsize=8)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncol=4, fontsize=7)  # fmt: skip
    return figure


def _pairs(cells: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(cells.source, cells.target, strict=True)))


def _with_values(cells: pd.DataFrame, method: str) -> list[str]:
    """Traits with a value of a method in some cell; all if there is none."""
    return list(dict.fromkeys(defined(cells, method).trait)) or list(dict.fromkeys(cells.trait))


def _reason(cell: dict, method: str) -> str:
    """Why a method has no value in a cell, in a word or two."""
    return SHORT_REASON.get(why(cell, method), "missing")
