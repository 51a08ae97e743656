"""Faults, provoked: what docs/faults.md says happens, happens."""

import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from prefvec.errors import PrefvecError
from prefvec.notebooks import execute
from prefvec.paths import ROOT
from prefvec.report import cells
from prefvec.store import write_json
from study_records import MODELS, write_cell


def notebook(path, code):
    """A notebook with a parameters cell and one that runs `code`."""
    first = nbformat.v4.new_code_cell("wait: int = 0  # seconds")
    first.metadata["tags"] = ["parameters"]
    book = nbformat.v4.new_notebook(cells=[first, nbformat.v4.new_code_cell(code)])
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(book, path)
    return path


def test_every_test_that_the_table_of_faults_names_exists():
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text())
    defined = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in defined] == []


@pytest.mark.notebooks
def test_a_kernel_that_dies_is_one_line_about_memory(tmp_path):
    path = notebook(
        tmp_path / "dies.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(
        PrefvecError, match="its kernel died, most likely for want of memory"
    ) as error:
        execute(path, {}, tmp_path / "out" / "dies.ipynb")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.notebooks
def test_a_stage_that_is_killed_leaves_nothing_half_done_and_runs_again(tmp_path):
    code = "import time, pathlib; pathlib.Path(r'{0}').touch(); time.sleep(wait)"
    path = notebook(tmp_path / "slow.ipynb", code.format(tmp_path / "started"))
    output = tmp_path / "out" / "slow.ipynb"
    command = [sys.executable, "-m", "prefvec.cli", "notebook", str(path), "-o", str(output)]
    stage = subprocess.Popen([*command, "-p", "wait=600"], cwd=ROOT, start_new_session=True)
    for _ in range(600):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.1)
    os.killpg(stage.pid, signal.SIGKILL)
    stage.wait()
    assert (tmp_path / "started").exists() and not output.exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in output.parent.iterdir() if p.suffix == ".ipynb"] == ["slow.ipynb"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 1 MiB; only root may make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_is_named_and_leaves_no_file(small_disk):
    kept = write_json(small_disk / "kept.json", [1])
    with pytest.raises(
        PrefvecError, match=r"disk full while writing .*results.json \(\d+ MiB free\)"
    ):
        write_json(small_disk / "results.json", ["x" * 1000] * 3000)
    assert [p.name for p in small_disk.iterdir()] == [kept.name]


def test_a_damaged_results_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    pair = [MODELS[0], MODELS[1]]
    write_cell(tmp_path / "p", (*pair, "verbosity"))
    damaged = cells.pair_folder("p", pair, "verbosity") / "results_04.json"
    damaged.write_text(damaged.read_text()[:100])
    with pytest.raises(
        PrefvecError, match="results_04.json can't be read .*: delete it and run again"
    ):
        cells.gather("p", [pair], ["verbosity"])
