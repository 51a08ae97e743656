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
from prefvec.report import engine, paper
from prefvec.report.run import Run

run = Run("09_paper", profile)
results = paper.gather(profile, pairs, traits)
print(f"{len(results)} records from {len(pairs)} pairs and {len(traits)} traits")

# %% [markdown]
# ## All pairs

# %%
cells = paper.pair_cells(results, pairs, traits)
run.table(paper.pair_table(cells), "pairs", align="lllrrrr")
paper.pair_frame(cells)

# %%
run.figure(paper.pair_figure(cells), "pairs")

# %% [markdown]
# ## Verdicts, computed
#
# How many pairs the mapped vector steers, with its interval above zero; and the same for what should
# not steer.

# %%
for name, value in paper.counts(cells).items():
    run.number(name, value)
paper.counts(cells)

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
paper.write_results(profile, results)
paper.write_summary(profile, cells)
run.close(records=None)
numbers, used = paper.write_tex(profile, pairs, traits)
print(f"{len(numbers)} numbers, {len(used)} used in the paper")
