"""Figures and tables of notebooks 05a and 05b."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from prefvec.diagnostics.basis import MAPS, RAW, Spaces
from prefvec.diagnostics.gains import Outcome
from prefvec.report.figures import label
from prefvec.report.views import plain
from prefvec.stats import Estimate
from prefvec.transfer.sites import MAX_COLLAPSE

SCALE_LOOK = {
    "oracle": ("#000000", "o", "-"),
    "ridge_concept": ("#0072B2", "s", "-"),
    "shuffled_pairing": ("#CC79A7", "v", ":"),
    "zero_pad": ("#D55E00", "^", "--"),
    "zero_pad_trimmed": ("#E69F00", "<", "--"),
    "random_projection": ("#009E73", "D", "-."),
    "random": ("#7F7F7F", "x", ":"),
}
NAMES = {
    "zero_pad_trimmed": "zero-pad, no outlier dimensions",
    "oracle_trimmed": "oracle, no outlier dimensions",
    "ridge_concept_trimmed": "ridge, no outlier dimensions",
}
KINDS = {"cosine": "raw", "whitened": "whitened", "trimmed": "without outlier dimensions"}


def name_of(method: str) -> str:
    """A direction's name as a reader sees it."""
    return NAMES.get(method, label(method))


def scale_sweep(table: pd.DataFrame, unit: str, title: str) -> plt.Figure:
    """Effect, collapse and distinct bigrams against the scale, a line a method; 95 % bands on the effects;
    hollow marks where more than 10 % of the answers collapse. The upper axis is the share of the
    residual stream's norm."""
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(4.8, 5.6), sharex=True, height_ratios=(2.4, 1, 1), layout="constrained"
    )
    noise = table.drop_duplicates("scale").sort_values("scale")
    top.plot(noise.scale, noise.random, "x:", color="0.5", ms=4, label=label("random"))
    for method, (colour, marker, line) in SCALE_LOOK.items():
        rows = table[table.method == ("random_0" if method == "random" else method)]
        rows = rows.sort_values("scale")
        style = {"color": colour, "marker": marker, "ls": line, "ms": 4}
        middle.plot(rows.scale, rows.collapse, **style)
        bottom.plot(rows.scale, rows.distinct_bigrams, **style)
        if method == "random" or rows.empty:
            continue
        values = np.array([list(e) for e in rows.effect], float)
        top.plot(rows.scale, values[:, 0], label=name_of(method), **style)
        top.fill_between(rows.scale, values[:, 1], values[:, 2], color=colour, alpha=0.1, lw=0)
        broken = (rows.collapse > MAX_COLLAPSE).to_numpy()
        top.plot(rows.scale[broken], values[broken, 0], marker, mfc="white", mec=colour, ms=4)
    top.axhline(0, color="0.8", lw=0.6, zorder=0)
    middle.axhline(MAX_COLLAPSE, color="0.6", lw=0.6, ls="--")
    top.set(xscale="log", ylabel=f"effect ({unit})")
    middle.set(ylabel="collapsed", ylim=(-0.05, 1.05))
    bottom.set(ylabel="distinct\nbigrams", ylim=(0, 1.05))
    bottom.set(xlabel="length added (lengths of the target's own vector)")
    ticks = sorted(table.scale.unique())
    bottom.set_xticks(ticks, [f"{t:g}" for t in ticks])
    bottom.minorticks_off()
    ratio = float(table.residual_share.iloc[0] / table.scale.iloc[0])
    above = top.secondary_xaxis("top", functions=(lambda s: s * ratio, lambda s: s / ratio))
    above.set_xticks([t * ratio for t in ticks], [f"{t * ratio:.2g}" for t in ticks])
    above.minorticks_off()
    above.set_xlabel("share of the residual stream's median norm")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def residual_profiles(profiles: Mapping[str, pd.DataFrame], title: str) -> plt.Figure:
    """By proportional depth, a line a model: median norm of the residual stream with that of the vector,
    the largest dimension over the median |x|, and the vector's share of squared length in outliers."""
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.6), layout="constrained")
    looks = [("#0072B2", "s"), ("#D55E00", "^")]
    for (model, rows), (colour, marker) in zip(profiles.items(), looks, strict=False):
        depth = rows.layer / max(1, len(rows) - 1)
        style = {"color": colour, "marker": marker, "ms": 3, "lw": 1}
        panels[0].plot(depth, rows.residual, **style, label=model)
        panels[0].plot(depth, rows.vector, **style | {"ls": "--"}, mfc="white")
        panels[1].plot(depth, rows.largest, **style)
        panels[2].plot(depth, rows.vector_held, **style)
    panels[0].set(yscale="log", ylabel="activation norm", title="stream (—) and vector (- -)")
    panels[1].set(yscale="log", ylabel="× median |x|", title="largest dimension")
    panels[2].set(ylim=(0, 1), ylabel="share of length²", title="vector in outliers")
    for axis in (panels[0].yaxis, panels[1].yaxis):
        axis.set_major_locator(LogLocator(subs=(1,) if axis is panels[0].yaxis else (1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    panels[1].set_xlabel("depth (0 first block, 1 last)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def cosine_against_effect(
    table: pd.DataFrame, predicts: Mapping[str, Estimate], unit: str, title: str
) -> plt.Figure:
    """Effect (95 % interval) against each kind of cosine with the target's own vector, a mark a method;
    Spearman's correlation above each panel. table: `cosines_to_own` with a column effect."""
    figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.9), sharey=True, layout="constrained")
    values = np.array([list(e) for e in table.effect], float)
    groups = [
        (table.method.isin(RAW), "#D55E00", "^", "raw coordinates"),
        (table.method.isin(MAPS), "#0072B2", "s", "change of basis"),
        (~table.method.isin([*RAW, *MAPS]), "0.5", "o", "other maps and controls"),
    ]
    for axes, (kind, text) in zip(panels, KINDS.items(), strict=True):
        for chosen, colour, marker, group in groups:
            at, found = table[kind][chosen], values[chosen.to_numpy()]
            axes.vlines(at, found[:, 1], found[:, 2], color=colour, lw=0.8, alpha=0.6)
            axes.plot(at, found[:, 0], marker, color=colour, ms=4, label=group)
        axes.axhline(0, color="0.8", lw=0.6, zorder=0)
        axes.axvline(0, color="0.8", lw=0.6, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(f"cosine, {text}", fontsize=7)
        axes.set_title(f"Spearman {plain(predicts[kind])}")
    panels[0].set_ylabel(f"effect ({unit})")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def shared_space(spaces: Spaces, title: str) -> plt.Figure:
    """Principal angles over the prompts and over the coordinates, and held-out canonical correlations with
    the level that chance reaches in 5 % of permutations."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.7), layout="constrained")
    lines = [
        ("over the prompts", spaces.rows, "#0072B2", "s", "-"),
        ("over the coordinates", spaces.coordinates, "#D55E00", "^", "--"),
    ]
    for text, angles, colour, marker, line in lines:
        found = angles.overlap
        text = f"{text}: overlap {found.value:.2f} (chance {found.null_mean:.2f})"
        at = range(1, len(angles.degrees) + 1)
        left.plot(at, angles.degrees, marker=marker, ls=line, color=colour, ms=4, label=text)
    left.set(
        ylim=(-3, 93), yticks=range(0, 91, 30), xlabel="pair of axes", ylabel="angle (degrees)"
    )
    left.set_title(
        f"principal angles; CKA {spaces.cka.value:.2f} (chance {spaces.cka.null_high:.2f})"
    )
    left.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.25))
    shared = spaces.shared
    at = np.arange(1, len(shared.correlations) + 1)
    for chosen, face in ((shared.kept, "#0072B2"), (~shared.kept, "white")):
        right.plot(at[chosen], shared.correlations[chosen], "s", mfc=face, mec="#0072B2", ms=4)
    right.axhline(shared.threshold, color="0.4", lw=0.8, ls="--")
    right.axhline(0, color="0.8", lw=0.6, zorder=0)
    right.set(xlabel="canonical direction", ylabel="held-out correlation")
    right.set_title(f"{shared.kept.sum()} of {len(at)} above chance (dashed)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize=9)
    return figure


def outcome_frame(found: Mapping[str, Outcome], show, scales: Mapping[str, float]) -> pd.DataFrame:
    """What each direction does above random directions, and as a share of the own vector's gain.
    show: `interval_text` for LaTeX, `views.plain` for the notebook."""
    return pd.DataFrame(
        {
            "direction": [name_of(m) for m in found],
            "scale": [f"{scales[m]:.2f}" for m in found],
            "gain over random": [show(o.gain, 2) for o in found.values()],
            "share of own gain": [show(o.share, 2) for o in found.values()],
            "collapsed": [f"{o.collapse:.2f}" for o in found.values()],
        }
    )


def shown(table: pd.DataFrame, columns: Sequence[str], show, digits: int = 2) -> pd.DataFrame:
    """A table with its estimates as text and its methods by name."""
    out = table[list(columns)].copy()
    for column in columns:
        if out[column].map(lambda v: isinstance(v, Estimate)).any():
            out[column] = [show(e, digits) for e in out[column]]
        elif pd.api.types.is_float_dtype(out[column]):
            out[column] = [f"{v:.2f}" for v in out[column]]
    return out.assign(method=[name_of(m) for m in out.method]) if "method" in out else out
