"""How much of a direct transfer's lost effect is due to length, direction and layer: a 2³ swap.

A vector that is written into another model has a length, a direction and a layer. Each of the three is
taken either as direct transfer has it or as the target's own vector has it:

- layer: the assumed one (proportional depth), or the one where the target's own vector works best;
- direction: that of the zero-padded source vector, or of the target's own vector at the layer that is
  written to: each layer has a basis of its own, so a direction of another layer is no oracle there;
- norm: the zero-padded source vector's own length, or that of the target's own vector at the layer that
  is written to, as residual streams grow with depth.

The source's layer is the assumed one throughout. All three of the oracle's is the oracle; none is direct
transfer. The Shapley value of a factor is the mean, over the orders in which the three can be swapped in,
of what its swap adds (Shapley 1953); the three sum to the loss.
"""

from collections.abc import Mapping
from itertools import product
from math import factorial
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.adapters.direct import zero_padded
from prefvec.diagnostics.layers import paired_effects
from prefvec.stats import UNKNOWN, Estimate, mean_ci, paired_bootstrap
from prefvec.study import Study
from prefvec.transfer.methods import references_of, with_length
from prefvec.transfer.sweep import UNSTEERED, Site, sweep

FACTORS = ("norm", "direction", "layer")
Cell = tuple[int, int, int]  # 1 where a factor is the oracle's, in the order of FACTORS
CELLS: tuple[Cell, ...] = tuple(product((0, 1), repeat=len(FACTORS)))
DIRECT_CELL, ORACLE_CELL = CELLS[0], CELLS[-1]
RULE = (
    "Shapley values over the 2³ swaps, divided by the loss (all swapped in minus none), on the evaluation "
    "split; an answer that collapses counts as no effect; intervals resample questions. Undefined where the 95 % interval of the loss reaches 0."
)


class Written(NamedTuple):
    """A vector `[d_target]` and the layer that it is added to."""

    vector: np.ndarray
    layer: int


class Attribution(NamedTuple):
    """The loss (in the score's unit), each factor's share of it, and what a swap adds when it is the
    first or the last of the three."""

    loss: Estimate
    shares: dict[str, Estimate]
    first: dict[str, Estimate]
    last: dict[str, Estimate]

    @property
    def reason(self) -> str:
        """Why the shares are undefined; empty if they are not."""
        if self.loss.low > 0:
            return ""
        return "the interval of the lost effect reaches 0: there is nothing to share out"

    @property
    def main(self) -> str:
        """The factor with the largest share; empty if the shares are undefined."""
        if self.reason:
            return ""
        return max(FACTORS, key=lambda factor: self.shares[factor].value)

    def as_record(self) -> dict:
        """Plain values for a results file."""
        parts = {"shares": self.shares, "first": self.first, "last": self.last}
        return {
            "loss": self.loss.as_json(),
            **{k: {f: e.as_json() for f, e in part.items()} for k, part in parts.items()},
            "main": self.main,
            "reason": self.reason,
        }


def swapped(study: Study, site: Site, best_layer: int) -> dict[Cell, Written]:
    """What every combination writes, and where. best_layer: the target's, for the layer swap."""
    return _written(study, site, best_layer, None)


def random_swaps(study: Study, site: Site, best_layer: int) -> dict[Cell, Written]:
    """The same with a random direction in place of either: what any direction of that length does at
    that layer. Cells that differ in direction alone are the same."""
    return _written(study, site, best_layer, "random_0")


def _written(study: Study, site: Site, best_layer: int, instead: str | None):
    own = study.vector(study.target)
    padded = zero_padded(study.vector(study.source).at(site.layer_source), study.target.width)
    out = {}
    for norm, direction, layer in CELLS:
        at = best_layer if layer else site.layer_target
        chosen = own.at(at) if direction else padded
        if instead:
            chosen = references_of(study, own.at(at))[instead]
        length = own.norm(at) if norm else float(np.linalg.norm(padded))
        out[norm, direction, layer] = Written(with_length(chosen, length), at)
    return out


