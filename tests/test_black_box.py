"""Parameter modulation: what reaches a black box and what cannot."""

import numpy as np
import pytest

from prefvec.blackbox.modulation import (
    Sampling,
    logit_bias,
    modulated,
    same_length,
    shuffled_direction,
)

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


def test_the_request_is_the_server_s_dialect():
    sampling = Sampling(0.9, 0.95, 1.2)
    local = sampling.ask("Why?", "Be brief.", 9, 3, True).body()
    assert (local["temperature"], local["top_p"], local["repeat_penalty"], local["seed"]) == (0.9, 0.95, 1.2, 3)  # fmt: skip
    other = sampling.ask("Why?", "", 9, 3, False).body()
    assert "repeat_penalty" not in other and other["frequency_penalty"] == pytest.approx(0.2)
