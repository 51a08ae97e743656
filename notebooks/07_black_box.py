# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Black box: what of a vector reaches a model that is only asked
#
# A model without accessible activations can't be given a vector. It has been proposed to turn the vector
# into sampling parameters: temperature = base + 0.1 · ‖v‖ · coefficient, top_p and repetition penalty from
# the coefficient's sign.
#
# **Claim.** Only the vector's length gets through. A vector with its entries shuffled, or a wrong trait's of
# the same length, gives the *same* parameters and, with the same seed, the same answers: parameter
# modulation carries no information about a direction, whatever effect it has.
#
# Two doors are open to a reader of the vector: an instruction in words, which needs no vector, and a logit
# bias from the vector's read-out through the unembedding, which keeps part of its direction. Its control is
# the read-out of the shuffled vector.

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that notebook 04 wrote
source: str = "qwen2.5-coder-0.5b-instruct"  # the pair whose cell is read: its source
target: str = "smollm2-135m-instruct"  # its target, whose own vector is used
trait: str = "verbosity"  # built-in trait, or path of a trait file
seed: int = 0  # shuffling, bootstrap
box_model: str = ""  # of the registry, a .gguf path, or an API's; empty: the target
box_url: str = ""  # base URL of an OpenAI-compatible server; empty: llama.cpp on this machine
box_requests: int = 1000  # budget: requests, retries included
coefficients: list = [-0.2, -0.1, 0.1, 0.2]  # of the modulation
biases: list = [-4.0, -2.0, 2.0, 4.0]  # logit bias of the strongest token, nats
n_biased: int = 200  # tokens that get a bias
n_asked: int = 5  # evaluation questions
n_draws: int = 1  # answers a question and condition
base_temperature: float = 0.7  # temperature at coefficient 0
box_tokens: int = 96  # limit of an answer

# %%
from contextlib import nullcontext

import pandas as pd

from prefvec.blackbox import sweep
from prefvec.blackbox.modulation import logit_bias, modulated, same_length, shuffled_direction
from prefvec.judge.budget import Budget
from prefvec.judge.endpoint import Endpoint
from prefvec.judge.replies import Replies
from prefvec.judge.server import LocalServer, llama_server
from prefvec.metrics.trait import UNITS, decimals
from prefvec.report import blackbox_views, views
from prefvec.report.numbers import number_key
from prefvec.report.run import Run
from prefvec.transfer.saved import load_cell

cell = load_cell(profile, source, target, trait)
study, layer = cell.study, cell.site.layer_target
box_model = box_model or target
run = Run.of_pair("07_black_box", study)
own = study.vector(study.target).at(layer)
wrong = study.vector(study.target, study.control_trait).at(layer)
shuffled = shuffled_direction(own, seed)
vectors = {sweep.OWN: own, sweep.SHUFFLED: shuffled, sweep.WRONG: same_length(wrong, own)}
{name: [modulated(v, c, base_temperature) for c in coefficients] for name, v in vectors.items()}

# %% [markdown]
# The parameters are equal row by row, so the requests are too: nothing below can tell the three apart, and
# equal requests are sent once.
#
# ## The vector's read-out
#
# What the vector would write into the next token's logits if it reached the final norm and the unembedding
# as it is.

# %%
unembedding = sweep.readout_matrix(study.target)
readout = {
    name: {b: logit_bias(v, unembedding, b, n_biased) for b in biases}
    for name, v in ((sweep.BIAS, own), (sweep.BIAS_SHUFFLED, shuffled))
}
ranked = sorted(logit_bias(own, unembedding, 1.0, n_biased).items(), key=lambda pair: pair[1])
decode = study.target.tokenizer.decode
{
    "pushed down": [decode([i]) for i, _ in ranked[:12]],
    "pushed up": [decode([i]) for i, _ in ranked[:-13:-1]],
}

# %% [markdown]
# ## Asking

# %%
questions = study.splits["evaluation"][:n_asked]
local = not box_url
rows, asks = sweep.plan(
    study,
    questions,
    vectors,
    coefficients,
    readout,
    base_temperature,
    box_tokens,
    range(n_draws),
    local,
)
remote = nullcontext(LocalServer(box_url, box_model, {"url": box_url}))
at_once = 1 if local else 2  # two in one batch would not be the same to the last bit each time
with llama_server(box_model, parallel=at_once) if local else remote as server:
    endpoint = Endpoint(
        server.base_url, box_model, Replies(study.store), server.identity, Budget(box_requests),
        parallel=at_once, send_key=not local,
    )  # fmt: skip
    answers = sweep.ask_all(endpoint, study, rows, asks, box_tokens)
endpoint.replies.record(run.folder / "black_box_replies.jsonl")
print(f"{len(answers)} answers, {sum(endpoint.losses.values())} lost")

# %% [markdown]
# ## What it does

# %%
found = sweep.effects(answers, study.trait.sign, seed)
unit = UNITS[study.trait.measure]
digits = decimals(unit)
run.table(blackbox_views.effect_table(found, digits, latex=True), "black_box", align="lrrrr")
blackbox_views.effect_table(found, digits)

# %%
run.figure(
    "black_box",
    blackbox_views.sweep_figure,
    found,
    f"effect ({unit})",
    f"{box_model}, {study.trait.name}",
)

# %% [markdown]
# ## Does the direction get through?
#
# A vector points from one pole of the trait to the other, so that the score should rise from the lowest
# coefficient to the highest, and by more than with the shuffled vector. Temperature, top_p and the repetition
# penalty may change how long or how odd an answer is; what the shuffled vector and the wrong trait do as
# well is an effect of the sampler, not of the preference. Where the score is length, answers that are cut
# at the limit have no more length to lose or gain: the share of them says what could be seen at all.

# %%
same = {
    other: sweep.identical_share(answers, sweep.OWN, other)
    for other in (sweep.SHUFFLED, sweep.WRONG)
}
for other, share in same.items():
    print(f"answers of '{other}' that are those of the own vector, word for word: {share:.0%}")
cut = float((answers[answers.condition == sweep.PLAIN].n_tokens >= box_tokens).mean())
print(f"unmodulated answers cut at {box_tokens} tokens: {cut:.0%}")
gates = sweep.doors(answers, seed)
blackbox_views.door_table(gates, digits)

# %%
run.number("box.model", box_model)
for row in found.to_dict("records"):
    if row["condition"] != sweep.PLAIN:
        key = f"box.effect.{number_key(row['condition'])}"
        run.number(key if row["coefficient"] == 0 else f"{key}.{row['coefficient']:g}", row["effect"], digits=digits)  # fmt: skip
for other, share in same.items():
    run.number(f"box.identical.{number_key(other)}", share, "%", digits=0)
for door in gates:
    for field in ("swing", "control", "beyond", "carries"):
        run.number(f"box.{field}.{number_key(door.name)}", getattr(door, field), digits=digits)
run.number("box.cut", cut, "%", digits=0)
run.number("box.limit", box_tokens)
run.number("box.lost", int((answers.reason != "").sum()))
run.answers(answers)
run.close(
    study, site=cell.site._asdict(), box=box_model, box_url=box_url, n_asked=n_asked, n_draws=n_draws,
    effects=views.plain_records(found), identical=same,
    doors=views.plain_records(pd.DataFrame(gates)),
)  # fmt: skip
