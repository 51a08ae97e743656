"""Is the ruler straight, and where does the vector work? What notebook 02 asks besides H1."""

import numpy as np
import pandas as pd

from prefvec.metrics.gold import load_gold
from prefvec.metrics.trait import UNITS, likelihood_ratio
from prefvec.models.load import LoadedModel
from prefvec.stats import Estimate, mean_ci, paired_auc
from prefvec.study import Study
from prefvec.transfer.methods import with_length
from prefvec.transfer.sites import MAX_COLLAPSE
from prefvec.transfer.sweep import UNSTEERED, sweep
from prefvec.vectors import extract

OTHER_METHODS = ("pca", "actadd")  # extraction methods tried beside the difference in means


def score_validity(study: Study, loaded: LoadedModel) -> pd.DataFrame:
    """How well scores tell labelled texts of the two poles apart that they never saw.

    One row a score: score, unit, own (it is the trait's own), n (texts), auc (an `Estimate`, resampled
    by question) and fit (its interval is above 0.5). For length also words; the likelihood under
    opposite instructions wherever there are instructions. Empty if the trait has no labelled texts.
    """
    pairs, trait = load_gold(study.trait.name), study.trait
    if not pairs:
        return pd.DataFrame(columns=["score", "unit", "own", "n", "auc", "fit"])
    questions = [pair.question for pair in pairs] * 2
    texts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    counts = [len(loaded.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    scores = {
        (trait.measure, UNITS[trait.measure]): study.score(
            loaded, questions, texts, counts, study.settings.max_new_tokens
        )
    }
    if trait.measure == "length":
        scores["words", "words"] = np.array([len(text.split()) for text in texts], float)
    if trait.instructions and trait.measure != "likelihood":
        found = likelihood_ratio(trait, questions, texts, study.judge_of(loaded), study.store)
        scores["likelihood", UNITS["likelihood"]] = found
    rows, n = [], len(pairs)
    for (name, unit), values in scores.items():
        auc = paired_auc(values[:n], values[n:], study.settings.seed)
        rows.append(
            {"score": name, "unit": unit, "own": name == trait.measure, "n": 2 * n, "auc": auc,
             "fit": auc.low > 0.5}
        )  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(validity: pd.DataFrame, trait: str) -> list[str]:
    """One sentence a score: whether it may be used."""
    if validity.empty:
        return [
            f"'{trait}' has no texts with known labels (data/gold/{trait}.jsonl): not validated"
        ]
    return [
        f"{row.score}: AUC {row.auc.in_words()}, "
        + (
            "fit"
            if row.fit
            else "UNFIT: its interval reaches 0.5, it does not measure the trait here"
        )
        for row in validity.itertuples()
    ]


def effect_at(
    study: Study, answers: pd.DataFrame, method: str, layer: int, dose: float
) -> Estimate:
    """Mean change of the score against the unsteered answers to the selection questions, positive
    when it goes the way it was steered; a missing score counts as no effect."""
    questions = study.splits["selection"]
    cell = answers[(answers.method == method) & (answers.layer == layer)]
    cell = cell[cell.dose.abs() == dose].set_index("question").score.loc[questions]
    base = answers[answers.method == UNSTEERED].set_index("question").score.loc[questions]
    effect = study.trait.sign * (cell - base)
    return mean_ci(effect.fillna(0.0).to_numpy(), study.settings.seed)


def layer_effectiveness(study: Study, answers: pd.DataFrame, choice: dict) -> pd.DataFrame:
    """What the own vector does at each candidate layer, and the dose that would do the same.

    One row a layer: layer; dose, effect (an `Estimate`) and collapse at its best dose (the largest
    effect with at most 10 % collapsed answers, the least collapse if there is none); slope, the effect
    per dose (least squares through the origin over the doses that do not collapse); relative, the
    slope over the chosen layer's; adapted_dose, the chosen dose divided by that (NaN where the slope
    is not positive); tried, whether it lies within the doses that were tried.
    """
    rows, doses = [], study.settings.doses
    own = answers[answers.method == "own"]
    for layer, cell in own.groupby("layer"):
        collapse = cell.groupby(cell.dose.abs()).collapsed.mean()
        coherent = [d for d in doses if collapse[d] <= MAX_COLLAPSE]
        coherent = coherent or [d for d in doses if collapse[d] == collapse.min()]
        effects = {d: effect_at(study, answers, "own", layer, d) for d in coherent}
        best = max(effects, key=lambda d: effects[d].value)
        moved = np.array([effects[d].value for d in coherent])
        slope = float(moved @ coherent / np.square(coherent).sum())
        rows.append(
            {"layer": int(layer), "dose": best, "effect": effects[best],
             "collapse": float(collapse[best]), "slope": slope}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    chosen = float(table.slope[table.layer == choice["layer"]].iloc[0])
    table["relative"] = table.slope / chosen if chosen > 0 else np.nan
    table["adapted_dose"] = choice["dose"] / table.relative.where(table.relative > 0)
    table["tried"] = table.adapted_dose.between(min(doses), max(doses))
    return table


def other_extractions(study: Study, loaded: LoadedModel, choice: dict) -> pd.DataFrame:
    """Answers to the selection questions under the vectors of `OTHER_METHODS`, at the layer and dose
    chosen for the difference in means and at its length: what differs is direction."""
    layer, questions = choice["layer"], study.splits["extraction"]
    length = study.vector(loaded).norm(layer)
    conditions = []
    for method in OTHER_METHODS:
        vector = extract(
            loaded, study.trait, questions, [layer], study.settings.n_instructions, method,
            store=study.store,
        )  # fmt: skip
        direction = with_length(vector.at(layer), length)
        conditions.append((method, direction, layer, study.trait.sign * choice["dose"]))
    return sweep(study, loaded, conditions, "selection")


def extraction_effects(study: Study, answers: pd.DataFrame, choice: dict) -> pd.DataFrame:
    """Effect (an `Estimate`) and collapse of each extraction method at the chosen layer and dose."""
    layer, dose = choice["layer"], choice["dose"]
    rows = []
    for method in ("own", *OTHER_METHODS):
        cell = answers[(answers.method == method) & (answers.layer == layer)]
        collapse = float(cell[cell.dose.abs() == dose].collapsed.mean())
        effect = effect_at(study, answers, method, layer, dose)
        rows.append({"method": method, "effect": effect, "collapse": collapse})
    return pd.DataFrame(rows)
