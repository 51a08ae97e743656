# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Architectures: what the models have in common
#
# **Claim.** The models of a profile differ in family, width, depth and tokenizer, so a vector of one
# can't even be written into another without a map.
#
# **Shows.** One table of what each model is, and a compatibility score for each pair, by aspect and
# overall, in [0, 1]. The scores describe; notebooks 03 and 04 measure what they are worth. Last, what
# the library does on every decoder family of transformers that could be tried.

# %% tags=["parameters"]
profile: str = "quick"  # folder of data/results that is written
models: list = ["qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"]  # registry ids, …
device: str = "cpu"  # nothing is computed here but sizes
screen: str = "few"  # decoder families that are tried on tiny models: few (seconds), all (minutes)

# %%
import itertools

import pandas as pd

from prefvec.families import FEW
from prefvec.models.architecture import analyse, compatibility, vocabulary_overlap
from prefvec.models.load import ModelPool
from prefvec.report import figures
from prefvec.report.run import Run
from prefvec.screen import screen_families, screen_table
from prefvec.store import write_json

run = Run("00_architectures", profile)
pool = ModelPool(device, "float32", size=1)

# %% [markdown]
# ## What each model is

# %%
found, tokenizers, identities = {}, {}, {}
for name in models:
    loaded = pool.get(name)
    found[name], tokenizers[name] = analyse(loaded), loaded.tokenizer
    identities[name] = loaded.identity()
table = pd.DataFrame([a.as_dict() for a in found.values()])
columns = ["model", "family", "width", "layers", "heads", "kv_heads", "attention", "vocabulary"]
shown = table[columns].rename(columns={"kv_heads": "KV heads"})
run.table(shown, "architectures", align="llrrrrlr")
table.set_index("model").T

# %% [markdown]
# ## Compatibility by aspect
#
# Sizes compare as min/max, kinds as equal or not, the tokenizer by the Jaccard overlap of the two
# vocabularies. Compatibility is symmetric, so each unordered pair appears once.

# %%
rows = {}
for a, b in itertools.combinations(models, 2):
    overlap = vocabulary_overlap(tokenizers[a], tokenizers[b])
    rows[f"{found[a].family} – {found[b].family}"] = compatibility(found[a], found[b], overlap)
scores = pd.DataFrame(rows).T
run.figure("compatibility", figures.heatmap, scores, "Compatibility of the models", "score")

# %% [markdown]
# ## Every decoder family
#
# A tiny random model of each family is read, steered, decoded and scored, and compared with
# transformers alone (one row, no padding, no cache, one hook). Random weights are right here: this
# is about mechanics, not about traits. `block adds`: attention + MLP as they are (`plain`), each after
# a norm of its own (`normed`), their sum times a constant (`scaled`), or something else, for which
# the residual stream alone is read and steered unless the registry says where (`unknown`). `rows`:
# beginnings that rows have in common are computed once (`shared`), rows are only padded to one
# length (`padded`), or go one at a time (`alone`). `tree`: answers that begin alike are scored in one
# tree. Windows are 16 tokens here, shorter than the rows; where a real window is longer than the
# rows, they share. A family without one residual stream is refused.

# %%
screened = screen_families(FEW if screen == "few" else None)
write_json(run.folder / "families.json", screened)
families = screen_table(screened)
half = -(-len(families) // 2)
for i, part in enumerate((families[:half], families[half:]), start=1):
    run.table(part, f"families_{i}", align="lllll")
assert not (families["outcome"] == "failed").any(), "a family is not handled as it says"
families.set_index("family")

# %%
records = [
    {"pair": list(pair), **scores.iloc[i].to_dict()}
    for i, pair in enumerate(itertools.combinations(models, 2))
]
run.number("models.n", len(models))
run.number("models.families", len({a.family for a in found.values()}))
run.number("models.width.min", min(a.width for a in found.values()))
run.number("models.width.max", max(a.width for a in found.values()))
run.close(records=records, models=identities)
scores.round(2)
