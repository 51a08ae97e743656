"""The trait classifier finds a difference that is there, and none that is not."""

import numpy as np
import pytest

from prefvec.errors import TraitError
from prefvec.metrics.classifier import area_under_curve, fit_classifier, simplest_within_error

TOPICS = ["rivers", "bread", "trains", "owls", "glass", "salt", "maps", "rain"]
FORMAL = ["It is established that {} merit careful study.", "One may observe that {} are considerable."]  # fmt: skip
CASUAL = ["Oh man, {} are super cool, you know?", "Yeah so {} are kinda awesome, gotta say!"]


def texts(templates):
    return [t.format(topic) for t in templates for topic in TOPICS]


def test_it_separates_new_texts_of_the_two_poles():
    found = fit_classifier(texts(FORMAL), texts(CASUAL), TOPICS * 2)
    assert found.auc > 0.95 and found.n == 32
    formal, casual, empty = found.scores(
        ["Volcanoes are regarded as noteworthy.", "Volcanoes? Dude, those rock, haha!", " "]
    )
    assert formal > casual and np.isnan(empty)


def test_labels_without_meaning_are_not_learned():
    mixed = np.random.default_rng(0).permutation(texts(FORMAL) + texts(CASUAL))
    assert fit_classifier(list(mixed[:16]), list(mixed[16:]), TOPICS * 2).auc < 0.85


def test_the_penalty_is_the_strongest_that_the_folds_cannot_tell_from_the_best():
    weak, near, best = [0.5, 0.6, 0.5, 0.6], [0.8, 0.9, 0.8, 0.9], [0.8, 0.9, 0.82, 0.92]
    assert simplest_within_error([weak, near, best]) == 1  # 0.85 against 0.86 ± 0.03
    assert simplest_within_error([weak, best, near]) == 1  # the best itself
    assert simplest_within_error([near, weak, best]) == 0
    assert simplest_within_error([[np.nan, 0.5], [np.nan, 0.9]]) == 1  # a fold without a pole


def test_too_few_texts_are_refused():
    with pytest.raises(TraitError, match="too few"):
        fit_classifier(["a", "b"], ["c", "d"], ["x", "y"])


def test_area_under_curve_counts_ties_half_and_leaves_missing_scores_out():
    assert area_under_curve([2, 1, 0, np.nan], [1, 1, -1, -1]) == 1.0
    assert area_under_curve([1, 1], [1, -1]) == 0.5
    assert np.isnan(area_under_curve([1, np.nan], [1, -1]))
