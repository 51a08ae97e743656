"""Is it the component, the stage or the single layer? Vectors of sublayers, and doses spread over layers.

A vector of a component (residual stream, attention output, MLP output) is read and written at the output of
that component, in the target itself or through a ridge map fitted on the same component's alignment
activations. Every direction has the length of the target's own *residual* vector at its layer, so that
equal doses are equal pushes on the stream whatever the component; random directions of that length, written
in the same way, say what any push does there.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.activations import Site as Place
from prefvec.activations import capture_sites
from prefvec.diagnostics.layers import Grid, Rows, concept_penalty, intact, mapped_to
from prefvec.models.hooks import COMPONENTS
from prefvec.models.load import LoadedModel
from prefvec.stats import difference, mean_ci
from prefvec.steering import Steer
from prefvec.study import Study
from prefvec.transfer.extensions import effects_by, steered_answers
from prefvec.transfer.methods import with_length
from prefvec.transfer.sites import best_cell
from prefvec.transfer.spill import score_as
from prefvec.transfer.sweep import UNSTEERED, Site
from prefvec.vectors import contrast_prompts, difference_in_means

ORIGINS = ("own", "mapped", "random")
NEIGHBOURS = (-1, 0, 1)  # layers over which a dose is spread, from the assumed one
MAIN = "residual middle"  # what the study uses: one layer of the residual stream
SPREAD = "residual spread"


class Spot(NamedTuple):
    """Where a vector is read and written: a component, a stage of the depth, and its layers."""

    component: str
    stage: str
    layer_source: int
    layer_target: int

    @property
    def name(self) -> str:
        """Component and stage."""
        return f"{self.component} {self.stage}"


Steers = dict[tuple[str, str], tuple[Steer, ...]]  # (origin, where) → additions at dose 1


def spots(study: Study, site: Site, grid: Grid) -> list[Spot]:
    """Components that both models show at the assumed layers, and the residual stream at the first and
    the last layers of the grid."""
    loaded = (study.source, study.target)
    shown = [c for c in COMPONENTS if all(c in model.hooks.components for model in loaded)]
    middle = (site.layer_source, site.layer_target)
    return [
        Spot("residual", "early", grid.source[0], grid.target[0]),
        *(Spot(component, "middle", *middle) for component in shown),
        Spot("residual", "late", grid.source[-1], grid.target[-1]),
    ]


def neighbours(study: Study, site: Site) -> list[tuple[int, int]]:
    """Pairs of layers around the assumed one, side by side in both models, within their depths."""
    return [
        (site.layer_source + step, site.layer_target + step)
        for step in NEIGHBOURS
        if 0 <= site.layer_source + step < study.source.n_layers
        and 0 <= site.layer_target + step < study.target.n_layers
    ]


def places(study: Study, site: Site, grid: Grid) -> tuple[list[Place], list[Place]]:
    """What has to be captured of the source and of the target for `component_steers`."""
    near = neighbours(study, site)
    found = spots(study, site, grid)
    return (
        [Place(s.layer_source, s.component) for s in found] + [Place(a) for a, _ in near],
        [Place(s.layer_target, s.component) for s in found] + [Place(b) for _, b in near],
    )


def component_vectors(study: Study, loaded: LoadedModel, wanted: Sequence[Place]) -> Rows:
    """The trait's vectors `[d]` at places of a model, read in one pass."""
    questions, count = study.splits["extraction"], study.settings.n_instructions
    positive, negative = contrast_prompts(loaded, study.trait, questions, count)
    label, n = f"extract {study.trait.name}", len(positive)
    both = capture_sites(loaded, [*positive, *negative], wanted, store=study.store, label=label)
    return {place: difference_in_means(acts[:n], acts[n:]) for place, acts in both.items()}


