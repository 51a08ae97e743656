# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Adapters: learn the map from ordinary prompts
#
# **Claim (H3).** A linear map between the two residual streams, fitted on activations of *ordinary*
# styled prompts that have nothing to do with the trait, carries the vector across: the mapped vector
# steers the target about as well as the target's own.
#
# **Why the details matter.** If the map saw the trait's own contrast data, the mapped vector would equal
# the native one by interpolation, even between unrelated models: the alignment set is disjoint by
# prompt hash and by style. A difference of activations maps by the matrix alone, so both sides are
# centred before the fit. And λ chosen by reconstruction R² is not λ chosen for transfer: both are shown.

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
n_statements: int = 24  # pairs of a true and a false statement, for the honesty trait
penalties: list = [0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0]  # ridge λ, in mean diagonals

# %%
import pandas as pd

from prefvec.effects import (
    READ,
    content_and_coherence,
    matched_efficiency,
    paired_gain,
    summarise,
)
from prefvec.metrics.trait import UNITS, decimals
from prefvec.profile import Settings
from prefvec.report import figures, views
from prefvec.report.run import Run, result_records
from prefvec.study import Study
from prefvec.transfer import (
    CONTROLS,
    LEARNED,
    NOTHING,
    both_ways,
    choose_site,
    controls_of,
    evaluate,
    learned_methods,
    strongest_wrong,
)
from prefvec.transfer.doses import kl_curve, matched_doses
from prefvec.transfer.truth import truth_margins, truth_table

settings = Settings.from_namespace(globals())
study = Study(settings)
run = Run.of_pair("04_adapters", study)
unit = f"{study.trait.name} score ({UNITS[study.trait.measure]})"
digits = decimals(UNITS[study.trait.measure])

# %% [markdown]
# ## Choosing the layer and the dose
#
# On the selection split, by the *specific* effect: that of the ridge map minus that of controls of the
# same length (the same ridge fitted on shuffled pairs, a random direction). At a dose at which any
# direction has the effect, none is evidence. No evaluation prompt and no best layer of the target's own
# vector is looked at.

# %%
site, candidates = choose_site(study)
print(site)
candidates.round(2)

# %% [markdown]
# ## Choosing λ: two rules
#
# *Reconstruction*: highest R² on random folds, the usual rule. *Transfer*: whole styles are held out as
# concepts, and the λ wins whose mapped style direction has the highest cosine with the target's own.

# %%
directions, maps = learned_methods(study, site)
title = f"{source} → {target}, layers {site.layer_source} → {site.layer_target}"
run.figure(
    "penalty_path",
    figures.penalty_path,
    maps.path.rows(),
    maps.path.best_r2,
    maps.path.best_concept,
    title,
)

# %%
pd.DataFrame(maps.diagnostics).T.round(3)

# %% [markdown]
# The cosine to the target's own vector is low even where steering works: it understates what the
# vector does.
#
# ## Comparing maps
#
# On further questions that neither the site was chosen on nor results are reported on. The method that
# is best here over *all* cells of the study is fixed for all of them (notebook 09). Another trait's vector
# is tried towards both of its poles here, and the one that moves this score more is the control.

# %%
dose = study.trait.sign * site.dose
compared = None
if study.splits["choice"]:
    tried = evaluate(study, site, both_ways(directions), split="choice")
    compared = summarise(study, tried, "choice")
    at_choice = compared[compared.dose == dose].set_index("method")
    directions = strongest_wrong(directions, {m: e.value for m, e in at_choice.effect.items()})
views.method_frame(compared, ["oracle", *LEARNED, "random"], dose) if study.splits[
    "choice"
] else None

# %% [markdown]
# ## Steering the target
#
# At equal dose (lengths of the target's own vector), and at equal distance from the unsteered model: the
# doses at which each direction changes the next-token distribution by as many nats as the target's own
# vector does.

# %%
matched_of = [
    "oracle",
    "ridge_concept",
    "procrustes",
    "random_0",
    *(["random_1"] if n_random > 1 else []),
]
curve = kl_curve(
    study, study.target, {m: directions[m] for m in matched_of}, site.layer_target, doses
)
matched = matched_doses(curve, "oracle", site.dose)
also = {m: d for m, d in matched.items() if d == d}
answers = evaluate(
    study, site, directions, curve=["oracle", "ridge_concept", "random_0"], also=also
)
summary = summarise(study, answers)
shown = ["unsteered", "instruction", "oracle", *LEARNED, *CONTROLS, "random"]
run.table(views.method_table(summary, shown, dose), "adapters", align="lrrrr")
views.method_frame(summary, shown, dose)

