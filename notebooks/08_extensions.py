# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Extensions: what else a mapped vector does
#
# **Question.** Does a linear map fitted on ordinary prompts carry more than one number of one trait? Does the
# mapped vector treat the *other* preferences as the target's own vector does, do mapped vectors add up as native
# ones do, and is a modest number of prompts enough? Each section holds one part of this against data. With the
# defaults (one trait, no sizes, no seeds) most parts say that they were not run; the paper's section on
# extensions has them for four traits.
#
# **Protocol.** Settings, layers and doses are those with which notebook 04 ran for this pair, trait by
# trait, as its manifests say. Nothing here is used to choose anything. Numbers are from the evaluation
# split, with 95 % intervals over prompts. The first of `traits` is the main one.

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that is read and written
source: str = "qwen2.5-coder-0.5b-instruct"  # model the vectors are found in
target: str = "smollm2-135m-instruct"  # model they are carried to
traits: list = ["verbosity"]  # traits that 04 has run for this pair; the first is the main one
sizes: list = []  # sizes of the alignment set that are compared, rows; empty: no size curve
size_questions: int = 0  # alignment questions for the size curve; 0: as many as 04 had
n_curve: int = 16  # first evaluation questions that each size steers
n_composed: int = 24  # first evaluation questions for two preferences at once
n_seeds: int = 0  # seeds of the sampled answers; 0: no sampling
temperature: float = 0.7  # of the sampled answers

# %%
import pandas as pd

from prefvec.metrics.trait import UNITS, decimals
from prefvec.paths import pair_name
from prefvec.profile import Extensions
from prefvec.report import extension_records as records_of
from prefvec.report import extension_views as views
from prefvec.report.run import Run
from prefvec.report.tables import interval_text
from prefvec.report.views import plain
from prefvec.transfer import extensions, spill
from prefvec.transfer import sizes as size_curves
from prefvec.transfer.saved import load_cells

chosen = Extensions.from_namespace(globals())
cells = load_cells(profile, source, target, traits)
first, second = [*cells.values(), None][:2]
named = {name: cell.study.trait for name, cell in cells.items()}
unit = UNITS[first.study.trait.measure]
run = Run("08_extensions", profile, pair_name(source, target))
title = f"{source} → {target}"
records, answers, missing = [], [], {}
pd.DataFrame(
    {
        views.pole(named[name]): {**cell.site._asdict(), "score": UNITS[named[name].measure]}
        for name, cell in cells.items()
    }
).T

# %% [markdown]
# ## 1 · Spill: what each vector does to the other preferences
#
# The saved answers of 04 are scored for every trait; nothing is generated. An entry is the mean change of
# the *measured* trait's score against the unsteered answer, in SDs of that score over what the target writes
# unsteered and under its own vector for that trait, both together.
# It is positive when answers move to the pole that the study steers the measured trait to (named below
# the columns), so the diagonal is what was intended.
#
# Preferences are not independent (a casual answer may be a short one): what spills under the native vector
# belongs to the traits, and the map is to be held against that. A mean of absolute values is above zero
# by noise alone; the random direction says by how much, and what any vector of this length does.

# %%
if second:
    scores = spill.spill_scores(cells, spill.SPILL_METHODS)
    effects = spill.spill_effects(scores, {name: trait.sign for name, trait in named.items()})
    spilled = spill.spill_frame(effects, first.study.settings.seed)
    records += records_of.spill_records(cells, spilled)
    run.table(
        views.spill_table(spilled, spill.SPILL_METHODS, interval_text), "spill", align="llrrr"
    )
    for method in spill.SPILL_METHODS:
        run.number(f"spill.level.{method}", spill.spill_level(effects, method))
    for method in ("oracle", "ridge_concept"):
        run.number(f"spill.ratio.{method}", spill.spill_ratio(effects, method))
    poles = {name: views.pole(trait) for name, trait in named.items()}
    figure = run.figure(
        "spill_matrix", views.spill_matrix, spilled, poles, ["oracle", "ridge_concept"], title
    )
else:
    figure = missing["spill"] = "needs two traits"
figure

# %%
views.spill_table(spilled, spill.SPILL_METHODS, plain) if second else None

# %% [markdown]
# Off the diagonal over on it: 0 is a vector that moves its own preference alone.

# %%
pd.DataFrame(
    {
        method: {
            "mean |effect| off the diagonal, SDs": plain(spill.spill_level(effects, method)),
            "over the diagonal's mean": plain(spill.spill_ratio(effects, method)),
        }
        for method in spill.SPILL_METHODS
    }
) if second else None

# %% [markdown]
# ## 2 · Two preferences at once
#
# The vectors of the first two traits are added together: the target's own, and both through one ridge map
# whose alignment rows are without the styles close to either trait. Both are written at the first
# trait's layer, each at its own dose. Effects are in SDs and signs as above. **Interaction** is
# effect(a + b) − effect(a) − effect(b), prompt by prompt: zero if the two add up, of the other sign if
# they get in each other's way, which a score with a limit also makes happen.

