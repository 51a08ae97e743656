"""Benchmarks: ratios, targets and records; nothing here is timed."""

import json
import subprocess
import sys

import numpy as np
import pytest

from prefvec.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import contests
import records


def test_a_ratio_above_one_means_that_prefvec_is_better():
    rates = [records.record("w", "ours", [10, 30, 20], "tokens/s"), records.record("w", "peer", [5], "tokens/s")]  # fmt: skip
    ours, peer = records.against(rates, "ours")
    assert (ours.median, ours.low, ours.high, ours.n, ours.ratio) == (20, 10, 30, 3, 1)
    assert peer.ratio == 4
    seconds = [records.record("w", "ours", [2.0], "s"), records.record("w", "peer", [6.0], "s")]
    assert records.against(seconds, "ours", higher_is_better=False)[1].ratio == 3


def test_a_contestant_that_failed_stays_in_the_table_with_its_reason():
    rows = [records.record("w", "ours", [1.0], "s"), records.record("w", "peer", [], "s", "no wheel")]  # fmt: skip
    [_, peer] = records.against(rows, "ours")
    assert peer.median is None and peer.ratio is None and peer.note == "no wheel"
    assert "no wheel" in records.as_table(rows)
    assert records.best_ratio(rows, ["peer"]) == (None, "no contestant ran")


def test_the_best_peer_is_the_one_with_the_smallest_ratio():
    rates = [records.record("w", n, [v], "tokens/s") for n, v in (("ours", 10), ("a", 2), ("b", 5))]
    assert records.best_ratio(records.against(rates, "ours"), ["a", "b"]) == (2, "b")


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(2.0, False, True), (1.9, False, False), (2.0, True, True), (2.1, True, False), (None, True, False)],
)  # fmt: skip
def test_a_target_is_met_or_missed(value, at_most, met):
    row = records.judged("w", "ours", value, "×", 2.0, at_most)
    assert row.met is met and ("met" if met else "MISSED") in records.as_table([row])


def test_an_unknown_work_is_refused_before_anything_runs():
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--only", "forcd"], cwd=ROOT, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 2 and "unknown work forcd" in done.stderr


def test_the_committed_results_are_whole_and_say_whether_targets_were_met():
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    groups = {row.pop("group") for row in rows}
    assert {"forced", "natural", "decode", "capture", "ridge", "start-up", "scaling"} <= groups
    for row in rows:
        again = records.Record(**row)
        assert again.median is not None or again.note
        assert (again.met is None) == (again.target is None)
    forced = [r for r in rows if r["work"] == "forced length, float32" and r["unit"] == "tokens/s"]
    again = records.against([records.Record(**r) for r in forced], "prefvec_engine")
    assert [r.ratio for r in again] == pytest.approx([r["ratio"] for r in forced])


def test_an_environment_that_can_not_be_built_is_the_reason_of_a_missing_row(monkeypatch):
    def fails(name):
        raise RuntimeError(f"environment {name}: no network")

    monkeypatch.setattr(contests, "python_of", fails)
    assert contests.compete("repeng_lib", {}) == (None, "environment transformers4: no network")


@pytest.fixture
def league(monkeypatch):
    """A contest whose contestants need fixed seconds; `broken` has no output."""
    seconds = {contests.OURS: 1.0, "fast": 2.0, "slow": 4.0}
    played = []

    def compete(name, task):
        played.append(name)
        if name == "broken":
            return None, "no wheel"
        return {"seconds": [seconds[name]], "lengths": [8], "peak_mib": len(played)}, ""

    monkeypatch.setattr(contests, "compete", compete)
    return played


def test_contestants_take_turns_and_a_broken_one_keeps_its_reason(league):
    found = contests.contest([contests.OURS, "slow", "broken"], {"repeat": 3, "rows": 16})
    assert league == [contests.OURS, "slow", "broken", *[contests.OURS, "slow"] * 2]
    assert found["slow"][0]["seconds"] == [4.0] * 3 and found["slow"][0]["peak_mib"] == 7
    assert found["broken"] == (None, "no wheel")


def test_the_fastest_peer_goes_on_with_ours(league):
    names = [contests.OURS, "slow", "fast"]
    found = contests.contest(names, {"repeat": 2, "rows": 16}, finalists=1)
    assert league == [*names, contests.OURS, "fast"]
    assert [len(found[name][0]["seconds"]) for name in names] == [2, 1, 2]


def test_a_contestant_is_tried_at_every_size_it_takes(monkeypatch):
    monkeypatch.setitem(contests.PEERS, "peer", (contests.PROJECT, [16, 32, 64]))
    seconds = {16: 3.0, 32: 1.0}

    def compete(name, task):
        out = seconds.get(task["rows"])
        return ({"seconds": [out], "lengths": [8]}, "") if out else (None, "out of memory")

    monkeypatch.setattr(contests, "compete", compete)
    assert contests.best_size("peer", {"rows": 64}) == 32


def test_a_script_that_fails_or_hangs_gives_its_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(contests, "HERE", tmp_path)
    monkeypatch.setattr(contests, "WORK", tmp_path)
    monkeypatch.setattr(contests, "LIMIT", 0.5)
    task = {"threads": 1}
    (tmp_path / "fails.py").write_text("raise ValueError('no weights')")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    echo = "import json, sys; open(sys.argv[2], 'w').write(open(sys.argv[1]).read())"
    (tmp_path / "echoes.py").write_text(echo)
    assert contests.process(sys.executable, "fails.py", task) == (None, "ValueError: no weights")
    assert contests.process(sys.executable, "hangs.py", task) == (None, "took more than 0.5 s")
    assert contests.process(sys.executable, "echoes.py", task) == (task, "")


def test_memory_is_the_contestants_own(tmp_path):
    """Linux hands the caller's `ru_maxrss` on to the processes that it starts."""
    np.ones(1 << 26).sum()  # 512 MiB here
    code = "from contestants.common import peak_mib; print(peak_mib())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=contests.HERE, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 450
