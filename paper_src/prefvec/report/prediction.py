"""Can transfer efficiency be foretold before the target has generated a single answer?

What is known by then of a cell: how well maps carry held-out styles (cosine), how alike the two layers are
(debiased CKA, whose mean under permutation is 0), how much of the tokenizers' vocabularies is shared, and
how well the vector steers its own model. Both directions of a pair of models are left out together: they
share the likeness and the tokenizers.
"""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prefvec.report.cells import Gathered, arrow, bounded, own_vector, pair_folder, short
from prefvec.report.figures import COLUMN
from prefvec.stats import UNKNOWN, Estimate, mean_ci
from prefvec.store import read_json

PREDICTORS = {
    "concepts": "cosine of held-out styles",
    "likeness": "CKA of the layers",
    "tokenizers": "shared vocabulary",
    "strength": "source's direction score",
}
PENALTY = 1.0  # of the ridge regression on standardised predictors, set before it was run
MIN_CELLS = 8


class Prediction(NamedTuple):
    """rows: one a cell with a value: source, target, trait, the predictors, efficiency, and what was
    foretold by `trait` (mean of the trait over the other pairs) and `all` (that and the predictors);
    error: mean absolute error by the same names; gain: error of `trait` less that of `all`; rank:
    Spearman's correlation of `all` with what was found; verdict: beats, does not beat, undecided."""

    rows: pd.DataFrame
    error: dict[str, Estimate]
    gain: Estimate
    rank: float
    verdict: str


def known_before(study: Gathered, cells: pd.DataFrame) -> pd.DataFrame:
    """The predictors of every cell (`cells` as from `pair_cells`); NaN where a stage has not run."""
    rows = []
    for cell in cells.to_dict("records"):
        pair, trait = (cell["source"], cell["target"]), cell["trait"]
        row = {"source": pair[0], "target": pair[1], "trait": trait}
        row |= dict.fromkeys(PREDICTORS, np.nan)
        folder = pair_folder(study.profile, pair, trait)
        own = own_vector(study.profile, pair[0], trait)
        if (folder / "manifest_04.json").exists() and (folder / "manifest_03.json").exists():
            direct = read_json(folder / "manifest_03.json")
            site, cka = direct["site"], direct["cka"]
            at = (
                cka["index"].index(site["layer_source"]),
                cka["columns"].index(site["layer_target"]),
            )
            row["likeness"] = cka["data"][at[0]][at[1]]
            row["tokenizers"] = direct["strategy"]["tokenizer"]
            path = read_json(folder / "manifest_04.json")["path"]
            row["concepts"] = max(point["concept_cosine"] for point in path)
        if own:
            row["strength"] = own["h1_direction"][0]
        rows.append(row)
    return pd.DataFrame(rows)


def predict(study: Gathered, cells: pd.DataFrame, method: str, seed: int = 0) -> Prediction:
    """Foretell a method's efficiency (within ± 1.5) in each cell from the cells of other pairs.

    The verdict is `beats` if the gain's interval (cells resampled) lies above 0, `does not beat` if it
    does not, `undecided` for fewer than 8 cells or two pairs of models.
    """
    between = {end: [getattr(e, end) for e in cells[method]] for end in ("low", "high")}
    rows = known_before(study, cells).assign(efficiency=bounded(cells, method), **between)
    rows = rows.dropna(subset=[*PREDICTORS, "efficiency"]).reset_index(drop=True)
    group = pd.Series(
        [frozenset(p) for p in zip(rows.source, rows.target, strict=True)], dtype=object
    )
    if len(rows) < MIN_CELLS or group.nunique() < 2:
        return Prediction(rows, {"trait": UNKNOWN, "all": UNKNOWN}, UNKNOWN, np.nan, "undecided")
    rows[["trait_mean", "foretold"]] = np.nan
    for left_out in group.unique():
        test = (group == left_out).to_numpy()
        train = rows[~test]
        # Both sides as deviations from the trait's mean: the trait's part is not penalised.
        columns = [*PREDICTORS, "efficiency"]
        means = train.groupby("trait")[columns].mean().reindex(rows.trait.unique())
        means = means.fillna(train[columns].mean()).loc[rows.trait].to_numpy()
        apart = rows[columns].to_numpy() - means
        model = make_pipeline(StandardScaler(), Ridge(PENALTY))
        model.fit(apart[~test, :-1], apart[~test, -1])
        rows.loc[test, "trait_mean"] = means[test, -1]
        rows.loc[test, "foretold"] = means[test, -1] + model.predict(apart[test, :-1])
    wrong = {
        "trait": (rows.efficiency - rows.trait_mean).abs(),
        "all": (rows.efficiency - rows.foretold).abs(),
    }
    gain = mean_ci((wrong["trait"] - wrong["all"]).to_numpy(), seed)
    error = {name: mean_ci(values.to_numpy(), seed) for name, values in wrong.items()}
    rank = float(spearmanr(rows.foretold, rows.efficiency).statistic)
    return Prediction(rows, error, gain, rank, "beats" if gain.low > 0 else "does not beat")


def prediction_numbers(found: Prediction) -> dict[str, object]:
    """By number key: cells, errors, gain, rank correlation, verdict."""
    return {
        "prediction.n": len(found.rows),
        "prediction.error.trait": found.error["trait"],
        "prediction.error.all": found.error["all"],
        "prediction.gain": found.gain,
        "prediction.rank": found.rank,
        "prediction.verdict": found.verdict,
    }


def prediction_figure(rows: pd.DataFrame) -> plt.Figure:
    """rows: of a `Prediction`. Found against foretold efficiency, one mark a cell with its 95 % interval,
    by trait; the line is a perfect prediction."""
    figure, axes = plt.subplots(figsize=(COLUMN, 3.3), layout="constrained")
    looks = [("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "D"), ("#CC79A7", "v"), ("0.4", "o")]
    if "foretold" in rows:
        beside = rows.foretold.rank(method="first") % 2 == 0  # neighbours on two sides
        for i, (trait, part) in enumerate(rows.groupby("trait", sort=False)):
            colour, marker = looks[i % len(looks)]
            axes.vlines(part.foretold, part.low, part.high, color=colour, lw=1, alpha=0.35)
            axes.plot(part.foretold, part.efficiency, marker, color=colour, ms=5, label=trait)
            for row in part.itertuples():
                text = f"{short(row.source)[0]}→{short(row.target)[0]}"
                at = (4, 2) if beside[row.Index] else (-17, -6)
                axes.annotate(text, (row.foretold, row.efficiency), at, textcoords="offset points", fontsize=6)  # fmt: skip
        ends = [rows[["foretold", "efficiency"]].min().min(), rows[["foretold", "efficiency"]].max().max()]  # fmt: skip
        axes.plot(ends, ends, color="0.6", lw=0.8, ls="--", zorder=0)
        figure.legend(loc="outside upper center", ncols=3, fontsize=7)
    else:
        axes.text(0.5, 0.5, "too few cells", transform=axes.transAxes, ha="center")
    axes.set(xlabel="foretold transfer efficiency", ylabel="transfer efficiency found")
    return figure


def prediction_frame(found: Prediction) -> pd.DataFrame:
    """Every cell: predictors, what was found, what was foretold."""
    frame = found.rows.drop(columns=["source", "target", "low", "high"])
    pairs = [arrow(row.source, row.target) for row in found.rows.itertuples()]
    return frame.rename(columns=PREDICTORS).assign(pair=pairs).set_index("pair").round(2)
