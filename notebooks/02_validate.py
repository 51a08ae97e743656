# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Validate: does the vector steer the model it came from?
#
# **Claim (H1).** Before asking whether a vector transfers, it must work at home.
#
# **Method.** First the ruler: does the score tell labelled texts apart that it never saw? Then the model
# answers the questions of the *selection* split with its own vector added at every position, for
# candidate layers and doses. The answers are scored and checked for collapse. The evaluation split is
# not touched.

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that is written
model: str = "qwen2.5-coder-0.5b-instruct"  # registry id, hub id, folder or .gguf
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
import pandas as pd

from prefvec.effects import verdict_h1
from prefvec.metrics.trait import UNITS
from prefvec.paths import slug
from prefvec.profile import Settings
from prefvec.report import figures, views
from prefvec.report.run import Run
from prefvec.study import Study
from prefvec.transfer import validate
from prefvec.validation import (
    extraction_effects,
    layer_effectiveness,
    other_extractions,
    score_validity,
    verdicts,
)

source = target = model
study = Study(Settings.from_namespace(globals()))
loaded = study.source
run = Run("02_validate", profile, slug(model), study.trait.name)

# %% [markdown]
# ## Does the score measure the trait?
#
# Area under the curve on texts written in either pole (`data/gold`; one text of each to a question,
# of equal length unless length is the trait). 0.5 is chance. A score whose interval reaches 0.5 is unfit.

# %%
validity = score_validity(study, loaded)
print("\n".join(verdicts(validity, study.trait.name)))
if study.trait.measure == "classifier":
    fitted = study.classifier
    print(f"classifier, cross-validated on its {fitted.n} training texts: AUC {fitted.auc:.2f}")

# %% [markdown]
# ## Effect by layer and dose

# %%
answers, choice = validate(study, loaded)
unit = f"{study.trait.name} score ({UNITS[study.trait.measure]})"
digits = 1 if study.trait.measure == "length" else 3
drawn = answers[["method", "layer", "dose", "score"]]
run.figure(
    "validation", figures.validation_curves, drawn, study.trait.sign, unit, f"{model}: own vector"
)

# %% [markdown]
# The best setting is the largest effect at which at most one answer in ten collapses (empty, repeating
# itself, or hardly made of letters).

# %%
print(f"layer {choice['layer']}, dose {choice['dose']:g} (lengths of the vector)")
best = answers[(answers.layer == choice["layer"]) & (answers.dose.abs() == choice["dose"])]
best[["question", "text", "n_tokens", "finish"]].head(5)

# %% [markdown]
# ## How effective is each layer?
#
# Effect at each layer's best dose, and effect per dose (`slope`). `adapted_dose` is the strength that would
# do at a layer what the chosen dose does at the chosen layer, if effects were proportional to doses: the
# chosen dose over the relative slope. It is only believable where such doses were tried.

# %%
layers = layer_effectiveness(study, answers, choice)
layers.assign(effect=[views.plain(e, digits) for e in layers.effect]).round(3)

# %% [markdown]
# ## Does the extraction method matter?
#
# The vectors of notebook 01 by what they do: same layer, dose and length, other direction.

# %%
answers = pd.concat([answers, other_extractions(study, loaded, choice)], ignore_index=True)
methods = extraction_effects(study, answers, choice)
methods.assign(effect=[views.plain(e, digits) for e in methods.effect]).round(2)

# %% [markdown]
# ## Verdict H1
#
# Share of prompts whose answer moved towards the steered pole, against the 0.7 asked for in advance.

# %%
verdict = verdict_h1(study, answers, choice)
print(verdict)
run.number("best_layer", choice["layer"])
run.number("best_dose", choice["dose"], digits=1)
run.number("h1_direction", verdict.direction)
for row in validity.itertuples():
    run.number("score_auc" if row.own else f"score_auc.{row.score}", row.auc)
if study.trait.measure == "classifier":
    run.number("classifier_auc", study.classifier.auc)
for row in methods.itertuples():
    run.number(f"extraction.effect.{row.method}", row.effect, digits=digits)
run.answers(answers)
found = {"scores": validity, "effectiveness": layers, "extraction": methods}
tables = {name: views.plain_records(table) for name, table in found.items()}
run.close(study, records=[choice | verdict.as_record() | tables])
