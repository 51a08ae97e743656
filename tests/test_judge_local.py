"""The judge's own server, and what is said about a judge: on scores of known quality."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest

from prefvec.errors import EndpointError, TraitError
from prefvec.judge import agreement, rubrics
from prefvec.judge.agreement import fitness, harmonic_mean, length_regressed, rank_correlation
from prefvec.judge.judging import is_local, open_judge
from prefvec.judge.rubrics import load_rubric, rubric_for
from prefvec.judge.server import llama_server
from prefvec.metrics.gold import GoldPair, load_gold
from prefvec.traits import TRAITS, Trait, load_trait


def workers():
    return [p for p in psutil.Process().children() if "worker.py" in " ".join(p.cmdline())]


def test_a_file_that_is_no_model_is_one_line_within_ten_seconds(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    started = time.monotonic()
    message = r"llama.cpp did not start with broken\.gguf"
    with pytest.raises(EndpointError, match=message) as error, llama_server(str(path)):
        pass
    assert time.monotonic() - started < 10 and "\n" not in str(error.value)
    assert workers() == []


def test_a_server_that_hangs_at_its_start_is_ended(tmp_path, monkeypatch):
    path, slow = tmp_path / "x.gguf", tmp_path / "worker.py"
    path.write_bytes(b"x")
    slow.write_text("import time; time.sleep(60)")
    monkeypatch.setattr("prefvec.judge.server.WORKER", slow)
    with (
        pytest.raises(EndpointError, match=r"did not start with x\.gguf"),
        llama_server(str(path), quiet_seconds=1.0),
    ):
        pass
    assert workers() == []


@pytest.mark.real
def test_a_local_server_judges_and_ends_with_its_block(store):
    with open_judge("smollm2-135m-instruct", store=store) as judge:
        [process] = workers()
        pairs = [GoldPair("What is dew?", "Water from the air that condenses at night.", "Water.")]
        first = agreement.judge_gold(judge, load_rubric("verbosity"), pairs)
        asked = judge.endpoint.budget.spent_requests
        assert asked == 2 and (first.reason.ne("") == first.score.isna()).all()
    assert not process.is_running() and workers() == []
    with open_judge(
        "smollm2-135m-instruct", store=store
    ) as judge:  # another port, the same replies
        again = agreement.judge_gold(judge, load_rubric("verbosity"), pairs)
        assert again.equals(first) and judge.endpoint.budget.spent_requests == 0


@pytest.mark.real
def test_a_server_does_not_outlive_a_process_that_was_killed():
    code = (
        "import sys\nfrom prefvec.judge.server import llama_server\n"
        "with llama_server('smollm2-135m-instruct') as server:\n"
        "    print(server.base_url, flush=True)\n    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert parent.stdout.readline().startswith(b"http://127.0.0.1:")
    [child] = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    child.wait(10)
    assert not child.is_running()


def test_which_judges_are_local():
    assert is_local("qwen2.5-coder-0.5b-instruct") and is_local("/a/file.gguf")
    assert not is_local("gpt-4o") and not is_local("llama-3.1-8b-instruct")


def table(scores, texts, label):
    return pd.DataFrame(
        {"rubric": "r", "pair": range(len(scores)), "label": label, "text": texts, "score": scores}
    )


def gold_table(positive, negative, words=None):
    n = len(positive)
    generator = np.random.default_rng(1)
    words = words if words is not None else generator.integers(5, 40, 2 * n)
    texts = ["w " * k for k in words]
    both = [table(positive, texts[:n], 1), table(negative, texts[n:], -1)]
    return pd.concat(both, ignore_index=True)


def test_a_judge_that_knows_the_trait_is_fit_and_one_that_does_not_is_unfit():
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 10, 48)
    good = fitness(gold_table(70 + noise[:24], 30 + noise[24:]))
    assert good.fit and good.auc.value > 0.95 and good.missing == 0
    assert not fitness(gold_table(50 + noise[:24], 50 + noise[24:])).fit
    assert fitness(gold_table(30 + noise[:24], 70 + noise[24:])).auc.value < 0.05


def test_a_judge_that_leaves_texts_out_is_unfit():
    scores = np.full(20, 90.0)
    scores[:4] = np.nan
    found = fitness(gold_table(scores, np.full(20, 10.0)))
    assert found.missing == 0.1 and found.fit and found.auc.value == pytest.approx(0.9)
    scores[:6] = np.nan
    assert not fitness(gold_table(scores, np.full(20, 10.0))).fit


def test_a_judge_of_length_alone_shows_its_bias_and_not_as_a_judge_of_the_trait():
    words = np.r_[np.arange(20, 40), np.arange(5, 25)]
    score = 20 * np.log1p(words)
    found = fitness(gold_table(score[:20], score[20:], words))
    assert found.auc.value > 0.85 and found.length_bias.value > 0.95
    assert 0.4 < found.auc_length_free.value < 0.6


def test_length_regressed_scores_keep_their_mean_and_forget_length():
    texts = ["w " * k for k in range(1, 30)]
    scores = 5 * np.log1p(np.arange(1, 30)) + np.random.default_rng(0).normal(0, 1, 29)
    scores[3] = np.nan
    plain = length_regressed(scores, texts)
    there = ~np.isnan(scores)
    assert np.isnan(plain[3]) and np.nanmean(plain) == pytest.approx(np.nanmean(scores))
    assert np.corrcoef(plain[there], np.log1p(np.arange(1, 30))[there])[0, 1] == pytest.approx(0, abs=1e-9)  # fmt: skip


def test_rank_correlation_is_spearman_s_and_skips_what_is_missing():
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 6, 30).astype(float), generator.normal(size=30)
    found = rank_correlation(np.r_[a, np.nan], np.r_[b, 1.0])
    assert found.value == pytest.approx(spearmanr(a, b).statistic)
    assert found.low < found.value < found.high
    assert np.isnan(rank_correlation(np.ones(9), np.arange(9.0)).value)


def test_harmonic_mean_is_low_where_one_part_is_and_missing_where_one_is():
    found = harmonic_mean([100, 0, np.nan, 60], [100, 90, 50, 30], [100, 90, 50, 60])
    assert found[0] == 100 and found[1] == 0 and np.isnan(found[2])
    assert found[3] == pytest.approx(3 / (1 / 60 + 1 / 30 + 1 / 60))


def test_broken_texts_are_other_texts_of_the_same_words_or_worse():
    pairs = agreement.broken_pairs(load_gold("formality"), 6)
    assert len(pairs) == 6 and pairs == agreement.broken_pairs(load_gold("formality"), 6)
    for i, pair in enumerate(pairs):
        assert pair.positive != pair.negative
        same = sorted(pair.positive.split()) == sorted(pair.negative.split())
        assert same == (i % 2 == 0)


@pytest.mark.parametrize("name", sorted(p.stem for p in rubrics.RUBRICS.glob("*.yaml")))
def test_every_rubric_loads(name):
    rubric = load_rubric(name)
    assert rubric.name == name
    one = rubric.ask("Why {so}?", "Because {this}.", 9)
    assert "Why {so}?" in one.user and "Because {this}." in one.user and "0 to 9" in one.system


def test_every_trait_has_a_rubric_and_a_new_one_gets_its_own():
    for path in TRAITS.glob("*.yaml"):
        assert rubric_for(load_trait(path.stem)) == load_rubric(path.stem)
    custom = Trait(
        name="poetic", description="How poetic the text is.", poles={"positive": "poetic", "negative": "plain"},
        instructions=[{"positive": "a", "negative": "b"}],
    )  # fmt: skip
    assert rubric_for(custom).high == "entirely poetic"


def test_a_rubric_with_a_misspelt_field_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(rubrics, "RUBRICS", tmp_path)
    (tmp_path / "silly.yaml").write_text("name: silly\nask: x\nlow: a\nhigh: b\n")
    with pytest.raises(TraitError, match="silly.yaml: ask"):
        load_rubric("silly")
    with pytest.raises(TraitError, match="unknown rubric 'sily': use one of silly"):
        load_rubric("sily")