# %%
if second:
    both, cosines = extensions.composition(first, second, n_composed)
    signs = {cell.study.trait.name: cell.study.trait.sign for cell in (first, second)}
    added = extensions.interactions(
        both, signs, spill.yardsticks(scores), first.study.settings.seed
    )
    records += records_of.composition_records(first, second, added)
    answers.append(both.assign(analysis="composition"))
    run.table(
        views.composition_table(added, [*signs], interval_text), "composition", align="llrrrrr"
    )
    for place, name in zip(("first", "second"), signs, strict=True):
        run.number(f"composition.{place}", name)
        for row in added[added.measured == name].itertuples():
            for part in ("a", "b", "both", "interaction"):
                run.number(f"composition.{place}.{row.kind}.{part}", getattr(row, part))
    for row in added[added.measured == first.study.trait.name].itertuples():
        run.number(f"composition.collapse.{row.kind}", row.collapsed, "%", digits=0)
    for kind, value in cosines.items():
        run.number(f"composition.cosine.{kind}", value)
    print("cosine between the two vectors:", {k: round(v, 2) for k, v in cosines.items()})
    table = views.composition_table(added, [*signs], plain)
else:
    table = missing["composition"] = "needs two traits"
table

# %% [markdown]
# ## 3 · There and back
#
# Transfer efficiency of the ridge map in this direction and in the other one, from the results of 04. The
# interval of the difference follows from the two intervals, as of independent estimates.

# %%
ways = extensions.symmetry(profile, source, target, traits)
if not ways.back_ran.all():
    lacking = ", ".join(ways[~ways.back_ran].trait)
    missing["symmetry"] = f"notebook 04 has not run for {target} → {source}: {lacking}"
records += records_of.symmetry_records(cells, ways)
for row in ways[ways.back_ran].itertuples():
    run.number(f"symmetry.difference.{row.trait}", row.difference)
    run.number(f"symmetry.absolute.{row.trait}", row.absolute)
views.symmetry_table(ways, plain)

# %% [markdown]
# ## 4 · How many alignment prompts?
#
# The ridge map on nested random subsets of the alignment rows, each with as many styles as it can hold;
# λ is chosen by held-out styles for each subset. Held-out styles are compared as directions that come from
# all rows, the same for every size. The steered answers are those to the first `n_curve` evaluation
# questions; nothing is chosen by them.

# %%
if sizes:
    larger = size_curves.larger_study(first.study, size_questions)
    curve, by_size, its_answers = size_curves.size_curve(larger, first.site, sizes, n_curve)
    records += records_of.size_records(larger, first.site, curve, by_size)
    answers.append(its_answers.assign(analysis="size_curve"))
    run.table(views.size_table(by_size, interval_text), "size_curve", align="rrrrrr")
    for row in by_size.to_dict("records"):
        run.number(f"size.te.{row['size']}", row["te"])
        run.number(f"size.cosine.{row['size']}", row["concept_cosine"])
    ends = by_size.sort_values("size").iloc[[0, -1]].to_dict("records")
    for place, row in zip(("smallest", "largest"), ends, strict=True):
        run.number(f"size.{place}", row["size"])
        run.number(f"size.{place}.te", row["te"])
    own_size = len(first.study.styles) * len(first.study.splits["alignment"])
    figure = run.figure("size_curve", views.size_curve, curve, by_size, own_size, title)
else:
    figure = missing["size_curve"] = "`sizes` is empty"
figure

# %%
views.size_table(by_size, plain) if sizes else None

# %% [markdown]
# The dotted line is the size that 04 used.
#
# ## 5 · Linear against non-linear
#
# Effect of the ridge map minus that of the network and of the ridge by bands, on the same prompts, from
# the saved answers of 04. Above zero, the linear map steers more.

# %%
gains = pd.concat(
    [extensions.linear_gains(cell).assign(trait=name) for name, cell in cells.items()],
    ignore_index=True,
)
records += records_of.linear_records(cells, gains)
run.table(views.linear_table(gains, interval_text), "linear", align="llrr")
for row in gains.itertuples():
    run.number(f"linear.{row.trait}.{row.other}", row.gain)
    run.number(f"linear_sd.{row.trait}.{row.other}", row.standardised)
views.linear_table(gains, plain)

# %% [markdown]
# ## 6 · Is it the decoding?
#
# Everywhere else answers are greedy. Here they are drawn at a temperature, several for each prompt; under
# one seed, a prompt's steered and unsteered answers share their random draws. The effect's variance is
# split into that between seeds, that between prompts, and the rest. With few seeds, the first of these
# is known roughly. Transfer efficiency is against one random direction.

# %%
if n_seeds:
    drawn = extensions.sampled_answers(first, n_seeds, temperature)
    sampled = extensions.sampling_summary(drawn, first.study.trait.sign, first.study.settings.seed)
    records += records_of.sampling_records(first, sampled, temperature, n_seeds)
    answers.append(drawn.assign(analysis="sampling"))
    run.table(views.sampling_table(sampled, interval_text), "sampling", align="lrrrrrr")
    for row in sampled.itertuples():
        run.number(f"sampling.effect.{row.method}", row.effect, digits=decimals(unit))
        run.number(f"sampling.te.{row.method}", row.te)
        for name in ("seed", "prompt", "rest"):
            run.number(f"sampling.sd_{name}.{row.method}", getattr(row, name) ** 0.5)
    print(f"effects in {unit}, temperature {temperature:g}, {n_seeds} seeds")
    table = views.sampling_table(sampled, plain)
else:
    table = missing["sampling"] = "`n_seeds` is 0"
table

# %%
run.number("n_seeds", n_seeds)
run.number("n_composed", min(n_composed, len(first.study.splits["evaluation"])))
run.number("n_curve", min(n_curve, len(first.study.splits["evaluation"])))
run.number("temperature", temperature, digits=1)
if answers:
    run.answers(pd.concat(answers, ignore_index=True))
run.close(
    first.study, records=records, extensions=chosen.model_dump(), missing=missing,
    sites={name: cell.site._asdict() for name, cell in cells.items()},
)  # fmt: skip
missing
