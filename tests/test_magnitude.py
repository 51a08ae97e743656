"""Hypothesis A: a planted scale is found, by questions that the result never sees."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conftest import random_ids, tiny_model
from planted import LAYER, planted_study, planted_sweep, rotated_copy, scaled_copy
from prefvec.activations import Prompt, capture
from prefvec.diagnostics import magnitude, outliers
from prefvec.diagnostics.gains import Outcome, effects_of, random_effects
from prefvec.errors import ConfigError
from prefvec.metrics.coherence import distinct_bigrams, is_collapsed
from prefvec.profile import Settings
from prefvec.report import diagnostic_figures as drawn
from prefvec.stats import RESAMPLES, Estimate, gain_over_random, transfer_efficiency
from prefvec.transfer import ORACLE, UNSCALED, Site

SITE = Site(LAYER, LAYER, 1.0)


@pytest.fixture
def diagnosed(monkeypatch):
    """Runs the whole diagnosis with planted answers: sweep table, scales, outcomes and conclusion."""
    monkeypatch.setattr(magnitude, "sweep", planted_sweep)

    def run(study):
        directions = magnitude.scaled_directions(study, SITE)
        tried = magnitude.scale_sweep(study, SITE, directions)
        length = study.vector(study.target).norm(LAYER)
        table = magnitude.summarise_scales(study, tried, "selection", 4 * length, length)
        scales = magnitude.choose_scales(table)
        direct = magnitude.choose_direct(table, scales)
        answers = magnitude.evaluate_scales(study, SITE, directions, scales)
        scales[UNSCALED] = magnitude.unscaled_scale(study, SITE)
        found = magnitude.outcomes(study, answers, scales)
        conclusion = magnitude.conclude(direct, found)
        return SimpleNamespace(
            table=table, scales=scales, found=found, direct=direct, conclusion=conclusion,
            answers=answers, directions=directions,
        )  # fmt: skip

    return run


def test_a_scaled_copy_of_a_model_is_reported_as_magnitude(diagnosed):
    """Planted: the target is the source with its residual stream 50 times as long, so that the source's
    vector has the right direction and a fiftieth of the length."""
    source = tiny_model("llama")
    target = scaled_copy(source, 50.0)
    prompts = [Prompt(ids) for ids in random_ids(6)]
    a, b = (capture(m, prompts, [LAYER])[LAYER] for m in (source, target))
    np.testing.assert_allclose(b, 50 * a, rtol=2e-2, atol=1e-2)  # the plant is what it says
    run = diagnosed(planted_study(source, target))
    assert run.scales[UNSCALED] == pytest.approx(1 / 50, rel=0.02)
    assert run.conclusion.verdict == "supported", run.conclusion.reason
    assert run.direct.startswith("zero_pad") and 1.0 <= run.scales[run.direct] <= 3.0
    assert run.found[run.direct].share.value == pytest.approx(1.0, abs=0.1)
    assert run.found[UNSCALED].share.value < 0.2
    assert not run.found["random_projection"].works


def test_a_rotated_copy_of_a_model_is_not_magnitude(diagnosed):
    """Planted: the target is the source in another orthonormal basis; no scale of the source's
    coordinates is right."""
    source = tiny_model("llama")
    target, _ = rotated_copy(source)
    run = diagnosed(planted_study(source, target))
    assert run.conclusion.verdict == "rejected", run.conclusion.reason
    assert run.found["ridge_concept"].works


def test_a_copy_of_the_same_scale_has_no_loss_to_explain(diagnosed):
    source = tiny_model("llama")
    run = diagnosed(planted_study(source, scaled_copy(source, 1.0)))
    assert run.found[UNSCALED].works and run.conclusion.verdict == "rejected"


def test_a_scale_at_which_answers_collapse_is_not_chosen(diagnosed):
    source = tiny_model("llama")
    run = diagnosed(planted_study(source, scaled_copy(source, 50.0)))
    broken = run.table[run.table.scale == 10.0]
    assert (broken.collapse == 1.0).all() and (broken.distinct_bigrams < 0.5).all()
    assert run.scales[ORACLE] == 3.0  # at ten lengths the planted effect is larger, and collapsed
    oracle = run.table[run.table.method == ORACLE].set_index("scale")
    assert oracle.effect[10.0].value > oracle.effect[3.0].value
    assert list(oracle.residual_share) == pytest.approx([0.025, 0.075, 0.25, 0.75, 2.5])


def test_only_evaluation_questions_are_in_the_result_and_random_is_at_every_scale(diagnosed):
    source = tiny_model("llama")
    study = planted_study(source, scaled_copy(source, 5.0))
    run = diagnosed(study)
    assert set(run.answers.question) == set(study.splits["evaluation"])
    effects = effects_of(study, run.answers, "evaluation")
    for scale in run.scales.values():
        assert random_effects(effects, scale).shape == (3, 12)


def outcome(gain, share, collapse=0.0):
    return Outcome(Estimate(*gain), Estimate(*share), collapse)


OWN = outcome((10, 8, 12), (1, 1, 1))
NOTHING = outcome((0, -1, 1), (0.0, -0.1, 0.1))
FULL = outcome((9, 7, 11), (0.9, 0.7, 1.1))


@pytest.mark.parametrize(
    ("best", "unscaled", "own", "verdict"),
    [
        (FULL, NOTHING, OWN, "supported"),
        (FULL, FULL, OWN, "rejected"),
        (NOTHING, NOTHING, OWN, "rejected"),
        (FULL._replace(collapse=0.2), NOTHING, OWN, "undecided"),
        (outcome((6, -1, 11), (0.6, -0.1, 1.1)), NOTHING, OWN, "undecided"),
        (outcome((3, 1, 4), (0.3, 0.1, 0.4)), NOTHING, OWN, "rejected"),
        (FULL, NOTHING, outcome((1, -1, 2), (np.nan, np.nan, np.nan)), "undecided"),
    ],
)
def test_the_verdict_follows_its_rule(best, unscaled, own, verdict):
    found = {"zero_pad": best, UNSCALED: unscaled, ORACLE: own}
    conclusion = magnitude.conclude("zero_pad", found)
    assert conclusion.verdict == verdict and conclusion.rule == magnitude.RULE


def test_gain_and_share_agree_with_resampling_one_by_one():
    """Each at a dose of its own: prompts are drawn for all at once, and random directions for both doses."""
    generator = np.random.default_rng(1)
    random, own_random = generator.normal(size=(3, 20)), generator.normal(2, 1, size=(3, 20))
    method, own = generator.normal(6, 2, 20), generator.normal(10, 2, 20)
    found = gain_over_random(method, random, own, own_random, seed=4)
    draw = np.random.default_rng(4)
    prompts, directions = (draw.integers(n, size=(RESAMPLES, n)) for n in (20, 3))
    gains = [
        (
            method[p].mean() - random[np.ix_(d, p)].mean(),
            own[p].mean() - own_random[np.ix_(d, p)].mean(),
        )
        for p, d in zip(prompts, directions, strict=True)
    ]
    for estimate, value, draws in (
        (found.gain, method.mean() - random.mean(), [g for g, _ in gains]),
        (found.own, own.mean() - own_random.mean(), [o for _, o in gains]),
        (found.share, (method.mean() - random.mean()) / (own.mean() - own_random.mean()), [g / o for g, o in gains]),
    ):  # fmt: skip
        assert estimate == pytest.approx((value, *np.percentile(draws, [2.5, 97.5])), rel=1e-3)


def test_at_one_dose_the_share_is_the_transfer_efficiency():
    generator = np.random.default_rng(1)
    random, own = generator.normal(size=(3, 20)), generator.normal(10, 2, 20)
    method = generator.normal(6, 2, 20)
    found = gain_over_random(method, random, own, random, seed=4)
    assert found.share == pytest.approx(transfer_efficiency(method, random, own, seed=4))
    assert found.gain.value == pytest.approx(method.mean() - random.mean())


def test_without_an_own_effect_there_is_no_share():
    random = np.random.default_rng(1).normal(size=(3, 20))
    nothing = gain_over_random(np.full(20, 6.0), random, random[0], random)
    assert np.isnan(nothing.share.value) and nothing.gain.low > 0


def test_random_directions_are_resampled_too():
    """Two random directions that differ much leave the gain uncertain, however many prompts there are."""
    method = np.full(500, 5.0)
    random = np.stack([np.full(500, 0.0), np.full(500, 8.0)])
    found = gain_over_random(method, random, method, random)
    assert (found.gain.low, found.gain.high) == (-3.0, 5.0)


def test_massive_dimensions_are_found_and_taken_out():
    rows = np.random.default_rng(0).normal(size=(40, 64))
    rows[:, 5] += 100
    rows[:, 9] -= 30
    found = outliers.outlier_dimensions(rows)
    assert list(found) == [5, 9]
    vector = np.ones(64)
    assert outliers.held_by(vector, found) == pytest.approx(2 / 64)
    trimmed = outliers.without(vector, found)
    assert trimmed[5] == trimmed[9] == 0 and trimmed.sum() == 62 and vector[5] == 1
    assert len(outliers.outlier_dimensions(np.zeros((4, 8)))) == 0


def test_a_vector_lost_in_outliers_is_measured_with_and_without_them(diagnosed, monkeypatch):
    """Planted: dimension 3 of the target is massive and holds most of the zero-padded vector's length,
    but nothing of the target's own vector."""
    source = tiny_model("llama")
    study = planted_study(source, scaled_copy(source, 1.0))
    y = study.alignment.target[LAYER].copy()
    y[:, 3] += 1000 * np.abs(y).max()
    study.alignment.target[LAYER] = y
    own, long = study.vector(study.target).at(LAYER), study.vector(study.source).at(LAYER).copy()
    own[3] = 0.0
    long[3] = 5 * np.linalg.norm(long)
    vectors = {"source": long, "target": own}
    monkeypatch.setattr(study, "vector", lambda m, trait=None: SimpleNamespace(
        at=lambda _: vectors[m.role], norm=lambda _: float(np.linalg.norm(vectors[m.role]))))  # fmt: skip
    run = diagnosed(study)
    effects = effects_of(study, run.answers, "evaluation")
    table = magnitude.trimming(study, SITE, effects, run.directions, run.scales).set_index("method")
    assert table.held["zero_pad"] > 0.9 and table.held[ORACLE] == 0
    assert table.difference["zero_pad"].low > 0 and run.direct == "zero_pad_trimmed"


