"""Figures: one idea each, intervals drawn, units on the axes, safe for colour-blind readers."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from fontTools.subset import Options

from prefvec.store import atomic_path

LAYOUT_TABLES = ("GSUB", "GPOS", "GDEF", "kern")  # of a font, for setting text
# Colour, marker and line together, so that a grey print still tells methods apart.
COLUMN, WIDTH = 3.3, 7.0  # inches: the width of a column of the paper, and of its page
LOOK = {
    "oracle": ("#000000", "o", "-"),
    "ridge_concept": ("#0072B2", "s", "-"),
    "ridge_r2": ("#D55E00", "^", "--"),
    "procrustes": ("#009E73", "D", "-."),
    "random": ("#7F7F7F", "x", ":"),
    "own": ("#0072B2", "s", "-"),
}
LABELS = {
    "unsteered": "unsteered (α = 0)",
    "oracle": "oracle: target's own vector",
    "ridge_concept": "ridge, λ by held-out concepts",
    "ridge_r2": "ridge, λ by reconstruction R²",
    "ridge_within": "ridge within questions",
    "procrustes": "Procrustes",
    "reduced_rank": "reduced-rank ridge",
    "cca": "canonical correlations",
    "residual": "zero-pad + ridge",
    "multiscale": "ridge by bands",
    "mlp": "network (one hidden layer)",
    "effect_preserving": "effect-preserving",
    "few_shot": "few-shot (two concepts)",
    "pca_projection": "PCA projection",
    "unscaled": "zero-pad, length kept",
    "norm_scaled": "zero-pad, norm-scaled",
    "zero_pad": "zero-pad / truncate",
    "interpolate": "interpolate",
    "random_projection": "random projection",
    "random": "random direction",
    "random_0": "random direction (first)",
    "shuffled_pairing": "ridge, shuffled pairing",
    "wrong_trait": "wrong trait, ridge",
    "shuffled_multiscale": "ridge by bands, shuffled pairing",
    "wrong_trait_multiscale": "wrong trait, ridge by bands",
    "nothing": "nothing (unsteered)",
    "instruction": "instruction in the prompt",
}


def use_style() -> None:
    """Print-sized text, thin spines, vector fonts; PDF bytes that depend on the data alone."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    # A PDF needs the outlines of its glyphs alone; to read and cut these tables was half of its time.
    dropped = [*getattr(Options, "_drop_tables_default", ()), *LAYOUT_TABLES]
    Options._drop_tables_default = list(dict.fromkeys(dropped))
    sns.set_theme(context="paper", style="ticks", palette="colorblind")
    mpl.rcParams.update(
        {
            "figure.dpi": 110, "savefig.dpi": 200, "savefig.bbox": "tight", "font.size": 8,
            "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "legend.fontsize": 7,
            "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
            "pdf.fonttype": 42, "svg.hashsalt": "prefvec", "axes.titlesize": 9,
        }
    )  # fmt: skip


def save(
    figure: plt.Figure, folder: Path, name: str, formats: Sequence[str] = ("pdf", "png")
) -> plt.Figure:
    """Write `name.pdf` and `name.png` atomically; the figure is given back for display."""
    for suffix in formats:
        with atomic_path(folder / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix)
    return figure


def label(method: str) -> str:
    """A method's name as a reader sees it."""
    return LABELS.get(method, method.replace("_", " "))


def wrapped(title: str) -> str:
    """A title in lines no wider than a column of the paper."""
    return textwrap.fill(title, 48)