def factorial_answers(study: Study, site: Site, best_layer: int) -> pd.DataFrame:
    """Answers on the evaluation split: method `cell_<norm><direction><layer>`, and `random_<norm><layer>`
    for the random direction."""
    dose = study.trait.sign * site.dose
    conditions = {"": (UNSTEERED, None, -1, 0.0)}
    for cell, written in swapped(study, site, best_layer).items():
        conditions[_name(cell)] = (_name(cell), *written, dose)
    for cell, written in random_swaps(study, site, best_layer).items():
        conditions[_noise(cell)] = (_noise(cell), *written, dose)
    return sweep(study, study.target, list(conditions.values()), "evaluation")


def cell_effects(
    study: Study, answers: pd.DataFrame
) -> tuple[dict[Cell, np.ndarray], dict[Cell, np.ndarray]]:
    """Effects `[n]` of every combination, and of the random direction in its place (`paired_effects`)."""
    found = paired_effects(study, answers, study.splits["evaluation"])
    by_name = {name: effect for (name, _), effect in found.items()}
    return tuple({cell: by_name[name(cell)] for cell in CELLS} for name in (_name, _noise))


def beyond_random(
    effects: Mapping[Cell, np.ndarray], noise: Mapping[Cell, np.ndarray]
) -> dict[Cell, np.ndarray]:
    """Effects less what a random direction of that length does at that layer."""
    return {cell: effects[cell] - noise[cell] for cell in CELLS}


def shapley(effects: Mapping[Cell, np.ndarray]) -> dict[str, np.ndarray]:
    """Shapley values `[n]` of the factors, question by question; they sum to effect of all − of none."""
    n, out = len(FACTORS), {}
    for i, factor in enumerate(FACTORS):
        total = 0.0
        for cell in CELLS:
            if not cell[i]:
                size = sum(cell)
                weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                total = total + weight * (effects[_with(cell, i)] - effects[cell])
        out[factor] = total
    return out


def attribute(effects: Mapping[Cell, np.ndarray], seed: int = 0) -> Attribution:
    """Shares of the lost effect from effects `[n]` by cell, with paired intervals over questions; NaN
    where the loss' interval reaches 0."""
    lost = effects[ORACLE_CELL] - effects[DIRECT_CELL]
    loss = mean_ci(lost, seed)
    shares = {
        factor: paired_bootstrap([value, lost], _share, seed) if loss.low > 0 else UNKNOWN
        for factor, value in shapley(effects).items()
    }
    first, last = {}, {}
    for i, factor in enumerate(FACTORS):
        alone, without = _with(DIRECT_CELL, i), _with(ORACLE_CELL, i, 0)
        first[factor] = mean_ci(effects[alone] - effects[DIRECT_CELL], seed)
        last[factor] = mean_ci(effects[ORACLE_CELL] - effects[without], seed)
    return Attribution(loss, shares, first, last)


def cell_frame(
    study: Study, answers: pd.DataFrame, written: Mapping[Cell, Written]
) -> pd.DataFrame:
    """One row a combination: 0 or 1 for each factor, layer written to, length, effect (an `Estimate`),
    random (that of the random direction), collapse."""
    effects, noise = cell_effects(study, answers)
    collapse, seed = answers.groupby("method").collapsed.mean(), study.settings.seed
    return pd.DataFrame(
        [
            {
                **dict(zip(FACTORS, cell, strict=True)),
                "layer_target": written[cell].layer,
                "length": float(np.linalg.norm(written[cell].vector)),
                "effect": mean_ci(effects[cell], seed),
                "random": mean_ci(noise[cell], seed),
                "collapse": float(collapse[_name(cell)]),
            }
            for cell in CELLS
        ]
    )  # fmt: skip


def _with(cell: Cell, i: int, value: int = 1) -> Cell:
    return (*cell[:i], value, *cell[i + 1 :])


def _name(cell: Cell) -> str:
    return "cell_" + "".join(map(str, cell))


def _noise(cell: Cell) -> str:
    return f"random_{cell[0]}{cell[2]}"


def _share(part: np.ndarray, whole: np.ndarray, axis: int = -1) -> np.ndarray:
    return part.mean(axis=axis) / whole.mean(axis=axis)
