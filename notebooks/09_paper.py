# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Paper: gather what the other notebooks found
#
# Nothing is computed from models here. The numbers, tables and figures of every stage become what LaTeX
# reads (`paper_src/tex/generated/`), and one record a cell becomes `experiment_results.json`. A number
# with two sources, or one that the paper uses and no notebook gives, stops the build; so does a sentence
# that the results do not bear out, where the text was written for them (`claims`).

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that is read
pairs: list = [["qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"]]  # the main one first
traits: list = ["verbosity"]  # the first is the main one
claims: bool = False  # must what the text claims hold? If not, sentences that don't are left out

# %%
import pandas as pd

from prefvec.report import cells as all_cells
from prefvec.report import (
    choice,
    dashboard,
    diagnosed,
    engine,
    findings,
    index,
    judged,
    overview,
    own_vectors,
    paper,
    prediction,
    provenance,
    reproduction,
    samples,
    settings,
    spilled,
    truthful,
)
from prefvec.report.run import Run
from prefvec.report.tables import interval_text
from prefvec.report.views import plain
from prefvec.transfer.methods import controls_of

run = Run("09_paper", profile)
study = all_cells.gather(profile, pairs, traits)
cells = all_cells.pair_cells(study)
print(f"{len(study.records)} records from {len(pairs)} pairs and {len(traits)} traits")

# %% [markdown]
# What has no number, and why: nothing is left out in silence.

# %%
paper.missing_frame(study, cells)

# %% [markdown]
# ## One method for all cells
#
# The learned map with the highest mean efficiency on the *choice* split over all cells is fixed for the
# whole study; what it is worth is read off the evaluation split. Efficiencies beyond ±1.5 count as ±1.5.

# %%
found = findings.find(study, cells)
method = found.choice.method
print(f"{method}: {found.choice.reason}")
run.table(choice.ranking_frame(found.ranking), "ranking", align="lrr")

# %%
run.table(paper.best_table(found), "best", align="Hrr")
paper.best_frame(found)

# %% [markdown]
# ## Verdicts, computed
#
# A cell succeeds when the 95 % interval of its efficiency lies above 0 and the efficiency is more than
# 0.2 above that of the same map fitted on shuffled pairs. Thresholds and scales: METHODOLOGY, section 7.6. A
# rejected hypothesis says "rejected".

# %%
run.table(findings.verdict_frame(found), "verdicts", align="llrr")

# %%
findings.criteria_frame(found)

# %%
findings.protocol_frame(found)

# %%
findings.strategy_frame(found)

# %% [markdown]
# ## What was set for each trait

# %%
protocol = settings.settings_frame(study)
run.table(protocol, "settings", align="lllllrr")
protocol

# %% [markdown]
# ## Scores and own vectors
#
# A score is held against labelled texts that it never saw; one whose interval reaches 0.5 supports no claim. H1
# asks whether a model's own vector moves more than 0.7 of its answers, on the selection questions.

# %%
own = own_vectors.own_vectors(study)
run.table(own_vectors.own_table(own, interval_text), "own_vectors", align="llrrrl")
for name, (value, unit, digits) in own_vectors.own_numbers(own).items():
    run.number(name, value, unit, digits)
own_vectors.own_table(own, plain)

# %% [markdown]
# ## Where the method works
#
# Hatched cells do not succeed, grey ones have no value.

# %%
run.figure("transfer_success_matrix", overview.success_matrix, cells, method)

# %%
run.figure("evaluation_scores_comparison", overview.scores_comparison, cells, method)

# %% [markdown]
# A radar flatters large polygons and cuts what lies outside its axes (here 0 to 1): read it beside the
# matrix. Where a trait has no value, spokes are drawn and no polygon.

# %%
run.figure("model_performance_radar", overview.performance_radar, cells, method)

# %%
units = {trait: all_cells.trait_unit(study, trait) for trait in traits}
curve = all_cells.curve_frame(study)
run.figure(
    "dose_small_multiples", overview.dose_multiples, curve, cells, [method, choice.DEFAULT], units
)

# %% [markdown]
# ## All pairs

# %%
for name, table in paper.pair_tables(cells, method).items():
    run.table(table, name, align="ll" + "r" * (table.shape[1] - 2))
paper.pair_frame(cells, method)

# %%
run.figure("pairs", overview.pair_efficiencies, cells, method)

# %%
for name, value in paper.counts(cells).items():
    run.number(name, value)
for name, (value, unit, digits) in findings.numbers(found).items():
    run.number(name, value, unit, digits)
paper.counts(cells)

# %% [markdown]
# ## Answers
#
# The first questions of the split in the main pair, not chosen.

# %%
shown = ["unsteered", "instruction", "oracle", method, controls_of(method)[0]]
sampled = samples.samples_of_pair(study, pairs[0], shown, questions=2)
for at, (trait, table) in enumerate(sampled.items(), 1):
    run.table(table.rename(columns={"question": trait}), f"samples_{at}", align="NNP")