# %%
limit = max_new_tokens if study.trait.measure == "length" else None
profile_doses = [0.0, *(study.trait.sign * d for d in {*doses, site.dose})]
at_profile = summary[summary.dose.isin(profile_doses)]
run.figure("dose_response", figures.dose_response, at_profile, unit, title, limit)

# %%
bars = ["oracle", *LEARNED, *CONTROLS, NOTHING]
run.figure("adapter_efficiency", figures.efficiency_bars, summary, bars, dose, title)

# %%
equal = {m: matched_efficiency(study, answers, m, matched) for m in ("ridge_concept", "procrustes")}
pd.DataFrame(
    {
        "dose at equal KL": {m: matched[m] for m in equal},
        "efficiency": {m: views.plain(e) for m, e in equal.items()},
    }
)

# %% [markdown]
# ## Content and coherence
#
# Against the unsteered answer to the same question; perplexity is under the *source* model, on at most
# the first 24 tokens. Some maps stand for all.

# %%
quality = content_and_coherence(study, answers, site, READ)
run.table(views.quality_table(quality), "quality", align="lrrrrr")
views.quality_frame(quality)

# %% [markdown]
# ## Is it true?
#
# For the honesty trait alone: how much likelier, per token, the true of two answers is than the false one.
# Tone (the score above) and truth are different things.

# %%
truth = None
if study.trait.name == "honest":
    told = [
        (m, directions[m], site.layer_target, dose)
        for m in (*matched_of, *controls_of("ridge_concept"))
    ]
    margins = truth_margins(
        study, study.target, [("unsteered", None, -1, 0.0), *told], n_statements
    )
    truth = truth_table(study, margins)
truth

# %% [markdown]
# ## What the answers look like

# %%
views.examples(answers, dose, ["unsteered", "oracle", "ridge_concept", "ridge_r2"], n=3)

# %%
at_dose = summary[summary.dose == dose].set_index("method")
for method in (*LEARNED, *CONTROLS, NOTHING):
    run.number(f"te.{method}", at_dose.te[method])
for method, found in equal.items():
    run.number(f"te_kl.{method}", found)
for method in ("oracle", "ridge_concept", "random"):
    run.number(f"effect.{method}", at_dose.effect[method], digits=digits)
    run.number(f"score.{method}", at_dose.score[method], digits=digits)
    run.number(f"collapse.{method}", at_dose.collapse[method], "%", digits=0)
unsteered = summary[summary.method == "unsteered"].iloc[0]
run.number("score.unsteered", unsteered.score, digits=digits)
run.number("censored.unsteered", unsteered.censored, "%", digits=0)
instructed = summary[summary.method == "instruction"].iloc[0]
run.number("score.instruction", instructed.score, digits=digits)
run.number(
    "gain_over_random", paired_gain(study, answers, "ridge_concept", "random", dose), digits=digits
)
run.number(
    "gain_over_r2", paired_gain(study, answers, "ridge_concept", "ridge_r2", dose), digits=digits
)
run.number("cosine.ridge_concept", maps.diagnostics["ridge_concept"]["cosine_to_own"])
run.number("cosine.ridge_r2", maps.diagnostics["ridge_r2"]["cosine_to_own"])
run.number(
    "penalty.concept", maps.path.best_concept, digits=3 if maps.path.best_concept < 0.1 else 1
)
run.number("penalty.r2", maps.path.best_r2, digits=3 if maps.path.best_r2 < 0.1 else 1)
run.number("df.concept", maps.diagnostics["ridge_concept"]["degrees_of_freedom"], digits=0)
run.number("df.r2", maps.diagnostics["ridge_r2"]["degrees_of_freedom"], digits=0)
run.number("layer.source", site.layer_source)
run.number("layer.target", site.layer_target)
run.number("dose", site.dose, digits=1)
run.number("n_evaluation", len(study.splits["evaluation"]))
run.number("n_alignment", len(study.alignment.styles))
run.number("limit", max_new_tokens)

# %%
run.answers(answers)
metrics = ["score", "effect", "censored", "collapse", "direction"]
records = result_records(study, site, summary, metrics)
quality = quality.assign(
    dose=[0.0 if m in ("unsteered", "instruction") else dose for m in quality.method]
)
records += result_records(study, site, quality, [c for c in quality if c not in ("method", "dose")])
run.close(
    study, records=records, site=site._asdict(), maps=maps.diagnostics, path=maps.path.rows(),
    choice=views.choice_records(compared, dose), kl=curve.to_dict("records"), kl_doses=also,
    truth=[] if truth is None else truth.to_dict("records"),
)  # fmt: skip
