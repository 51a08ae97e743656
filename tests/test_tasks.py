"""Tasks: the main one changes nothing, another is one file, a broken one is refused by field."""

import json

import pytest
import yaml

from prefvec.errors import ConfigError, TraitError
from prefvec.notebooks import checked_parameters, found_files
from prefvec.paths import DATA, NOTEBOOKS, ROOT
from prefvec.plan.shapes import OutlinePool
from prefvec.plan.work import stages
from prefvec.profile import Settings, load_profile
from prefvec.study import Study
from prefvec.tasks import TASKS, load_task
from prefvec.traits import check_disjoint, load_questions

PAIR = ("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct")


def study(**changes) -> Study:
    """A study of the main pair at the smallest sizes; no model is loaded."""
    settings = {**load_profile("smoke").settings, "source": PAIR[0], "target": PAIR[1]}
    return Study(Settings.checked({**settings, **changes}))


@pytest.mark.parametrize("split", ["extraction", "selection", "evaluation"])
def test_the_main_task_is_the_questions_as_they_are(split):
    assert load_task("answer").prompts(split) == load_questions(split)
    assert load_task("answer").prompts(split, 4) == load_questions(split, 4)


def test_a_study_of_the_main_task_has_the_splits_of_the_questions():
    found = study(n_extraction=16, n_alignment=16, n_selection=12, n_choice=16, n_evaluation=48)
    sizes = {"extraction": 16, "alignment": 16, "selection": 28, "evaluation": 48}
    splits = {split: load_questions(split, size) for split, size in sizes.items()}
    chosen = splits.pop("selection")
    splits |= {"selection": chosen[:12], "choice": chosen[12:]}
    assert found.splits == splits
    wanted = check_disjoint(splits)
    assert {k: v for k, v in found.split_hashes.items() if k != "in-context"} == wanted


def test_summarise_is_asked_of_the_articles_and_aligned_on_questions():
    found = study(task="summarise", n_evaluation=40, n_extraction=16, n_selection=6, n_choice=4)
    rows = [json.loads(line) for line in (DATA / "articles.jsonl").read_text().splitlines()]
    for split, size in {"extraction": 16, "evaluation": 40}.items():
        texts = [row["text"] for row in rows if row["split"] == split][:size]
        wanted = [f"Summarise the following article:\n\n{text}" for text in texts]
        assert found.splits[split] == wanted
    assert len(found.splits["selection"]) == 6 and len(found.splits["choice"]) == 4
    assert found.splits["alignment"] == load_questions("alignment", 2)
    assert found.split_hashes.keys() == study().split_hashes.keys()
    assert found.split_hashes["evaluation"] != study(n_evaluation=40).split_hashes["evaluation"]


def test_the_profile_of_the_task_fits_its_items():
    profile = load_profile("summarise")
    settings = profile.settings_for(*profile.pairs[0], profile.traits[0])
    assert settings.task == "summarise" and settings.n_evaluation == 40
    Study(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_evaluation": 41}, "'evaluation' of articles.jsonl has 40 items, 41.*lower n_evaluation"),
        ({"n_extraction": 21}, "'extraction' of articles.jsonl has 20 items.*lower n_extraction"),
        ({"n_selection": 8, "n_choice": 3}, r"10 items, 11 were.*lower n_selection \+ n_choice"),
    ],
)  # fmt: skip
def test_more_items_than_there_are_names_the_setting(changes, message):
    with pytest.raises(TraitError, match=message):
        study(task="summarise", **changes)


def own_task(folder, rows=None, **changes):
    rows = rows or [
        {"term": f"{split} {i}", "split": split} for split in ("train", "dev", "test") for i in range(9)
    ]  # fmt: skip
    (folder / "terms.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "name": "explain",
        "template": 'Explain {term} as {"json"}.',
        "items": "terms.jsonl",
        "splits": {"extraction": "train", "selection": "dev", "evaluation": "test"},
    }
    path = folder / "explain.yaml"
    path.write_text(yaml.safe_dump({**task, **changes}))
    return path


