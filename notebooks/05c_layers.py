# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05c · Layers, and what the loss is made of
#
# **Hypothesis C.** A transferred vector loses effect because it is read or written at the *wrong layer*.
# The study assumes that layers at the same proportional depth correspond. Here a vector of every source
# layer on a grid is written at every target layer on a grid, as it is and through a ridge map.
#
# **Then** the loss of direct transfer is shared out between length, direction and layer (2³ swaps), and
# vectors of single components, of other stages, and spread over layers are held against the study's own.
#
# **Protocol.** Doses are in lengths of the target's own vector at the layer that is written to. Layers and
# doses are chosen on the selection split; what is reported comes from the evaluation split, beside random
# directions of the same length at the same layer: at some layers any push has the effect.

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that is written
source: str = "qwen2.5-coder-0.5b-instruct"  # model the vector is found in
target: str = "smollm2-135m-instruct"  # model it is carried to
trait: str = "verbosity"  # built-in trait, or path of a trait file
task: str = "answer"  # answer, summarise, or path of a task file
control_trait: str = "formality"  # the wrong trait sent through the same map
device: str = "auto"  # auto, cpu, cuda, mps
dtype: str = "auto"  # auto, float32, bfloat16, float16
seed: int = 0  # random controls, folds, bootstrap
n_instructions: int = 5  # instruction pairs for extraction
n_extraction: int = 6  # questions for extraction
n_styles: int = 40  # styles of the alignment bank
n_alignment: int = 8  # questions of the alignment set; one pair of activations a style and question
n_selection: int = 8  # questions on which layers and doses are chosen
n_choice: int = 8  # further questions, on which 04 compares methods
n_evaluation: int = 24  # questions that the reported numbers come from
n_diagnosed: int = 24  # the first of them, for the many conditions of this notebook
n_random: int = 4  # norm-matched random directions
max_new_tokens: int = 48  # limit of an answer, tokens
layer_fractions: list = [0.44, 0.48]  # candidate depths, from 0 (first block) to 1 (last)
intervention_layer: int = -1  # source layer; -1: chosen among the candidates
doses: list = [1.0, 2.0]  # lengths of the target's own vector
penalties: list = [0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0]  # ridge λ, in mean diagonals
depths: list = [0.2, 0.5, 0.8]  # depths of the map's layers, in both models
n_components: int = 8  # first questions of the selection and evaluation splits, for components

# %%
import pandas as pd

from prefvec.activations import Site as Place
from prefvec.diagnostics import components, factorial, layers
from prefvec.diagnostics.gains import hypothesis_record
from prefvec.metrics.trait import UNITS, decimals
from prefvec.paths import cell_file
from prefvec.profile import Settings
from prefvec.report import layer_figures as shown
from prefvec.report.run import Run
from prefvec.report.tables import interval_text
from prefvec.report.views import plain, plain_records
from prefvec.store import write_json
from prefvec.study import Study
from prefvec.transfer import choose_site
from prefvec.transfer.correspondence import cka_frame, corresponding_layers

settings = Settings.from_namespace({**globals(), "n_evaluation": min(n_evaluation, n_diagnosed)})
study = Study(settings)
run = Run.of_pair("05c_layers", study)
unit = UNITS[study.trait.measure]
digits = decimals(unit)
title = f"{study.trait.name}: {source} → {target}"

# %% [markdown]
# ## The assumed layers, and the grid
#
# The site is the one that notebook 04 chose. The grid's layer nearest to it gives way to it. Activations
# at all layers and components come from one pass a model.

# %%
site, _ = choose_site(study)
grid = layers.layer_grid(study, site, depths)
assumed = (site.layer_source, site.layer_target)
needed = components.places(study, site, grid)
rows = layers.paired_rows(
    study,
    [*map(Place, grid.source), *needed[0]],
    [*map(Place, layers.target_layers(study, site, grid)), *needed[1]],
)
print(f"{site}; source layers {grid.source}, target layers {grid.target}")

