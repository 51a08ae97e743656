"""Parameter modulation: what reaches a black box and what cannot."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from bad_server import bad_server
from prefvec.blackbox import sweep
from prefvec.blackbox.modulation import (
    Sampling,
    logit_bias,
    modulated,
    same_length,
    shuffled_direction,
)
from prefvec.judge.endpoint import Endpoint
from prefvec.judge.replies import Replies
from prefvec.traits import load_trait

CONDITIONS = (sweep.OWN, sweep.SHUFFLED, sweep.WRONG, sweep.BIAS, sweep.BIAS_SHUFFLED)
VECTOR = np.random.default_rng(0).normal(size=64).astype(np.float32)
VECTOR *= 4 / np.linalg.norm(VECTOR)


def test_temperature_is_base_and_a_tenth_of_length_times_coefficient():
    for coefficient in (-1.0, 0.0, 0.5, 2.0):
        assert modulated(VECTOR, coefficient).temperature == pytest.approx(0.7 + 0.4 * coefficient)
    assert modulated(VECTOR, -5.0).temperature == 0 and modulated(VECTOR, 50.0).temperature == 2
    assert modulated(VECTOR, 1.0, base=0.2).temperature == pytest.approx(0.6)


def test_polarity_sets_top_p_and_the_repetition_penalty():
    up, none, down = (modulated(VECTOR, c) for c in (1.0, 0.0, -1.0))
    assert up.top_p > none.top_p > down.top_p
    assert up.repetition_penalty > none.repetition_penalty > down.repetition_penalty == 1.0


@pytest.mark.parametrize("coefficient", [-2.0, -0.5, 0.5, 1.0])
def test_it_carries_no_direction(coefficient):
    wrong = same_length(np.random.default_rng(1).normal(size=64), VECTOR)
    shuffled = shuffled_direction(VECTOR)
    assert abs(shuffled @ VECTOR) < 8 and not np.array_equal(shuffled, VECTOR)
    asked = {modulated(v, coefficient).ask("Why?", "", 9, 0, True) for v in (VECTOR, shuffled, wrong, -VECTOR)}  # fmt: skip
    assert len(asked) == 1


def test_logit_bias_carries_part_of_it():
    unembedding = np.random.default_rng(2).normal(size=(500, 64)).astype(np.float32)
    mine, other = (logit_bias(v, unembedding, 3.0, 20) for v in (VECTOR, shuffled_direction(VECTOR)))  # fmt: skip
    assert len(mine) == 20 and max(map(abs, mine.values())) == pytest.approx(3)
    assert set(mine) != set(other)
    turned = logit_bias(-VECTOR, unembedding, 3.0, 20)
    assert {i: -b for i, b in turned.items()} == pytest.approx(mine)
    read = unembedding @ VECTOR
    assert all(np.sign(b) == np.sign(read[i] - read.mean()) for i, b in mine.items())


def test_the_read_out_is_what_a_direction_adds_to_the_logits(tiny):
    matrix = sweep.readout_matrix(tiny)
    with torch.inference_mode():
        # a stream of variance 1 and mean 0 with a small direction that keeps both
        stream = torch.ones(tiny.width)
        stream[1::2] = -1
        small = torch.zeros(tiny.width)
        small[:4] = torch.tensor([1e-3, 1e-3, -1e-3, -1e-3])
        norm = next(getattr(tiny.model.get_decoder(), n) for n in sweep.FINAL_NORMS if hasattr(tiny.model.get_decoder(), n))  # fmt: skip
        head = tiny.model.get_output_embeddings()
        moved = (head(norm(stream + small)) - head(norm(stream))).numpy()
    assert np.corrcoef(matrix @ small.numpy(), moved)[0, 1] > 0.999


def test_the_request_is_the_server_s_dialect():
    sampling = Sampling(0.9, 0.95, 1.2)
    local = sampling.ask("Why?", "Be brief.", 9, 3, True).body()
    assert (local["temperature"], local["top_p"], local["repeat_penalty"], local["seed"]) == (0.9, 0.95, 1.2, 3)  # fmt: skip
    assert local["cache_prompt"] is False  # what was asked before does not enter the rounding
    other = sampling.ask("Why?", "", 9, 3, False).body()
    assert not {"repeat_penalty", "cache_prompt"} & set(other)
    assert other["frequency_penalty"] == pytest.approx(0.2)


def test_a_sweep_pairs_questions_counts_losses_and_sends_equal_requests_once(store):
    def score(loaded, questions, texts, n_tokens, limit):
        return np.array([float(text) for text in texts])

    study = SimpleNamespace(trait=load_trait("verbosity"), target=None, score=score)
    questions = [f"item-{i}" for i in range(3)]
    vectors = {"own vector": VECTOR, "direction shuffled": shuffled_direction(VECTOR)}
    rows, asks = sweep.plan(
        study, questions, vectors, [0.1], {sweep.BIAS: {2.0: {5: 2.0}}}, 0.7, 9, [0], local=True
    )
    assert len(rows) == len(asks) == 15
    assert asks[-1].body()["logit_bias"] == {"5": 2.0}
    with bad_server({1: [400]}) as server:
        endpoint = Endpoint(server.url, "m", Replies(store), parallel=1, send_key=False)
        table = sweep.ask_all(endpoint, study, rows, asks, 9)
        assert dict(server.seen) == {0: 4, 1: 4, 2: 4}  # the two vectors share their requests
    told = [body["messages"][0]["content"] for body in server.bodies]
    assert told.count(study.trait.instructions[0].negative) == 3
    found = sweep.effects(table, -1).set_index("condition")
    assert found.n.to_dict() == {"unmodulated": 2, "instruction": 2, "own vector": 2, "direction shuffled": 2, "logit bias": 2}  # fmt: skip
    assert found.lost["unmodulated"] == 1 and found.lost["own vector"] == 0
    assert found.effect["own vector"].value == 0
    assert sweep.identical_share(table, "own vector", "direction shuffled") == 1


def answers(scores, texts=lambda condition, c, q: "same"):
    """A table of `ask_all` with scores by (condition, coefficient, question), twelve questions."""
    rows = [
        {
            "condition": condition, "coefficient": c, "question": f"q{q}", "seed": 0, "reason": "",
            "text": texts(condition, c, q), "score": scores(condition, c, q),
        }
        for condition in CONDITIONS
        for c in (-2.0, -1.0, 1.0, 2.0)
        for q in range(12)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_door_carries_a_direction_if_the_vector_swings_the_score_beyond_the_shuffled_one():
    noise = np.random.default_rng(3).normal(0, 1, 12)

    def scores(condition, c, q):
        return 10 + noise[q] + (5 * c if condition == sweep.BIAS else 0.5 * c)

    def texts(condition, c, q):
        return f"{condition} {c} {q}" if "bias" in condition else f"{c} {q}"

    modulation, bias = sweep.doors(answers(scores, texts))
    assert (modulation.name, modulation.identical, modulation.carries) == ("parameter modulation", 1, "no")  # fmt: skip
    assert modulation.swing.value == pytest.approx(2) and modulation.beyond.value == 0
    assert (bias.identical, bias.carries) == (0, "yes")
    assert bias.swing.value == pytest.approx(20) and bias.control.value == pytest.approx(2)
    assert bias.beyond.value == pytest.approx(18) and bias.beyond.low > 0


def test_a_door_that_differs_without_an_effect_is_not_shown_to_carry_anything():
    generator = np.random.default_rng(4)
    table = answers(lambda *_: generator.normal(), lambda *at: str(at))
    assert [d.carries for d in sweep.doors(table)] == ["not shown"] * 2
    # answers that are lost leave their questions out, and nothing else
    table.loc[(table.question == "q0") & (table.condition == sweep.BIAS), "score"] = np.nan
    assert np.isfinite(sweep.doors(table)[1].beyond.value)
    # towards the wrong pole is no proof either
    against = answers(lambda condition, c, q: -9 * c if condition == sweep.BIAS else c, lambda *at: str(at))  # fmt: skip
    assert sweep.doors(against)[1].carries == "not shown"