def test_a_new_task_is_one_file_with_its_items_beside_it(tmp_path):
    found = study(task=str(own_task(tmp_path)))
    assert found.splits["extraction"][1] == 'Explain train 1 as {"json"}.'
    assert found.splits["choice"] == [f'Explain dev {i} as {{"json"}}.' for i in (4, 5, 6, 7)]
    assert found.task.name == "explain"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "Explain."}, r"explain.yaml: template: .*one \{placeholder\}, it has 0"),
        ({"template": "{a} {b}"}, "it has 2"),
        ({"template": "{word}"}, "terms.jsonl:1: no field 'word'"),
        ({"templat": "x"}, "explain.yaml: templat: unknown field"),
        ({"items": "nowhere.jsonl"}, "nowhere.jsonl can't be read"),
        ({"splits": {"evaluation": "final"}}, "no items of split"),
        ({"splits": {"evalution": "test"}}, "splits.evalution: unknown field"),
        ({"rows": [{"term": 3, "split": "train"}]}, "item 1 of split 'train' is not a text"),
    ],
)
def test_a_malformed_task_names_file_and_field(tmp_path, changes, message):
    with pytest.raises(TraitError, match=message) as caught:
        load_task(own_task(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_prompt_in_two_splits_is_refused(tmp_path):
    same = [{"term": f"x {i}", "split": s} for s in ("train", "dev", "test") for i in range(9)]
    with pytest.raises(TraitError, match="overlapping splits"):
        study(task=str(own_task(tmp_path, rows=same)))


def test_an_unknown_task_never_reaches_a_kernel():
    with pytest.raises(TraitError, match="unknown task 'summarize'.*answer, summarise"):
        study(task="summarize")
    assert {p.stem for p in TASKS.glob("*.yaml")} == {"answer", "summarise"}


def test_notebooks_take_the_task_as_a_parameter():
    path = NOTEBOOKS / "04_adapters.ipynb"
    assert checked_parameters(path, {"task": "summarise", "n_selection": 6, "n_choice": 4})
    with pytest.raises(TraitError, match="unknown task 'summarize'"):
        checked_parameters(path, {"task": "summarize"})


def test_a_file_given_from_another_folder_is_found_where_kernels_run(tmp_path, monkeypatch):
    path = own_task(tmp_path)
    given = {"task": "explain.yaml", "trait": "verbosity", "seed": 3}
    monkeypatch.chdir(tmp_path)
    assert found_files(given) == {**given, "task": str(path)}
    monkeypatch.chdir(ROOT)
    inside = {"task": "data/tasks/answer.yaml"}
    assert found_files(inside) == inside  # no path of one machine in a manifest


def test_a_trait_with_its_own_prompts_goes_with_the_main_task_alone(tmp_path):
    own = {"name": "rain", "positive_texts": ["Rain."], "negative_texts": ["Sun."]}
    path = tmp_path / "rain.yaml"
    path.write_text(yaml.safe_dump({**own, "test_prompts": [f"How wet is {i}?" for i in range(4)]}))
    assert study(trait=str(path)).splits["evaluation"] == ["How wet is 2?", "How wet is 3?"]
    with pytest.raises(ConfigError, match="'rain' brings its own `test_prompts`: use task answer"):
        study(trait=str(path), task="summarise")


def test_the_plan_counts_a_task_s_own_prompts():
    def tokens(task):
        profile = load_profile("summarise")
        changed = profile.model_copy(update={"settings": {**profile.settings, "task": task}})
        found = [w for s in stages(changed, OutlinePool(exact=False)) for w in s.work]
        return {w.key: w.tokens for w in found if w.kind in ("generate", "capture")}

    questions, articles = tokens("answer"), tokens("summarise")
    same = {key for key in questions if key in articles}
    assert {key[0] for key in same} == {"capture", "summaries"}  # alignment and the pairs of 01
    assert all(questions[key] == articles[key] for key in same)
    for key in set(questions) - same:  # the same work otherwise, on longer prompts
        assert articles[(*key, "summarise")] > 2 * questions[key]
