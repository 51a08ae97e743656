# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Direct transfer: write the vector into the other model as it is
#
# **Claim (H2).** A vector can be forced into another model's width (zero-padding or truncation,
# interpolation, a random projection) without learning anything. If residual streams shared a basis,
# this would steer.
#
# **Protocol.** All methods add a direction of the *same length* (that of the target's own vector) at the
# same layer and the same dose, so that only direction differs. Layer and dose were chosen on the
# selection split; the numbers come from the evaluation split. **Transfer efficiency** is
# (method − random) / (oracle − random): 0 is a random direction, 1 the target's own vector. `unscaled` is
# the exception: the source's vector at its own length, at the same coefficient.

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
n_selection: int = 8  # questions on which layer and dose are chosen
n_choice: int = 8  # further questions, on which methods are compared and the best one is chosen
n_evaluation: int = 24  # questions that the reported numbers come from
n_random: int = 4  # norm-matched random directions
max_new_tokens: int = 48  # limit of an answer, tokens
layer_fractions: list = [0.44, 0.48]  # candidate depths, from 0 (first block) to 1 (last)
intervention_layer: int = -1  # source layer; -1: chosen among the candidates
doses: list = [1.0, 2.0]  # lengths of the target's own vector
penalties: list = [0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0]  # ridge λ, in mean diagonals

# %%
import numpy as np

from prefvec.effects import summarise
from prefvec.metrics.trait import UNITS
from prefvec.models.architecture import (
    analyse,
    compatibility,
    recommended_strategy,
    vocabulary_overlap,
)
from prefvec.profile import Settings
from prefvec.report import figures, views
from prefvec.report.run import Run, result_records
from prefvec.study import Study
from prefvec.transfer import DIRECT, UNSCALED, choose_site, direct_methods, evaluate
from prefvec.transfer.correspondence import corresponding_layers, layer_cka

settings = Settings.from_namespace(globals())
study = Study(settings)
run = Run.of_pair("03_direct_transfer", study)
unit = f"{study.trait.name} score ({UNITS[study.trait.measure]})"

# %% [markdown]
# ## What the architectures advise
#
# Compatibility (notebook 00) above 0.8: write the vector as it is; else dimensions above 0.7 alike: rescale
# it; else learn a map. A rule of thumb, held against the efficiencies in notebook 09.

# %%
a, b = study.source, study.target
scores = compatibility(analyse(a), analyse(b), vocabulary_overlap(a.tokenizer, b.tokenizer))
strategy = recommended_strategy(scores)
print(f"overall {scores['overall']:.2f}, dimension {scores['dimension']:.2f}: {strategy}")

# %% [markdown]
# ## Where and how strongly
#
# Candidate depths and doses, tried on the selection split (see 04 for the map used to choose).

# %%
site, candidates = choose_site(study)
print(site)
candidates.round(2)

# %% [markdown]
# ## Which layers correspond?
#
# Four rules for the target layer that goes with the chosen source layer. CKA is debiased, on the paired
# activations of the alignment prompts, among the candidate layers.

# %%
cka = layer_cka(study)
rows, widths = len(study.alignment.styles), (a.width, b.width)
print(f"{rows} prompts, widths {widths[0]} and {widths[1]}")
run.figure("layer_cka", figures.heatmap, cka, "Likeness of layers", "linear CKA (debiased)")

# %%
layers = corresponding_layers(study, site.layer_source, cka)
print(f"source layer {site.layer_source}; transfer itself was best at {site.layer_target}")
layers

# %% [markdown]
# ## Answers and scores

# %%
directions = direct_methods(study, site)
answers = evaluate(study, site, directions, curve=["oracle", "random_0"])
summary = summarise(study, answers)
dose = study.trait.sign * site.dose
shown = ["unsteered", "instruction", "oracle", *DIRECT, UNSCALED, "random"]
lengths = [np.linalg.norm(directions[m]) for m in (UNSCALED, "oracle")]
print(f"the unscaled vector is {lengths[0] / lengths[1]:.2f} times as long as the target's own")
run.table(views.method_table(summary, shown, dose), "direct", align="lrrrr")
views.method_frame(summary, shown, dose)

# %% [markdown]
# ## Transfer efficiency

# %%
title = f"Direct transfer: {source} → {target}"
run.figure("direct_efficiency", figures.efficiency_bars, summary, ["oracle", *DIRECT], dose, title)

# %% [markdown]
# ## What the answers look like

# %%
views.examples(answers, dose, ["unsteered", "oracle", "zero_pad"], n=3)

# %%
at_dose = summary[summary.dose == dose].set_index("method")
for method in (*DIRECT, UNSCALED):
    run.number(f"direct.te.{method}", at_dose.te[method])
run.number("direct.length.unscaled", lengths[0] / lengths[1])
for row in layers.itertuples():
    run.number(f"layer.{row.rule.lower().replace(' ', '_')}", row.layer_target)
run.number("strategy", strategy)
run.number("direct.best", max(at_dose.te[m].value for m in DIRECT))
run.answers(answers)
records = result_records(
    study, site, summary, ["score", "effect", "censored", "collapse", "direction"]
)
run.close(
    study, records=records, site=site._asdict(), strategy={"recommended": strategy, **scores},
    layers=layers.to_dict("records"), cka=cka.to_dict("split"),
)  # fmt: skip
