"""Hypothesis A, magnitude: the direction is right and the scale is wrong.

Directions are added over two orders of magnitude of lengths. The scale is chosen on the selection split,
what it does is read on the evaluation split, against random directions of the same length.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from prefvec.adapters import make_adapter
from prefvec.adapters.direct import zero_padded
from prefvec.diagnostics.gains import (
    WORKS,
    Conclusion,
    Effects,
    Outcome,
    effects_of,
    random_effects,
)
from prefvec.diagnostics.outliers import held_by, outlier_dimensions, without
from prefvec.effects import RANDOM_NAME
from prefvec.metrics.coherence import distinct_bigrams
from prefvec.stats import difference, gain_over_random, mean_ci
from prefvec.study import Study
from prefvec.transfer.methods import UNSCALED, MapFits, reference_directions, with_length
from prefvec.transfer.sites import MAX_COLLAPSE
from prefvec.transfer.sweep import ORACLE, UNSTEERED, Site, sweep

TRIMMED = "_trimmed"  # suffix of a direction without outlier dimensions
DIRECT = ("zero_pad", "zero_pad_trimmed", "random_projection")  # the candidates of the hypothesis
SWEEP_RANDOM = (
    2  # random directions at each scale of the sweep; all of them on the evaluation split
)
STATEMENT = (
    "Direct transfer loses effect because the right direction is written at the wrong scale."
)
RULE = (
    "The direct direction (zero-padding, the same without outlier dimensions, random projection) and "
    "its scale are chosen on the selection split: the largest effect above random directions of the "
    f"same length with at most {MAX_COLLAPSE:.0%} collapsed answers. On the evaluation split, with "
    "each direction at its own scale, it works if its gain over random has a 95 % interval above 0, "
    f"is at least {WORKS:g} of the own vector's gain, and at most {MAX_COLLAPSE:.0%} of the answers "
    "collapse. Supported: it works, and the source vector at its own length (unscaled) does not. "
    f"Rejected: its share of the own vector's gain lies below {WORKS:g} by its interval, or the unscaled "
    "vector works too, so that there is no loss to explain. Undecided: anything else, or an own vector "
    "that does not beat random directions."
)


def scaled_directions(study: Study, site: Site) -> dict[str, np.ndarray]:
    """Direct and mapped directions, their controls and the references, at the target's own length.

    A trimmed direction lacks the outlier dimensions of the target's layer, and where it was not mapped
    those of the source's; there is none where neither has any.
    """
    layers = (site.layer_source, site.layer_target)
    fit = MapFits(study, layers)
    vector = study.vector(study.source).at(layers[0])
    width = fit.y.shape[1]
    source_dims, target_dims = outlier_dimensions(fit.x), outlier_dimensions(fit.y)
    projection = make_adapter("random_projection", seed=study.settings.seed).fit(fit.x, fit.y)
    references = reference_directions(study, layers[1])
    mapped = {
        "ridge_concept": fit.concept.map(vector),
        "shuffled_pairing": fit.shuffled.map(vector),
        "zero_pad": zero_padded(vector, width),
        "random_projection": projection.map(vector),
    }
    trimmed = {"zero_pad": zero_padded(without(vector, source_dims), width)}
    trimmed |= {"ridge_concept": mapped["ridge_concept"], ORACLE: references[ORACLE]}
    if len(source_dims) or len(target_dims):
        mapped |= {name + TRIMMED: without(v, target_dims) for name, v in trimmed.items()}
    length = np.linalg.norm(references[ORACLE])
    return references | {name: with_length(v, length) for name, v in mapped.items()}


def scale_sweep(study: Study, site: Site, directions: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Answers to the selection questions at every scale of `settings.scales`: all directions but the
    trimmed maps, and the first `SWEEP_RANDOM` random ones."""
    left_out = _randoms(directions)[SWEEP_RANDOM:]
    left_out += [m for m in directions if m.endswith(TRIMMED) and m not in DIRECT]
    names = [m for m in directions if m not in left_out]
    cells = [(name, scale) for name in names for scale in study.settings.scales]
    return _answers(study, site, directions, cells, "selection")


def summarise_scales(
    study: Study, answers: pd.DataFrame, split: str, residual: float, length: float
) -> pd.DataFrame:
    """One row a (method, scale): n, residual_share (length added over the residual stream's median
    norm), effect (an `Estimate`), random (mean effect of random directions of this length), specific
    (effect minus random), collapse, distinct_bigrams (mean of the answers that have bigrams).

    residual: median norm of the residual stream at the target layer; length: of the own vector.
    """
    effects = effects_of(study, answers, split)
    cells = answers.assign(
        scale=answers.dose.abs(), distinct=[distinct_bigrams(t) for t in answers.text]
    ).groupby(["method", "scale"])
    coherence = cells.agg(collapse=("collapsed", "mean"), distinct_bigrams=("distinct", "mean"))
    rows = []
    for (method, scale), effect in effects.items():
        noise = float(random_effects(effects, scale).mean())
        rows.append(
            {
                "method": method,
                "scale": scale,
                "n": len(effect),
                "residual_share": scale * length / residual,
                "effect": mean_ci(effect, study.settings.seed),
                "random": noise,
                "specific": float(effect.mean()) - noise,
                **coherence.loc[method, scale].to_dict(),
            }
        )
    return pd.DataFrame(rows)