# %% [markdown]
# ## Effect by source and target layer
#
# On the selection split, less the effect of a random direction of the same length at the same layer, at
# the site's dose. One λ for all pairs of layers (in mean diagonals), chosen by held-out styles at the
# assumed ones. Box: assumed layers; star: best ones; below: the target's own vector.

# %%
penalty = layers.concept_penalty(study, rows, Place(assumed[0]), Place(assumed[1]))
directions = layers.grid_directions(study, grid.source, rows, penalty)
tried, cells = layers.layer_map(study, site, grid, directions)
best = {m: layers.best_pair(cells, m) for m in (*layers.KINDS.values(), "oracle")}
run.figure("layer_effect", shown.effect_maps, cells, assumed, best, unit, title)

# %% [markdown]
# ## Do the best layers hold on new questions?

# %%
cka = cka_frame(
    study,
    {layer: rows[0][Place(layer)] for layer in grid.source},
    {layer: rows[1][Place(layer)] for layer in grid.target},
)
rules = corresponding_layers(study, site.layer_source, cka)
answers = layers.confirm(study, site, directions, best, rules.layer_target)
effects = layers.paired_effects(study, answers, study.splits["evaluation"])
found = {
    kind: layers.layer_gain(effects, method, assumed, best[method], seed)
    for kind, method in layers.KINDS.items()
}
pd.DataFrame(
    {
        kind: {
            k: plain(v) if hasattr(v, "low") else v
            for k, v in gain._asdict().items()
            if k != "conclusion"
        }
        for kind, gain in found.items()
    }
)

# %% [markdown]
# The rule that gives the conclusion:

# %%
print(layers.RULE)
for kind, gain in found.items():
    print(f"{kind}: {gain.conclusion.verdict} ({gain.conclusion.reason})")

# %% [markdown]
# ## Rules for corresponding layers
#
# The ridge map from the assumed source layer to the target layer that each rule gives, on the evaluation
# split. The gain is over the assumed layer, less that of random directions.

# %%
compared = layers.rules_frame(study, rules, effects, site, best[layers.KINDS["mapped"]])
likeness = layers.likeness_and_effect(cells, cka)
print(f"rank correlation of CKA and effect over the grid: {likeness:.2f}")
run.table(shown.rules_table(compared, interval_text), "layer_rules", align="lrrrr")
shown.rules_table(compared, plain)

# %%
path = run.hypothesis(
    "c", study, hypothesis_record(
        study, site, layers.STATEMENT, found["direct"].conclusion,
        penalty=penalty,
        n_selection=len(study.splits["selection"]),
        n_evaluation=len(study.splits["evaluation"]),
        layers=found,
        blocks_from_assumed={
            kind: [b - a for a, b in zip(gain.assumed, gain.best, strict=True)]
            for kind, gain in found.items()
        },
        own_best_layer=best["oracle"][1],
        map=cells,
        rules=compared,
        cka=cka.to_dict("split"),
        cka_effect_correlation=likeness,
    ),
)  # fmt: skip
path.name

# %% [markdown]
# ## What the loss is made of
#
# Direct transfer (zero-padded, at the source vector's own length, at the assumed layer) against the oracle
# (the target's own vector where it works best). Length, direction and layer are taken from the oracle
# alone and together. The oracle's length and direction are those of the target's own vector *at the layer
# that is written to*: each layer has its own basis and scale. A factor's share is its Shapley value, the
# mean over the orders of swapping, over the loss. Shares sum to 1; they may be negative.
#
# Throughout this notebook, an answer that collapses counts as no effect: broken text is no transfer.
# *Beyond random* subtracts what a random direction of that length does at that layer: a push that is long
# enough shortens answers whatever its direction.

# %%
best_layer = best["oracle"][1]
swaps = factorial.swapped(study, site, best_layer)
swap_answers = factorial.factorial_answers(study, site, best_layer)
by_cell, noise = factorial.cell_effects(study, swap_answers)
raw = factorial.attribute(by_cell, seed)
beyond = factorial.attribute(factorial.beyond_random(by_cell, noise), seed)
swap_cells = factorial.cell_frame(study, swap_answers, swaps)
run.figure("factorial", shown.shares_figure, raw, beyond, swap_cells, unit, title)

