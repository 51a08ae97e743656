"""Where a vector is read and written, and how strongly: chosen on the selection split alone."""

import numpy as np
import pandas as pd

from prefvec.models.load import LoadedModel
from prefvec.study import Study
from prefvec.transfer.methods import MapFits, reference_directions, with_length
from prefvec.transfer.sweep import ORACLE, UNSTEERED, Site, sweep

SITE_RANDOM = 1  # random directions among the controls of a candidate site
MAX_COLLAPSE = 0.1  # a layer or dose is only chosen if at most this share of answers collapses


def validate(study: Study, loaded: LoadedModel) -> tuple[pd.DataFrame, dict]:
    """Steer a model with its own vector over candidate layers and doses, on the selection split.

    Returns the answers and the choice {layer, dose, effect, collapse}: the largest effect among
    settings where at most 10 % of the answers collapse (the least collapse if there is none).
    """
    layers = study.candidate_layers(loaded)
    vector = study.vector(loaded)
    sign = study.trait.sign
    conditions = [(UNSTEERED, None, -1, 0.0)] + [
        ("own", vector.at(layer), layer, sign * dose)
        for layer in layers
        for dose in study.settings.doses
    ]
    table = sweep(study, loaded, conditions, "selection")
    best = best_cell(_cells(table, "own", sign), "effect")
    choice = {
        "layer": int(best.layer),
        "dose": float(abs(best.dose)),
        "effect": float(best.effect),
        "collapse": float(best.collapse),
        "unsteered": float(table[table.method == UNSTEERED].score.mean()),
    }
    return table, choice


def choose_site(study: Study) -> tuple[Site, pd.DataFrame]:
    """Layer and dose of a pair, by transfer itself on the selection split.

    For each candidate depth (target layer at the source layer's proportional depth) and dose, the
    target is steered by the ridge map whose λ was chosen on held-out styles, and by controls of the
    same length: the same ridge fitted on shuffled pairs, and random directions. The *specific* effect
    is the map's minus the controls' mean where that is positive; the largest with at most 10 %
    collapsed answers wins. A dose at which any direction has the effect is no evidence of transfer,
    however large the effect; one that breaks the controls' answers is none either.
    Neither the target's own best layer nor any evaluation prompt is looked at. Returns the site and
    one row a candidate.
    """
    sign = study.trait.sign
    conditions = [(UNSTEERED, None, -1, 0.0)]
    for layers in study.layer_pairs():
        fit = MapFits(study, layers)
        vector = study.vector(study.source).at(layers[0])
        mapped = {
            "ridge_concept": fit.concept.map(vector),
            "shuffled_pairing": fit.shuffled.map(vector),
        }
        references = reference_directions(study, layers[1])
        length = np.linalg.norm(references.pop(ORACLE))
        directions = {name: with_length(v, length) for name, v in mapped.items()}
        directions |= dict(list(references.items())[:SITE_RANDOM])
        conditions += [
            (name, direction, layers[1], sign * dose)
            for name, direction in directions.items()
            for dose in study.settings.doses
        ]
    table = sweep(study, study.target, conditions, "selection")
    cells = specific_effects(table, "ridge_concept", sign)
    best = best_cell(cells, "specific")
    source_layer = {target: source for source, target in study.layer_pairs()}
    return Site(source_layer[int(best.layer)], int(best.layer), abs(float(best.dose))), cells


def specific_effects(table: pd.DataFrame, method: str, sign: int) -> pd.DataFrame:
    """A method's effect by layer and dose, its controls' mean effect (`control`), and what the method has
    beyond it (`specific`): a control that moves the score the other way takes nothing off."""
    keys = ["layer", "dose"]
    cells = _cells(table, method, sign).set_index(keys)
    others = [m for m in table.method.unique() if m not in (method, UNSTEERED)]
    controls = pd.concat([_cells(table, m, sign).set_index(keys).effect for m in others], axis=1)
    cells["control"] = controls.mean(axis=1)
    cells["specific"] = cells.effect - cells.control.clip(lower=0)
    return cells.reset_index()


def _cells(table: pd.DataFrame, method: str, sign: int) -> pd.DataFrame:
    """Mean effect and collapse rate of a method by layer and dose."""
    base = table[table.method == UNSTEERED].score.mean()
    chosen = table[table.method == method].groupby(["layer", "dose"])
    cells = chosen.agg(score=("score", "mean"), collapse=("collapsed", "mean")).reset_index()
    return cells.assign(effect=sign * (cells.score - base))


def best_cell(cells: pd.DataFrame, by: str) -> pd.Series:
    """The row with the largest value of a column among those with at most 10 % collapsed answers (column
    `collapse`), or with the least collapse if there is none."""
    coherent = cells[cells.collapse <= MAX_COLLAPSE]
    if coherent.empty:
        coherent = cells[cells.collapse == cells.collapse.min()]
    return coherent.loc[coherent[by].idxmax()]