def component_steers(
    study: Study, site: Site, grid: Grid, rows: tuple[Rows, Rows]
) -> tuple[Steers, pd.DataFrame]:
    """Additions at dose 1 of the own, the mapped and a random direction at every spot, and with the dose
    spread evenly over neighbouring layers; and one row a spot with the length of the component's own
    vector over the residual one's, and the cosine of the mapped to it.

    λ is chosen by held-out styles once a component, at the assumed layers.
    """
    found, near = spots(study, site, grid), neighbours(study, site)
    source, target = (
        component_vectors(study, loaded, wanted)
        for loaded, wanted in zip(
            (study.source, study.target), places(study, site, grid), strict=True
        )
    )
    generator = np.random.default_rng([study.settings.seed, study.target.width])
    noise = generator.normal(size=study.target.width)
    penalties = {
        spot.component: concept_penalty(
            study, rows, Place(spot.layer_source, spot.component), Place(spot.layer_target, spot.component)
        )
        for spot in found
        if spot.stage == "middle"
    }  # fmt: skip
    own = study.vector(study.target)

    def mapped(component: str, layers: tuple[int, int]) -> np.ndarray:
        read, written = (Place(layer, component) for layer in layers)
        ys = {written: rows[1][written]}
        return mapped_to(rows[0][read], ys, source[read], penalties[component])[written]

    def directions(component: str, layers: tuple[int, int]) -> dict[str, np.ndarray]:
        length, place = own.norm(layers[1]), Place(layers[1], component)
        raw = {"own": target[place], "mapped": mapped(component, layers), "random": noise}
        return {origin: with_length(v, length) for origin, v in raw.items()}

    steers: Steers = {}
    described = []
    for spot in found:
        layers = (spot.layer_source, spot.layer_target)
        for origin, v in directions(spot.component, layers).items():
            steer = Steer(np.float32(v), spot.layer_target, 1.0, component=spot.component)
            steers[origin, spot.name] = (steer,)
        vector = target[Place(spot.layer_target, spot.component)]
        carried = mapped(spot.component, layers)
        described.append(
            {
                **spot._asdict(),
                "relative_length": float(np.linalg.norm(vector) / own.norm(spot.layer_target)),
                "cosine_mapped": float(
                    vector @ carried / (np.linalg.norm(vector) * np.linalg.norm(carried))
                ),
                "penalty": penalties[spot.component],
            }
        )
    parts = [(layers[1], directions("residual", layers)) for layers in near]
    for origin in ORIGINS:
        steers[origin, SPREAD] = tuple(
            Steer(np.float32(found[origin]), at, 1 / len(parts)) for at, found in parts
        )
    return steers, pd.DataFrame(described)


def at_doses(study: Study, steers: Steers, doses: Mapping[tuple, Sequence[float]]) -> dict:
    """Conditions of `steered_answers` by `<origin>|<where>|<dose>`, and the unsteered one."""
    out: dict[str, tuple[Steer, ...]] = {UNSTEERED: ()}
    for key, steps in doses.items():
        for dose in steps:
            out["|".join([*key, f"{dose:g}"])] = tuple(
                Steer(s.vector, s.layer, study.trait.sign * dose * s.coefficient, component=s.component)
                for s in steers[key]
            )  # fmt: skip
    return out


def answers_to(study: Study, conditions: Mapping, questions: Sequence[str]) -> pd.DataFrame:
    """The target's answers under conditions of `at_doses`, with the trait's score; one that collapses has
    none, so that it counts as no effect."""
    table = steered_answers(study, conditions, questions)
    return intact(table.assign(score=score_as(study, table, study.settings.max_new_tokens)))


def dose_cells(answers: pd.DataFrame, sign: int) -> pd.DataFrame:
    """One row a (origin, where, dose): effect, control (the random direction there), specific, collapse."""
    effects = {m: float(e[0].mean()) for m, e in effects_by(answers, sign).items()}
    collapse = answers.groupby("method").collapsed.mean()
    rows = []
    for name, effect in effects.items():
        origin, where, dose = name.split("|")
        control = effects[f"random|{where}|{dose}"]
        rows.append(
            {"origin": origin, "where": where, "dose": float(dose), "effect": effect, "control": control,
             "specific": effect - control, "collapse": float(collapse[name])}
        )  # fmt: skip
    return pd.DataFrame(rows)


def chosen_doses(cells: pd.DataFrame) -> dict[tuple[str, str], float]:
    """For the own and the mapped vector at each spot the dose with the largest specific effect on the
    selection split, with at most 10 % collapsed answers (the least collapse if there is none)."""
    return {
        key: float(best_cell(rows, "specific").dose)
        for key, rows in cells[cells.origin != "random"].groupby(["origin", "where"], sort=False)
    }


def with_controls(doses: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], list[float]]:
    """The chosen doses, and the random direction at each of them."""
    out = {key: [dose] for key, dose in doses.items()}
    for (_, where), dose in doses.items():
        out["random", where] = sorted({*out.get(("random", where), []), dose})
    return out


def component_frame(
    study: Study, answers: pd.DataFrame, doses: Mapping[tuple[str, str], float]
) -> pd.DataFrame:
    """One row an (origin, where) at its chosen dose: n, effect, specific (less the random direction's) and
    gain (specific effect minus that of the same origin at one middle layer of the residual stream), all
    `Estimate`s over the same questions; collapse."""
    seed = study.settings.seed
    effects = {m: e[0] for m, e in effects_by(answers, study.trait.sign).items()}
    collapse = answers.groupby("method").collapsed.mean()

    def specific(origin: str, where: str) -> np.ndarray:
        dose = f"{doses[origin, where]:g}"
        return effects[f"{origin}|{where}|{dose}"] - effects[f"random|{where}|{dose}"]

    rows = []
    for (origin, where), dose in doses.items():
        name = f"{origin}|{where}|{dose:g}"
        here, usual = specific(origin, where), specific(origin, MAIN)
        rows.append(
            {
                "origin": origin, "where": where, "dose": dose, "n": len(here),
                "effect": mean_ci(effects[name], seed), "specific": mean_ci(here, seed),
                "gain": difference(here, usual, seed), "collapse": float(collapse[name]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
