# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · A judge, and whether it can be trusted
#
# The automatic scores are cheap and narrow. A language model as judge is asked for the trait and for
# coherence, 0–100, and answers with one number: the score is the expectation over the numbers among the
# first answer token's log-probabilities. It sees one text and its question at a time, in a shuffled order,
# and never the condition.
#
# **A judge is measured before it is believed.** On texts whose order is known (written under opposite
# poles; whole against shuffled and corrupted ones) the lower end of its AUC's interval must reach 0.7,
# with at most 10 % of the scores missing. The scores of a judge that fails are shown, marked, and used
# for no claim.
#
# The default judge is a llama.cpp server on this machine, with an embedded model. For the paid API set
# `OPENAI_API_KEY` and `judge_model`, say `gpt-4o`; what it answered is recorded beside the results and
# can be replayed without a key (`judge_recording`).

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that notebook 04 wrote
source: str = "qwen2.5-coder-0.5b-instruct"  # model the vector is found in
target: str = "smollm2-135m-instruct"  # model it is carried to
trait: str = "verbosity"  # built-in trait, or path of a trait file
seed: int = 0  # order of the texts, corruptions, bootstrap
judge_model: str = "qwen2.5-coder-0.5b-instruct"  # of the registry, a .gguf path, or an API's
judge_url: str = ""  # base URL of an OpenAI-compatible server; empty: local for GGUF, else OpenAI's
judge_recording: str = ""  # recorded replies to replay instead of asking; empty: ask
judge_parallel: int = 2  # requests at once
judge_requests: int = 2000  # budget: requests, retries included
judge_tokens: int = 2000000  # budget: prompt and completion tokens
judge_money: float = 5.0  # budget: in the currency of the prices
price_in: float = 0.0  # per million prompt tokens
price_out: float = 0.0  # per million completion tokens
n_gold: int = 8  # pairs of labelled texts of the trait
n_broken: int = 8  # texts that are also shown broken, for coherence
n_judged: int = 6  # evaluation questions whose answers are judged
judged_methods: list = ["unsteered", "instruction", "oracle", "ridge_concept", "random_0"]  # judged

# %%
import pandas as pd

from prefvec.judge.agreement import broken_pairs, coherence_rubric, fitness, judge_gold, unmeasured
from prefvec.judge.budget import Budget
from prefvec.judge.conditions import (
    by_condition,
    claimed,
    judge_conditions,
    sample_cell,
    with_automatic,
)
from prefvec.judge.judging import missingness, open_judge
from prefvec.judge.rubrics import rubric_for
from prefvec.metrics.gold import load_gold
from prefvec.report import judge_views, views
from prefvec.report.run import Run
from prefvec.transfer.saved import load_cell

cell = load_cell(profile, source, target, trait)
study = cell.study
run = Run.of_pair("06_judge", study)
rubrics = {"trait": rubric_for(study.trait), "coherence": coherence_rubric()}
labelled = load_gold(study.trait.name)[:n_gold]
whole = labelled or load_gold("formality")[:n_gold]  # for coherence any labelled text will do
sampled = sample_cell(cell, judged_methods, n_judged)
pd.DataFrame({name: dict(rubric) for name, rubric in rubrics.items()}).T

# %% [markdown]
# ## Asking

# %%
limits = Budget(judge_requests, judge_tokens, judge_money, price_in, price_out)
with open_judge(
    judge_model, judge_url, study.store, judge_recording or None, limits, judge_parallel
) as judge:
    broken = broken_pairs(whole, n_broken, seed)
    gold = {"coherence": judge_gold(judge, rubrics["coherence"], broken, seed)}
    if labelled:
        gold["trait"] = judge_gold(judge, rubrics["trait"], labelled, seed)
    answers = judge_conditions(
        judge, rubrics["trait"], rubrics["coherence"], study.trait.sign, sampled, seed
    )
judge.endpoint.replies.record(run.folder / "judge_replies.jsonl")
spent = judge.endpoint.budget
print(
    f"{spent.spent_requests} requests, {spent.spent_tokens} tokens, {spent.spent_money:.2f} spent"
)

# %% [markdown]
# ## Is it any good?
#
# A trait without labelled texts in `data/gold` has a judge of unknown quality, which counts as unfit.

# %%
fits = {
    name: fitness(gold[name], seed) if name in gold else unmeasured(rubric)
    for name, rubric in rubrics.items()
}
run.table(judge_views.fitness_table(fits.values(), latex=True), "judge_gold", align="lrrrrrl")
judge_views.fitness_table(fits.values())

# %%
title = f"{judge_model} as judge of {study.trait.name}"
run.figure("judge_gold", judge_views.gold_figure, list(fits.values()), title)

# %% [markdown]
# The length bias is the rank correlation of score and length *within* the poles. Where the trait is length
# itself, the regression on length takes the trait away too, as it must.
#
# ## What it says of the study's answers

# %%
summary = by_condition(answers, seed)
run.table(judge_views.condition_table(summary, latex=True), "judge_conditions", align="lrrrrrrrr")
judge_views.condition_table(summary)

# %%
run.figure("judge_conditions", judge_views.condition_figure, summary, fits, title)

# %% [markdown]
# ## Against the automatic score
#
# Rank correlation over all answers, towards the steered pole.

# %%
agreement = with_automatic(answers, seed)
pd.Series({name: views.plain(e) for name, e in agreement.items()}, name="rank correlation")

# %% [markdown]
# ## What is missing
#
# A reply that holds no score is missing, never zero.

# %%
long = [
    answers[["method", name, f"{name}_reason"]].set_axis(["method", "score", "reason"], axis=1)
    for name in ("trait", "coherence")
]
lost = pd.concat([part.assign(rubric=name) for name, part in zip(rubrics, long, strict=True)])
missing = missingness(lost, ["rubric", "method"])
missing

# %%
run.number("judge.model", judge_model)
for name, found in fits.items():
    run.number(f"judge.auc.{name}", found.auc)
    run.number(f"judge.auc_length_free.{name}", found.auc_length_free)
    run.number(f"judge.length_bias.{name}", found.length_bias)
    run.number(f"judge.missing_gold.{name}", found.missing, "%", digits=0)
    run.number(f"judge.verdict.{name}", "fit" if found.fit else "unfit")
both = list(fits.values())
for row in summary.to_dict("records"):
    for name, backed in (("trait", [fits["trait"]]), ("coherence", [fits["coherence"]]), ("harmonic", both)):  # fmt: skip
        run.number(f"judge.{name}.{row['method']}", claimed(row[name], *backed), digits=0)
for name, found in agreement.items():
    run.number(f"judge.correlation.{name}", claimed(found, fits["trait"]))
run.number("judge.missing", int(missing.missing.sum()))
run.number("judge.asked", int(missing.asked.sum()))
run.answers(answers)
run.close(
    study, judge=judge_model, judge_url=judge_url, n_judged=n_judged, replayed=bool(judge_recording),
    spent={"requests": spent.spent_requests, "tokens": spent.spent_tokens, "money": spent.spent_money},
    fitness=views.plain_records(pd.DataFrame([{**f._asdict(), "fit": f.fit} for f in both])),
    conditions=views.plain_records(summary), missing=missing.to_dict("records"),
)  # fmt: skip
