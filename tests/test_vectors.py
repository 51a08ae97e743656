"""Vectors: extraction, arithmetic, and files that know whose they are."""

import json

import numpy as np
import pytest

from conftest import tiny_model
from prefvec.activations import Prompt, capture
from prefvec.errors import TraitError, VectorError
from prefvec.traits import Trait, load_trait
from prefvec.vectors import (
    AGGREGATORS,
    SteeringVector,
    contrast_prompts,
    cosine,
    extract,
    first_component,
    half_cosine,
    split_half_cosine,
)

QUESTIONS = ["Why is grass green?", "Who built Rome?", "What is rain?"]


@pytest.fixture
def vector(llama):
    return extract(llama, load_trait("verbosity"), QUESTIONS, [1, 2])


def test_the_vector_is_the_difference_of_means(llama, vector):
    positive, negative = contrast_prompts(llama, load_trait("verbosity"), QUESTIONS)
    means = [
        np.mean([capture(llama, [Prompt(p.ids)], [2])[2][0] for p in group], axis=0)
        for group in (positive, negative)
    ]
    np.testing.assert_allclose(vector.at(2), means[0] - means[1], rtol=1e-3, atol=1e-3)
    assert vector.card.n_pairs == len(QUESTIONS)


def test_vectors_are_a_linear_space(vector):
    for layer in (1, 2):
        np.testing.assert_allclose((2 * vector - vector).at(layer), vector.at(layer), rtol=1e-5)
        np.testing.assert_array_equal((vector - vector).at(layer), 0)
        np.testing.assert_array_equal((-vector).at(layer), (vector * -1.0).at(layer))


def test_a_saved_vector_comes_back_and_refuses_another_model(llama, vector, tmp_path):
    path = vector.save(tmp_path / "v")
    again = SteeringVector.load(path, llama)
    assert again.card == vector.card
    np.testing.assert_array_equal(again.at(2), vector.at(2))
    with pytest.raises(
        VectorError, match="belongs to tiny-llama-0.*not to tiny-llama-7.*map it with an adapter"
    ):
        SteeringVector.load(path, tiny_model("llama", seed=7))


def test_damaged_vector_files_are_refused(vector, tmp_path):
    path = vector.save(tmp_path / "v")
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "width": 31}))
    with pytest.raises(VectorError, match="width 31"):
        SteeringVector.load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(VectorError, match="not a readable vector"):
        SteeringVector.load(path)


def test_a_missing_layer_and_mixed_models_are_refused(vector):
    with pytest.raises(VectorError, match="has layers 1, 2, not 3"):
        vector.at(3)
    other = extract(tiny_model("llama", seed=1), load_trait("verbosity"), QUESTIONS, [1, 2])
    with pytest.raises(VectorError, match="different models"):
        vector + other


def test_all_extraction_methods_agree_on_a_single_clean_direction():
    generator = np.random.default_rng(0)
    direction = generator.normal(size=16)
    negative = generator.normal(size=(10, 16))
    positive = negative + direction + 0.01 * generator.normal(size=(10, 16))
    for aggregate in AGGREGATORS.values():
        found = aggregate(positive, negative)
        assert found @ direction / np.linalg.norm(found) / np.linalg.norm(direction) > 0.99


def test_texts_of_a_custom_trait_are_taken_as_they_are(llama):
    trait = Trait(
        name="rainy", positive_texts=("It rains.", "Wet again."), negative_texts=("It is dry.", "Sun."),
        test_prompts=("How is the weather?",) * 4,
    )  # fmt: skip
    positive, negative = contrast_prompts(llama, trait, QUESTIONS)
    assert positive[0].ids == tuple(llama.prompt.encode("It rains."))
    assert len(positive) == len(negative) == 2


def test_a_base_model_needs_examples(llama):
    trait = Trait(name="calm", instructions=({"positive": "Be calm.", "negative": "Be wild."},))
    with pytest.raises(TraitError, match="no `examples`, which the base model tiny-llama-0 needs"):
        extract(llama, trait, QUESTIONS, [1])


def test_split_half_cosine_is_a_cosine(llama):
    found = split_half_cosine(llama, load_trait("verbosity"), QUESTIONS + ["What is snow?"], [1, 2])
    assert set(found) == {1, 2} and all(-1 <= v <= 1.0001 for v in found.values())


def test_pca_finds_a_planted_direction_that_pairs_share_unequally():
    """Pairs show the direction in different strengths, one in the opposite sign: the sign of the mean
    decides, and a large part that all texts have in common does not matter."""
    generator = np.random.default_rng(1)
    direction = generator.normal(size=64)
    strengths = np.array([3.0, 2.0, 1.0, -0.5, 2.5, 1.5])
    negative = 50 + generator.normal(size=(6, 64))
    positive = negative + np.outer(strengths, direction) + 0.1 * generator.normal(size=(6, 64))
    assert cosine(first_component(positive, negative), direction) > 0.99
    assert cosine(first_component(negative, positive), direction) < -0.99


def test_halves_agree_where_there_is_one_direction_and_not_where_there_is_none():
    generator = np.random.default_rng(2)
    noise = generator.normal(size=(2, 20, 200))
    assert abs(half_cosine(*noise)) < 0.3
    assert half_cosine(noise[0] + 5 * noise[0, 0], noise[1]) > 0.9
    assert np.isnan(half_cosine(noise[0, :1], noise[1, :1])) and np.isnan(cosine(0 * noise[0, 0], noise[0, 1]))  # fmt: skip
