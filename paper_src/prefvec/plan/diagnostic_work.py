"""What notebooks 05a, 05b and 05c compute for a pair and a trait, beside what 03 and 04 have left."""

from functools import partial

from prefvec.diagnostics.components import NEIGHBOURS, ORIGINS
from prefvec.diagnostics.factorial import CELLS
from prefvec.diagnostics.layers import CONFIRM_RANDOM, KINDS, Grid, layer_grid
from prefvec.models.hooks import COMPONENTS
from prefvec.notebooks import diagnostic_notebooks
from prefvec.paths import pair_name
from prefvec.plan.counting import (
    Stage,
    Work,
    captured,
    computed_tokens,
    contrast_ids,
    plain_prompts,
    swept,
    task_key,
    vector,
)
from prefvec.plan.model_work import own_effect
from prefvec.plan.pair_work import fits, references, site_work
from prefvec.plan.rates import PATH_FITS
from prefvec.plan.shapes import Outline
from prefvec.profile import Diagnostics
from prefvec.study import Study
from prefvec.transfer import Site

RULE_LAYERS = 2  # layers of the target that the rules for corresponding layers add
SPOTS = 6  # components and stages that are steered, and the spread dose
# Conditions of 05a and 05b on the selection and on the evaluation split, roughly.
CONDITIONS = {"magnitude": (60, 40), "basis": (20, 40)}


def diagnostic_stages(study: Study, chosen: Diagnostics, adapters: Stage) -> list[Stage]:
    """The stages of the diagnostics that there are, for a pair and a trait; adapters: what 04 does."""
    name = f"{pair_name(study.settings.source, study.settings.target)}/{study.trait.name}"
    out = []
    for rule, notebook in diagnostic_notebooks().items():
        asked = study if rule == "basis" else _fewer(study, chosen.n_diagnosed)
        work, rows = _layers(asked, chosen, name) if rule == "layers" else _swept(asked, rule)
        needs = (*adapters.needs, adapters.id)
        number = notebook.split("_")[0]
        work = (*site_work(study), *work)
        out.append(Stage(rule, name, number, adapters.models, work, needs, True, rows))
    return out


def _fewer(study: Study, n: int) -> Study:
    """The study with at most `n` evaluation questions."""
    few = min(n, study.settings.n_evaluation)
    return Study(study.settings.model_copy(update={"n_evaluation": few}), study.pool)


def _swept(study: Study, rule: str) -> tuple[list[Work], int]:
    """Answers of so many conditions on either split."""
    layer, work, rows = study.layers_of(study.target)[-1], [], 0
    for split, count in zip(("selection", "evaluation"), CONDITIONS[rule], strict=True):
        conditions = [((rule, study.source.id, i), layer) for i in range(count)]
        work += swept(study, study.target, conditions, split)
    rows = CONDITIONS[rule][1] * len(study.splits["evaluation"])
    return work, rows


def _layers(study: Study, chosen: Diagnostics, name: str) -> tuple[list[Work], int]:
    """05c: captures at the grid and of the sublayers, maps, the map of layers, swaps, components. Which
    layers turn out best is not known: they count as layers of their own."""
    source, target = study.layer_pairs()[-1]
    grid = layer_grid(study, Site(source, target, 1.0), chosen.depths)
    work = [*_captures(study, grid), *_fitted(study, grid, name)]
    if study.settings.intervention_layer < 0:
        work += own_effect(study, study.target)[0]
    steered = [
        (("map", method, study.source.id, a, b), b)
        for method in KINDS
        for a in grid.source
        for b in grid.target
    ]
    steered += [(("map", m, b), b) for m in ("oracle", "random_0") for b in grid.target]
    work += swept(study, study.target, steered, "selection")
    confirmed = [("best", kind) for kind in KINDS] + [("rule", i) for i in range(RULE_LAYERS)]
    at = len(confirmed)
    confirmed += [("random", i, j) for i in range(CONFIRM_RANDOM) for j in range(at)]
    confirmed.append(("oracle", "best"))
    swaps = [("cell", cell) for cell in CELLS] + [("cell", "random", i) for i in range(4)]
    conditions = [((*key, study.source.id), target) for key in (*confirmed, *swaps)]
    work += swept(study, study.target, conditions, "evaluation")
    # The rows that 04 has too are in the file again: unsteered twice, and those at the assumed layers.
    known = 3 + len(KINDS) + min(CONFIRM_RANDOM, len(references(study)) - 1)
    rows = (len(conditions) + known) * len(study.splits["evaluation"])
    steps = len(study.settings.doses)
    found = [
        *_components(study, "selection", steps * len(ORIGINS) * SPOTS, chosen, grid),
        *_components(study, "evaluation", (len(ORIGINS) + 1) * SPOTS, chosen, grid),
    ]
    return work + found, rows + sum(w.rows for w in found[-1:]) * ((len(ORIGINS) + 1) * SPOTS + 1)


def _captures(study: Study, grid: Grid) -> list[Work]:
    work = []
    kinds = sorted((study.source.prompt.kind, study.target.prompt.kind))
    for model, layers in ((study.source, grid.source), (study.target, grid.target)):
        places = len(layers) + len(NEIGHBOURS) + len(COMPONENTS) - 1
        for label, prompts in (
            (
                f"alignment {kinds} without {study.trait.name}",
                partial(study.alignment_prompts, model),
            ),
            (
                f"extract {study.trait.name} at sublayers",
                partial(contrast_ids, study, model, study.trait),
            ),
        ):
            read = captured(study, model, label, prompts, layers)
            work.append(read._replace(kept=4 * places * model.width * read.rows))
        work.append(vector(study, model))
    return work


def _fitted(study: Study, grid: Grid, name: str) -> list[Work]:
    """One fit a source layer for all target layers; a λ path a sublayer, and a map a place."""
    wide = fits(study, ("layers", name), len(grid.source))
    wide = wide._replace(target_width=wide.target_width * (len(grid.target) + RULE_LAYERS))
    paths = (len(COMPONENTS) - 1) * PATH_FITS
    return [wide, fits(study, ("components", name), paths + SPOTS + len(NEIGHBOURS))]


def _components(
    study: Study, split: str, count: int, chosen: Diagnostics, grid: Grid
) -> list[Work]:
    """Answers of `count` conditions to the first questions of a split."""
    model: Outline = study.target
    prompts = plain_prompts(study, model, split)[: chosen.n_components]
    tokens, limit = computed_tokens(prompts), study.settings.max_new_tokens
    depth = 1 - grid.target[0] / model.n_layers
    work = []
    for i in range(count):
        key = (
            "generate",
            model.id,
            f"components {split}",
            limit,
            study.trait.name,
            study.source.id,
            i,
        )
        key += task_key(study)
        work.append(Work("generate", key, model.id, len(prompts), tokens, limit, depth))
    return work
