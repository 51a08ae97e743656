# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05a · Magnitude: is the direction right and the scale wrong?
#
# **Hypothesis A.** A vector written into another model as it is fails because it is too long or too short
# there: streams differ in norm, and a few massive coordinates dominate it. If so, there is a scale at
# which the same direction works.
#
# **Protocol.** Direct and mapped directions, controls and the target's own vector are added over two orders
# of magnitude of lengths, at the layer of 04. The direct direction and every scale are chosen on the
# selection split; what they do is read on the evaluation split, against random directions of the *same*
# length. Where answers collapse, an effect is no steering, so coherence stands beside it. A random
# projection and a shuffled pairing show what choosing among scales gives by itself.

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
n_diagnosed: int = 24  # the first of them, for the many conditions of this notebook
n_random: int = 4  # norm-matched random directions
max_new_tokens: int = 48  # limit of an answer, tokens
layer_fractions: list = [0.44, 0.48]  # candidate depths, from 0 (first block) to 1 (last)
intervention_layer: int = -1  # source layer; -1: chosen among the candidates
doses: list = [1.0, 2.0]  # lengths of the target's own vector
scales: list = [0.1, 0.22, 0.46, 1.0, 2.2, 4.6, 10.0]  # lengths of the own vector that are tried
penalties: list = [0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0]  # ridge λ, in mean diagonals

# %%
import pandas as pd

from prefvec.diagnostics import magnitude
from prefvec.diagnostics.gains import effects_of, hypothesis_record
from prefvec.diagnostics.outliers import residual_profile
from prefvec.metrics.trait import UNITS
from prefvec.profile import Settings
from prefvec.report import diagnostic_figures as drawn
from prefvec.report import views
from prefvec.report.run import Run
from prefvec.report.tables import interval_text
from prefvec.study import Study
from prefvec.transfer import ORACLE, UNSCALED, choose_site

settings = Settings.from_namespace({**globals(), "n_evaluation": min(n_evaluation, n_diagnosed)})
study = Study(settings)
run = Run.of_pair("05a_magnitude", study)
unit = UNITS[study.trait.measure]
site, _ = choose_site(study)
title = f"{study.trait.name}, {source} → {target}, layers {site.layer_source} → {site.layer_target}"
print(site)

# %% [markdown]
# ## Norms and massive coordinates
#
# At the last token of ordinary questions. An outlier dimension is one whose median |x| is above ten times
# that of all dimensions.

# %%
profiles = {m.id: residual_profile(study, m) for m in (study.source, study.target)}
run.figure("residual_profiles", drawn.residual_profiles, profiles, title)

# %%
at_site = pd.concat(
    [
        profiles[source][profiles[source].layer == site.layer_source].assign(model=source),
        profiles[target][profiles[target].layer == site.layer_target].assign(model=target),
    ]
).set_index("model")
at_site.round(2)

# %% [markdown]
# ## The sweep, on the selection split
#
# Lengths in the target's own vector's, and as a share of the median norm of its residual stream at this
# layer. Hollow marks: more than 10 % of the answers collapse.

# %%
directions = magnitude.scaled_directions(study, site)
tried = magnitude.scale_sweep(study, site, directions)
residual, length = at_site.loc[target, ["residual", "vector"]]
sweep = magnitude.summarise_scales(study, tried, "selection", residual, length)
run.figure("scale_sweep", drawn.scale_sweep, sweep, unit, title)

# %%
scales = magnitude.choose_scales(sweep)
direct = magnitude.choose_direct(sweep, scales)
print(f"chosen direct direction: {direct} at {scales[direct]:g} lengths of the own vector")

# %% [markdown]
# ## At the chosen scales, on the evaluation split
#
# `unscaled` is the source's vector at its own length and the dose of 04, as who does not know the target's
# own vector would add it.

# %%
answers = magnitude.evaluate_scales(study, site, directions, scales)
scales[UNSCALED] = magnitude.unscaled_scale(study, site)
chosen = magnitude.summarise_scales(study, answers, "evaluation", residual, length)
found = magnitude.outcomes(study, answers, scales)
run.table(drawn.outcome_frame(found, interval_text, scales), "magnitude", align="lrrrr")
drawn.outcome_frame(found, views.plain, scales).set_index("direction")

# %% [markdown]
# ## Without outlier dimensions
#
# The same directions with the target's outlier dimensions set to 0 and the length restored, at the same
# scale. `held` is the share of the squared length that these dimensions hold.

# %%
effects = effects_of(study, answers, "evaluation")
trimmed = magnitude.trimming(study, site, effects, directions, scales)
drawn.shown(trimmed, trimmed.columns, views.plain)

# %% [markdown]
# ## Conclusion

# %%
conclusion = magnitude.conclude(direct, found)
print(
    f"Hypothesis A (magnitude): {conclusion.verdict}\n{conclusion.reason}\n\nRule: {conclusion.rule}"
)

# %%
run.number("a.verdict", conclusion.verdict)
run.number("a.direct", drawn.name_of(direct))
for name, method in (("direct", direct), ("unscaled", UNSCALED), ("oracle", ORACLE)):
    run.number(f"a.gain.{name}", found[method].gain)
    run.number(f"a.share.{name}", found[method].share)
    run.number(f"a.collapse.{name}", found[method].collapse, "%", digits=0)
    run.number(f"a.scale.{name}", scales[method])
run.number("a.residual_share", length / residual)
run.answers(pd.concat([tried.assign(split="selection"), answers.assign(split="evaluation")]))
evaluation = chosen.assign(
    gain=[
        found[m].gain if scales.get(m) == s else None
        for m, s in zip(chosen.method, chosen.scale, strict=True)
    ],
    share=[
        found[m].share if scales.get(m) == s else None
        for m, s in zip(chosen.method, chosen.scale, strict=True)
    ],
)
run.hypothesis(
    "a", study, hypothesis_record(
        study, site, magnitude.STATEMENT, conclusion, direct=direct, scales=scales, outcomes=found,
        sweep=sweep, evaluation=evaluation, trimmed=trimmed, profiles=profiles,
    ),
)  # fmt: skip
run.close(study, records=views.plain_records(evaluation), site=site._asdict(), scales=scales)