def dose_response(
    summary: pd.DataFrame, unit: str, title: str, limit: int | None = None
) -> plt.Figure:
    """Score against signed dose, a line a method, with 95 % intervals."""
    figure, axes = plt.subplots(figsize=(COLUMN, 2.6), layout="constrained")
    base = summary[summary.method == "unsteered"].iloc[0]
    for method, look in LOOK.items():
        rows = summary[summary.method == method]
        if len(rows) < 2:
            continue
        points = pd.concat([rows, base.to_frame().T]).sort_values("dose")
        colour, marker, line = look
        values = np.array([list(e) for e in points.score], float)
        doses = points.dose.astype(float)
        axes.plot(
            doses, values[:, 0], color=colour, marker=marker, ls=line, ms=4, label=label(method)
        )
        axes.fill_between(doses, values[:, 1], values[:, 2], color=colour, alpha=0.15, lw=0)
    if limit:
        axes.axhline(limit, color="0.6", lw=0.6)
        axes.text(axes.get_xlim()[1], limit, " limit", va="center", fontsize=7, color="0.4")
    axes.axvline(0, color="0.85", lw=0.6, zorder=0)
    axes.set(xlabel="dose (lengths of the target's own vector)", ylabel=unit)
    axes.set_title(wrapped(title), fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    return figure


def efficiency_bars(
    summary: pd.DataFrame, methods: list[str], dose: float, title: str
) -> plt.Figure:
    """Transfer efficiency of each method at one dose: points with 95 % intervals."""
    rows = summary[summary.dose == dose].set_index("method").loc[methods]
    figure, axes = plt.subplots(figsize=(COLUMN, 0.19 * len(rows) + 0.8), layout="constrained")
    at = np.arange(len(rows))[::-1]
    values = np.array([list(e) for e in rows.te], float)
    shown = np.clip(values, -1.5, 2.0)
    axes.axvspan(-1.5, 0, color="0.96", zorder=0)
    axes.axvline(0, color="0.5", lw=0.8)
    axes.axvline(1, color="0.5", lw=0.8, ls="--")
    axes.hlines(at, shown[:, 1], shown[:, 2], color="#0072B2", lw=1.6)
    axes.plot(shown[:, 0], at, "o", color="#0072B2", ms=4)
    axes.set_yticks(at, [label(m) for m in methods])
    figure.supxlabel(
        "transfer efficiency (0 = random direction, 1 = target's own vector)", fontsize=7
    )
    axes.set_title(wrapped(title), fontsize=8)
    known = shown[np.isfinite(shown)]
    axes.set_xlim(min(-0.5, known.min(initial=0) - 0.1), max(1.3, known.max(initial=1) + 0.1))
    return figure


def penalty_path(rows: list[dict], best_r2: float, best_concept: float, title: str) -> plt.Figure:
    """The λ path: reconstruction R² and held-out concept cosine, with both choices marked."""
    frame = pd.DataFrame(rows)
    figure, axes = plt.subplots(figsize=(COLUMN, 2.5), layout="constrained")
    lines = [
        ("r2", "R², random folds", "#D55E00", "^", "--", best_r2),
        ("r2_styles", "R², styles held out", "#E69F00", "v", ":", None),
        ("concept_cosine", "cosine, concepts held out", "#0072B2", "s", "-", best_concept),
    ]
    for column, text, colour, marker, line, best in lines:
        axes.plot(
            frame.penalty, frame[column], color=colour, marker=marker, ls=line, ms=4, label=text
        )
        if best is not None:
            axes.axvline(best, color=colour, lw=0.8, ls=line)
    axes.set(xscale="log", ylim=(0, 1.02))
    axes.set_title(wrapped(title), fontsize=8)
    axes.set(xlabel="ridge penalty λ (mean diagonals of XᵀX)", ylabel="held-out score")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    return figure


def validation_curves(table: pd.DataFrame, sign: int, unit: str, title: str) -> plt.Figure:
    """Mean score by dose, a line a layer, with 95 % intervals over prompts."""
    steered = table[table.method == "own"].copy()
    base = table[table.method == "unsteered"]
    layers = sorted(steered.layer.unique())
    parts = [steered] + [base.assign(layer=layer) for layer in layers]
    figure, axes = plt.subplots(figsize=(4.6, 2.8))
    sns.lineplot(
        data=pd.concat(parts, ignore_index=True), x="dose", y="score", hue="layer", style="layer",
        markers=True, dashes=True, errorbar=("ci", 95), seed=0, palette="cividis", ax=axes,
    )  # fmt: skip
    axes.set(xlabel="dose (lengths of the model's own vector)", ylabel=unit, title=title)
    axes.legend(title="layer", fontsize=7, title_fontsize=7)
    return figure


def norm_profile(norms: pd.DataFrame, title: str) -> plt.Figure:
    """Length of the vector and of the residual stream by layer, on a log scale."""
    figure, axes = plt.subplots(figsize=(4.6, 2.6))
    axes.plot(
        norms.layer,
        norms.residual,
        color="0.4",
        marker="o",
        ms=3,
        ls="--",
        label="residual stream (median)",
    )
    axes.plot(norms.layer, norms.vector, color="#0072B2", marker="s", ms=3, label="steering vector")
    axes.set(yscale="log", xlabel="layer (block output)", ylabel="activation norm", title=title)
    axes.legend(fontsize=7)
    return figure


WAY_LOOK = {  # line and marker of each way of extraction
    "PCA": ("#D55E00", "^", "--"),
    "ActAdd": ("#009E73", "D", ":"),
    "mean response": ("#0072B2", "s", ""),
    "attention output": ("#CC79A7", "v", ""),
    "MLP output": ("#7F7F7F", "X", ""),
    "difference in means": ("#000000", "o", "-"),
}


def extraction_ways(table: pd.DataFrame, title: str) -> plt.Figure:
    """Ways of extraction by layer: cosine to the difference in means, and split-half cosine."""
    figure, both = plt.subplots(1, 2, figsize=(6.4, 2.7), sharey=True)
    parts = {"cosine": "cosine to the difference in means", "split_half": "split-half cosine"}
    for axes, (column, text) in zip(both, parts.items(), strict=True):
        for way, (colour, marker, line) in WAY_LOOK.items():
            rows = table[table.way == way]
            if column == "cosine" and way == "difference in means":
                continue  # 1 by definition
            axes.plot(
                rows.layer, rows[column], color=colour, marker=marker, ls=line or "none", ms=3.5,
                lw=1, label=way,
            )  # fmt: skip
        axes.axhline(0, color="0.8", lw=0.6, zorder=0)
        axes.set(xlabel="layer (block output)", title=text)
    lowest = table[["cosine", "split_half"]].min().min()
    both[0].set(ylabel="cosine", ylim=(min(-0.1, lowest - 0.1), 1.05))
    both[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    return figure


def heatmap(matrix: pd.DataFrame, title: str, unit: str) -> plt.Figure:
    """A labelled matrix with values in [0, 1]."""
    figure, axes = plt.subplots(figsize=(4.6, 0.5 * len(matrix) + 1.2))
    sns.heatmap(
        matrix,
        annot=True,
        fmt=".2f",
        vmin=0,
        vmax=1,
        cmap="cividis",
        ax=axes,
        cbar_kws={"label": unit},
    )
    axes.set_title(title)
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=30)
    return figure
