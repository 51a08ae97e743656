"""Articles and texts with known labels: formats, sizes, word limits, and no question used twice."""

import json
from collections import Counter

import pytest

from prefvec.errors import TraitError
from prefvec.paths import DATA
from prefvec.traits import (
    SPLITS,
    TRAITS,
    check_disjoint,
    load_questions,
    load_trait,
    neutral_examples,
)  # fmt: skip

LABELLED = ("formality", "silly", "verbosity", "honest")
GOLD = (*LABELLED, "statements")


def read(name):
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def words(text):
    return len(text.split())


def pairs(name):
    """The (positive, negative) rows of each pair, in order."""
    found = {}
    for row in read(f"gold/{name}.jsonl"):
        assert row["label"] in (1, -1) and row["label"] not in found.get(row["pair"], {}), row["id"]
        found.setdefault(row["pair"], {})[row["label"]] = row
    return [(pair[1], pair[-1]) for pair in found.values()]


def gold_questions(name):
    return list(dict.fromkeys(row["question"] for row in read(f"gold/{name}.jsonl")))


def plain(text):
    return "".join(c for c in text.lower() if c.isalnum())


def test_articles_have_their_fields_splits_and_lengths():
    articles = read("articles.jsonl")
    assert all(list(a) == ["id", "title", "text", "split"] for a in articles)
    assert [a["id"] for a in articles] == [f"a{i + 1:03d}" for i in range(70)]
    assert Counter(a["split"] for a in articles) == {
        "extraction": 20,
        "selection": 10,
        "evaluation": 40,
    }
    for article in articles:
        assert 110 <= words(article["text"]) <= 170, article["id"]
        assert article["text"][-1] == "." and "\n" not in article["text"], article["id"]


def test_no_article_occurs_twice():
    articles = read("articles.jsonl")
    for field in ("title", "text"):
        assert len({plain(a[field]) for a in articles}) == len(articles)


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_texts_are_in_balanced_pairs(name):
    rows = read(f"gold/{name}.jsonl")
    assert all(list(row) == ["id", "question", "text", "label", "pair"] for row in rows)
    assert Counter(row["label"] for row in rows) == {1: 24, -1: 24}
    assert [row["pair"] for row in rows] == [i for i in range(1, 25) for _ in "pn"]
    assert len(pairs(name)) == len(gold_questions(name)) == 24
    for positive, negative in pairs(name):
        assert positive["question"] == negative["question"]


@pytest.mark.parametrize("name", ["formality", "silly", "honest"])
def test_the_label_cannot_be_told_from_the_length(name):
    differences = []
    for positive, negative in pairs(name):
        both = words(positive["text"]), words(negative["text"])
        assert min(both) >= 18 and max(both) <= 40, positive["id"]
        assert abs(both[0] - both[1]) <= 2, positive["id"]
        differences.append(both[0] - both[1])
    assert abs(sum(differences)) <= 24 * 0.6  # nor over the whole file


def test_verbose_and_concise_texts_are_far_apart():
    for positive, negative in pairs("verbosity"):
        assert 45 <= words(positive["text"]) <= 90, positive["id"]
        assert 5 <= words(negative["text"]) <= 20, negative["id"]


def test_statements_are_parallel():
    rows = read("gold/statements.jsonl")
    assert all(list(row) == ["id", "question", "true", "false", "topic"] for row in rows)
    assert len(rows) == len({plain(row["true"]) for row in rows}) == 80
    for row in rows:
        assert abs(words(row["true"]) - words(row["false"])) <= 1, row["id"]
        assert plain(row["true"]) != plain(row["false"]), row["id"]
        for text in (row["true"], row["false"]):
            assert text.endswith(".") and words(text) <= 15, row["id"]
    assert sum(words(row["true"]) - words(row["false"]) for row in rows) in range(-8, 9)
    assert len({row["topic"] for row in rows}) >= 8


def test_identifiers_and_texts_are_unique_over_all_files():
    rows = read("articles.jsonl") + [row for name in GOLD for row in read(f"gold/{name}.jsonl")]
    assert len({row["id"] for row in rows}) == len(rows)
    texts = [plain(row[f]) for row in rows for f in ("text", "true", "false") if f in row]
    assert len(set(texts)) == len(texts)


def uses():
    """Every question in data/, by where it is used."""
    shown = [e.question for p in sorted(TRAITS.glob("*.yaml")) for e in load_trait(p.stem).examples]
    return {
        **{split: load_questions(split) for split in SPLITS},
        "traits": shown,
        "styles": [e.question for e in neutral_examples()],
        **{f"gold/{name}": gold_questions(name) for name in GOLD},
    }


def test_no_question_of_the_labelled_texts_is_used_elsewhere():
    questions = uses()
    check_disjoint(questions)
    assert sum(len(questions[f"gold/{name}"]) for name in GOLD) == 4 * 24 + 80
    with pytest.raises(TraitError, match="overlapping splits"):  # the check sees every file
        check_disjoint({**questions, "again": [questions["gold/statements"][-1].upper()]})


def test_every_labelled_file_is_checked():
    assert {p.stem for p in (DATA / "gold").iterdir()} == set(GOLD)
