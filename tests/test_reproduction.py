"""Second runs on record: kept beside the results, and printed as they are."""

import json
import subprocess
import sys

import pytest

from prefvec.errors import ReportError
from prefvec.report.compare import EXACT, OUTSIDE, compare
from prefvec.report.reproduction import (
    record,
    recorded,
    reproduction_numbers,
    reproduction_table,
    shifts,
)
from prefvec.store import write_json


def run_of(folder, values, dtype="float32"):
    cell = folder / "a--b" / "verbosity"
    numbers = {
        f"a.b.te.m{i}": {"value": value, "low": 0.0, "high": 1.0, "unit": "", "digits": 2}
        for i, value in enumerate(values)
    }
    write_json(cell / "numbers_04.json", {"source": "notebooks/04_adapters", "numbers": numbers})
    models = {"a": {"dtype": dtype, "device": "cpu"}}
    stage = {
        "stage": "04_adapters",
        "git": {"commit": "c" * 40},
        "torch": "2",
        "threads": 2,
        "processor": "A Chip",
    }
    write_json(cell / "manifest_04.json", stage | {"models": models})
    text = '{{"method": "oracle", "dose": 1.0, "question": "q", "text": "{}"}}\n'
    (cell / "generations_04.jsonl").write_text(text.format(dtype))
    return folder


def test_a_run_on_record_says_what_it_was_and_how_far_numbers_moved(tmp_path):
    saved = run_of(tmp_path / "saved", [0.5, 0.25, None])
    assert recorded(saved) == []
    for name, values, dtype in (
        ("twice", [0.5, 0.25, None], "float32"),
        ("second run, bfloat16", [0.75, 1.25, None], "bfloat16"),
    ):
        again = run_of(tmp_path / name, values, dtype)
        record(compare(saved, again), saved, again, name)
    found = {one["name"]: one for one in recorded(saved)}
    moved = found["second run, bfloat16"]
    assert moved["arithmetic"] == ["bfloat16, cpu"] and moved["commits"] == ["c" * 10]
    assert moved["shifts"] == {"n": 2, "median": 1.25, "p95": pytest.approx(1.925), "max": 2.0}
    assert moved["numbers"][OUTSIDE] == 1 and moved["same_answers"] == 0
    assert moved["against"] == "saved results" and moved["processors"] == ["A Chip"]
    assert found["twice"]["numbers"][EXACT] == 3 and found["twice"]["shifts"]["max"] == 0
    table = reproduction_table(list(found.values())).set_index("second run")
    assert table.loc["twice", "same answers"] == "100.0%"
    assert table.loc["twice", "changed verdicts"] == "–"  # parts of a study have none
    assert reproduction_numbers(list(found.values())) == {
        "reproduced.runs": 2, "reproduced.numbers": 6, "reproduced.exact": 4, "reproduced.outside": 1
    }  # fmt: skip


def test_two_further_runs_are_kept_beside_the_results_that_they_are_of(tmp_path):
    saved, a, b = (run_of(tmp_path / name, [0.5]) for name in ("saved", "a", "b"))
    kept = record(compare(a, b), a, b, "twice", into=saved)
    assert kept.parent.parent == saved and recorded(a) == []
    assert reproduction_table(recorded(saved))["held against"].to_list() == ["another run"]


def test_nothing_on_record_and_numbers_without_intervals_have_no_shift(tmp_path):
    assert reproduction_table([]).empty
    assert reproduction_numbers([])["reproduced.runs"] == 0
    saved, again = (run_of(tmp_path / name, [None]) for name in ("a", "b"))
    assert shifts(compare(saved, again).numbers) == {
        "n": 0,
        "median": None,
        "p95": None,
        "max": None,
    }


def test_a_record_needs_a_name(tmp_path):
    saved = run_of(tmp_path / "saved", [0.5])
    with pytest.raises(ReportError, match="give the run a name"):
        record(compare(saved, saved), saved, saved, " / ")


def test_the_command_refuses_such_a_name_first_and_keeps_its_json_clean(tmp_path):
    saved = run_of(tmp_path / "saved", [0.5])
    command = [sys.executable, "-m", "prefvec.cli", "compare", str(saved), str(saved), "--json"]
    done = subprocess.run([*command, "--record", "/"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: --record '/'")
    done = subprocess.run([*command, "--record", "again"], capture_output=True, text=True)
    assert json.loads(done.stdout)["outside"] == [] and "on record" in done.stderr
    assert [one["name"] for one in recorded(saved)] == ["again"]
