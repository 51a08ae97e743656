"""The sweep of notebook 07: the same questions through every door of a black box."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from prefvec.blackbox.modulation import Sampling, modulated
from prefvec.errors import ModelError
from prefvec.judge.endpoint import Ask, Endpoint, Loss
from prefvec.models.load import LoadedModel
from prefvec.models.prompt import NEUTRAL_SYSTEM
from prefvec.stats import Estimate, difference
from prefvec.study import Study

PLAIN = "unmodulated"
INSTRUCTION = "instruction"
OWN, SHUFFLED, WRONG = "own vector", "direction shuffled", "wrong trait"
BIAS, BIAS_SHUFFLED = "logit bias", "logit bias, shuffled"
# A door's conditions: the vector itself, the same numbers in another order, and further controls.
DOORS = {"parameter modulation": (OWN, SHUFFLED, WRONG), BIAS: (BIAS, BIAS_SHUFFLED)}
CARRIES, CARRIES_NOTHING, NOT_SHOWN = "yes", "no", "not shown"


FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


@torch.inference_mode()
def readout_matrix(loaded: LoadedModel) -> np.ndarray:
    """The unembedding times the final norm's gain, `[vocabulary, width]`: what a direction of the residual
    stream writes into the logits, up to a factor. Raises ModelError without a known final norm."""
    decoder = loaded.model.get_decoder()
    norm = next((getattr(decoder, n) for n in FINAL_NORMS if hasattr(decoder, n)), None)
    if norm is None:
        raise ModelError(
            f"{loaded.id}: no final norm among {', '.join(FINAL_NORMS)} of its decoder"
        )
    # A vector of mean 0 and variance 1 passes as it is: its sign tells gain from offset.
    probe = torch.ones(loaded.width, dtype=loaded.dtype, device=loaded.device)
    probe[1::2] = -1
    gain = (norm(probe) - norm(-probe)) / 2 * probe
    unembedding = loaded.model.get_output_embeddings().weight
    return (unembedding.float() * gain.float()).cpu().numpy()


def plan(
    study: Study,
    questions: Sequence[str],
    vectors: Mapping[str, np.ndarray],
    coefficients: Sequence[float],
    biases: Mapping[str, Mapping[float, Mapping[int, float]]],
    base: float,
    limit: int,
    seeds: Sequence[int],
    local: bool,
) -> tuple[list[dict], list[Ask]]:
    """What is asked: a row a request (`condition, coefficient, question, seed`) and the requests.

    biases: by condition and coefficient, the logit bias of each token id. Baselines have coefficient 0.
    """
    neutral = modulated(np.zeros(1), 0.0, base)
    pair = study.trait.instructions[0]
    told = getattr(pair, study.trait.steer_to)
    ways: list[tuple[str, float, Sampling, str, Mapping[int, float]]] = [
        (PLAIN, 0.0, neutral, NEUTRAL_SYSTEM, {}),
        (INSTRUCTION, 0.0, neutral, told, {}),
    ]
    for c in coefficients:
        ways += [(n, c, modulated(v, c, base), NEUTRAL_SYSTEM, {}) for n, v in vectors.items()]
    for name, by_strength in biases.items():
        ways += [(name, c, neutral, NEUTRAL_SYSTEM, bias) for c, bias in by_strength.items()]
    rows, asks = [], []
    for condition, coefficient, sampling, system, bias in ways:
        for question in questions:
            for seed in seeds:
                one = sampling.ask(question, system, limit, seed, local)
                if bias:
                    sent = ("logit_bias", {str(i): b for i, b in bias.items()})
                    one = Ask(one.user, one.system, limit, one.temperature, options=(*one.options, sent))  # fmt: skip
                asks.append(one)
                rows.append(
                    {
                        "condition": condition, "coefficient": coefficient, "question": question,
                        "seed": seed, **sampling._asdict(),
                    }
                )  # fmt: skip
    return rows, asks


def ask_all(
    endpoint: Endpoint, study: Study, rows: list[dict], asks: list[Ask], limit: int
) -> pd.DataFrame:
    """The table with `text`, `n_tokens`, `reason` of a loss, and the study's `score` (NaN where lost)."""
    replies = endpoint.ask(asks, label="black box")
    lost = [isinstance(r, Loss) for r in replies]
    table = pd.DataFrame(rows).assign(
        text=["" if gone else r.text for r, gone in zip(replies, lost, strict=True)],
        n_tokens=[0 if gone else r.used[1] for r, gone in zip(replies, lost, strict=True)],
        reason=[r.reason if gone else "" for r, gone in zip(replies, lost, strict=True)],
    )
    there = table.reason == ""
    scored = table[there]
    table["score"] = np.nan
    table.loc[there, "score"] = study.score(
        study.target, scored.question, scored.text, scored.n_tokens, limit
    )
    return table