# %%
for text, part in (("of the effect", raw), ("beyond random", beyond)):
    print(f"{text}: {part.reason or f'the main factor is {part.main}'}")
parts = {"as it is": raw, "beyond random": beyond}
shown.share_table(parts, plain)

# %%
run.table(shown.cell_table(swap_cells, interval_text), "factorial_cells", align="lrrrrr")
shown.cell_table(swap_cells, plain)

# %%
path = write_json(
    run.folder / cell_file("factorial", source, target, study.trait.name),
    {
        "source": source,
        "target": target,
        "trait": study.trait.name,
        "unit": unit,
        "rule": factorial.RULE,
        "dose": site.dose,
        "layers": {"assumed": list(assumed), "best_target": best_layer},
        "n_evaluation": len(study.splits["evaluation"]),
        "effect": raw.as_record(),
        "beyond_random": beyond.as_record(),
        "cells": plain_records(swap_cells),
        "split_hashes": study.split_hashes,
    },
)
path.name

# %% [markdown]
# ## Components, stages, neighbouring layers
#
# Vectors read and written at the attention or the MLP output instead of the residual stream; at the first
# and the last layers of the grid instead of the assumed ones; and the same dose spread over three
# neighbouring layers. All have the length of the target's own residual vector at that layer. Doses are chosen
# on the selection split.

# %%
steers, described = components.component_steers(study, site, grid, rows)
every = {key: study.settings.doses for key in steers}
first = [study.splits[name][:n_components] for name in ("selection", "evaluation")]
dose_tried = components.answers_to(study, components.at_doses(study, steers, every), first[0])
dose_cells = components.dose_cells(dose_tried, study.trait.sign)
chosen = components.chosen_doses(dose_cells)
component_answers = components.answers_to(
    study, components.at_doses(study, steers, components.with_controls(chosen)), first[1]
)
by_component = components.component_frame(study, component_answers, chosen)
run.figure("components", shown.component_figure, by_component, unit, title)

# %%
run.table(shown.component_table(by_component, interval_text), "components", align="llrrrr")
shown.component_table(by_component, plain)

# %%
described.round(2)

# %%
for kind, gain in found.items():
    run.number(f"layers.gain.{kind}", gain.gain, digits=digits)
    run.number(f"layers.loss.{kind}", gain.loss, digits=digits)
    run.number(f"layers.conclusion.{kind}", gain.conclusion.verdict)
    run.number(f"layers.best.{kind}.source", gain.best[0])
    run.number(f"layers.best.{kind}.target", gain.best[1])
run.number("layers.best.own", best_layer)
run.number("layers.cka_correlation", likeness)
for row in compared.itertuples():
    run.number(f"layers.rule.{row.rule.lower().replace(' ', '_')}", row.gain, digits=digits)
for text, part in (("raw", raw), ("beyond", beyond)):
    run.number(f"factorial.{text}.loss", part.loss, digits=digits)
    for factor, share in part.shares.items():
        run.number(f"factorial.{text}.{factor}", share)
for row in by_component.itertuples():
    name = row.where.replace(" ", "_")
    run.number(f"components.{row.origin}.{name}", row.specific, digits=digits)
    run.number(f"components.gain.{row.origin}.{name}", row.gain, digits=digits)
run.number("components.n", len(first[1]))
run.number("layers.n", len(study.splits["evaluation"]))

# %%
parts = {"layers": answers, "factorial": swap_answers, "components": component_answers}
run.answers(
    pd.concat([t.assign(analysis=name) for name, t in parts.items()], ignore_index=True).drop(
        columns=["layer", "seed"], errors="ignore"
    )
)
run.close(
    study, site=site._asdict(), components=plain_records(by_component),
    component_vectors=plain_records(described), doses=plain_records(dose_cells),
    diagnostics={"depths": depths, "n_components": n_components},
)  # fmt: skip
