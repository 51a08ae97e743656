"""Ways to extract a vector, side by side: how pairs are aggregated, which tokens and which component
are read."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from prefvec.activations import Site, capture_sites
from prefvec.models.hooks import Component
from prefvec.models.load import LoadedModel
from prefvec.study import Study
from prefvec.vectors import AGGREGATORS, contrast_prompts, cosine, half_cosine


class Way(NamedTuple):
    """One way: a method of `AGGREGATORS`, the tokens that are pooled, and the component read."""

    method: str = "mean"
    tokens: Literal["last", "response"] = "last"
    component: Component = "residual"


WAYS = {
    "difference in means": Way(),
    "PCA": Way("pca"),
    "ActAdd": Way("actadd"),
    "mean response": Way(tokens="response"),
    "attention output": Way(component="attention"),
    "MLP output": Way(component="mlp"),
}
REFERENCE = "difference in means"


def compare_ways(study: Study, loaded: LoadedModel) -> pd.DataFrame:
    """One row a (way, layer): way, layer, cosine (to the difference in means of the residual stream
    at the last prompt token), norm, split_half and n_pairs.

    `PCA` and `ActAdd` read what the vector was made from, at every block; `mean response` averages
    over the model's own answers to the prompts of the first instruction pair (Chen et al. 2025); it
    and the sublayers' outputs are read at the candidate layers. A sublayer that the architecture does
    not show, or answers that are all empty, are left out. One pass reads all that is at the last
    prompt token, `Study.vector` with it: what comes first computes it.
    """
    every, few = range(loaded.n_layers), study.candidate_layers(loaded)
    questions, count = study.splits["extraction"], study.settings.n_instructions
    prompts = contrast_prompts(loaded, study.trait, questions, count)
    parts = [c for c in loaded.hooks.components if c != "residual"]
    sites = [Site(layer) for layer in every]
    sites += [Site(layer, component) for component in parts for layer in few]
    found = {"last": (len(prompts[0]), _read(study, loaded, prompts, sites, "last"))}
    answers = study.answered(loaded)
    if answers[0]:
        shallow = [Site(layer) for layer in few]
        found["response"] = (len(answers[0]), _read(study, loaded, answers, shallow, "mean"))
    rows = []
    for name, way in WAYS.items():
        n, activations = found.get(way.tokens, (0, {}))
        for layer in every:
            both = activations.get(Site(layer, way.component))
            if both is None:
                continue
            reference = found["last"][1][Site(layer)]
            m = found["last"][0]
            own = AGGREGATORS["mean"](reference[:m], reference[m:])
            measured = describe(both[:n], both[n:], way.method, own)
            rows.append({"way": name, "layer": layer, **measured, "n_pairs": n})
    return pd.DataFrame(rows)


def describe(
    positive: np.ndarray, negative: np.ndarray, method: str, reference: np.ndarray
) -> dict[str, float]:
    """What a method makes of pairs `[n, d]`: its cosine to a reference `[d]`, its norm, and the cosine
    between what even and odd pairs give."""
    aggregate = AGGREGATORS[method]
    vector = aggregate(positive, negative)
    return {
        "cosine": cosine(vector, reference),
        "norm": float(np.linalg.norm(vector)),
        "split_half": half_cosine(positive, negative, aggregate),
    }


def _read(study: Study, loaded: LoadedModel, poles, sites: list[Site], pooling) -> dict:
    label = f"extract {study.trait.name}"
    return capture_sites(loaded, [*poles[0], *poles[1]], sites, pooling, study.store, label=label)
