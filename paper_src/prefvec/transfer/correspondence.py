"""Which layer of the target corresponds to a layer of the source? Four answers.

By the function a depth is said to have, by proportional depth, by linear CKA of the activations on the
alignment prompts, and by how well the target's own vector steers it.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from prefvec.errors import ConfigError
from prefvec.models.architecture import matching_layer
from prefvec.study import Study
from prefvec.transfer.sites import validate

# Depths at which functions of layers are said to lie: a rule of thumb, tested here against the others.
FUNCTIONS = {"feature extraction": 0.1, "representation": 0.6, "decision making": 0.9}


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Debiased linear CKA (Kornblith et al. 2019) of paired activations `[n, d_x]`, `[n, d_y]`.

    HSIC is the unbiased estimate (Song et al. 2012, eq. 5): 0 on average for independent rows whatever
    n and d, so it can be slightly negative, where the biased one grows with d/n. 1 for a rotation,
    shift and rescaling of the other. Raises ConfigError below 4 rows or where they are all alike.
    """
    return cka_of_grams(gram(x), gram(y))


def layer_cka(study: Study) -> pd.DataFrame:
    """CKA on the alignment prompts of every candidate source layer (rows) with every candidate target
    layer (columns)."""
    return cka_frame(study, study.alignment.source, study.alignment.target)


def cka_frame(
    study: Study, source: Mapping[int, np.ndarray], target: Mapping[int, np.ndarray]
) -> pd.DataFrame:
    """CKA of each source layer's rows `[n, d_source]` with each target layer's `[n, d_target]`. Rows that
    share a style or question are not independent: it compares layers, and is no test."""
    grams = [{k: gram(rows) for k, rows in sorted(side.items())} for side in (source, target)]
    values = [[cka_of_grams(k, m) for m in grams[1].values()] for k in grams[0].values()]
    return pd.DataFrame(
        values,
        index=pd.Index(grams[0], name=f"layer of {study.settings.source}"),
        columns=pd.Index(grams[1], name=f"layer of {study.settings.target}"),
    )


def corresponding_layers(study: Study, layer: int, cka: pd.DataFrame) -> pd.DataFrame:
    """The target layer that each rule gives for a source layer: rule, layer_target, why.

    Effectiveness is where the target's own vector steers it best on the selection split (`validate`, as
    in notebook 02); it is left out where the layer was given by number, as only one was tried.
    """
    source, target = study.source.n_layers, study.target.n_layers
    name, depth = named_function(layer, source)
    best = int(cka.loc[layer].idxmax())
    rows = [
        ("named function", study.target.layer_at(depth), f"{name}, {depth:.0%} of the depth"),
        ("proportional depth", matching_layer(layer, source, target), f"{layer} of {source - 1}"),
        ("linear CKA", best, f"{cka.loc[layer, best]:.2f}, of {cka.shape[1]} candidates"),
    ]
    if study.settings.intervention_layer < 0:
        _, choice = validate(study, study.target)
        why = f"own vector: effect {choice['effect'] + 0.0:.2f} at dose {choice['dose']:g}"
        rows.append(("effectiveness", choice["layer"], why))
    return pd.DataFrame(rows, columns=["rule", "layer_target", "why"])


def named_function(layer: int, depth: int) -> tuple[str, float]:
    """The function nearest to a layer of a model with `depth` blocks, and its proportional depth."""
    at = layer / max(1, depth - 1)
    return min(FUNCTIONS.items(), key=lambda item: abs(item[1] - at))


def gram(rows: np.ndarray) -> np.ndarray:
    """Gram matrix `[n, n]` of centred rows without its diagonal."""
    if len(rows) < 4:
        raise ConfigError(f"CKA needs at least 4 rows, got {len(rows)}: raise n_styles")
    x = rows.astype(np.float64)
    x = x - x.mean(axis=0)
    products = x @ x.T
    np.fill_diagonal(products, 0.0)
    return products


def cka_of_grams(k: np.ndarray, m: np.ndarray) -> float:
    """Debiased linear CKA from two matrices of `gram`."""
    if k.shape != m.shape:
        raise ConfigError(f"CKA needs paired rows, got {len(k)} and {len(m)}")
    own = _hsic(k, k) * _hsic(m, m)
    if not own > 0:
        raise ConfigError("CKA: the rows of a side are all alike")
    return float(_hsic(k, m) / np.sqrt(own))


def _hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Unbiased HSIC of two Gram matrices without diagonals."""
    n = len(k)
    sums = k.sum(axis=0), m.sum(axis=0)
    trace = np.einsum("ij,ij->", k, m)
    product = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return (trace + product - 2 * (sums[0] @ sums[1]) / (n - 2)) / (n * (n - 3))
