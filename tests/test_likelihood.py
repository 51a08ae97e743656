"""Log-likelihoods over prefix trees: the same numbers as row by row, with less to compute."""

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import random_ids
from prefvec.metrics import likelihood
from prefvec.metrics.likelihood import Row, log_likelihoods, trees
from prefvec.study import Study


def rows_of(*texts: str) -> list[Row]:
    return [Row(tuple(map(ord, text)), 2) for text in texts]


def test_a_tree_has_every_beginning_once_and_finds_each_row_again():
    rows = rows_of("abcde", "abcdf", "abx", "abcde", "ab")
    [tree] = trees(rows, 100)
    assert len(tree.tokens) == len(
        {row.ids[: k + 1] for row in rows for k in range(len(row.ids)) if len(row.ids) > 2}
    )
    assert sorted(tree.rows) == [0, 1, 2, 3]  # the last has no answer
    for i, path in zip(tree.rows, tree.paths, strict=True):
        assert tuple(tree.tokens[node] for node in path) == rows[i].ids
        assert [tree.depths[node] for node in path] == list(range(len(path)))
        assert all(tree.ends[node] > path[-1] for node in path)


def test_trees_stay_within_the_limit_and_lose_no_row():
    rows = rows_of("abcde", "abcdf", "abx", "qrstuvwxyz", "qrs")
    found = list(trees(rows, 6))
    assert sorted(i for tree in found for i in tree.rows) == [0, 1, 2, 3, 4]
    assert all(len(tree.tokens) <= 6 or len(tree.rows) == 1 for tree in found)
    assert [len(tree.rows) for tree in trees(rows, 0)] == [1] * 5


def test_branches_do_not_see_each_other(tiny, monkeypatch):
    prompt = random_ids(1, low=9)[0]
    answers = [(5, 6, 7, 8), (5, 6, 9, 8), (4, 6, 7, 8), (5, 6, 7, 8), (5,)]
    together = log_likelihoods(tiny, [prompt] * 5, answers)
    alone = [log_likelihoods(tiny, [prompt], [a])[0] for a in answers]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert together[0] == together[3]
    monkeypatch.setattr(likelihood, "may_branch", lambda *_: False)
    np.testing.assert_allclose(log_likelihoods(tiny, [prompt] * 5, answers), alone, rtol=1e-4)


def judge(source: str, target: str, writer: str) -> str:
    kinds = {"gemma-3-270m": "examples"}
    study = object.__new__(Study)
    study.settings, study._judges = SimpleNamespace(source=source, target=target), {}
    study.pool = SimpleNamespace(
        get=lambda name: SimpleNamespace(
            id=name, prompt=SimpleNamespace(kind=kinds.get(name, "chat"))
        )
    )
    return study.judge_of(study.pool.get(writer)).id


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ("my-model", "smollm2-135m-instruct", "my-model"),
        ("gemma-3-270m", "smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct"),
        ("smollm2-135m-instruct", "gemma-3-270m", "smollm2-135m-instruct"),
    ],
)
def test_a_judge_is_the_other_model_unless_it_is_a_base_model(source, target, wanted):
    assert judge(source, target, target) == wanted