pd.concat(sampled.values(), keys=sampled.keys()) if sampled else "nothing was saved"

# %% [markdown]
# ## Honesty: tone and truth
#
# The change of the margin of true over false answers (nats per token) under the vector towards deception.

# %%
told = truthful.truth_cells(study)
run.table(truthful.truth_table(told, interval_text), "truth", align="lrrrrrr")
for name, value in truthful.truth_numbers(told).items():
    run.number(name, value)
truthful.truth_table(told, plain)

# %% [markdown]
# ## Two styles, one vector?
#
# How much the vectors of formality and silliness move each other's scores, over what they do to their own (08).

# %%
crossed = spilled.spill_numbers(profile, pairs)
for name, value in crossed.items():
    run.number(name, value)
pd.Series(
    {name: plain(value) for name, value in crossed.items()}, name="effect on the other's score"
)

# %% [markdown]
# ## Why direct transfer loses effect
#
# The verdicts of notebooks 05a to 05c on length (A), basis (B) and layer (C), and each one's share of the loss.

# %%
reasons = diagnosed.diagnosed(profile, pairs, traits)
run.table(diagnosed.factorial_table(reasons, interval_text), "factorial", align="llcccrrrr")
for name, value in diagnosed.numbers(reasons).items():
    run.number(name, value)
diagnosed.factorial_table(reasons, plain)

# %% [markdown]
# ## A judge, and a model that is only asked
#
# Of the main pair. A judge is fit for a rubric if it orders labelled texts well enough (notebook 06); scores
# of an unfit one are used for no claim. What gets through a black box (07) is what the vector does beyond the
# same numbers in another order.

# %%
judges = judged.judged(profile, pairs[0], traits)
boxes = judged.boxed(profile, pairs[0], traits)
for name, table in judged.tables(judges, boxes).items():
    run.table(table, name, align=judged.ALIGN[name])
for name, (value, unit, digits) in judged.numbers(judges, boxes).items():
    run.number(name, value, unit, digits)
judged.judge_table(judges)

# %%
judged.box_table(boxes)

# %% [markdown]
# ## Could it have been foretold?
#
# From what is known before the target has written a word: how well maps carry held-out styles, the layers' CKA, shared
# vocabulary, the vector's strength in its own model. Both directions of a pair of models are left out together. The
# baseline knows the trait alone.

# %%
foretold = prediction.predict(study, cells, method)
run.figure("prediction", prediction.prediction_figure, foretold.rows)
for name, value in prediction.prediction_numbers(foretold).items():
    run.number(name, value)
print(
    f"against the baseline: {foretold.verdict}, gain {plain(foretold.gain)} on {len(foretold.rows)} cells"
)
prediction.prediction_frame(foretold)

# %% [markdown]
# ## What the engine costs
#
# `benchmarks/run.sh` measured this against its peers in one run; `benchmarks/machine.json` says where.

# %%
measured = engine.records()
run.table(engine.contestants(measured), "engine", align="llrlr")
for name, value in engine.numbers(measured).items():
    run.number(name, value)
engine.contestants(measured)

# %%
run.figure("scaling", engine.scaling_figure, measured)

# %%
engine.targets(measured)

# %% [markdown]
# ## Where the results came from
#
# From the manifests of every stage. Wall time is that of the run that wrote the manifest, which may have read
# generations from the store.

# %%
stages = provenance.manifests(run.folder)
run.table(provenance.stage_frame(stages), "stages", align="lrrrr")
run.table(provenance.checklist(stages), "checklist", align="lP")
for name, (value, unit, digits) in provenance.provenance_numbers(stages).items():
    run.number(name, value, unit, digits)
provenance.checklist(stages)

# %% [markdown]
# ## Does it come out again?
#
# Second runs on record (`prefvec verify --record`, `prefvec compare --record`), number by number.

# %%
again = reproduction.recorded(run.folder)
if again:
    runs = reproduction.reproduction_table(again).set_index("second run").T
    run.table(runs.reset_index(names=""), "reproduction", align="l" + "r" * len(again))
for name, value in reproduction.reproduction_numbers(again).items():
    run.number(name, value)
reproduction.reproduction_table(again)

# %%
paper.write_results(profile, study.records)
paper.write_summary(study, cells, found)
findings.write_verdicts(study, found)
page = dashboard.write_dashboard(study, cells, found)
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")
run.close(records=None, pairs=pairs, traits=traits, claims=claims)
numbers, claimed = paper.write_tex(profile, pairs, traits, strict=claims)
print(f"{len(numbers)} numbers for the paper")
index.write_index(run.folder, run.figures)
pd.DataFrame({"what the paper claims": claimed.keys(), "left out because": claimed.values()})
