"""Hypothesis C: does a transferred vector hit the wrong layer? Its effect over source × target layers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from prefvec.activations import Prompt, capture_sites
from prefvec.activations import Site as Place
from prefvec.adapters import Ridge
from prefvec.adapters.direct import zero_padded
from prefvec.diagnostics.gains import Conclusion
from prefvec.models.load import LoadedModel
from prefvec.stats import Estimate, mean_ci
from prefvec.study import Study
from prefvec.transfer.correspondence import named_function
from prefvec.transfer.methods import cached_path, references_of, with_length
from prefvec.transfer.sites import best_cell
from prefvec.transfer.sweep import ORACLE, UNSTEERED, Site, sweep

KINDS = {"direct": "zero_pad", "mapped": "ridge_concept"}  # what is written at each pair of layers
CONFIRM_RANDOM = 2  # random directions at each layer on the evaluation split
MAIN_SHARE = 0.5  # a cause that explains this share of the lost effect is the main one
STATEMENT = "Transfer loses effect because the vector is read or written at the wrong layer."
RULE = (
    "loss = effect of the target's own vector minus that of the transferred one, both at the assumed "
    "layers; gain = effect at the best layers minus effect at the assumed ones, each less that of random "
    "directions at the same layer and length; the best layers are chosen on the selection split, all "
    f"numbers are of the evaluation split; an answer that collapses counts as no effect. Supported if the 95 % interval of gain − {MAIN_SHARE:g} × loss "
    "lies above 0, rejected if it lies below 0, else undecided; undecided too if the interval of the loss "
    "reaches 0."
)

Pair = tuple[int, int]  # (layer of the source, layer of the target)
Directions = dict[tuple[str, int, int], np.ndarray]  # (method, layers) → [d_target]
Rows = dict[Place, np.ndarray]  # activations [n, d] of the alignment prompts by place


class Grid(NamedTuple):
    """Layers of the map, rising."""

    source: tuple[int, ...]
    target: tuple[int, ...]


def layer_grid(study: Study, site: Site, depths: Sequence[float]) -> Grid:
    """Layers at proportional depths of both models; the one nearest to the assumed layer gives way to it."""
    return Grid(
        _with_layer(study.source, depths, site.layer_source),
        _with_layer(study.target, depths, site.layer_target),
    )


def target_layers(study: Study, site: Site, grid: Grid) -> list[int]:
    """The target's layers that are written to: the grid's, and those that the rules of
    `corresponding_layers` can give for the assumed source layer."""
    _, depth = named_function(site.layer_source, study.source.n_layers)
    rules = {study.target.layer_at(depth), *study.candidate_layers(study.target)}
    return sorted({*grid.target, *rules})


def paired_rows(
    study: Study, source: Iterable[Place], target: Iterable[Place]
) -> tuple[Rows, Rows]:
    """Last-token activations of the alignment prompts at places of either model, one pass a model."""

    def rows(loaded: LoadedModel, places: Iterable[Place]) -> Rows:
        prompts = [Prompt(ids) for ids in study.alignment_prompts(loaded)]
        return capture_sites(loaded, prompts, list(places), store=study.store, label="alignment")

    return rows(study.source, source), rows(study.target, target)


def row_styles(study: Study) -> list[str]:
    """The style of each alignment row."""
    return [style.id for style in study.styles for _ in study.splits["alignment"]]


def concept_penalty(study: Study, rows: tuple[Rows, Rows], source: Place, target: Place) -> float:
    """λ of the ridge map between two places, by held-out styles."""
    return cached_path(study, rows[0][source], rows[1][target], row_styles(study)).best_concept


def mapped_to(
    x: np.ndarray, ys: Mapping[Place, np.ndarray], vector: np.ndarray, penalty: float
) -> dict[Place, np.ndarray]:
    """A vector `[d_source]` through the ridge maps from rows x to each of the places' rows: one fit, as
    the columns of a ridge regression do not depend on one another."""
    joined = Ridge(penalty).fit(x, np.hstack(list(ys.values()))).map(vector)
    ends = np.cumsum([y.shape[1] for y in ys.values()])[:-1]
    return dict(zip(ys, np.split(joined, ends), strict=True))


def grid_directions(
    study: Study, sources: Iterable[int], rows: tuple[Rows, Rows], penalty: float
) -> Directions:
    """The source's vector of each layer written at each captured layer of the target: zero-padded, and
    through the ridge map between the two layers, at the length of the target's own vector there. One
    penalty, in mean diagonals, serves all pairs."""
    vectors, own = study.vector(study.source), study.vector(study.target)
    ys = {place: y for place, y in rows[1].items() if place.component == "residual"}
    out: Directions = {}
    for layer in sources:
        vector = vectors.at(layer)
        padded = zero_padded(vector, study.target.width)
        mapped = mapped_to(rows[0][Place(layer)], ys, vector, penalty)
        for place, direction in mapped.items():
            for method, found in (("zero_pad", padded), ("ridge_concept", direction)):
                out[method, layer, place.layer] = with_length(found, own.norm(place.layer))
    return out


def intact(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers with the scores of steered ones that collapse taken out."""
    kept = ~answers.collapsed.astype(bool) | (answers.method == UNSTEERED)
    return answers.assign(score=answers.score.where(kept))


