"""Norms and massive coordinates of the residual stream, and vectors without them.

A few coordinates of a residual stream are huge on every prompt (Timkey & van Schijndel 2021; Sun et al.
2024). They dominate lengths and cosines, and say little about a prompt.
"""

import numpy as np
import pandas as pd

from prefvec.activations import Prompt, capture
from prefvec.models.load import LoadedModel
from prefvec.study import Study

OUTLIER_RATIO = 10.0  # a dimension is an outlier above this many times the median |x|
TOP = 3  # largest dimensions that a profile names


def dimension_ratios(rows: np.ndarray) -> np.ndarray:
    """Median over prompts of |x| by dimension over the median |x| of all, of activations `[n, d]`: `[d]`.
    All 0 where the median is 0."""
    size = np.abs(rows)
    middle = np.median(size)
    return np.median(size, axis=0) / middle if middle > 0 else np.zeros(rows.shape[1])


def outlier_dimensions(rows: np.ndarray) -> np.ndarray:
    """Indices of the dimensions with a ratio above `OUTLIER_RATIO`, the largest first."""
    ratios = dimension_ratios(rows)
    order = np.argsort(-ratios, kind="stable")
    return order[ratios[order] > OUTLIER_RATIO]


def without(vector: np.ndarray, dimensions: np.ndarray) -> np.ndarray:
    """The vector `[d]` with these dimensions set to 0; its length is not restored."""
    out = np.array(vector, np.float32)
    out[dimensions] = 0.0
    return out


def held_by(vector: np.ndarray, dimensions: np.ndarray) -> float:
    """Share of a vector's squared length in these dimensions; NaN for a zero vector."""
    total = float(np.square(vector).sum())
    return float(np.square(vector[dimensions]).sum()) / total if total > 0 else float("nan")


def residual_profile(study: Study, loaded: LoadedModel) -> pd.DataFrame:
    """Norms and massive coordinates by layer, at the last token of the extraction questions asked plainly.

    One row a layer: layer; residual, the median norm; vector, the norm of the study's vector; share,
    the second over the first; largest, the largest dimension's ratio (`dimension_ratios`); top, the
    largest dimensions; n_outliers; vector_held, share of the vector's squared length in outliers.
    """
    prompts = [Prompt(study.plain_prompt(loaded, q)) for q in study.splits["extraction"]]
    layers = list(range(loaded.n_layers))
    activations = capture(loaded, prompts, layers, store=study.store, label="residual")
    vector = study.vector(loaded)
    rows = []
    for layer in layers:
        ratios = dimension_ratios(activations[layer])
        outliers = outlier_dimensions(activations[layer])
        residual = float(np.median(np.linalg.norm(activations[layer], axis=1)))
        rows.append(
            {
                "layer": layer,
                "residual": residual,
                "vector": vector.norm(layer),
                "share": vector.norm(layer) / residual,
                "largest": float(ratios.max()),
                "top": [int(j) for j in np.argsort(-ratios, kind="stable")[:TOP]],
                "n_outliers": len(outliers),
                "vector_held": held_by(vector.at(layer), outliers),
            }
        )
    return pd.DataFrame(rows)
