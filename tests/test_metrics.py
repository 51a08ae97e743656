"""Scores of text, on texts whose score is known."""

import numpy as np
import pytest
import torch

from conftest import random_ids
from prefvec.metrics import content
from prefvec.metrics.coherence import is_collapsed
from prefvec.metrics.length import direction_score
from prefvec.metrics.likelihood import log_likelihoods
from prefvec.metrics.trait import trait_scores
from prefvec.traits import load_trait


def test_direction_score_is_half_where_nothing_moved():
    np.testing.assert_array_equal(direction_score([5, 64, 70], [64, 64, 60], -1), [1, 0.5, 0])


@pytest.mark.parametrize(
    "text",
    ["", "   ", "the the the the the the the the the the", "3.3 4.4 5.5 6.6 7.7 8.8", "!!! ??? ... ;;;",
     "It is a ball. It is a ball. It is a ball. It is a ball."],
)  # fmt: skip
def test_collapsed_texts_are_found(text):
    assert is_collapsed(text)


@pytest.mark.parametrize(
    "text", ["Yes.", "Plants turn sunlight into sugar.", "The sky is blue because air scatters short waves more than long ones."]
)  # fmt: skip
def test_ordinary_texts_are_not(text):
    assert not is_collapsed(text)


def test_content_scores_are_one_for_the_same_text_and_low_for_another():
    texts = [
        "Paris is the capital of France.",
        "Marie Curie studied radiation in Poland and France.",
    ]
    others = ["Cats sleep a lot.", "Bread needs flour and water."]
    for same, different in (
        (content.rouge(texts, texts)["rougeL"], content.rouge(texts, others)["rougeL"]),
        (content.tfidf_cosine(texts, texts), content.tfidf_cosine(texts, others)),
        (content.embedding_cosine(texts, texts), content.embedding_cosine(texts, others)),
        (content.entity_retention(texts, texts), content.entity_retention(texts, others)),
    ):
        np.testing.assert_allclose(same, 1, atol=1e-5)
        assert (different < 0.5).all()


def test_a_reference_without_entities_has_no_retention_score():
    assert np.isnan(content.entity_retention(["it is warm"], ["it is cold"])[0])


def test_empty_texts_score_zero_not_an_error():
    assert content.tfidf_cosine(["", ""], ["", ""]).tolist() == [0, 0]
    assert content.rouge(["a"], [""])["rouge1"][0] == 0


def test_log_likelihoods_equal_a_plain_computation(tiny):
    """Alone, and where many answers follow one prompt, which is then computed once."""
    asked = random_ids(4, low=10)
    prompts = [*asked, asked[0], asked[0], asked[1], asked[1]]
    answers = [*random_ids(7, low=2, seed=9), ()]
    got = log_likelihoods(tiny, prompts, answers)
    for prompt, answer, (total, n) in zip(prompts, answers, got, strict=True):
        with torch.inference_mode():
            logits = tiny.model(torch.tensor([[*prompt, *answer]])).logits[0].float()
        scores = torch.log_softmax(logits, dim=-1)
        want = sum(scores[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))
        assert n == len(answer)
        assert total == pytest.approx(want, rel=1e-3)
    narrow = log_likelihoods(tiny, prompts, answers, nodes_per_pass=20)
    np.testing.assert_allclose(narrow, got, rtol=1e-3)


def test_the_likelihood_score_needs_no_length_and_marks_empty_texts(llama):
    trait = load_trait("formality")
    scores = trait_scores(trait, ["Why?", "Why?"], ["Because.", ""], [3, 0], 64, judge=llama)
    assert np.isfinite(scores[0]) and np.isnan(scores[1])


def test_length_scores_are_censored_at_the_limit():
    scores = trait_scores(load_trait("verbosity"), ["q"] * 2, ["a", "b"], [3, 90], 64)
    assert scores.tolist() == [3, 64]
