"""A manifest says what a result was made from: commit, and whether the sources differ from it."""

import platform
import subprocess

from prefvec import machine
from prefvec.report import manifest
from prefvec.store import read_json


def test_only_changed_sources_make_a_result_dirty(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROOT", tmp_path)

    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    written = ["data/results/paper/r.json", "figures/paper/f.pdf", "benchmarks/results.json"]
    for name in [*written, "code.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init")
    assert manifest.git_state()["commit"] is None
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    for name in written:
        (tmp_path / name).write_text("2")
    state = manifest.git_state()
    assert len(state["commit"]) == 40 and state["dirty"] is False
    (tmp_path / "code.py").write_text("2")
    assert manifest.git_state()["dirty"] is True


def test_it_names_the_processor(tmp_path, monkeypatch):
    """As the system tells it, and its architecture where it does not."""
    said = "processor : 0\nmodel name : A Chip: 2\nflags : fpu avx2 avx512f x\nprocessor : 1\nmodel name : A Chip: 2\n"
    monkeypatch.setattr(machine, "_lines", lambda: tuple(said.splitlines()))
    record = read_json(manifest.write_manifest(tmp_path / "m.json", "01_extract"))
    assert record["processor"] == "A Chip: 2 (avx2, avx512f)"
    assert machine.identifying() == ["flags : fpu avx2 avx512f x", "model name : A Chip: 2"]
    monkeypatch.setattr(machine, "_lines", lambda: ())
    assert machine.processor() == platform.machine() and machine.identifying() == []
