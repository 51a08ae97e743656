"""Scores of given answers under steering, against a plain pass with a plain hook."""

import numpy as np
import pytest
import torch

from conftest import random_ids
from prefvec.errors import ConfigError
from prefvec.metrics.forced import forced_scores, matched_coefficient
from prefvec.metrics.likelihood import log_likelihoods
from prefvec.steering import Steer


@pytest.fixture
def rows():
    answers = random_ids(3, low=1, high=7, seed=1)
    return list(zip(random_ids(3), answers, strict=True))


def steer(loaded, coefficient=2.0, layer=1):
    vector = np.random.default_rng(0).normal(size=loaded.width).astype(np.float32)
    return Steer(vector, layer, coefficient)


def plain_log_probabilities(loaded, prompt, answer, steers=()):
    """One row, one hook a layer, no batch; the first token is left alone."""

    def add(layer):
        def hook(_module, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            for s in steers:
                if s.layer == layer:
                    hidden = hidden.clone()
                    hidden[:, 1:] += s.coefficient * torch.from_numpy(s.vector)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    handles = [b.register_forward_hook(add(i)) for i, b in enumerate(loaded.hooks.blocks)]
    try:
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)


def test_scores_are_those_of_a_plain_pass(tiny, rows):
    s = steer(tiny)
    for (prompt, answer), found in zip(rows, forced_scores(tiny, rows, [(s,)])[0], strict=True):
        before = plain_log_probabilities(tiny, prompt, answer)
        after = plain_log_probabilities(tiny, prompt, answer, (s,))
        total = float(after.gather(1, torch.tensor(answer)[:, None]).sum())
        kl = float((before.exp() * (before - after)).sum(-1).mean())
        assert found.log_prob == pytest.approx(total, abs=1e-3)
        assert found.kl == pytest.approx(kl, rel=1e-3, abs=1e-5)
        assert found.kl > 1e-4 and found.n_tokens == len(answer)


def test_without_steering_nothing_is_far_and_likelihoods_agree(tiny, rows):
    idle, none = forced_scores(tiny, rows, [(steer(tiny, 0.0),), ()])
    want = log_likelihoods(tiny, *zip(*rows, strict=True))
    for a, b, (total, n) in zip(idle, none, want, strict=True):
        assert a == b and a.kl == 0.0
        assert (a.log_prob, a.n_tokens) == (pytest.approx(total, abs=1e-3), n)


def test_batches_change_nothing_and_known_conditions_are_not_computed_again(
    tiny, rows, store, monkeypatch
):
    conditions = [(steer(tiny, c),) for c in (1.0, -1.0)]
    whole = forced_scores(tiny, rows, conditions, store)
    alone = forced_scores(tiny, rows, conditions, tokens_per_batch=1)
    np.testing.assert_allclose(np.array(whole), np.array(alone), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(tiny.model, "forward", None)
    assert forced_scores(tiny, rows, conditions[::-1], store) == whole[::-1]


def test_empty_answers_are_refused(tiny):
    with pytest.raises(ConfigError, match="no tokens"):
        forced_scores(tiny, [((1, 2), ())], [()])


def test_the_matched_dose_follows_the_curve():
    coefficients = [0.5, 1.0, 2.0, 4.0]
    kl = [0.3 * c**2 for c in coefficients]
    for wanted in (0.3 * 1.7**2, 0.3 * 0.1**2, 0.3 * 9**2):  # inside, below and above the curve
        assert matched_coefficient(coefficients, kl, wanted) == pytest.approx((wanted / 0.3) ** 0.5)
    assert np.isnan(matched_coefficient([1.0, 2.0], [0.0, 0.0], 1.0))
