"""The ruler is checked on texts of known label; layers and ways of extraction are compared fairly."""

from types import MethodType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conftest import tiny_model
from prefvec import validation
from prefvec.activations import Prompt, capture
from prefvec.errors import TraitError
from prefvec.extraction import WAYS, compare_ways, describe
from prefvec.metrics import gold
from prefvec.metrics.gold import load_gold
from prefvec.stats import Estimate
from prefvec.study import Study
from prefvec.traits import Trait, load_trait
from prefvec.transfer import methods
from prefvec.transfer.sweep import Site
from prefvec.validation import extraction_effects, layer_effectiveness, score_validity, verdicts

QUESTIONS = ["Why is grass green?", "Who built Rome?", "What is rain?", "What is snow?"]


def test_labelled_texts_come_in_pairs_and_a_trait_without_them_has_none():
    found = load_gold("verbosity")
    assert len(found) == 24
    assert all(len(p.positive.split()) > len(p.negative.split()) for p in found)
    assert load_gold("no-such-trait") == ()


def test_a_damaged_file_of_labelled_texts_names_the_line_or_the_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(gold, "GOLD", tmp_path)
    good = '{"question": "q", "text": "t", "label": 1, "pair": 1}'
    (tmp_path / "a.jsonl").write_text(good)
    with pytest.raises(TraitError, match="a.jsonl: pair 1 needs"):
        load_gold("a")
    (tmp_path / "a.jsonl").write_text(good + "\n" + good.replace("1,", "2,", 1))
    with pytest.raises(TraitError, match="a.jsonl, line 2: KeyError"):
        load_gold("a")


def fake_study(trait, **settings):
    settings = {"seed": 0, "max_new_tokens": 48, "doses": [1.0, 2.0], **settings}
    study = SimpleNamespace(
        trait=trait, store=None, settings=SimpleNamespace(**settings), judge_of=lambda _: None,
        splits={"selection": QUESTIONS, "extraction": QUESTIONS},
    )  # fmt: skip
    study.score = MethodType(Study.score, study)
    return study


def test_length_tells_short_from_long_texts_and_a_blind_score_is_called_unfit(monkeypatch, llama):
    noise = np.random.default_rng(0).normal(size=48)
    monkeypatch.setattr(validation, "likelihood_ratio", lambda *_: noise)
    found = score_validity(fake_study(load_trait("verbosity"), max_new_tokens=4000), llama)
    table = found.set_index("score")
    assert table.auc["length"].value == table.auc["words"].value == 1.0
    assert table.fit["length"] and table.own["length"] and not table.own["words"]
    assert not table.fit["likelihood"] and table.n["likelihood"] == 48
    said = verdicts(found, "verbosity")
    assert sum("UNFIT" in line for line in said) == 1 and said[2].startswith("likelihood")


def test_a_trait_without_labelled_texts_is_said_to_be_unvalidated(llama):
    trait = Trait(name="calm", instructions=({"positive": "Be calm.", "negative": "Be wild."},))
    found = score_validity(fake_study(trait), llama)
    assert found.empty and "not validated" in verdicts(found, "calm")[0]


def answers(cells):
    """Unsteered answers score 50; (method, layer, dose): effect downwards, collapsed."""
    rows = [("unsteered", -1, 0.0, q, 50.0, False) for q in QUESTIONS]
    for (method, layer, dose), (effect, collapsed) in cells.items():
        rows += [(method, layer, -dose, q, 50.0 - effect, collapsed) for q in QUESTIONS]
    return pd.DataFrame(rows, columns=["method", "layer", "dose", "question", "score", "collapsed"])


CELLS = {
    ("own", 3, 1.0): (5.0, False), ("own", 3, 2.0): (10.0, False),
    ("own", 5, 1.0): (10.0, False), ("own", 5, 2.0): (45.0, True),
    ("own", 7, 1.0): (-2.0, False), ("own", 7, 2.0): (-4.0, False),
}  # fmt: skip


def test_a_layer_that_does_half_as_much_is_given_twice_the_dose():
    study = fake_study(load_trait("verbosity"))
    table = layer_effectiveness(study, answers(CELLS), {"layer": 5, "dose": 1.0}).set_index("layer")
    assert table.slope[3] == pytest.approx(5.0) and table.slope[5] == pytest.approx(10.0)
    assert table.relative[5] == 1.0 and table.adapted_dose[5] == 1.0
    assert table.adapted_dose[3] == pytest.approx(2.0) and table.tried[3]
    assert np.isnan(table.adapted_dose[7]) and not table.tried[7]
    assert table.dose[5] == 1.0 and table.effect[5].value == 10.0  # the larger one collapses


