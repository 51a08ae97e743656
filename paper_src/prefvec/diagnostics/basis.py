"""Hypothesis B, basis: the direction is there, and rotated.

At the cell's site and dose, directions in the source's own coordinates are held against maps that
change the basis; beside effects stand what the two spaces share and what a cosine is worth.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from prefvec.diagnostics.gains import (
    WORKS,
    Conclusion,
    Effects,
    Outcome,
    effects_of,
    random_effects,
)
from prefvec.diagnostics.outliers import outlier_dimensions, without
from prefvec.diagnostics.spaces import (
    Angles,
    Calibrated,
    Shared,
    Whitener,
    calibrated_cka,
    coordinate_angles,
    crossed_orders,
    row_angles,
    share_of_length,
    shared_directions,
)
from prefvec.stats import RESAMPLES, UNKNOWN, Estimate, difference, gain_over_random
from prefvec.study import Study
from prefvec.transfer.methods import DIRECT, LEARNED
from prefvec.transfer.sites import MAX_COLLAPSE
from prefvec.transfer.sweep import ORACLE, Site
from prefvec.vectors import cosine

RAW = ("zero_pad", "interpolate")  # the source's own coordinates
MAPS = ("procrustes", "ridge_concept", "cca")  # changes of basis, learned from ordinary prompts
CONTROL = "shuffled_pairing"
COMPARED = (*DIRECT, *LEARNED, CONTROL)  # the same vector, carried in different ways
COSINES = ("cosine", "whitened", "trimmed")
STATEMENT = (
    "Direct transfer loses effect because the target writes the same direction in another basis."
)
RULE = (
    "All directions at the site and dose of the cell, on the evaluation split. A direction works if its "
    "gain over random directions of the same length has a 95 % interval above 0, is at least "
    f"{WORKS:g} of the own vector's gain, and at most {MAX_COLLAPSE:.0%} of the answers collapse. "
    "Supported: neither zero_pad nor interpolate works, and one of procrustes, ridge_concept and cca "
    "works and does more than zero_pad, interpolate and the shuffled pairing, each by a paired interval "
    "above 0 (not corrected for three maps); a rotation if procrustes is among them, else a linear change "
    "of basis. Rejected: zero_pad or interpolate works, so that there is no loss to explain, or every one "
    f"of the three maps has less than {WORKS:g} of the own vector's gain by its interval. Undecided: "
    "anything else, or an own vector that does not beat random directions."
)


class Spaces(NamedTuple):
    """What two spaces have in common at the site's layers, on the alignment prompts."""

    n: int
    cka: Calibrated
    rows: Angles
    coordinates: Angles
    shared: Shared


def compare_spaces(study: Study, site: Site) -> Spaces:
    """CKA, principal angles and canonical directions between the layers of a site, each against a
    permutation null that keeps styles and questions whole."""
    alignment, seed = study.alignment, study.settings.seed
    x, y = alignment.source[site.layer_source], alignment.target[site.layer_target]
    orders = crossed_orders(alignment.styles, alignment.questions, seed)
    return Spaces(
        len(x),
        calibrated_cka(x, y, orders),
        row_angles(x, y, orders),
        coordinate_angles(x, y, seed),
        shared_directions(x, y, alignment.styles, alignment.questions, seed),
    )


def shared_parts(study: Study, site: Site, shared: Shared) -> pd.DataFrame:
    """How much of a vector lies in the shared subspace of its own model.

    One row a vector (the source's, the control trait's in the source, the target's own): vector, length
    (share of the squared length in the span of the loadings), whitened (the same after whitening, in the
    span of the weights), tried (share of the length in the axes that canonical directions were made of),
    chance (share of the length of a random direction: directions over width).
    """
    source, target = site.layer_source, site.layer_target
    x, y = study.alignment.source[source], study.alignment.target[target]
    vectors = [
        ("source", study.vector(study.source).at(source), x, shared.source),
        ("wrong_trait", study.vector(study.source, study.control_trait).at(source), x, shared.source),
        (ORACLE, study.vector(study.target).at(target), y, shared.target),
    ]  # fmt: skip
    whiten = {id(rows): Whitener(rows) for rows in (x, y)}
    rows = []
    for name, vector, activations, (weights, loadings) in vectors:
        w = whiten[id(activations)]
        rows.append(
            {
                "vector": name,
                "length": share_of_length(vector, loadings[:, shared.kept]),
                "whitened": share_of_length(w(vector), w.weights(weights[:, shared.kept])),
                "tried": share_of_length(vector, loadings),
                "chance": int(shared.kept.sum()) / len(vector),
            }
        )
    return pd.DataFrame(rows)


