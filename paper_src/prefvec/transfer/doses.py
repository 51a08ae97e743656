"""Doses that mean the same for every direction: equal distance from the unsteered model, in nats."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from prefvec.metrics.forced import forced_scores, matched_coefficient
from prefvec.models.load import LoadedModel
from prefvec.steering import Steer
from prefvec.study import Study
from prefvec.transfer.sweep import UNSTEERED, sweep

KL_TOKENS = 16  # tokens of an unsteered answer over which the distance is averaged


def kl_curve(
    study: Study,
    loaded: LoadedModel,
    directions: Mapping[str, np.ndarray],
    layer: int,
    doses: Sequence[float],
) -> pd.DataFrame:
    """Mean KL(unsteered ‖ steered) per token (nats) of each direction by dose, over the model's own
    unsteered answers to the selection questions, teacher-forced. Columns: method, dose, kl."""
    sign = study.trait.sign
    answers = sweep(study, loaded, [(UNSTEERED, None, -1, 0.0)], "selection")
    rows = []
    for question, text in zip(answers.question, answers.text, strict=True):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"][:KL_TOKENS]
        if ids:
            rows.append((study.plain_prompt(loaded, question), tuple(ids)))
    cells = [(name, dose) for name in directions for dose in doses]
    steers = [(Steer(np.float32(directions[name]), layer, sign * dose),) for name, dose in cells]
    scores = forced_scores(loaded, rows, steers, study.store)
    return pd.DataFrame(
        [
            (*cell, np.mean([s.kl for s in found]))
            for cell, found in zip(cells, scores, strict=True)
        ],
        columns=["method", "dose", "kl"],
    )


def matched_doses(curve: pd.DataFrame, reference: str, dose: float) -> dict[str, float]:
    """For each method the dose at which it is as far from the unsteered model as the reference is at
    `dose`; NaN where the curve does not say."""
    by_method = {m: c.sort_values("dose") for m, c in curve.groupby("method")}
    known = by_method[reference]
    wanted = float(np.interp(dose, known.dose, known.kl))
    return {
        m: dose if m == reference else matched_coefficient(list(c.dose), list(c.kl), wanted)
        for m, c in by_method.items()
    }
