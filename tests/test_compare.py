"""Two runs, number by number."""

import json
import shutil

import pytest

from prefvec.errors import ReportError
from prefvec.paths import ROOT
from prefvec.report.compare import EXACT, INTERVAL, OUTSIDE, PRINTED, compare, status
from prefvec.store import read_json, write_json

PAPER = ROOT / "data" / "results" / "paper"
CELL = "qwen2.5-coder-0.5b-instruct--smollm2-135m-instruct/verbosity"


def number(value, low=None, high=None) -> dict:
    return {"value": value, "low": low, "high": high, "unit": "", "digits": 2}


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (number(0.5, 0.1, 0.9), number(0.5, 0.1, 0.9), EXACT),
        (number(0.501, 0.1, 0.9), number(0.502, 0.1, 0.9), PRINTED),
        (number(0.5, 0.1, 0.9), number(0.7, 0.3, 1.2), INTERVAL),
        (number(0.5, 0.1, 0.9), number(0.5, 0.2, 0.9), INTERVAL),
        (number(0.5, 0.1, 0.9), number(0.95, 0.1, 0.9), OUTSIDE),
        (number(11), number(12), OUTSIDE),
        (number(None), number(None), EXACT),
        (number(None), number(0.3, 0.1, 0.5), OUTSIDE),
        (number("ridge"), number("cca"), OUTSIDE),
    ],
)
def test_a_number_is_repeated_exactly_as_printed_in_its_interval_or_not(a, b, wanted):
    assert status(a, b) == wanted


def test_a_changed_number_text_and_verdict_are_found(tmp_path):
    for name in (CELL, "verdicts.json", "numbers_09.json"):
        for run in ("a", "b"):
            place = tmp_path / run / name
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (PAPER / name).is_dir() else shutil.copy
            copy(PAPER / name, place)
    same = compare(tmp_path / "a", tmp_path / "b").as_record()
    assert same["outside"] == [] and same["answers"] == same["same_answers"] > 500
    assert same["effects"] == same["same_side"] > 15 and same["other_side"] == []
    assert set(same["numbers"]) - {EXACT} == {k for k, n in same["numbers"].items() if n == 0}

    changed = tmp_path / "b" / CELL
    record = read_json(changed / "numbers_04.json")
    key = next(k for k in record["numbers"] if k.endswith("te.ridge_concept"))
    record["numbers"][key]["value"] = 3.0
    other = next(k for k in record["numbers"] if k.endswith("te.multiscale"))
    record["numbers"][other] |= {"low": -0.1}
    write_json(changed / "numbers_04.json", record)
    lines = (changed / "generations_04.jsonl").read_text().splitlines()
    first = {**json.loads(lines[0]), "text": "something else"}
    (changed / "generations_04.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    verdicts = read_json(tmp_path / "b" / "verdicts.json")
    verdicts["h1"]["status"] = "gone"
    write_json(tmp_path / "b" / "verdicts.json", verdicts)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [r["key"] for r in found.as_record()["outside"]] == [key]
    moved = {"key": other, "before": "above 0", "after": "reaches 0"}
    assert found.as_record()["other_side"] == [moved] and f"{other}: above 0 -> " in found.text()
    assert found.as_record()["same_answers"] == same["answers"] - 1
    assert ("h1", read_json(PAPER / "verdicts.json")["h1"]["status"], "gone") in found.verdicts
    assert key in found.text() and "-> gone" in found.text()


def test_a_number_without_interval_is_null_in_json_and_without_brackets_in_words(tmp_path):
    for run, value in (("a", 11), ("b", 12)):
        numbers = {"n.layer": number(value), "n.te.ridge": number(0.5 + value, 0.1, 30.0)}
        write_json(tmp_path / run / "numbers_08.json", {"source": "08", "numbers": numbers})
    found = compare(tmp_path / "a", tmp_path / "b")
    record = json.loads(json.dumps(found.as_record(), allow_nan=False))
    assert record["outside"] == [
        {"key": "n.layer", "before": 11, "after": 12, "low": None, "high": None}
    ]
    assert "n.layer: 11.0 -> 12.0\n" in found.text()


def test_answers_without_layer_and_dose_are_compared_in_order(tmp_path):
    rows = [
        {"method": "native.a", "seed": s, "question": "Why?", "text": f"answer {s}"}
        for s in (0, 1, 2)
    ]
    for run, texts in (("a", rows), ("b", [rows[0], {**rows[1], "text": "other"}, rows[2]])):
        write_json(
            tmp_path / run / "numbers_08.json", {"source": "08", "numbers": {"n": number(1)}}
        )
        lines = "\n".join(json.dumps(row) for row in texts)
        (tmp_path / run / "generations_08.jsonl").write_text(lines + "\n")
    found = compare(tmp_path / "a", tmp_path / "b").as_record()
    assert (found["answers"], found["same_answers"]) == (3, 2)


def test_of_runs_over_different_cells_only_the_cells_are_compared(tmp_path):
    for run, traits in (("a", ["verbosity", "silly"]), ("b", ["verbosity"])):
        shutil.copytree(PAPER / CELL, tmp_path / run / CELL)
        shutil.copy(PAPER / "verdicts.json", tmp_path / run)
        top = {"source": "notebooks/09_paper", "numbers": {"pairs.n": number(len(traits))}}
        write_json(tmp_path / run / "numbers_09.json", top)
        write_json(tmp_path / run / "manifest_09.json", {"pairs": [["a", "b"]], "traits": traits})
    found = compare(tmp_path / "a", tmp_path / "b")
    assert not found.verdicts and len(found.numbers) > 20
    assert "pairs.n" not in set(found.numbers.key) and found.alone == []


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ReportError, match="no numbers"):
        compare(PAPER, tmp_path)
