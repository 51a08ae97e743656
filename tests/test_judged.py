"""The paper's section on judge and black box: words and tables from the manifests, left out without them."""

import re

import pytest

from prefvec.blackbox.sweep import Door
from prefvec.judge.agreement import Fitness
from prefvec.paths import ROOT, TEX, pair_name
from prefvec.report import cells, judged, paper
from prefvec.report.numbers import Numbers
from prefvec.report.tables import write_table
from prefvec.report.views import plain_value
from prefvec.stats import Estimate
from prefvec.store import write_json

PAIR = ["qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"]
SECTION = TEX / "sections" / "judge.tex"
GOOD, BAD = Estimate(0.95, 0.9, 1.0), Estimate(0.6, 0.4, 0.8)
ZERO = Estimate(0.0, 0.0, 0.0)


def write_judge(root, trait, auc, judge=PAIR[0], url=""):
    fits = [Fitness(trait, 24, auc, BAD, BAD, 0.0), Fitness("coherence", 24, GOOD, GOOD, BAD, 0.02)]
    record = {
        "judge": judge, "judge_url": url,
        "fitness": [{k: plain_value(v) for k, v in (f._asdict() | {"fit": f.fit}).items()} for f in fits],
    }  # fmt: skip
    write_json(root / "p" / pair_name(*PAIR) / trait / "manifest_06.json", record)


def write_box(root, trait, modulation, bias):
    gates = [
        Door("parameter modulation", ZERO, ZERO, ZERO, 1.0, modulation),
        Door("logit bias", GOOD, BAD, GOOD, 0.0, bias),
    ]
    doors = [{k: plain_value(v) for k, v in d._asdict().items()} for d in gates]
    record = {"box": PAIR[1], "settings": {"trait": trait}, "doors": doors}
    write_json(root / "p" / pair_name(*PAIR) / trait / "manifest_07.json", record)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    return tmp_path


def found(traits):
    judges, boxes = judged.judged("p", PAIR, traits), judged.boxed("p", PAIR, traits)
    return judges, boxes, {k: v for k, (v, _, _) in judged.numbers(judges, boxes).items()}


def test_a_judge_backs_claims_on_the_traits_that_it_passed_alone(results):
    write_judge(results, "verbosity", GOOD)
    write_judge(results, "silly", BAD)
    _, _, numbers = found(["verbosity", "silly", "honest"])
    assert (numbers["judged.n"], numbers["judged.fit"], numbers["judged.coherence.fit"]) == (2, 1, 2)  # fmt: skip
    assert numbers["judged.fit.traits"] == "verbosity" and numbers["judged.unfit.traits"] == "silly"
    assert numbers["judged.claim"].startswith("its scores may back a claim on verbosity and on")
    assert numbers["judged.paid"] == "No paid judge was run"
    write_judge(results, "verbosity", BAD)
    assert found(["verbosity", "silly"])[2]["judged.claim"] == "its scores are used for no claim"
    write_judge(results, "verbosity", GOOD)
    assert "each of these traits" in found(["verbosity"])[2]["judged.claim"]


@pytest.mark.parametrize(("judge", "url"), [("gpt-4o", ""), (PAIR[0], "https://example.org/v1")])
def test_a_judge_behind_an_address_is_not_called_free(results, judge, url):
    write_judge(results, "verbosity", GOOD, judge, url)
    numbers = found(["verbosity"])[2]
    assert numbers["judged.model"] == judge and "may have been run" in numbers["judged.paid"]
    assert numbers["judged.served"] == judged.SERVED[False]


def test_what_gets_through_a_black_box_is_said_by_its_verdicts(results):
    write_box(results, "verbosity", "no", "yes")
    write_box(results, "silly", "no", "not shown")
    numbers = found(["verbosity", "silly"])[2]
    assert numbers["boxed.says.parameter-modulation"].startswith("nothing of the direction gets")
    assert numbers["boxed.says.logit-bias"] == (
        "the direction gets through for verbosity, and is not shown to for silly"
    )
    write_box(results, "verbosity", "not shown", "not shown")
    says = found(["verbosity", "silly"])[2]
    for door in ("parameter-modulation", "logit-bias"):
        assert says[f"boxed.says.{door}"] == "the direction is not shown to get through"


def test_tables_have_a_row_a_trait_and_rubric_or_door(results, tmp_path):
    for trait in ("verbosity", "silly"):
        write_judge(results, trait, GOOD)
        write_box(results, trait, "no", "yes")
    both = judged.tables(*found(["verbosity", "silly"])[:2])
    table, gates = both["judges"], both["doors"]
    assert list(table.trait) == ["verbosity", "verbosity", "silly", "silly"]
    assert list(table.verdict) == ["fit"] * 4 and table.AUC[0] == r"$0.95\;[0.90,\,1.00]$"
    assert list(gates["direction gets through"]) == ["no", "yes"] * 2
    digits = [r"$0.9\;[0.9,\,1.0]$", r"$0.95\;[0.90,\,1.00]$"]  # tokens, and nats a token
    assert list(gates["own vector"][1::2]) == digits
    for name, frame in both.items():
        assert write_table(frame, tmp_path / f"{name}.tex", judged.ALIGN[name]).exists()
    assert judged.tables({}, {}) == {} and judged.judge_table({}).empty


def test_numbers_are_accepted_with_and_without_results(results):
    for _ in range(2):
        numbers = Numbers("09")
        for name, (value, unit, digits) in judged.numbers(*found(["verbosity"])[:2]).items():
            numbers.add(name, value, unit, digits)
        write_judge(results, "verbosity", GOOD)
        write_box(results, "verbosity", "no", "yes")


def test_the_section_types_no_number_and_asks_for_what_the_notebooks_give(results):
    text = SECTION.read_text()
    keys = set(re.findall(r"\\res(?:ci)?\{([^}]*)\}", text))
    given = set(found(["verbosity"])[2])
    assert {k for k in keys if k.startswith(("judged.", "boxed."))} <= given
    notebooks = "".join((ROOT / f"notebooks/{n}.py").read_text() for n in ("06_judge", "07_black_box"))  # fmt: skip
    for key in (k for k in keys if k.startswith(("main.judge.", "main.box."))):
        part, name = key.split(".")[1:3]  # as in f"judge.auc.…", or from a list of names
        assert f'"{part}.{name}' in notebooks or f'"{name}"' in notebooks, key
    bare = re.sub(r"\\\w+\*?(\[[^]]*\])?(\{[^}]*\})?|95\\,\\%", "", text)
    assert not re.findall(r"\d", bare.replace("\\", ""))
    assert r"\ifjudged\input{sections/judge}\fi" in (TEX / "main.tex").read_text()


def test_the_section_is_left_out_unless_both_have_run_for_the_main_cell(results):
    write_judge(results, "verbosity", GOOD)
    assert not paper._ran("p", PAIR, "verbosity", "06", "07")
    write_box(results, "verbosity", "no", "yes")
    assert paper._ran("p", PAIR, "verbosity", "06", "07")
