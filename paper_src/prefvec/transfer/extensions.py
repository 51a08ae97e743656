"""Beyond one pair and one trait: two vectors at once, sampling, both directions, linear or not."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from prefvec.adapters import Ridge
from prefvec.generation import Generation, Request, generate
from prefvec.metrics.coherence import is_collapsed
from prefvec.stats import UNKNOWN, Estimate, mean_ci, transfer_efficiency
from prefvec.steering import Steer
from prefvec.study import Alignment, Study
from prefvec.traits import Trait, load_styles
from prefvec.transfer.methods import (
    MapFits,
    cached_path,
    cosine,
    reference_directions,
    with_length,
)
from prefvec.transfer.saved import Cell, saved_records
from prefvec.transfer.spill import score_as, spread
from prefvec.transfer.sweep import ORACLE, UNSTEERED, Site

SAMPLED = (ORACLE, "ridge_concept", "random_0")  # steered conditions of the sampled answers


def steered_answers(
    study: Study,
    conditions: Mapping[str, Sequence[Steer]],
    questions: Sequence[str],
    temperature: float = 0.0,
    seeds: Sequence[int] = (0,),
) -> pd.DataFrame:
    """The target's answers under any number of vectors at once, kept in the store.

    One row an answer: method (the condition), seed, question, text, n_tokens, finish, collapsed. Under
    one seed, all conditions of a question share their random draws (`generation.generate`).
    """
    index = [(name, seed, q) for name in conditions for seed in seeds for q in questions]
    requests = [
        Request(study.plain_prompt(study.target, q), tuple(conditions[name]), seed)
        for name, seed, q in index
    ]
    answers = generate(
        study.target, requests, study.settings.max_new_tokens, temperature, study.store,
        label="steer evaluation",
    )  # fmt: skip
    table = pd.DataFrame(index, columns=["method", "seed", "question"])
    for field in Generation._fields:
        table[field] = [getattr(answer, field) for answer in answers]
    return table.assign(collapsed=[is_collapsed(text) for text in table.text])


def effects_by(table: pd.DataFrame, sign: int) -> dict[str, np.ndarray]:
    """Paired effects `[seeds, n]` of each condition against the unsteered answer of the same seed and
    question, in the score's unit, positive when they go the way of `sign`; an answer without a score
    counts as no effect. table: method, seed, question, score."""
    wide = {
        name: cell.pivot(index="seed", columns="question", values="score")
        for name, cell in table.groupby("method", sort=False)
    }
    base = wide[UNSTEERED]
    return {
        name: (sign * (scores.loc[base.index, base.columns] - base)).fillna(0.0).to_numpy(float)
        for name, scores in wide.items()
        if name != UNSTEERED
    }


# --- two preferences at once ---


def rows_without(alignment: Alignment, trait: Trait) -> np.ndarray:
    """Rows of an alignment whose style is not close to another trait."""
    kept = {style.id for style in load_styles(trait.name)}
    return np.array([i for i, style in enumerate(alignment.styles) if style in kept])


def composed(first: Cell, second: Cell) -> tuple[dict[str, tuple[Steer, ...]], dict[str, float]]:
    """Conditions `native.a`, `native.b`, `native.a+b` and the same for `mapped`, and the cosines
    between the vectors of the two traits: `source`, `native`, `mapped`.

    All are written at the first trait's layer, each trait at the dose of its own site, in lengths of
    its own vector there. One ridge map carries both; its alignment rows are without the styles close
    to either trait.
    """
    study, site = first.study, first.site
    traits = {"a": study.trait, "b": second.study.trait}
    doses = {"a": first.site.dose, "b": second.site.dose}
    source, target = (
        {
            name: study.vector(loaded, None if name == "a" else trait).at(layer)
            for name, trait in traits.items()
        }
        for loaded, layer in ((study.source, site.layer_source), (study.target, site.layer_target))
    )
    rows = rows_without(study.alignment, traits["b"])
    ridge = fitted_ridge(study, study.alignment, site, rows)
    mapped = {
        name: with_length(ridge.map(vector), np.linalg.norm(target[name]))
        for name, vector in source.items()
    }
    conditions: dict[str, tuple[Steer, ...]] = {UNSTEERED: ()}
    for kind, vectors in (("native", target), ("mapped", mapped)):
        steers = {
            name: Steer(np.float32(v), site.layer_target, traits[name].sign * doses[name])
            for name, v in vectors.items()
        }
        conditions |= {f"{kind}.{name}": (steer,) for name, steer in steers.items()}
        conditions[f"{kind}.a+b"] = tuple(steers.values())
    cosines = {
        kind: cosine(vectors["a"], vectors["b"])
        for kind, vectors in (("source", source), ("native", target), ("mapped", mapped))
    }
    return conditions, cosines


def fitted_ridge(study: Study, alignment: Alignment, site: Site, rows: np.ndarray) -> Ridge:
    """The ridge map of some alignment rows, λ chosen on held-out styles among them."""
    x, y = alignment.source[site.layer_source][rows], alignment.target[site.layer_target][rows]
    path = cached_path(study, x, y, [alignment.styles[i] for i in rows])
    return Ridge(path.best_concept).fit(x, y)


def composition(first: Cell, second: Cell, n: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """Answers to the first n evaluation questions under `composed`'s conditions, with both traits'
    scores (columns `score.<trait>`), and the cosines."""
    study = first.study
    conditions, cosines = composed(first, second)
    table = steered_answers(study, conditions, study.splits["evaluation"][:n])
    for cell in (first, second):
        scores = score_as(cell.study, table, study.settings.max_new_tokens)
        table[f"score.{cell.study.trait.name}"] = scores
    return table, cosines


def interactions(
    table: pd.DataFrame, signs: Mapping[str, int], spreads: Mapping[str, float], seed: int = 0
) -> pd.DataFrame:
    """Effects of each vector alone and of both on each trait's score, and interaction = effect(a+b) −
    effect(a) − effect(b), paired by prompt: towards the pole that the measured trait is steered to, in
    units of `spreads` (by trait, as of `spill.yardsticks`).

    table: method (`native.a`, …), seed, question, collapsed and `score.<trait>`; signs: by trait, the
    first (a) and the second (b). Columns: kind, measured, a, b, both, interaction (`Estimate`s),
    collapsed (share of the answers under both).
    """
    rows = []
    for measured, sign in signs.items():
        found = effects_by(table.assign(score=table[f"score.{measured}"]), sign)
        found = {name: e[0] / spreads[measured] for name, e in found.items()}
        for kind in ("native", "mapped"):
            a, b, both = (found[f"{kind}.{which}"] for which in ("a", "b", "a+b"))
            estimates = {"a": a, "b": b, "both": both, "interaction": both - a - b}
            rows.append(
                {
                    "kind": kind, "measured": measured, "n": len(a),
                    **{k: mean_ci(v, seed) for k, v in estimates.items()},
                    "collapsed": float(table[table.method == f"{kind}.a+b"].collapsed.mean()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


# --- sampling instead of greedy decoding ---


def main_directions(study: Study, site: Site) -> dict[str, np.ndarray]:
    """The oracle, the random directions and the ridge map's direction, all at the oracle's length."""
    references = reference_directions(study, site.layer_target)
    ridge = MapFits(study, (site.layer_source, site.layer_target)).concept
    mapped = ridge.map(study.vector(study.source).at(site.layer_source))
    return {**references, "ridge_concept": with_length(mapped, np.linalg.norm(references[ORACLE]))}


def sampled_answers(cell: Cell, n_seeds: int, temperature: float) -> pd.DataFrame:
    """Answers on the evaluation split drawn at a temperature, with scores: unsteered and `SAMPLED` at
    the chosen dose, `n_seeds` a question."""
    study = cell.study
    directions = main_directions(study, cell.site)
    conditions = {UNSTEERED: ()} | {
        name: (Steer(np.float32(directions[name]), cell.site.layer_target, cell.dose),)
        for name in SAMPLED
    }
    questions = study.splits["evaluation"]
    table = steered_answers(study, conditions, questions, temperature, range(n_seeds))
    return table.assign(score=score_as(study, table, study.settings.max_new_tokens))


def variance_components(effects: np.ndarray) -> dict[str, float]:
    """Variances of effects `[seeds, prompts]`: between seeds, between prompts, and what is left.

    Two-way random effects, one value a cell, estimated by mean squares (Searle, Casella & McCulloch
    1992, ch. 4); a negative estimate is 0. NaN with fewer than two seeds or prompts.
    """
    seeds, prompts = effects.shape
    if min(seeds, prompts) < 2:
        return dict.fromkeys(("seed", "prompt", "rest"), float("nan"))
    whole = effects.mean()
    by_seed, by_prompt = effects.mean(axis=1), effects.mean(axis=0)
    rest = effects - by_seed[:, None] - by_prompt + whole
    rest = np.square(rest).sum() / ((seeds - 1) * (prompts - 1))
    return {
        "seed": max(0.0, float(by_seed.var(ddof=1) - rest / prompts)),
        "prompt": max(0.0, float(by_prompt.var(ddof=1) - rest / seeds)),
        "rest": float(rest),
    }


def sampling_summary(table: pd.DataFrame, sign: int, seed: int = 0) -> pd.DataFrame:
    """One row a condition: effect (mean over seeds and prompts; interval over prompts), transfer
    efficiency against the one random direction, lowest and highest mean of a seed, and the variance
    components. table: method, seed, question, score."""
    found = effects_by(table, sign)
    means = {name: effects.mean(axis=0) for name, effects in found.items()}
    rows = []
    for name, effects in found.items():
        te = transfer_efficiency(means[name], means["random_0"][None], means[ORACLE], seed)
        rows.append(
            {
                "method": name, "n": effects.shape[1], "effect": mean_ci(means[name], seed),
                "te": te, "lowest": float(effects.mean(axis=1).min()),
                "highest": float(effects.mean(axis=1).max()), **variance_components(effects),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


# --- both directions of a pair ---


def efficiency_of(
    profile: str, source: str, target: str, trait: str, method: str = "ridge_concept"
) -> Estimate | None:
    """A method's transfer efficiency at the chosen dose as 04 saved it; None where 04 has not run."""
    records = saved_records(profile, source, target, trait)
    if records is None:
        return None
    [found] = [r for r in records if r["metric"] == "effect" and r["method"] == method]
    keys = ("transfer_efficiency", "te_ci_low", "te_ci_high")
    return Estimate.from_json(found[k] for k in keys)


