"""Intervals and transfer efficiency, against known truths."""

import numpy as np
import pytest

from prefvec.metrics.classifier import area_under_curve
from prefvec.stats import Estimate, difference, mean_ci, paired_auc, transfer_efficiency


@pytest.fixture
def effects():
    generator = np.random.default_rng(0)
    n = 40
    prompt = generator.normal(size=n)  # what makes a prompt easy for every method
    random = generator.normal(scale=0.5, size=(4, n))
    return prompt, random, 20 + 3 * prompt


def test_the_oracle_scores_one_and_a_random_direction_about_zero(effects):
    _, random, oracle = effects
    assert transfer_efficiency(oracle, random, oracle).value == pytest.approx(1)
    zero = transfer_efficiency(random[0], random, oracle)
    assert zero.low < 0 < zero.high


def test_half_of_the_effect_is_one_half(effects):
    _, random, oracle = effects
    half = transfer_efficiency(oracle / 2 + random.mean(axis=0) / 2, random, oracle)
    assert half.value == pytest.approx(0.5)
    assert half.low < 0.5 < half.high


def test_without_an_effect_to_transfer_there_is_no_efficiency(effects):
    prompt, random, _ = effects
    weak = transfer_efficiency(prompt, random, random[1] + 0.01)
    assert np.isnan(weak.value) and weak.as_json() == [None, None, None]


def test_pairing_narrows_the_interval(effects):
    prompt, *_ = effects
    a, b = 5 * prompt + 1, 5 * prompt
    paired = difference(a, b)
    assert paired.high - paired.low < 0.1
    unpaired = difference(a, b[::-1])
    assert unpaired.high - unpaired.low > 1


def test_random_directions_are_resampled_too():
    """Directions that differ among themselves widen the interval, though each is exactly known."""
    n = 40
    oracle, method = np.full(n, 20.0), np.full(n, 10.0)
    alike = transfer_efficiency(method, np.zeros((4, n)), oracle)
    spread = transfer_efficiency(
        method, np.array([[-4.0], [4.0], [-4.0], [4.0]]) * np.ones(n), oracle
    )
    assert alike.high - alike.low == pytest.approx(0)
    assert spread.high - spread.low > 0.1


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(150):
        low, high = mean_ci(generator.normal(2.0, 1.0, size=40), seed)[1:]
        hits += low < 2.0 < high
    assert 0.88 <= hits / 150 <= 0.99


def test_missing_values_are_left_out_and_a_single_value_has_no_interval():
    assert mean_ci(np.array([1.0, np.nan, 3.0])).value == 2.0
    lone = mean_ci(np.array([4.0]))
    assert lone.value == 4.0 and np.isnan(lone.low)
    assert np.isnan(mean_ci(np.array([np.nan])).value)


def test_the_area_under_the_curve_of_a_perfect_score_is_one_and_of_noise_a_half():
    generator = np.random.default_rng(0)
    perfect = paired_auc(np.arange(10.0, 20), np.arange(0.0, 10))
    assert perfect == (1.0, 1.0, 1.0)
    noise = paired_auc(generator.normal(size=24), generator.normal(size=24))
    assert noise.low < 0.5 < noise.high


def test_the_area_under_the_curve_is_that_of_scikit_learn_with_ties():
    scores = np.random.default_rng(1).integers(0, 4, size=(2, 15)).astype(float)
    labels = np.repeat([1, -1], 15)
    found = paired_auc(scores[0], scores[1])
    assert found.value == pytest.approx(area_under_curve(scores.ravel(), labels))
    assert found.low < found.value < found.high


def test_a_text_without_a_score_counts_half():
    assert paired_auc(np.array([np.nan, 2.0]), np.array([1.0, 1.0])).value == 0.75


def test_an_estimate_in_words_has_no_negative_zero_and_says_what_is_undefined():
    assert Estimate(-0.004, -0.2, 0.1).in_words() == "0.00 [-0.20, 0.10]"
    assert Estimate(12.34, float("nan"), float("nan")).in_words(1) == "12.3"
    assert Estimate(float("nan"), float("nan"), float("nan")).in_words() == "--"