def effects(table: pd.DataFrame, sign: int, seed: int = 0) -> pd.DataFrame:
    """One row a (condition, coefficient): `effect`, the change of the mean score against the unmodulated
    answers to the same questions, positive towards the steered pole, with its paired interval."""
    means = table.groupby(["condition", "coefficient", "question"]).score.mean()
    plain = means.loc[(PLAIN, 0.0)]
    rows = []
    for (condition, coefficient), part in means.groupby(level=[0, 1], sort=False):
        values = sign * part.droplevel([0, 1])
        both = pd.concat([values, sign * plain], axis=1, keys=["it", "plain"]).dropna()
        chosen = table[(table.condition == condition) & (table.coefficient == coefficient)]
        rows.append(
            {
                "condition": condition,
                "coefficient": coefficient,
                "temperature": float(chosen.temperature.iloc[0]),
                "n": len(both),
                "lost": int((chosen.reason != "").sum()),
                "effect": difference(both.it.to_numpy(), both.plain.to_numpy(), seed),
            }
        )
    return pd.DataFrame(rows)


def identical_share(table: pd.DataFrame, condition: str, other: str) -> float:
    """Share of a condition's answers that another gave word for word at the same coefficient, question
    and seed."""
    keys = ["coefficient", "question", "seed"]
    a, b = (table[table.condition == c].set_index(keys).text for c in (condition, other))
    return float((a == b.reindex(a.index)).mean())


class Door(NamedTuple):
    """What of a vector gets through one door. swing: change of the mean score, in the score's unit, from
    the lowest to the highest coefficient with the vector itself; control: the same with its entries
    shuffled; beyond: their difference, paired by question; identical: share of the vector's answers that
    the shuffled one gave word for word, or the least of several controls; carries: `yes` where the
    interval of `beyond` lies above 0, `no` where every answer is the same, else `not shown`."""

    name: str
    swing: Estimate
    control: Estimate
    beyond: Estimate
    identical: float
    carries: str


def doors(table: pd.DataFrame, seed: int = 0) -> list[Door]:
    """Each door, from the answers of `ask_all`. A vector points from the trait's negative pole to its
    positive one, so that what carries its direction has a swing above 0, whatever the study steers to."""
    out = []
    for name, (own, shuffled, *others) in DOORS.items():
        mine, theirs = _ends(table, own), _ends(table, shuffled)
        both = (mine.high - mine.low, theirs.high - theirs.low)
        paired = pd.concat(both, axis=1, keys=["own", "control"]).dropna()
        beyond = difference(paired.own.to_numpy(), paired.control.to_numpy(), seed)
        same = min(identical_share(table, own, other) for other in (shuffled, *others))
        carries = CARRIES if beyond.low > 0 else CARRIES_NOTHING if same == 1 else NOT_SHOWN
        swings = (difference(e.high.to_numpy(), e.low.to_numpy(), seed) for e in (mine, theirs))
        out.append(Door(name, *swings, beyond, same, carries))
    return out


def _ends(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Mean score by question at a condition's lowest and highest coefficient: `low`, `high`."""
    chosen = table[table.condition == condition]
    means = chosen.groupby(["question", "coefficient"], sort=False).score.mean().unstack()
    ends = means[[means.columns.min(), means.columns.max()]].set_axis(["low", "high"], axis=1)
    return ends.dropna()
