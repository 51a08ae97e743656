"""Steered answers and their scores, condition by condition."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.generation import Generation, Request, generate
from prefvec.metrics.coherence import is_collapsed
from prefvec.models.load import LoadedModel
from prefvec.steering import Steer
from prefvec.study import Study

UNSTEERED, ORACLE, INSTRUCTION = "unsteered", "oracle", "instruction"
RANDOM = "random"  # the mean over the random directions, prompt by prompt
NOTHING = "nothing"  # the unsteered answer, as if it were a method's: what doing nothing amounts to


class Site(NamedTuple):
    """Where a pair is read and written, and how strongly: chosen without evaluation prompts."""

    layer_source: int
    layer_target: int
    dose: float  # magnitude, in own-vector lengths

    def __str__(self) -> str:
        return f"read at layer {self.layer_source}, written at layer {self.layer_target}, dose {self.dose:g} (own-vector lengths)"


def sweep(
    study: Study,
    loaded: LoadedModel,
    conditions: Sequence[tuple[str, np.ndarray | None, int, float]],
    split: str,
    instruction: bool = False,
) -> pd.DataFrame:
    """Generate and score answers for every condition and prompt of a split.

    conditions: (method, vector `[d]` or None, layer, signed coefficient in units of the vector).
    Returns one row an answer: method, layer, dose, question, text, n_tokens, finish, score,
    collapsed. With `instruction`, rows asked for the trait in words are added.
    """
    questions = study.splits[split]
    requests, index = [], []
    for method, vector, layer, dose in conditions:
        steers = () if vector is None else (Steer(np.float32(vector), layer, dose),)
        for question in questions:
            requests.append(Request(study.plain_prompt(loaded, question), steers))
            index.append((method, layer, dose, question))
    if instruction:
        for question in questions:
            requests.append(Request(study.instructed_prompt(loaded, question)))
            index.append((INSTRUCTION, -1, 0.0, question))
    answers = generate(
        loaded, requests, study.settings.max_new_tokens, store=study.store, label=f"steer {split}"
    )
    table = pd.DataFrame(index, columns=["method", "layer", "dose", "question"])
    for field in Generation._fields:
        table[field] = [getattr(answer, field) for answer in answers]
    table["collapsed"] = [is_collapsed(text) for text in table.text]
    limit = study.settings.max_new_tokens
    table["score"] = study.score(loaded, table.question, table.text, table.n_tokens, limit)
    return table


def evaluate(
    study: Study,
    site: Site,
    directions: Mapping[str, np.ndarray],
    curve: Sequence[str] = (),
    split: str = "evaluation",
    also: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Answers of the target on a split: every method at the chosen dose, the methods in `curve` at
    every dose of the profile, and those in `also` at one more; on the evaluation split also the
    answers that are asked for in words.
    """
    sign = study.trait.sign
    doses = {name: [site.dose] for name in directions}
    for name in curve:
        doses[name] = sorted({*study.settings.doses, site.dose})
    for name, dose in (also or {}).items():
        doses[name] = sorted({*doses[name], dose})
    conditions = [(UNSTEERED, None, site.layer_target, 0.0)] + [
        (name, vector, site.layer_target, sign * dose)
        for name, vector in directions.items()
        for dose in doses[name]
    ]
    in_words = split == "evaluation" and bool(study.trait.instructions or study.trait.examples)
    return sweep(study, study.target, conditions, split, instruction=in_words)
