"""The transfer experiment: every method's direction, at the same layer and the same lengths.

A method is a direction in the target's residual stream. All directions are scaled to the length of
the target's own vector, so a dose of 1 adds a vector of that length whatever the method; doses are
signed towards the trait's positive pole. What differs between methods is direction alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.adapters import (
    Interpolate,
    Procrustes,
    RandomProjection,
    Ridge,
    RidgePath,
    ZeroPad,
    ridge_path,
)
from prefvec.generation import Generation, Request, generate
from prefvec.metrics.coherence import is_collapsed
from prefvec.metrics.trait import trait_scores
from prefvec.models.load import LoadedModel
from prefvec.steering import Steer
from prefvec.study import Study

UNSTEERED, ORACLE, INSTRUCTION = "unsteered", "oracle", "instruction"
DIRECT = ("zero_pad", "interpolate", "random_projection")
SITE_RANDOM = 1  # random directions among the controls of a candidate site
MAX_COLLAPSE = 0.1  # a layer or dose is only chosen if at most this share of answers collapses


class Site(NamedTuple):
    """Where a pair is read and written, and how strongly: chosen without evaluation prompts."""

    layer_source: int
    layer_target: int
    dose: float  # magnitude, in own-vector lengths


class Maps(NamedTuple):
    """Mapped vectors `[d_target]` by method, as the maps give them, and what is known of the fits."""

    directions: dict[str, np.ndarray]
    diagnostics: dict[str, dict[str, float]]
    path: RidgePath


def sweep(
    study: Study,
    loaded: LoadedModel,
    conditions: Sequence[tuple[str, np.ndarray | None, int, float]],
    split: str,
    instruction: bool = False,
) -> pd.DataFrame:
    """Generate and score answers for every condition and prompt of a split.

    conditions: (method, vector `[d]` or None, layer, signed coefficient in units of the vector).
    Returns one row an answer: method, layer, dose, question, text, n_tokens, finish, score,
    collapsed. With `instruction`, rows asked for the trait in words are added.
    """
    questions = study.splits[split]
    requests, index = [], []
    for method, vector, layer, dose in conditions:
        steers = () if vector is None else (Steer(np.float32(vector), layer, dose),)
        for question in questions:
            requests.append(Request(study.plain_prompt(loaded, question), steers))
            index.append((method, layer, dose, question))
    if instruction:
        for question in questions:
            requests.append(Request(study.instructed_prompt(loaded, question)))
            index.append((INSTRUCTION, -1, 0.0, question))
    answers = generate(
        loaded, requests, study.settings.max_new_tokens, store=study.store, label=f"steer {split}"
    )
    table = pd.DataFrame(index, columns=["method", "layer", "dose", "question"])
    for field in Generation._fields:
        table[field] = [getattr(answer, field) for answer in answers]
    table["collapsed"] = [is_collapsed(text) for text in table.text]
    # Likelihood scores come from the pair's other model: no model marks its own work.
    other = study.judge_of(loaded) if study.trait.measure == "likelihood" else None
    table["score"] = trait_scores(
        study.trait, list(table.question), list(table.text), list(table.n_tokens),
        study.settings.max_new_tokens, judge=other, store=study.store,
        classifier=study.classifier if study.trait.measure == "classifier" else None,
    )  # fmt: skip
    return table


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
    best = _best(_cells(table, "own", sign), "effect")
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
    is the map's minus the controls' mean; the largest with at most 10 % collapsed answers wins. A dose
    at which any direction has the effect is no evidence of transfer, however large the effect.
    Neither the target's own best layer nor any evaluation prompt is looked at. Returns the site and
    one row a candidate.
    """
    sign = study.trait.sign
    conditions = [(UNSTEERED, None, -1, 0.0)]
    for layers in study.layer_pairs():
        fit = _Fit(study, layers)
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
    best = _best(cells, "specific")
    source_layer = {target: source for source, target in study.layer_pairs()}
    return Site(source_layer[int(best.layer)], int(best.layer), abs(float(best.dose))), cells


def specific_effects(table: pd.DataFrame, method: str, sign: int) -> pd.DataFrame:
    """A method's effect by layer and dose, its controls' mean effect, and the difference (`specific`)."""
    keys = ["layer", "dose"]
    cells = _cells(table, method, sign).set_index(keys)
    others = [m for m in table.method.unique() if m not in (method, UNSTEERED)]
    controls = pd.concat([_cells(table, m, sign).set_index(keys).effect for m in others], axis=1)
    cells["control"] = controls.mean(axis=1)
    cells["specific"] = cells.effect - cells.control
    return cells.reset_index()


def reference_directions(study: Study, layer: int) -> dict[str, np.ndarray]:
    """The oracle (the target's own vector) and norm-matched random directions at a layer."""
    own = study.vector(study.target).at(layer)
    out = {ORACLE: own}
    for i in range(study.settings.n_random):
        generator = np.random.default_rng([study.settings.seed, i, len(own)])
        out[f"random_{i}"] = with_length(generator.normal(size=len(own)), np.linalg.norm(own))
    return out