def test_extraction_methods_are_read_at_the_chosen_cell_alone():
    more = {("pca", 5, 1.0): (8.0, False), ("actadd", 5, 1.0): (1.0, True)}
    study = fake_study(load_trait("verbosity"))
    table = extraction_effects(study, answers({**CELLS, **more}), {"layer": 5, "dose": 1.0})
    found = table.set_index("method")
    assert [found.effect[m].value for m in ("own", "pca", "actadd")] == [10.0, 8.0, 1.0]
    assert list(found.collapse) == [0.0, 0.0, 1.0]
    assert isinstance(found.effect["pca"], Estimate)


def test_a_description_compares_with_the_reference_and_between_halves():
    generator = np.random.default_rng(0)
    direction = np.eye(32)[0]
    negative = generator.normal(size=(40, 32))
    positive = negative + 4 * direction + 0.1 * generator.normal(size=(40, 32))
    for method in ("mean", "pca", "actadd"):
        found = describe(positive, negative, method, direction)
        assert found["cosine"] > 0.98 and found["split_half"] > 0.98
        assert found["norm"] == pytest.approx(4, rel=0.1)
    assert describe(negative, positive, "mean", direction)["cosine"] < -0.98


class TinyStudy:
    """What `compare_ways` asks of a study, for a tiny base model."""

    settings = SimpleNamespace(n_instructions=5)
    trait, store = load_trait("verbosity"), None
    splits = {"extraction": QUESTIONS[:3]}
    answered = Study.answered

    def candidate_layers(self, loaded):
        return [1, 2]


def test_ways_are_read_where_they_say_they_are(llama):
    table = compare_ways(TinyStudy(), llama).set_index(["way", "layer"])
    assert {way for way, _ in table.index} == set(WAYS)
    assert table.cosine["difference in means"].to_numpy() == pytest.approx(1.0)
    assert len(table.loc["PCA"]) == llama.n_layers and list(table.loc["MLP output"].index) == [1, 2]
    assert not np.allclose(table.norm["attention output"], table.norm["MLP output"])
    assert table.cosine.abs().max() <= 1 + 1e-6


def test_answers_are_the_models_own_and_their_mean_leaves_the_prompt_out(llama):
    positive, negative = TinyStudy().answered(llama)
    assert len(positive) == len(negative) > 0
    prompt = positive[0]
    assert 0 < prompt.answer_start < len(prompt.ids)
    pooled = capture(llama, [prompt], [1], pooling="mean")[1][0]
    tokens = [
        capture(llama, [Prompt(prompt.ids[: i + 1])], [1])[1][0]
        for i in range(prompt.answer_start, len(prompt.ids))
    ]
    np.testing.assert_allclose(pooled, np.mean(tokens, axis=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("widths", [(4, 6), (6, 4)])
def test_the_unscaled_vector_keeps_its_own_length(widths, monkeypatch):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, widths[0])), generator.normal(size=(30, widths[1]))
    source, own = 7 * generator.normal(size=widths[0]), generator.normal(size=widths[1])
    source_model, target_model = tiny_model("llama"), tiny_model("llama", seed=1)
    vectors = {source_model.id: source, target_model.id: own}
    study = SimpleNamespace(
        source=source_model, target=target_model,
        settings=SimpleNamespace(seed=0, n_random=1),
        alignment=SimpleNamespace(source={1: x}, target={2: y}),
        vector=lambda loaded: SimpleNamespace(at=lambda _: vectors[loaded.id]),
    )  # fmt: skip
    found = methods.direct_methods(study, Site(1, 2, 1.0))
    kept = source[: widths[1]]
    assert np.linalg.norm(found["unscaled"]) == pytest.approx(np.linalg.norm(kept), rel=1e-5)
    np.testing.assert_allclose(found["unscaled"][: len(kept)], kept, rtol=1e-5)
    for name in methods.DIRECT:
        assert np.linalg.norm(found[name]) == pytest.approx(np.linalg.norm(own), rel=1e-5)
