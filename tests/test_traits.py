"""Traits and prompts: what is shipped is sound, what is broken is refused by field."""

import json

import pytest
import yaml

from prefvec.errors import TraitError
from prefvec.traits import (
    QUESTIONS_FILE,
    SPLITS,
    TRAITS,
    check_disjoint,
    load_questions,
    load_styles,
    load_trait,
    neutral_examples,
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(p.stem for p in TRAITS.glob("*.yaml")))
def test_built_in_traits_load(name):
    trait = load_trait(name)
    assert trait.name == name
    assert len(trait.instructions) == 5 and len(trait.examples) == 3


def test_the_four_required_traits_are_there():
    assert {"verbosity", "formality", "silly", "honest"} <= {p.stem for p in TRAITS.glob("*.yaml")}


def test_no_prompt_is_shared_between_any_two_uses():
    splits = {split: load_questions(split) for split in SPLITS}
    shown = [e.question for p in TRAITS.glob("*.yaml") for e in load_trait(p.stem).examples]
    shown += [e.question for e in neutral_examples()]
    check_disjoint({**splits, "in-context": shown})


def test_the_splits_have_the_sizes_and_questions_that_their_header_states():
    splits = {split: load_questions(split) for split in SPLITS}
    sizes = {"extraction": 32, "alignment": 105, "selection": 72, "evaluation": 64}
    assert {split: len(questions) for split, questions in splits.items()} == sizes
    header = QUESTIONS_FILE.read_text(encoding="utf-8").split("\nextraction:")[0]
    for split, size in sizes.items():
        assert f"{size} for {split}" in " ".join(header.replace("#", " ").split())
    for question in (q for questions in splits.values() for q in questions):
        assert 6 <= len(question.split()) <= 14 and question.endswith("?"), question
    named = [q for questions in splits.values() for q in questions[::3]]
    assert len(named) == 92
    for question in named:  # a capital beyond the first word: a person, place, organisation, event
        assert any(word[0].isupper() for word in question.split()[1:]), question


def test_overlapping_splits_are_refused_whatever_the_spelling():
    with pytest.raises(
        TraitError, match="overlapping splits: 'why is  the sky blue' is in 'a' and in 'b'"
    ):
        check_disjoint({"a": ["Why is the sky blue?"], "b": ["why is  the sky blue"]})


def test_the_style_bank_says_nothing_about_length():
    banned = (
        "brief",
        "short",
        "concise",
        "long",
        "length",
        "detail",
        "verbose",
        "terse",
        "words",
        "sentence",
    )
    styles = load_styles()
    assert len(styles) >= 40
    for style in styles:
        assert not any(word in style.instruction.lower() for word in banned), style.id
        counts = [len(e.answer.split()) for e in style.examples]
        assert min(counts) >= 14 and max(counts) <= 20, style.id


def test_styles_close_to_a_trait_are_left_out():
    everything, without = load_styles(), load_styles("formality")
    assert len(without) < len(everything)
    assert "formal" not in " ".join(s.id for s in without)


def write(path, value):
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instructions": [{"positive": "x"}]}, r"instructions.0.negative: Field required"),
        ({"instructions": [{"positive": "", "negative": "y"}]}, r"instructions.0.positive"),
        ({"instrutions": []}, r"instrutions: unknown field"),
        (
            {"instructions": [{"postive": "a", "negative": "b"}]},
            r"postive: unknown field \(missing: positive\)",
        ),
        (
            {"instructions": [{"positive": "a", "negative": "a "}]},
            r"instructions.0: .*are the same",
        ),
        (
            {"instructions": [{"positive": "  ", "negative": "b"}]},
            r"instructions.0: .*more than spaces",
        ),
        ({"test_prompts": ["Why?"] * 3}, r"`test_prompts` must be 4 or more"),
        ({"name": "a" * 65}, r"name: String should match"),
        ({"name": "verbosity"}, r"name: 'verbosity' is a built-in trait"),
        ({"score": "sparkle"}, r"score: Input should be"),
        ({"name": "Bad Name"}, r"name: String should match"),
    ],
)
def test_a_malformed_trait_names_the_field(tmp_path, change, message):
    good = {"name": "calm", "instructions": [{"positive": "Be calm.", "negative": "Be wild."}]}
    with pytest.raises(TraitError, match=message) as caught:
        load_trait(write(tmp_path / "t.yaml", {**good, **change}))
    assert "\n" not in str(caught.value) and "t.yaml" in str(caught.value)


def test_a_trait_without_contrast_or_test_prompts_says_what_to_give(tmp_path):
    with pytest.raises(TraitError, match="give `instructions`"):
        load_trait(write(tmp_path / "t.yaml", {"name": "calm"}))
    with pytest.raises(TraitError, match="also need `test_prompts`"):
        load_trait(
            write(
                tmp_path / "t.yaml",
                {"name": "calm", "positive_texts": ["a"], "negative_texts": ["b"]},
            )
        )


def test_examples_alone_can_be_scored_by_length_alone(tmp_path):
    example = {"question": "What is dew?", "positive": "Water.", "negative": "Glass beads."}
    with pytest.raises(TraitError, match="`examples` alone leave nothing to score by"):
        load_trait(write(tmp_path / "t.yaml", {"name": "calm", "examples": [example]}))
    given = {"name": "calm", "examples": [example], "score": "length"}
    assert load_trait(write(tmp_path / "t.yaml", given)).measure == "length"


def test_a_json_trait_and_an_unreadable_file(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(
        json.dumps({"name": "calm", "instructions": [{"positive": "a", "negative": "b"}]})
    )
    assert load_trait(path).measure == "classifier"
    (tmp_path / "bad.yaml").write_text("name: [unclosed")
    with pytest.raises(TraitError, match="can't be read"):
        load_trait(tmp_path / "bad.yaml")


def test_yaml_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "evil.yaml").write_text("name: !!python/object/apply:os.system ['true']")
    with pytest.raises(TraitError, match="can't be read"):
        load_trait(tmp_path / "evil.yaml")


def test_an_unknown_trait_lists_the_known_ones():
    with pytest.raises(TraitError, match="unknown trait 'verbositi'.*verbosity"):
        load_trait("verbositi")


def test_more_questions_than_there_are_is_refused():
    with pytest.raises(
        TraitError, match=rf"{QUESTIONS_FILE.name}: split 'selection' has \d+ questions, 999"
    ):
        load_questions("selection", 999)


def test_a_small_sample_of_styles_is_spread_over_the_bank():
    everything, some = [s.id for s in load_styles()], [s.id for s in load_styles(limit=40)]
    assert len(some) == len(set(some)) == 40
    assert everything.index(some[-1]) >= len(everything) - 2


def test_unpaired_texts_are_refused(tmp_path):
    texts = {
        "name": "calm",
        "positive_texts": ["a", "b"],
        "negative_texts": ["c"],
        "test_prompts": ["d"] * 4,
    }
    with pytest.raises(TraitError, match="must be equally many"):
        load_trait(write(tmp_path / "t.yaml", texts))