def direct_methods(study: Study, site: Site) -> dict[str, np.ndarray]:
    """Width changes that learn nothing, with the references, all at the oracle's length."""
    source = study.vector(study.source).at(site.layer_source)
    widths = np.zeros((1, study.source.width)), np.zeros((1, study.target.width))
    return _scaled(
        reference_directions(study, site.layer_target),
        {
            "zero_pad": ZeroPad().fit(*widths).map(source),
            "interpolate": Interpolate().fit(*widths).map(source),
            "random_projection": RandomProjection(study.settings.seed).fit(*widths).map(source),
        },
    )


def learned_methods(study: Study, site: Site) -> tuple[dict[str, np.ndarray], Maps]:
    """Maps fitted on ordinary prompts and their controls, with the references, all at the oracle's
    length; and the maps as they are."""
    maps = fit_maps(study, (site.layer_source, site.layer_target))
    return _scaled(reference_directions(study, site.layer_target), maps.directions), maps


def fit_maps(study: Study, layers: tuple[int, int]) -> Maps:
    """Fit every learned map between two layers and map the source vector through it.

    `ridge_concept` and `ridge_r2` differ in how λ was chosen. Controls: `shuffled_pairing` (same
    ridge, rows of the target in random order), `wrong_trait` (another trait through the same map).
    """
    source, target = layers
    vector = study.vector(study.source).at(source)
    wrong = study.vector(study.source, study.control_trait).at(source)
    fit = _Fit(study, layers)
    fits = {
        "ridge_concept": fit.concept,
        "ridge_r2": Ridge(fit.path.best_r2).fit(fit.x, fit.y),
        "procrustes": Procrustes().fit(fit.x, fit.y),
        "shuffled_pairing": fit.shuffled,
    }
    directions = {name: adapter.map(vector) for name, adapter in fits.items()}
    directions["wrong_trait"] = fit.concept.map(wrong)
    own = study.vector(study.target).at(target)
    diagnostics = {
        name: {
            **(fits[name].diagnostics() if name in fits else {}),
            "cosine_to_own": cosine(mapped, own),
            "relative_length": float(np.linalg.norm(mapped) / np.linalg.norm(own)),
        }
        for name, mapped in directions.items()
    }
    return Maps(directions, diagnostics, fit.path)


def evaluate(
    study: Study, site: Site, directions: Mapping[str, np.ndarray], curve: Sequence[str]
) -> pd.DataFrame:
    """Answers of the target on the evaluation split: every method at the chosen dose, the methods
    in `curve` at every dose of the profile."""
    sign = study.trait.sign
    doses = {name: [site.dose] for name in directions}
    for name in curve:
        doses[name] = sorted({*study.settings.doses, site.dose})
    conditions = [(UNSTEERED, None, site.layer_target, 0.0)] + [
        (name, vector, site.layer_target, sign * dose)
        for name, vector in directions.items()
        for dose in doses[name]
    ]
    asked = bool(study.trait.instructions or study.trait.examples)
    return sweep(study, study.target, conditions, "evaluation", instruction=asked)


def with_length(vector: np.ndarray, length: float) -> np.ndarray:
    """The vector scaled to a Euclidean length; a zero vector stays zero."""
    norm = np.linalg.norm(vector)
    return (vector * (length / norm) if norm > 0 else vector).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


class _Fit:
    """Paired activations between two layers, their λ path, and the map that transfers best."""

    def __init__(self, study: Study, layers: tuple[int, int]):
        alignment = study.alignment
        self.x, self.y = alignment.source[layers[0]], alignment.target[layers[1]]
        self.path = _path(study, self.x, self.y, alignment.styles)
        self.concept = Ridge(self.path.best_concept).fit(self.x, self.y)
        order = np.random.default_rng(study.settings.seed).permutation(len(self.y))
        self.shuffled = Ridge(self.path.best_concept).fit(self.x, self.y[order])


def _scaled(
    reference: dict[str, np.ndarray], directions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    length = np.linalg.norm(reference[ORACLE])
    return {**reference, **{name: with_length(v, length) for name, v in directions.items()}}


def _cells(table: pd.DataFrame, method: str, sign: int) -> pd.DataFrame:
    """Mean effect and collapse rate of a method by layer and dose."""
    base = table[table.method == UNSTEERED].score.mean()
    chosen = table[table.method == method].groupby(["layer", "dose"])
    cells = chosen.agg(score=("score", "mean"), collapse=("collapsed", "mean")).reset_index()
    return cells.assign(effect=sign * (cells.score - base))


def _best(cells: pd.DataFrame, by: str) -> pd.Series:
    coherent = cells[cells.collapse <= MAX_COLLAPSE]
    if coherent.empty:
        coherent = cells[cells.collapse == cells.collapse.min()]
    return coherent.loc[coherent[by].idxmax()]


def _path(study: Study, x: np.ndarray, y: np.ndarray, styles: Sequence[str]) -> RidgePath:
    """The λ path, kept: cross-validation at width 900 takes seconds."""
    digests = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in (x, y)]
    settings = study.settings
    key = {"version": 2, "data": digests, "styles": list(styles), "seed": settings.seed}
    key["penalties"] = settings.penalties

    def compute() -> dict:
        return asdict(ridge_path(x, y, styles, settings.penalties, seed=settings.seed))

    return RidgePath(**study.store.json("ridge_paths", key, compute))