def cosines_to_own(
    study: Study, site: Site, directions: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, float]:
    """Cosine of each carried direction with the target's own vector, a row a method of `COMPARED`: raw;
    whitened by the covariance of the target's alignment activations; trimmed, without the target's
    outlier dimensions. Also the shrinkage of the covariance."""
    rows = study.alignment.target[site.layer_target]
    whiten, dimensions = Whitener(rows), outlier_dimensions(rows)
    own = directions[ORACLE]
    table = [
        {
            "method": name,
            "cosine": cosine(directions[name], own),
            "whitened": cosine(whiten(directions[name]), whiten(own)),
            "trimmed": cosine(without(directions[name], dimensions), without(own, dimensions)),
        }
        for name in COMPARED
    ]
    return pd.DataFrame(table), float(whiten.shrinkage)


def outcomes(study: Study, answers: pd.DataFrame, dose: float) -> dict[str, Outcome]:
    """What every direction does on the evaluation split at one unsigned dose."""
    effects = effects_of(study, answers, "evaluation")
    noise, own = random_effects(effects, dose), effects[ORACLE, dose]
    collapse = answers.groupby(["method", answers.dose.abs()]).collapsed.mean()
    out = {}
    for method in (ORACLE, *COMPARED):
        found = gain_over_random(effects[method, dose], noise, own, noise, study.settings.seed)
        out[method] = Outcome(found.gain, found.share, float(collapse[method, dose]))
    return out


def paired_gains(effects: Effects, dose: float, seed: int) -> dict[str, dict[str, Estimate]]:
    """Effect of each map minus that of each raw direction and of the shuffled pairing, paired."""
    return {
        m: {
            other: difference(effects[m, dose], effects[other, dose], seed)
            for other in (*RAW, CONTROL)
        }
        for m in MAPS
    }


def rank_correlation(likeness: np.ndarray, effects: np.ndarray, seed: int = 0) -> Estimate:
    """Spearman's correlation over methods of a likeness `[m]` with the mean effect of `[m, n]`; the
    interval resamples methods and prompts. NaN where either is the same for all methods."""
    generator = np.random.default_rng(seed)
    m, n = effects.shape
    methods = generator.integers(m, size=(RESAMPLES, m))
    prompts = generator.integers(n, size=(RESAMPLES, n))
    means = np.stack([effects[:, chosen].mean(axis=1) for chosen in prompts])
    drawn = _spearman(likeness[methods], np.take_along_axis(means, methods, axis=1))
    value = float(_spearman(likeness[None], effects.mean(axis=1)[None])[0])
    if np.isnan(value):
        return UNKNOWN
    drawn = np.where(np.isnan(drawn), -1.0, drawn)  # all alike: count it against the claim
    low, high = np.percentile(drawn, [2.5, 97.5], method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def cosine_predicts(
    study: Study, table: pd.DataFrame, effects: Effects, dose: float
) -> dict[str, Estimate]:
    """`rank_correlation` of each kind of cosine with the effect, over the methods of the table."""
    moved = np.stack([effects[method, dose] for method in table.method])
    return {k: rank_correlation(table[k].to_numpy(), moved, study.settings.seed) for k in COSINES}


def conclude(
    found: Mapping[str, Outcome], gains: Mapping[str, Mapping[str, Estimate]]
) -> Conclusion:
    """The verdict of `RULE` from outcomes at one dose and the maps' paired gains."""
    own = found[ORACLE]
    if not own.gain.low > 0:
        reason = f"the own vector's gain over random directions is {own.gain.in_words()}"
        return Conclusion("undecided", reason, RULE)
    said = ", ".join(f"{m} {found[m].share.in_words()}" for m in (*RAW, *MAPS))
    said = f"share of the own vector's gain: {said}"
    if any(found[m].works for m in RAW):
        return Conclusion("rejected", f"{said}; the raw direction works", RULE)
    carried = carrying_maps(found, gains)
    if carried:
        form = "a rotation" if "procrustes" in carried else "a linear change of basis, no rotation"
        return Conclusion("supported", f"{said}; {form} ({', '.join(carried)})", RULE)
    failed = all(found[m].fails for m in MAPS)
    return Conclusion("rejected" if failed else "undecided", said, RULE)


def carrying_maps(
    found: Mapping[str, Outcome], gains: Mapping[str, Mapping[str, Estimate]]
) -> list[str]:
    """The maps that work and do more than the raw directions and the shuffled pairing."""
    return [m for m in MAPS if found[m].works and all(g.low > 0 for g in gains[m].values())]


def _spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of rows `[r, m]`; NaN where a row is constant."""
    x, y = (rankdata(values, axis=1) for values in (a, b))
    x, y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
