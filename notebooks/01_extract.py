# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Extract: a preference as a direction
#
# **Claim.** The difference between the activations of prompts that ask for a trait and prompts that
# ask for its opposite is a direction in the residual stream: the model's own preference vector.
#
# **Method.** Each question of the extraction split is asked under several instruction pairs (a base
# model: after in-context examples of either kind). The activation of the *last prompt token* is read at
# every block's output, where steering will add the vector later. The vector of a layer is
# mean(positive) − mean(negative) (CAA, Rimsky et al. 2024). Layer *i* is the output of block *i*.

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
num_pairs: int = 0  # pairs of summaries that the model writes itself, for saving and comparison
n_random: int = 4  # norm-matched random directions
max_new_tokens: int = 48  # limit of an answer, tokens
layer_fractions: list = [0.44, 0.48]  # candidate depths, from 0 (first block) to 1 (last)
intervention_layer: int = -1  # source layer; -1: chosen among the candidates
doses: list = [1.0, 2.0]  # lengths of the target's own vector
penalties: list = [0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0]  # ridge λ, in mean diagonals

# %%
import numpy as np
import pandas as pd

from prefvec import summaries
from prefvec.activations import Prompt, capture
from prefvec.extraction import compare_ways
from prefvec.metrics.trait import UNITS
from prefvec.paths import slug
from prefvec.profile import Settings
from prefvec.report import figures, views
from prefvec.report.run import Run
from prefvec.study import Study
from prefvec.vectors import split_half_cosine

source = target = model
study = Study(Settings.from_namespace(globals()))
loaded = study.source
run = Run("01_extract", profile, slug(model), study.trait.name)
print(f"{model}: {loaded.n_layers} blocks, width {loaded.width}, {loaded.dtype}, {loaded.device}")

# %% [markdown]
# ## The vector at every layer

# %%
ways = compare_ways(study, loaded)  # one pass reads all that is compared below, the vector with it
vector = study.vector(loaded)
print(f"{vector.card.n_pairs} pairs; +v points to '{study.trait.poles.positive}'")
plain = [Prompt(study.plain_prompt(loaded, q)) for q in study.splits["extraction"]]
residual = capture(loaded, plain, list(range(loaded.n_layers)), store=study.store, label="residual")
norms = pd.DataFrame(
    {
        "layer": range(loaded.n_layers),
        "vector": [vector.norm(i) for i in range(loaded.n_layers)],
        "residual": [
            np.median(np.linalg.norm(residual[i], axis=1)) for i in range(loaded.n_layers)
        ],
    }
)
run.figure("norm_profile", figures.norm_profile, norms, f"{study.trait.name} in {model}")

# %% [markdown]
# The vector grows with the residual stream. Their ratio is not comparable between models (Gemma's
# stream is dominated by a few massive coordinates), so doses are given in lengths of the vector.
#
# ## Is it one direction?
#
# Cosine between the vectors taken from even and from odd pairs. Near 1: the direction does not depend
# on which prompts were asked.

# %%
layers = list(range(loaded.n_layers))
agreement = split_half_cosine(
    loaded, study.trait, study.splits["extraction"], layers, n_instructions, study.store
)
middle = study.candidate_layers(loaded)[-1]
print(f"split-half cosine at layer {middle}: {agreement[middle]:.2f}")

# %% [markdown]
# ## Other ways to extract
#
# From the same pairs: first principal component of the differences, a single pair (ActAdd). From other
# places, at the candidate layers: the mean over the model's own answers (to the first instruction pair
# alone), the outputs of the block's attention and of its MLP. All against the difference in means above.
# A cosine says how alike directions are, not how well they steer: notebook 02 steers with the first two.

# %%
run.figure("extraction_methods", figures.extraction_ways, ways, f"{study.trait.name} in {model}")

# %%
at_candidates = ways[ways.layer.isin(study.candidate_layers(loaded))]
at_candidates.set_index(["layer", "way"]).sort_index(level=0, sort_remaining=False).round(2)

# %% [markdown]
# ## In the model's own words
#
# With `num_pairs`, the model also writes the contrast: each article summarised under the positive and
# under the negative instruction (`summary_pairs/pairs.jsonl`). Ratio and difference say whether the model
# does what it is told; where many texts are cut at the limit, the ratio is too near to 1. The vector of
# the texts (mean over a summary's tokens, after the same neutral prompt) is another estimate of the trait;
# its cosine to the vector of the prompts says how far the two agree. Steering uses the prompts' vector.

# %%
pairs = summaries.write_pairs(study, loaded)
if pairs:
    summaries.save(pairs, run.folder / "summary_pairs" / "pairs.jsonl")
    contrast = summaries.contrast(study, loaded, pairs)
    of_texts = summaries.text_vector(study, loaded, pairs, [middle])
    of_texts.save(run.folder / "summary_pairs" / "text_vector")
    cosine = float(of_texts.at(middle) @ vector.at(middle)) / (
        of_texts.norm(middle) * vector.norm(middle)
    )
    print(
        f"{contrast.n} pairs: length ratio {views.plain(contrast.ratio)}, score difference "
        f"{views.plain(contrast.difference)} {UNITS[study.trait.measure]}; cut at the limit: "
        f"{contrast.truncated[0]:.0%} and {contrast.truncated[1]:.0%}; "
        f"cosine to the prompts' vector at layer {middle}: {cosine:.2f}"
    )
    run.number("summary_pairs.n", contrast.n)
    run.number("summary_pairs.ratio", contrast.ratio)
    run.number("summary_pairs.difference", contrast.difference)
    run.number("summary_pairs.cosine", cosine)
pd.DataFrame(pairs).head(3)

# %%
path = vector.save(run.folder / "preference_vector")
run.number("pairs", vector.card.n_pairs)
run.number("split_half_cosine", agreement[middle])
for row in ways[ways.layer == middle].itertuples():
    run.number(f"extraction.cosine.{row.way.lower().replace(' ', '_')}", row.cosine)
run.close(
    study,
    records=norms.assign(split_half_cosine=norms.layer.map(agreement)).to_dict("records"),
    ways=views.plain_records(ways),
)
norms.assign(split_half_cosine=norms.layer.map(agreement)).round(2).iloc[
    :: max(1, loaded.n_layers // 10)
]
