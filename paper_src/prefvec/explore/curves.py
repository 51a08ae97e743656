"""The explorer's two plots as numbers: score by dose, and cosine to the target's own vector by layer."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from prefvec.explore.session import RANDOM, Choice, Session
from prefvec.models.architecture import matching_layer
from prefvec.stats import mean_ci
from prefvec.transfer.sweep import ORACLE, UNSTEERED, sweep
from prefvec.vectors import cosine

DOSES = (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)  # lengths of the target's own vector
N_QUESTIONS = 4  # of the selection split; a small sweep
COMPARED = ("ridge_concept", "procrustes", "zero_pad")
DEPTHS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


def dose_curve(session: Session, choice: Choice) -> Iterator[pd.DataFrame]:
    """Mean score by dose of the target's own vector, of the chosen method and of a random direction, over
    the first questions of the selection split; the answers' limit is the settings'.

    Yields after each dose what is known by then, nearest doses first: method, dose, score (an `Estimate`).
    """
    study = session.study(choice.source, choice.target, choice.trait)
    methods = dict.fromkeys((ORACLE, choice.method, RANDOM))
    vectors = {name: session.direction(choice, name) for name in methods}
    study.splits["curve"] = study.splits["selection"][:N_QUESTIONS]
    rows = []
    for dose in (0.0, *sorted(DOSES, key=abs)):
        conditions = [(name, v, choice.layer_target, dose) for name, v in vectors.items()]
        if not dose:
            conditions = [(UNSTEERED, None, choice.layer_target, 0.0)]
        table = sweep(study, study.target, conditions, "curve")
        for name, cell in table.groupby("method", sort=False):
            rows.append((name, dose, mean_ci(cell.score.to_numpy(), study.settings.seed)))
        yield pd.DataFrame(rows, columns=["method", "dose", "score"])


def cosine_curve(
    session: Session, choice: Choice, step: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[pd.DataFrame]:
    """Cosine of the mapped vector to the target's own, by method and target layer: at the chosen layers,
    then at source layers over the depth with the target's at the same proportional depth.

    Yields after each pair of layers what is known by then: method, layer (of the target), cosine.
    `step(done, of)` is called before each.
    """
    study = session.study(choice.source, choice.target, choice.trait)
    depths = study.source.n_layers, study.target.n_layers
    layers = {choice.layer_target: choice.layer_source}
    for depth in DEPTHS:
        layer = round(depth * (depths[0] - 1))
        layers.setdefault(matching_layer(layer, *depths), layer)
    methods = dict.fromkeys((*COMPARED, choice.method))
    methods = [name for name in methods if name not in (ORACLE, RANDOM)]
    rows = []
    for done, (target, source) in enumerate(layers.items()):
        step(done, len(layers))
        own = study.vector(study.target).at(target)
        for name in methods:
            mapped = session.direction(choice, name, (source, target))
            rows.append((name, target, cosine(mapped, own)))
        yield pd.DataFrame(rows, columns=["method", "layer", "cosine"]).sort_values("layer")


def chance(width: int) -> float:
    """|cosine| that 95 % of random directions of a width stay below: 1.96 / √d."""
    return 1.96 / np.sqrt(width)