def paired_effects(
    study: Study, answers: pd.DataFrame, questions: Sequence[str]
) -> dict[tuple[str, int], np.ndarray]:
    """Effects `[n]` by (method, layer), in the score's unit, positive towards the pole that the study
    steers to. An answer without a score counts as no effect, and so does one that collapses
    (`intact`): broken text is no transfer, however short it is."""
    answers = intact(answers)
    scores = {
        key: cell.set_index("question").score.loc[questions]
        for key, cell in answers.groupby(["method", "layer"], sort=False)
    }
    [base] = [score for (method, _), score in scores.items() if method == UNSTEERED]
    return {
        key: (study.trait.sign * (score - base)).fillna(0.0).to_numpy(float)
        for key, score in scores.items()
        if key[0] != UNSTEERED
    }


def layer_map(
    study: Study, site: Site, grid: Grid, directions: Directions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers on the selection split at every pair of the grid, and one row a (method, layer_source,
    layer_target): effect, control (one random direction of that length at that layer), specific (their
    difference), collapse, n. The target's own vector is the method `oracle`, source layer −1."""
    dose = study.trait.sign * site.dose
    conditions = [(UNSTEERED, None, -1, 0.0)] + [
        (f"{method}@{layer}", vector, at, dose)
        for (method, layer, at), vector in directions.items()
        if layer in grid.source and at in grid.target
    ]
    own = study.vector(study.target)
    for at in grid.target:
        known = references_of(study, own.at(at))
        conditions += [(name, known[name], at, dose) for name in (ORACLE, "random_0")]
    answers = sweep(study, study.target, conditions, "selection")
    effects = paired_effects(study, answers, study.splits["selection"])
    collapse = answers.groupby(["method", "layer"]).collapsed.mean()
    rows = []
    for (name, at), effect in effects.items():
        method, _, layer = name.partition("@")
        if method != "random_0":
            control = effects["random_0", at].mean()
            rows.append(
                {
                    "method": method, "layer_source": int(layer or -1), "layer_target": at,
                    "effect": effect.mean(), "control": control,
                    "specific": effect.mean() - control,
                    "collapse": float(collapse[name, at]), "n": len(effect),
                }
            )  # fmt: skip
    return answers, pd.DataFrame(rows)


def best_pair(cells: pd.DataFrame, method: str) -> Pair:
    """The layers at which a method has the largest specific effect with at most 10 % collapsed answers."""
    best = best_cell(cells[cells.method == method], "specific")
    return int(best.layer_source), int(best.layer_target)


def confirm(
    study: Study,
    site: Site,
    directions: Directions,
    best: Mapping[str, Pair],
    rule_layers: Iterable[int],
) -> pd.DataFrame:
    """Answers on the evaluation split: every method of `best` at the assumed and at its best layers, the
    ridge map from the assumed layer to those of the rules, random directions at all these target layers,
    and the target's own vector at the assumed layer and at its best one."""
    assumed, dose = (site.layer_source, site.layer_target), study.trait.sign * site.dose
    pairs = {(KINDS["mapped"], site.layer_source, layer) for layer in rule_layers}
    for method, pair in best.items():
        pairs |= {(method, *assumed), (method, *pair)} if method != ORACLE else set()
    own, conditions = study.vector(study.target), [(UNSTEERED, None, -1, 0.0)]
    conditions += [(f"{m}@{s}", directions[m, s, at], at, dose) for m, s, at in sorted(pairs)]
    conditions += [
        (ORACLE, own.at(at), at, dose) for at in sorted({site.layer_target, best[ORACLE][1]})
    ]
    for at in sorted({at for _, _, at in pairs}):
        known = references_of(study, own.at(at))
        names = [name for name in known if name != ORACLE][:CONFIRM_RANDOM]
        conditions += [(name, known[name], at, dose) for name in names]
    return sweep(study, study.target, conditions, "evaluation")


class LayerGain(NamedTuple):
    """What other layers would give a kind of transfer, in the score's unit, and what follows."""

    assumed: Pair
    best: Pair
    effect_assumed: Estimate
    effect_best: Estimate
    gain: Estimate
    loss: Estimate
    excess: Estimate
    conclusion: Conclusion


def layer_gain(
    effects: Mapping[tuple[str, int], np.ndarray],
    method: str,
    assumed: Pair,
    best: Pair,
    seed: int = 0,
) -> LayerGain:
    """Hypothesis C for one method from evaluation effects (`paired_effects` of `confirm`), by `RULE`."""

    def effect(pair: Pair) -> np.ndarray:
        return effects[f"{method}@{pair[0]}", pair[1]]

    gain = specific(effects, effect(best), best[1])
    gain = gain - specific(effects, effect(assumed), assumed[1])
    loss = effects[ORACLE, assumed[1]] - effect(assumed)
    estimates = [mean_ci(x, seed) for x in (gain, loss, gain - MAIN_SHARE * loss)]
    return LayerGain(
        assumed, best, mean_ci(effect(assumed), seed), mean_ci(effect(best), seed), *estimates,
        conclude(*estimates),
    )  # fmt: skip


def specific(
    effects: Mapping[tuple[str, int], np.ndarray], effect: np.ndarray, layer: int
) -> np.ndarray:
    """Effects `[n]` less the mean of the random directions at a layer, prompt by prompt."""
    noise = [e for (name, at), e in effects.items() if name.startswith("random_") and at == layer]
    return effect - np.mean(noise, axis=0)


def conclude(gain: Estimate, loss: Estimate, excess: Estimate) -> Conclusion:
    """The verdict of `RULE`."""
    if not loss.low > 0:
        return Conclusion("undecided", "no effect is lost at the assumed layers beyond doubt", RULE)
    if excess.low > 0:
        return Conclusion("supported", "other layers give back most of the lost effect", RULE)
    if excess.high < 0:
        reason = "other layers give back less than half of the lost effect"
        return Conclusion("rejected", reason, RULE)
    share = f"{gain.value / loss.value:.2f}"
    reason = f"other layers give back {share} of the lost effect: too uncertain"
    return Conclusion("undecided", reason, RULE)


def rules_frame(
    study: Study,
    rules: pd.DataFrame,
    effects: Mapping[tuple[str, int], np.ndarray],
    site: Site,
    best: Pair,
) -> pd.DataFrame:
    """Each rule's target layer for the assumed source layer: its distance from the best layer of the
    ridge map (blocks), the map's effect there on the evaluation split, and the gain over the assumed
    layer, less random directions'."""
    name, seed = f"{KINDS['mapped']}@{site.layer_source}", study.settings.seed
    here = specific(effects, effects[name, site.layer_target], site.layer_target)
    rows = []
    for row in rules.itertuples():
        effect = effects[name, row.layer_target]
        gain = specific(effects, effect, row.layer_target) - here
        rows.append(
            {"rule": row.rule, "layer_target": row.layer_target, "from_best": row.layer_target - best[1],
             "effect": mean_ci(effect, seed), "gain": mean_ci(gain, seed), "why": row.why}
        )  # fmt: skip
    return pd.DataFrame(rows)


def likeness_and_effect(cells: pd.DataFrame, cka: pd.DataFrame) -> float:
    """Rank correlation over the grid between CKA and the ridge map's specific effect; NaN if either is
    the same everywhere."""
    mapped = cells[cells.method == KINDS["mapped"]]
    likeness = [
        cka.loc[s, t] for s, t in zip(mapped.layer_source, mapped.layer_target, strict=True)
    ]
    if mapped.specific.nunique() < 2 or len(set(likeness)) < 2:
        return float("nan")
    return float(spearmanr(likeness, mapped.specific).statistic)


def _with_layer(loaded: LoadedModel, depths: Sequence[float], layer: int) -> tuple[int, ...]:
    layers = {loaded.layer_at(depth) for depth in depths}
    nearest = min(layers, key=lambda other: (abs(other - layer), other))
    return tuple(sorted(layers - {nearest} | {layer}))
