"""Hypothesis C: a planted layer is found, and the conclusion follows its rule."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from prefvec.activations import Site as Place
from prefvec.adapters import Ridge
from prefvec.diagnostics import layers
from prefvec.diagnostics.layers import (
    best_pair,
    conclude,
    grid_directions,
    intact,
    layer_gain,
    layer_grid,
    layer_map,
    likeness_and_effect,
    mapped_to,
    paired_effects,
    rules_frame,
)
from prefvec.paths import cell_file
from prefvec.report import layer_figures
from prefvec.report.views import plain, plain_value
from prefvec.stats import mean_ci
from prefvec.transfer.sweep import Site

N, WIDTHS = 24, (6, 4)
QUESTIONS = [f"q{i}" for i in range(N)]


def model(depth: int, width: int) -> SimpleNamespace:
    return SimpleNamespace(
        n_layers=depth, width=width, layer_at=lambda fraction: round(fraction * (depth - 1))
    )


def fake_study() -> SimpleNamespace:
    generator = np.random.default_rng(0)
    source, target = model(11, WIDTHS[0]), model(21, WIDTHS[1])
    directions = {
        id(loaded): {k: generator.normal(size=loaded.width) for k in range(loaded.n_layers)}
        for loaded in (source, target)
    }

    def vector(loaded):
        own = directions[id(loaded)]
        return SimpleNamespace(at=own.__getitem__, norm=lambda k: float(np.linalg.norm(own[k])))

    return SimpleNamespace(
        source=source, target=target, vector=vector, trait=SimpleNamespace(sign=-1),
        settings=SimpleNamespace(seed=0, n_random=3),
        splits={"selection": QUESTIONS, "evaluation": QUESTIONS},
    )  # fmt: skip


SITE = Site(5, 10, 1.0)
RIGHT = {"zero_pad@2": 14, "ridge_concept@5": 10}  # where each would work, and at no other layer


def planted_sweep(study, loaded, conditions, split):
    """Answers of 50 tokens, shortened by 30 where a method meets its layer, and by the own vector at 14;
    at layer 2 any push shortens by 35, and at 18 it breaks the text."""
    rows = []
    for method, _, layer, _ in conditions:
        right = RIGHT.get(method) == layer or (method == "oracle" and layer in (10, 14))
        effect = 0.0 if method == "unsteered" else 35.0 if layer == 2 else 30.0 * right
        for i, question in enumerate(study.splits[split]):
            shortened = 50 + (i % 5) - effect if layer != 18 else 0.0
            rows.append((method, layer, question, shortened, layer == 18))
    return pd.DataFrame(rows, columns=["method", "layer", "question", "score", "collapsed"])


def planted_directions(study, grid) -> dict:
    return {
        (m, s, t): np.ones(WIDTHS[1])
        for m in layers.KINDS.values()
        for s in grid.source
        for t in (*grid.target, 12)
    }


@pytest.fixture
def mapped(monkeypatch):
    monkeypatch.setattr(layers, "sweep", planted_sweep)
    study = fake_study()
    grid = layer_grid(study, SITE, [0.1, 0.22, 0.45, 0.7, 0.9])
    directions = planted_directions(study, grid)
    return study, grid, directions, layer_map(study, SITE, grid, directions)[1]


def test_the_grid_holds_the_assumed_layers_in_place_of_their_neighbours():
    grid = layer_grid(fake_study(), SITE, [0.1, 0.22, 0.45, 0.7, 0.9])
    assert grid.source == (1, 2, 5, 7, 9)  # 0.45 of 10 is layer 4, which gives way to 5
    assert grid.target == (2, 4, 10, 14, 18)


def test_the_map_finds_the_planted_layers_whatever_any_push_does_elsewhere(mapped):
    _, _, _, cells = mapped
    assert best_pair(cells, "zero_pad") == (2, 14)
    assert best_pair(cells, "ridge_concept") == (5, 10)
    assert best_pair(cells, "oracle")[1] in (10, 14)
    everywhere = cells[cells.layer_target == 2]
    assert (everywhere.effect == 35).all() and (everywhere.specific == 0).all()
    broken = cells[cells.layer_target == 18]  # an answer that collapses has no effect
    assert (broken.effect == 0).all() and (broken.collapse == 1).all()
    figure = layer_figures.effect_maps(
        cells, (5, 10), {m: best_pair(cells, m) for m in (*layers.KINDS.values(), "oracle")}, "u", "t"
    )  # fmt: skip
    assert len(figure.axes[0].texts) == 25
    plt.close(figure)


def test_the_gain_of_the_planted_layer_is_confirmed_and_only_where_there_is_one(mapped):
    study, _, directions, cells = mapped
    best = {m: best_pair(cells, m) for m in (*layers.KINDS.values(), "oracle")}
    answers = layers.confirm(study, SITE, directions, best, [10, 12, 14])
    effects = paired_effects(study, answers, QUESTIONS)
    direct = layer_gain(effects, "zero_pad", (5, 10), best["zero_pad"])
    assert direct.gain.value == pytest.approx(30) and direct.loss.value == pytest.approx(30)
    assert direct.conclusion.verdict == "supported"
    assert plain_value(direct)["gain"] == pytest.approx([30, 30, 30])
    good = layer_gain(effects, "ridge_concept", (5, 10), best["ridge_concept"])
    assert good.loss.value == 0 and good.conclusion.verdict == "undecided"
    assert "no effect is lost" in good.conclusion.reason
    rules = pd.DataFrame({"rule": ["a", "b"], "layer_target": [10, 12], "why": ["", ""]})
    table = rules_frame(study, rules, effects, SITE, best["ridge_concept"])
    assert list(table.from_best) == [0, 2]
    assert [e.value for e in table.gain] == pytest.approx([0, -30])
    assert len(layer_figures.rules_table(table, plain)) == 2


@pytest.mark.parametrize(
    ("gain", "loss", "expected"),
    [
        (18.0, 20.0, "supported"),
        (2.0, 20.0, "rejected"),
        (-5.0, 20.0, "rejected"),
        (10.0, 20.0, "undecided"),
        (5.0, 0.0, "undecided"),
    ],
)
def test_the_conclusion_is_computed_by_its_rule(gain, loss, expected):
    generator = np.random.default_rng(1)
    gains, losses = (x + 2 * generator.normal(size=N) for x in (gain, loss))
    estimates = [mean_ci(x) for x in (gains, losses, gains - layers.MAIN_SHARE * losses)]
    verdict, reason, rule = conclude(*estimates)
    assert verdict == expected and reason and rule == layers.RULE


def test_one_fit_for_all_target_layers_gives_what_each_fit_gives():
    generator = np.random.default_rng(2)
    x = generator.normal(size=(30, 6))
    ys = {Place(1): generator.normal(size=(30, 4)), Place(2): generator.normal(size=(30, 5))}
    vector = generator.normal(size=6)
    found = mapped_to(x, ys, vector, 0.3)
    for place, y in ys.items():
        np.testing.assert_allclose(found[place], Ridge(0.3).fit(x, y).map(vector), rtol=1e-5)


def test_every_direction_has_the_length_of_the_own_vector_where_it_is_written():
    study, generator = fake_study(), np.random.default_rng(3)
    rows = tuple(
        {Place(k): generator.normal(size=(30, width)) for k in wanted}
        for width, wanted in zip(WIDTHS, ((2, 5), (4, 10)), strict=True)
    )
    rows[1][Place(4, "mlp")] = generator.normal(size=(30, 4))
    found = grid_directions(study, (2, 5), rows, 1.0)
    assert set(found) == {(m, s, t) for m in layers.KINDS.values() for s in (2, 5) for t in (4, 10)}
    own, source = study.vector(study.target), study.vector(study.source)
    for (method, s, t), direction in found.items():
        assert np.linalg.norm(direction) == pytest.approx(own.norm(t), rel=1e-5)
        if method == "zero_pad":
            padded = source.at(s)[: WIDTHS[1]]
            assert direction @ padded == pytest.approx(np.linalg.norm(direction) * np.linalg.norm(padded), rel=1e-5)  # fmt: skip


def test_unsteered_answers_keep_their_score_even_if_they_loop():
    answers = pd.DataFrame(
        {"method": ["unsteered", "x", "x"], "collapsed": [True, True, False], "score": [5.0, 1.0, 2.0]}
    )  # fmt: skip
    assert intact(answers).score.tolist()[::2] == [5.0, 2.0] and np.isnan(intact(answers).score[1])


def test_likeness_is_held_against_effect_by_rank():
    cells = pd.DataFrame(
        [("ridge_concept", s, t, 10.0 * s + t) for s in (1, 2) for t in (3, 4)],
        columns=["method", "layer_source", "layer_target", "specific"],
    )
    cka = pd.DataFrame([[0.1, 0.2], [0.3, 0.9]], index=[1, 2], columns=[3, 4])
    assert likeness_and_effect(cells, cka) == pytest.approx(1.0)
    assert np.isnan(likeness_and_effect(cells.assign(specific=0.0), cka))


def test_the_file_says_which_cell_it_is_of():
    name = cell_file("hypothesis_c", "org/a", "b", "formality")
    assert name == "hypothesis_c_org_a_to_b_formality.json"