def choose_scales(table: pd.DataFrame) -> dict[str, float]:
    """For each method the scale with the largest `specific` effect among those with at most 10 %
    collapsed answers (the least collapse if there is none)."""
    chosen = {}
    for method, rows in table[~table.method.str.fullmatch(RANDOM_NAME.pattern)].groupby(
        "method", sort=False
    ):
        coherent = rows[rows.collapse <= MAX_COLLAPSE]
        if coherent.empty:
            coherent = rows[rows.collapse == rows.collapse.min()]
        chosen[method] = float(coherent.scale[coherent.specific.idxmax()])
    return chosen


def choose_direct(table: pd.DataFrame, scales: Mapping[str, float]) -> str:
    """The direct direction with the largest specific effect at its chosen scale, coherent ones first."""
    at = table.set_index(["method", "scale"])
    rows = {m: at.loc[(m, scales[m])] for m in DIRECT if m in scales}
    return max(rows, key=lambda m: (rows[m].collapse <= MAX_COLLAPSE, rows[m].specific))


def evaluate_scales(
    study: Study, site: Site, directions: Mapping[str, np.ndarray], scales: Mapping[str, float]
) -> pd.DataFrame:
    """Answers to the evaluation questions, each method at its own scale; the trimmed maps at the scale of
    the whole ones; `unscaled`, the zero-padded source vector at its own length and the site's dose; and
    all random directions at each of these scales. `dose` is in lengths of the target's own vector."""
    cells = [(name, scale) for name, scale in scales.items()]
    cells += [
        (name + TRIMMED, scales[name])
        for name in ("zero_pad", "ridge_concept", ORACLE)
        if name + TRIMMED in directions and (name + TRIMMED, scales[name]) not in cells
    ]
    cells.append((UNSCALED, unscaled_scale(study, site)))
    at = sorted({scale for _, scale in cells})
    cells += [(name, scale) for scale in at for name in _randoms(directions)]
    every = {**directions, UNSCALED: directions["zero_pad"]}
    return _answers(study, site, every, cells, "evaluation")


def unscaled_scale(study: Study, site: Site) -> float:
    """What the source vector at its own length, at the site's dose, is in lengths of the target's own."""
    width = study.target.width
    source = zero_padded(study.vector(study.source).at(site.layer_source), width)
    return float(
        site.dose * np.linalg.norm(source) / study.vector(study.target).norm(site.layer_target)
    )


def outcomes(
    study: Study, answers: pd.DataFrame, scales: Mapping[str, float]
) -> dict[str, Outcome]:
    """What each direction does on the evaluation split at its own scale, against random directions
    there and as a share of what the own vector does at its own."""
    effects = effects_of(study, answers, "evaluation")
    own = effects[ORACLE, scales[ORACLE]]
    own_random = random_effects(effects, scales[ORACLE])
    collapse = answers.groupby(["method", answers.dose.abs()]).collapsed.mean()
    return {
        method: Outcome(
            found.gain, found.share, float(collapse[method, scale])
        )
        for method, scale in scales.items()
        for found in [
            gain_over_random(
                effects[method, scale], random_effects(effects, scale), own, own_random,
                study.settings.seed,
            )
        ]
    }  # fmt: skip


def trimming(
    study: Study,
    site: Site,
    effects: Effects,
    directions: Mapping[str, np.ndarray],
    scales: Mapping[str, float],
) -> pd.DataFrame:
    """What it does to take the outlier dimensions out of a direction and restore its length.

    One row a method, at its chosen scale: method, scale, held (share of the squared length in the
    target's outlier dimensions), whole and trimmed (effects, `Estimate`s), difference (trimmed minus
    whole, paired). Empty where there are no outlier dimensions.
    """
    dimensions = outlier_dimensions(study.alignment.target[site.layer_target])
    rows, seed = [], study.settings.seed
    for method in ("zero_pad", "ridge_concept", ORACLE):
        scale = scales[method]
        if (method + TRIMMED, scale) not in effects:
            continue
        whole, trimmed = effects[method, scale], effects[method + TRIMMED, scale]
        rows.append(
            {
                "method": method,
                "scale": scale,
                "held": held_by(directions[method], dimensions),
                "whole": mean_ci(whole, seed),
                "trimmed": mean_ci(trimmed, seed),
                "difference": difference(trimmed, whole, seed),
            }
        )
    return pd.DataFrame(rows, columns=["method", "scale", "held", "whole", "trimmed", "difference"])


def conclude(direct: str, found: Mapping[str, Outcome]) -> Conclusion:
    """The verdict of `RULE` from the outcomes of the chosen direct direction, `unscaled` and the oracle."""
    own, best, as_it_is = found[ORACLE], found[direct], found[UNSCALED]
    if not own.gain.low > 0:
        reason = f"the own vector's gain over random directions is {own.gain.in_words()}"
        return Conclusion("undecided", reason, RULE)
    said = (
        f"{direct} at its best scale: {best.share.in_words()} of the own vector's gain, "
        f"{best.collapse:.0%} collapsed; unscaled: {as_it_is.share.in_words()}, "
        f"{as_it_is.collapse:.0%} collapsed"
    )
    if best.fails or (best.works and as_it_is.works):
        return Conclusion("rejected", said, RULE)
    return Conclusion("supported" if best.works else "undecided", said, RULE)


def _answers(study, site, directions, cells, split) -> pd.DataFrame:
    conditions = [(UNSTEERED, None, site.layer_target, 0.0)] + [
        (name, directions[name], site.layer_target, study.trait.sign * scale)
        for name, scale in cells
    ]
    return sweep(study, study.target, conditions, split)


def _randoms(directions: Mapping[str, np.ndarray]) -> list[str]:
    return [m for m in directions if RANDOM_NAME.fullmatch(m)]