def estimate_difference(a: Estimate, b: Estimate) -> Estimate:
    """a − b of independent estimates, the interval from theirs (MOVER; Zou & Donner 2008)."""
    gap = a.value - b.value
    below = np.hypot(a.value - a.low, b.high - b.value)
    above = np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(float(gap), float(gap - below), float(gap + above))


def symmetry(profile: str, source: str, target: str, traits: Sequence[str]) -> pd.DataFrame:
    """Efficiency of the ridge map there and back, and the difference, by trait; NaN and `back_ran` False
    where the reverse pair has not been run. Two models answer, so the two efficiencies are taken to be
    independent."""
    rows = []
    for trait in traits:
        there = efficiency_of(profile, source, target, trait) or UNKNOWN
        back = efficiency_of(profile, target, source, trait)
        gap = estimate_difference(there, back) if back else UNKNOWN
        rows.append((trait, there, back or UNKNOWN, gap, abs(gap.value), back is not None))
    columns = ["trait", "there", "back", "difference", "absolute", "back_ran"]
    return pd.DataFrame(rows, columns=columns)


# --- linear against non-linear ---


def linear_gains(cell: Cell, others: Sequence[str] = ("mlp", "multiscale")) -> pd.DataFrame:
    """Effect of the ridge map minus that of other maps, paired by prompt, from saved answers; in the
    score's unit and in the yardstick of its spill (`spill.spread`). Columns: other, gain, standardised, n."""
    sign, seed = cell.study.trait.sign, cell.study.settings.seed
    base = cell.at(UNSTEERED).score.astype(float)
    yardstick = spread(pd.concat([base, cell.at(ORACLE).score]))
    rows = []
    for other in others:
        ridge, its = (
            (sign * (cell.at(m).score.astype(float) - base)).fillna(0.0).to_numpy()
            for m in ("ridge_concept", other)
        )
        gain = mean_ci(ridge - its, seed)
        rows.append((other, gain, Estimate(*(np.array(gain) / yardstick)), len(base)))
    return pd.DataFrame(rows, columns=["other", "gain", "standardised", "n"])
