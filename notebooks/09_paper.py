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
# with two sources, or one that the paper uses and no notebook gives, stops the build.

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that is read
pairs: list = [["qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"]]  # the main one first
traits: list = ["verbosity"]  # the first is the main one

# %%
from prefvec.report import cells as all_cells
from prefvec.report import choice, dashboard, diagnosed, engine, findings, judged, overview, paper
from prefvec.report.run import Run
from prefvec.report.tables import interval_text
from prefvec.report.views import plain

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
run.table(paper.best_table(found), "best", align="lrr")
paper.best_frame(found)

# %% [markdown]
# ## Verdicts, computed
#
# A cell succeeds when the 95 % interval of its efficiency lies above 0 and the efficiency is more than
# 0.2 above that of the map fitted on shuffled pairs. Thresholds and scales: METHODOLOGY, section 7.6. A
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
# ## Where the method works
#
# Hatched cells do not succeed, grey ones have no value.

# %%
run.figure(overview.success_matrix(cells, method), "transfer_success_matrix")

# %%
run.figure(overview.scores_comparison(cells, method), "evaluation_scores_comparison")

# %% [markdown]
# A radar flatters large polygons and cuts what lies outside its axes (here 0 to 1): read it beside the
# matrix. Where a trait has no value, spokes are drawn and no polygon.

# %%
run.figure(overview.performance_radar(cells, method), "model_performance_radar")

# %%
units = {trait: all_cells.trait_unit(study, trait) for trait in traits}
curve = all_cells.curve_frame(study)
run.figure(
    overview.dose_multiples(curve, cells, [method, choice.DEFAULT], units), "dose_small_multiples"
)

# %% [markdown]
# ## All pairs

# %%
run.table(paper.pair_table(cells), "pairs", align="lllrrrr")
paper.pair_frame(cells)

# %%
run.figure(paper.pair_figure(cells[cells.trait == traits[0]]), "pairs")

# %%
for name, value in paper.counts(cells).items():
    run.number(name, value)
for name, (value, unit, digits) in findings.numbers(found).items():
    run.number(name, value, unit, digits)
paper.counts(cells)

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
run.figure(engine.scaling_figure(measured), "scaling")

# %%
engine.targets(measured)

# %%
paper.write_results(profile, study.records)
paper.write_summary(study, cells, found)
findings.write_verdicts(study, found)
page = dashboard.write_dashboard(study, cells, found)
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")
run.close(records=None)
numbers, used = paper.write_tex(profile, pairs, traits)
print(f"{len(numbers)} numbers, {len(used)} used in the paper")
