"""Pairs of summaries: which are written, what they say, and that the plan counts them."""

import json

import numpy as np
import pytest

from conftest import tiny_model
from prefvec import summaries
from prefvec.errors import ConfigError
from prefvec.plan.shapes import OutlinePool
from prefvec.plan.work import stages
from prefvec.profile import Settings, load_profile
from prefvec.study import Study
from prefvec.summaries import Pair, combinations
from prefvec.tasks import load_task

QWEN, SMOLLM = "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"


def study(store=None, pool=None, **changes) -> Study:
    settings = {**load_profile("smoke").settings, "n_instructions": 5, "source": QWEN}
    settings = Settings.checked({**settings, "target": SMOLLM, **changes})
    return Study(settings, pool or OutlinePool(exact=False), store)


def test_every_combination_is_used_once_and_articles_come_first():
    asked = study(num_pairs=100)
    found = combinations(asked, asked.source)
    assert len({(article.id, i) for article, i in found}) == 100
    assert len({article.id for article, _ in found[:20]}) == 20
    assert {i for _, i in found[:5]} == {0, 1, 2, 3, 4}
    assert found[:12] == combinations(study(num_pairs=12), asked.source)


def test_articles_are_those_of_the_extraction_split_alone():
    asked = study(num_pairs=100, task="summarise", n_selection=6)
    used = {article.prompt for article, _ in combinations(asked, asked.source)}
    kept = {*asked.splits["selection"], *asked.splits["choice"], *asked.splits["evaluation"]}
    assert used == set(load_task("summarise").prompts("extraction")) and not used & kept


def test_more_pairs_than_there_are_names_the_setting():
    asked = study(num_pairs=100, n_instructions=4)
    with pytest.raises(ConfigError, match="num_pairs is 100, but 20 articles and 4 instruction"):
        combinations(asked, asked.source)


def test_none_are_written_unless_asked_for_nor_without_instructions(tmp_path):
    path = tmp_path / "rain.yaml"
    path.write_text(
        "{name: rain, positive_texts: [Rain.], negative_texts: [Sun.], test_prompts: [a, b, c, d]}"
    )
    for asked in (study(num_pairs=0), study(num_pairs=2, trait=str(path))):
        assert combinations(asked, asked.source) == []
        assert summaries.write_pairs(asked, asked.source) == []


def test_a_base_model_is_shown_the_trait_s_examples(llama):
    asked = study(num_pairs=100)
    assert [i for _, i in combinations(asked, llama)] == [None] * 20
    texts = [
        llama.tokenizer.decode(summaries.pole_prompts(asked, llama, pole)[0])
        for pole in ("positive", "negative")
    ]
    for text, pole in zip(texts, ("positive", "negative"), strict=True):
        assert getattr(asked.trait.examples[0], pole) in text
        assert text.endswith(f"Question: {combinations(asked, llama)[0][0].prompt}\nAnswer:")


def test_a_model_writes_saves_and_is_read_again(store, tmp_path):
    model = tiny_model("llama")  # a base model; its texts mean nothing
    asked = study(store, num_pairs=3)
    pairs = summaries.write_pairs(asked, model)
    assert [pair.article for pair in pairs] == ["a001", "a002", "a003"]
    assert all(p.positive_tokens <= summaries.token_limit(asked) for p in pairs)
    path = summaries.save(pairs, tmp_path / "summary_pairs" / "pairs.jsonl")
    assert [Pair(**json.loads(line)) for line in path.read_text().splitlines()] == pairs

    told = [
        pair._replace(positive=f"Long text {i}.", negative=f"Text {i}.")
        for i, pair in enumerate(pairs)
    ]
    vector = summaries.text_vector(asked, model, told, [1])
    prompts = [article.prompt for article, _ in combinations(asked, model)]
    means = []
    for pole in ("positive", "negative"):
        rows = []
        for prompt, pair in zip(prompts, told, strict=True):
            ids = list(asked.plain_prompt(model, prompt))
            answer = model.tokenizer(f" {getattr(pair, pole)}")["input_ids"]
            rows += [reading(model, ids + answer, len(ids))]
        means.append(np.mean(rows, axis=0))
    np.testing.assert_allclose(vector.at(1), means[0] - means[1], rtol=1e-3, atol=1e-3)
    assert vector.card.pooling == "mean" and vector.card.n_pairs == 3


def reading(model, ids, start):
    """Mean residual after block 1 over the tokens from `start`, by a plain forward pass."""
    import torch

    with torch.inference_mode():
        out = model.model(torch.tensor([ids]), output_hidden_states=True)
    return out.hidden_states[2][0, start:].numpy().mean(axis=0)


def pair(article, positive, negative, cut=False):
    return Pair(article, 0, "a b", "a", positive, negative, cut, False)


def test_ratio_and_difference_are_over_articles_not_over_pairs():
    asked = study(num_pairs=40, n_instructions=2, max_new_tokens=40)
    rows = [pair(article.id, 40, 20) for article, _ in combinations(asked, asked.source)]
    found = summaries.contrast(asked, asked.source, rows)
    assert found.n == 40 and found.ratio.value == pytest.approx(2)
    assert found.difference == pytest.approx((20, 20, 20))
    ids = [article.id for article, _ in combinations(asked, asked.source)]
    rows = [pair(name, 80 if name == ids[0] else 20, 20, name == ids[0]) for name in ids]
    found = summaries.contrast(asked, asked.source, rows)
    assert found.ratio.value == pytest.approx(4 ** (1 / 20))
    assert found.difference.value == pytest.approx(60 / 20)
    assert found.ratio.high > found.ratio.value > found.ratio.low == pytest.approx(1)
    assert found.truncated == pytest.approx((1 / 20, 0))


def test_the_plan_counts_the_pairs_once_in_their_stage():
    profile = load_profile("paper")

    def written(count):
        chosen = profile.model_copy(update={"settings": {**profile.settings, "num_pairs": count}})
        return {
            stage.name: [w for w in stage.work if w.key[0] == "summaries"]
            for stage in stages(chosen, OutlinePool(exact=False))
            if stage.rule == "extract"
        }

    assert set(map(len, written(0).values())) == {0}
    for works in written(12).values():
        rows = {w.key[-1]: w.rows for w in works if w.kind == "generate"}
        assert rows == {"positive": 12, "negative": 12}
        [again] = [w for w in works if w.kind == "capture"]
        assert again.rows == 24 and again.tokens > 24 * 100
    assert load_profile("full").settings["num_pairs"] == 100
