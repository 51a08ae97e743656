"""Figures and tables of notebook 05c: effect over layers, shares of the loss, components."""

from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from prefvec.diagnostics.components import ORIGINS, SPREAD
from prefvec.diagnostics.factorial import FACTORS, Attribution
from prefvec.report.figures import label

Show = Callable[..., str]
FACTOR_NAMES = {"norm": "length", "direction": "direction", "layer": "layer"}
SHARE_LIMITS = (-1.0, 2.0)
WHERE_LOOK = {"own": ("#000000", "o"), "mapped": ("#0072B2", "s")}
SPLIT_TEXT = {"own": "target's own vector", "mapped": "mapped vector"}


def effect_maps(
    cells: pd.DataFrame,
    assumed: tuple[int, int],
    best: Mapping[str, tuple[int, int]],
    unit: str,
    title: str,
) -> plt.Figure:
    """Specific effect by source layer (rows) and target layer (columns), a panel a method, and the
    target's own vector below. Boxes: assumed layers; stars: the best ones; hatched: more than 10 %
    of the answers collapse."""
    methods = [m for m in best if (cells.method == m).any() and m != "oracle"]
    own = cells[cells.method == "oracle"].sort_values("layer_target")
    targets = list(own.layer_target)
    sources = sorted(set(cells.layer_source) - {-1}, reverse=True)
    bound = max(1e-9, float(cells.specific.abs().max()))
    figure, panels = plt.subplots(
        2, len(methods), figsize=(0.47 * len(targets) * len(methods) + 1.4, 0.36 * len(sources) + 1.9),
        squeeze=False, layout="constrained", sharex=True,
        gridspec_kw={"height_ratios": [len(sources), 1]},
    )  # fmt: skip
    for j, method in enumerate(methods):
        mine = cells[cells.method == method].set_index(["layer_source", "layer_target"])
        axes, below = panels[:, j]
        for (s, t), cell in mine.iterrows():
            _cell(axes, targets.index(t), sources.index(s), cell, bound)
        image = _matrix(axes, [[mine.specific[s, t] for t in targets] for s in sources], bound)
        _mark(axes, targets.index(assumed[1]), sources.index(assumed[0]), box=True)
        _mark(axes, targets.index(best[method][1]), sources.index(best[method][0]))
        axes.set_title(label(method))
        axes.set_yticks(range(len(sources)), sources)
        for i, (_, cell) in enumerate(own.iterrows()):
            _cell(below, i, 0, cell, bound)
        _matrix(below, [list(own.specific)], bound)
        _mark(below, targets.index(best["oracle"][1]), 0)
        below.set_yticks([0], ["own"])
        below.set_xticks(range(len(targets)), targets)
        below.set_xlabel("layer of the target (block output)", fontsize=7)
    panels[0, 0].set_ylabel("layer of the source", fontsize=7)
    bar = figure.colorbar(image, ax=panels[:, -1], shrink=0.9)
    bar.set_label(f"effect less random, {unit}", fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def shares_figure(
    raw: Attribution, beyond: Attribution, cells: pd.DataFrame, unit: str, title: str
) -> plt.Figure:
    """The effect of every combination, and each factor's share of the loss, with 95 % intervals."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(6.6, 2.7), layout="constrained", gridspec_kw={"width_ratios": [3, 2]}
    )
    at = np.arange(len(cells))[::-1]
    for column, colour, marker, text, shift in (
        ("effect", "#0072B2", "s", "with the swaps", 0.12),
        ("random", "#7F7F7F", "x", "random direction", -0.12),
    ):
        values = np.array([list(e) for e in cells[column]], float)
        left.hlines(at + shift, values[:, 1], values[:, 2], color=colour, lw=1.3)
        left.plot(values[:, 0], at + shift, marker, color=colour, ms=4, ls="none", label=text)
    left.axvline(0, color="0.5", lw=0.8)
    left.set_yticks(at, [_swaps(row) for row in cells.itertuples()])
    left.set(xlabel=f"effect, {unit}")
    left.legend(fontsize=6.5, loc="best")
    for found, colour, marker, text, shift in (
        (raw, "#0072B2", "s", "of the effect", 0.12),
        (beyond, "#D55E00", "^", "beyond random", -0.12),
    ):
        values = np.array([list(found.shares[f]) for f in FACTORS], float)
        values = np.clip(values, *SHARE_LIMITS)
        rows = np.arange(len(FACTORS))[::-1] + shift
        right.hlines(rows, values[:, 1], values[:, 2], color=colour, lw=1.6)
        right.plot(values[:, 0], rows, marker, color=colour, ms=4, ls="none", label=text)
    for line, style in ((0, "-"), (1, "--")):
        right.axvline(line, color="0.5", lw=0.8, ls=style)
    right.set_yticks(np.arange(len(FACTORS))[::-1], [FACTOR_NAMES[f] for f in FACTORS])
    right.set(xlabel="share of the lost effect", xlim=SHARE_LIMITS, ylim=(-0.6, len(FACTORS) - 0.4))
    if raw.reason and beyond.reason:
        right.text(0.5, 1, "undefined:\nno loss beyond doubt", ha="center", va="center", fontsize=8)
    else:
        right.legend(fontsize=6.5, loc="best")
    figure.suptitle(title, fontsize=9)
    return figure


def component_figure(frame: pd.DataFrame, unit: str, title: str) -> plt.Figure:
    """Specific effect of each component and stage, and of the spread dose, with 95 % intervals."""
    names = list(dict.fromkeys(frame["where"]))
    figure, axes = plt.subplots(figsize=(4.8, 0.3 * len(names) + 0.9), layout="constrained")
    at = {name: len(names) - i for i, name in enumerate(names)}
    for origin in ORIGINS[:2]:
        colour, marker = WHERE_LOOK[origin]
        rows = frame[frame.origin == origin]
        if rows.empty:
            continue
        values = np.array([list(e) for e in rows.specific], float)
        y = np.array([at[name] for name in rows["where"]]) + (0.14 if origin == "own" else -0.14)
        axes.hlines(y, values[:, 1], values[:, 2], color=colour, lw=1.3)
        axes.plot(values[:, 0], y, marker, color=colour, ms=4, ls="none", label=SPLIT_TEXT[origin])
    axes.axvline(0, color="0.5", lw=0.8)
    axes.set_yticks([at[n] for n in names], [_where(n) for n in names])
    axes.set(xlabel=f"effect less random, {unit}", title=title)
    axes.legend(fontsize=6.5, loc="best")
    return figure


def rules_table(rules: pd.DataFrame, show: Show) -> pd.DataFrame:
    """The target layer that each rule gives, its distance from the best, and what it is worth."""
    return pd.DataFrame(
        {
            "rule": rules.rule,
            "layer": [str(v) for v in rules.layer_target],
            "blocks from the best": [f"{v:+d}".replace("-", "−") for v in rules.from_best],
            "effect": [show(e, 1) for e in rules.effect],
            "gain over the assumed": [show(e, 1) for e in rules.gain],
        }
    )


def share_table(parts: Mapping[str, Attribution], show: Show) -> pd.DataFrame:
    """The loss and its shares; a row a way of counting."""
    rows = []
    for text, found in parts.items():
        row = {"effect": text, "loss": show(found.loss, 1)}
        row |= {FACTOR_NAMES[f]: show(found.shares[f], 2) for f in FACTORS}
        rows.append(row)
    return pd.DataFrame(rows)


def cell_table(cells: pd.DataFrame, show: Show) -> pd.DataFrame:
    """Every combination of swaps."""
    return pd.DataFrame(
        {
            "from the oracle": [_swaps(row) for row in cells.itertuples()],
            "layer": [str(v) for v in cells.layer_target],
            "length": [f"{v:.1f}" for v in cells.length],
            "effect": [show(e, 1) for e in cells.effect],
            "random direction": [show(e, 1) for e in cells.random],
            "collapsed": [f"{v:.2f}" for v in cells.collapse],
        }
    )


def component_table(frame: pd.DataFrame, show: Show) -> pd.DataFrame:
    """Own and mapped vectors of every component and stage at their chosen doses."""
    return pd.DataFrame(
        {
            "vector": [SPLIT_TEXT[o] for o in frame.origin],
            "where": [_where(w) for w in frame["where"]],
            "dose": [f"{d:g}" for d in frame.dose],
            "effect less random": [show(e, 1) for e in frame.specific],
            "minus one middle layer": [show(e, 1) for e in frame.gain],
            "collapsed": [f"{v:.2f}" for v in frame.collapse],
        }
    )


def _swaps(row) -> str:
    taken = [FACTOR_NAMES[f] for f in FACTORS if getattr(row, f)]
    if not taken:
        return "nothing (direct)"
    return "everything (oracle)" if len(taken) == len(FACTORS) else " + ".join(taken)


def _where(name: str) -> str:
    if name == SPREAD:
        return "residual, three layers"
    component, stage = name.split()
    return f"{component.replace('mlp', 'MLP')}, {stage}"


def _matrix(axes: plt.Axes, values: list, bound: float):
    image = axes.imshow(values, cmap="PuOr_r", vmin=-bound, vmax=bound, aspect="auto")
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_visible(False)
    shade = np.abs(np.array(values, float)) > 0.65 * bound
    for text in axes.texts:
        x, y = (int(v) for v in text.get_position())
        ink, paper = ("white", "0.2") if shade[y, x] else ("black", "white")
        text.set(color=ink, path_effects=[withStroke(linewidth=1.8, foreground=paper)])
    return image


def _cell(axes: plt.Axes, x: int, y: int, cell: pd.Series, bound: float) -> None:
    """A cell's number, with two digits of the map's largest one, and its hatching."""
    decimals = max(0, 1 - int(np.floor(np.log10(bound))))
    axes.text(x, y, f"{cell.specific:z.{decimals}f}", ha="center", va="center", fontsize=6.5)
    if cell.collapse > 0.1:
        patch = plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", ec="0.6", lw=0)
        axes.add_patch(patch)


def _mark(axes: plt.Axes, x: int, y: int, box: bool = False) -> None:
    if box:
        axes.add_patch(plt.Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, ec="k", lw=1.4))
    else:
        axes.plot(x + 0.3, y - 0.26, "*", color="white", ms=6.5, mec="k", mew=0.8)
