# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05b · Basis: is the direction rotated?
#
# **Hypothesis B.** Both models hold the direction, in different bases: written coordinate by coordinate it
# is lost, and a change of basis learned from ordinary prompts brings it back. If a rotation is enough,
# Procrustes does it; if not, ridge or canonical correlations.
#
# **Protocol.** All directions have the length of the target's own vector, at the site and dose of 04, on the
# evaluation split. What the two spaces share is measured on the alignment prompts, against permutations
# that keep whole styles and whole questions together.

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
import pandas as pd

from prefvec.diagnostics import basis
from prefvec.diagnostics.gains import effects_of, hypothesis_record
from prefvec.metrics.trait import UNITS
from prefvec.profile import Settings
from prefvec.report import diagnostic_figures as drawn
from prefvec.report import views
from prefvec.report.run import Run
from prefvec.report.tables import interval_text
from prefvec.stats import mean_ci
from prefvec.study import Study
from prefvec.transfer import (
    ORACLE,
    choose_site,
    controls_of,
    direct_methods,
    evaluate,
    learned_methods,
)

settings = Settings.from_namespace(globals())
study = Study(settings)
run = Run.of_pair("05b_basis", study)
unit = UNITS[study.trait.measure]
site, _ = choose_site(study)
title = f"{study.trait.name}, {source} → {target}, layers {site.layer_source} → {site.layer_target}"
print(site)

# %% [markdown]
# ## Do the same prompts differ in the same ways, along the same coordinates?
#
# Over the prompts no basis enters: a rotation leaves CKA 1 and angles of 0°. Over the coordinates a
# rotation leaves nothing but chance.

# %%
spaces = basis.compare_spaces(study, site)
run.figure("shared_space", drawn.shared_space, spaces, title)

# %%
calibrated = {
    "CKA": spaces.cka,
    "overlap over the prompts": spaces.rows.overlap,
    "overlap over the coordinates": spaces.coordinates.overlap,
}
pd.DataFrame({k: c._asdict() for k, c in calibrated.items()}).T.round(3)

# %% [markdown]
# ## How much of the vector lies in what is shared?
#
# The shared subspace: canonical directions whose correlation on held-out styles is above what the largest
# one reaches by chance.

# %%
parts = basis.shared_parts(study, site, spaces.shared)
parts.round(3)

# %% [markdown]
# ## Effects

# %%
learned, maps = learned_methods(study, site)
directions = {**direct_methods(study, site), **learned}
for control in controls_of("multiscale"):  # ridge's own say what is asked here
    del directions[control]
answers = evaluate(study, site, directions)
found = basis.outcomes(study, answers, site.dose)
at_dose = dict.fromkeys(found, site.dose)
shown = {m: found[m] for m in (ORACLE, *basis.RAW, *basis.MAPS, basis.CONTROL)}
run.table(drawn.outcome_frame(shown, interval_text, at_dose), "basis", align="lrrrr")
drawn.outcome_frame(found, views.plain, at_dose).set_index("direction")

# %% [markdown]
# ## Does the cosine to the target's own vector say what a direction will do?
#
# Raw; whitened by the covariance of the target's activations; without its outlier dimensions. A point is a
# method; Spearman's interval resamples methods and questions.

# %%
effects = effects_of(study, answers, "evaluation")
cosines, shrinkage = basis.cosines_to_own(study, site, directions)
cosines["effect"] = [mean_ci(effects[m, site.dose], seed) for m in cosines.method]
predicts = basis.cosine_predicts(study, cosines, effects, site.dose)
run.figure("cosine_against_effect", drawn.cosine_against_effect, cosines, predicts, unit, title)

# %%
drawn.shown(cosines, cosines.columns, views.plain)

# %% [markdown]
# ## Conclusion

# %%
gains = basis.paired_gains(effects, site.dose, seed)
conclusion = basis.conclude(found, gains)
print(f"Hypothesis B (basis): {conclusion.verdict}\n{conclusion.reason}\n\nRule: {conclusion.rule}")

# %%
run.number("b.verdict", conclusion.verdict)
run.number(
    "b.maps", ", ".join(drawn.name_of(m) for m in basis.carrying_maps(found, gains)) or "none"
)
for method in (*basis.RAW, *basis.MAPS, basis.CONTROL):
    run.number(f"b.share.{method}", found[method].share)
for kind, estimate in predicts.items():
    run.number(f"b.spearman.{kind}", estimate)
run.number("b.cka", spaces.cka.value)
run.number("b.cka.chance", spaces.cka.null_high)
run.number("b.overlap.prompts", spaces.rows.overlap.value)
run.number("b.overlap.coordinates", spaces.coordinates.overlap.value)
run.number("b.overlap.coordinates.chance", spaces.coordinates.overlap.null_high)
run.number("b.shared.directions", int(spaces.shared.kept.sum()))
for row in parts.itertuples():
    run.number(f"b.shared.{row.vector}", row.length)
measured = spaces._replace(
    shared={k: getattr(spaces.shared, k) for k in ("correlations", "threshold", "kept")}
)
run.hypothesis(
    "b", study, hypothesis_record(
        study, site, basis.STATEMENT, conclusion, outcomes=found, gains=gains, spaces=measured,
        shared_parts=parts, cosines=cosines, shrinkage=shrinkage, spearman=predicts, maps=maps.diagnostics,
    ),
)  # fmt: skip
run.answers(answers)
records = [{"method": m, "dose": site.dose, **o._asdict()} for m, o in found.items()]
run.close(study, records=views.plain_value(records), site=site._asdict())