def test_the_profile_has_a_row_a_layer(llama, store):
    from prefvec.study import Study

    questions = ["What is rain?", "What is snow?", "What is fog?"]
    study = SimpleNamespace(splits={"extraction": questions}, store=store)
    study.plain_prompt = lambda loaded, q: Study.plain_prompt(study, loaded, q)
    vector = np.ones(llama.width, np.float32)
    study.vector = lambda loaded: SimpleNamespace(
        at=lambda _: vector, norm=lambda _: float(np.linalg.norm(vector))
    )
    table = outliers.residual_profile(study, llama)
    assert list(table.layer) == [0, 1, 2, 3] and (table.residual > 0).all()
    assert table.share.to_numpy() == pytest.approx(table.vector / table.residual)
    prompts = [Prompt(study.plain_prompt(llama, q)) for q in questions]
    norms = np.linalg.norm(capture(llama, prompts, [1])[1], axis=1)
    assert table.residual[1] == pytest.approx(np.median(norms))


def test_distinct_bigrams_are_what_collapse_is_judged_by():
    assert distinct_bigrams("a b a b a b a b a") == pytest.approx(2 / 8)
    assert is_collapsed("a b a b a b a b a") and not is_collapsed("a b a b")
    assert np.isnan(distinct_bigrams("one"))


@pytest.mark.parametrize("scales", [[1.0, 0.1], [0.0, 1.0], [1.0]])
def test_scales_out_of_order_or_bounds_are_refused(scales):
    with pytest.raises(ConfigError, match="parameter 'scales'"):
        Settings.checked({"source": "a", "target": "b", "scales": scales})


def test_the_sweep_figure_has_every_direction_and_both_units(diagnosed):
    source = tiny_model("llama")
    run = diagnosed(planted_study(source, scaled_copy(source, 50.0)))
    figure = drawn.scale_sweep(run.table, "tokens", "t")
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "zero-pad / truncate" in texts and "random direction" in texts
    assert isinstance(run.table, pd.DataFrame)
    assert figure.axes[2].get_xlabel().startswith("length added")
    frame = drawn.outcome_frame(run.found, lambda e, _: f"{e.value:.1f}", run.scales)
    assert len(frame) == len(run.found)
