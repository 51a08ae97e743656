# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Explore: steer one model with another model's preference
#
# A vector found in the **source** is carried to the **target** by the method you choose, and added to its
# activations while it writes. The source, steered by its own vector, is shown below it.

# %% tags=["parameters"]
source: str = "qwen2.5-coder-0.5b-instruct"  # model the vector is found in
target: str = "smollm2-135m-instruct"  # model it is carried to
trait: str = "verbosity"  # built-in trait, or path of a trait file
control_trait: str = "formality"  # another trait, that few-shot maps learn from
device: str = "auto"  # auto, cpu, cuda, mps
dtype: str = "auto"  # auto, float32, bfloat16, float16
seed: int = 0  # random direction, folds, bootstrap
n_instructions: int = 5  # instruction pairs for extraction
n_extraction: int = 6  # questions for extraction
n_styles: int = 40  # styles of the alignment bank
n_alignment: int = 8  # questions of the alignment set; one pair of activations a style and question
n_selection: int = 8  # questions that the sweep's are taken from
max_new_tokens: int = 48  # limit of an answer, tokens
penalties: list = [0.001, 0.01, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0]  # ridge λ, in mean diagonals
results: str = "paper"  # profile whose saved results are shown beside what is computed here
traits_folder: str = "my_traits"  # where traits made here are saved, relative to the repository

# %%
from prefvec.explore.page import Page
from prefvec.explore.session import Session
from prefvec.profile import Settings

Page(Session(Settings.from_namespace(globals()), traits_folder, results)).show()
