"""Notebooks: paired, typed, and executed for real under the smallest profile."""

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import jupytext
import nbformat
import pytest

from prefvec.errors import ConfigError, PrefvecError, TraitError
from prefvec.notebooks import (
    checked_parameters,
    execute,
    find_notebook,
    parameters_of,
    profile_parameters,
)
from prefvec.paths import NOTEBOOKS, ROOT, pair_name
from prefvec.profile import Settings, load_profile
from prefvec.report.compare import compare
from prefvec.store import write_text
from prefvec.verify import AREA, as_markdown

ALL = sorted(p.stem for p in NOTEBOOKS.glob("*.py"))
# Numbers and answers of a smoke run: scripts/refresh_reference.sh DIR, after notebooks change.
REFERENCE = ROOT / "tests" / "smoke_reference"
DIRECT = find_notebook("03")


def test_every_notebook_is_there_in_both_forms():
    assert sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")) == ALL
    assert {
        "00_architectures",
        "01_extract",
        "02_validate",
        "03_direct_transfer",
        "04_adapters",
        "05c_layers",
        "06_judge",
        "07_black_box",
        "08_extensions",
        "09_paper",
    } <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_pair_is_in_sync(name):
    script, notebook = (
        jupytext.read(NOTEBOOKS / f"{name}{suffix}") for suffix in (".py", ".ipynb")
    )
    assert [(c.cell_type, c.source) for c in script.cells] == [
        (c.cell_type, c.source) for c in notebook.cells
    ]


@pytest.mark.parametrize("name", ALL)
def test_defaults_are_the_quick_profile(name):
    declared = parameters_of(NOTEBOOKS / f"{name}.ipynb")
    quick = load_profile("quick")
    expected = {
        **quick.diagnostics.model_dump(exclude={"traits"}),
        **quick.judge.model_dump(exclude={"traits"}),
        **quick.black_box.model_dump(exclude={"traits"}),
        **quick.settings,
        "profile": "quick",
        "source": quick.pairs[0][0],
        "target": quick.pairs[0][1],
    }
    for key in set(declared) & set(expected):
        assert declared[key] == expected[key], key


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_a_commented_typed_literal_that_papermill_reads_too(name):
    import papermill

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert all(re.match(r"\w+: \w+ = .+  # .+", line) for line in cell.source.splitlines())
    seen = papermill.inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb"))
    assert set(seen) == set(parameters_of(NOTEBOOKS / f"{name}.ipynb"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sorce": "gpt2-medium"}, "unknown parameter 'sorce': did you mean 'source'"),
        ({"n_evaluation": "24"}, "parameter 'n_evaluation' must be int like 24, got str '24'"),
        ({"n_evaluation": True}, "must be int"),
        ({"doses": ["a"]}, r"parameter 'doses\[…\]' must be float"),
        ({"doses": [2.0, 1.0]}, "parameter 'doses'.*rising order"),
        ({"layer_fractions": [1.5]}, "parameter 'layer_fractions'.*in \\[0, 1\\]"),
        ({"n_evaluation": 1}, "parameter 'n_evaluation'.*greater than or equal to 4"),
        ({"source": "qwen2.5-coder"}, "unknown model 'qwen2.5-coder': did you mean"),
        ({"target": "gpt-oss-20b"}, "black box"),
    ],
)
def test_a_bad_parameter_never_reaches_a_kernel(given, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        execute(DIRECT, given, tmp_path / "out.ipynb")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_trait_never_reaches_a_kernel():
    with pytest.raises(TraitError, match="unknown trait 'verbosty'"):
        checked_parameters(DIRECT, {"trait": "verbosty"})


def test_the_command_line_says_it_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "prefvec.cli", "notebook", "03", "-o", str(tmp_path / "o.ipynb"), "-p", "sorce=x"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: 03_direct_transfer: unknown parameter 'sorce'")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_failing_cell_is_one_error_and_keeps_what_ran(tmp_path):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("n: int = 1  # a number", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("raise ValueError('told you')"),
    ]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "language": "python",
        "display_name": "Python 3",
    }
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    with pytest.raises(PrefvecError, match="bad stopped: told you"):
        execute(tmp_path / "bad.ipynb", {"n": 2}, tmp_path / "out" / "bad.ipynb")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["bad.failed.ipynb"]


def test_settings_reject_what_they_do_not_know():
    with pytest.raises(
        ConfigError, match="unknown parameter 'n_evalution': did you mean 'n_evaluation'"
    ):
        Settings.checked({"source": "a", "target": "b", "n_evalution": 3})


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The whole pipeline of the smoke profile, from models to PDF, in folders of its own."""
    home = tmp_path_factory.mktemp("smoke")
    environment = {
        **os.environ,
        "PREFVEC_RESULTS": str(home / "results"),
        "PREFVEC_FIGURES": str(home / "figures"),
    }
    command = [sys.executable, "-m", "prefvec.cli", "run", "--profile", "smoke"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return home, environment, command


@pytest.mark.real
@pytest.mark.notebooks
@pytest.mark.paper
def test_the_smoke_profile_runs_from_models_to_pdf(smoke_run):
    home, *_ = smoke_run
    profile = load_profile("smoke")
    cell = home / "results" / "smoke" / pair_name(*profile.pairs[0]) / "verbosity"
    for name in ("manifest_03.json", "manifest_04.json", "results_04.json", "generations_04.jsonl"):
        assert (cell / name).exists(), name
    assert (home / "results/smoke/experiment_results.json").exists()
    assert (ROOT / "paper_src/tex/main.pdf").read_bytes()[:5] == b"%PDF-"
    assert not list(home.rglob("*.failed.ipynb")) and not list(home.rglob(".*.running.ipynb"))


@pytest.mark.real
@pytest.mark.notebooks
@pytest.mark.paper
def test_a_second_run_has_nothing_to_do(smoke_run):
    home, environment, command = smoke_run
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*.ipynb")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "nothing had to be done" in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in home.rglob("*.ipynb")}


@pytest.mark.real
@pytest.mark.notebooks
@pytest.mark.paper
def test_a_replay_draws_the_same_figures_and_finds_the_same_numbers(smoke_run):
    """Without a model: the cache it is given is empty."""
    home, environment, _ = smoke_run
    command = [sys.executable, "-m", "prefvec.cli", "replay", str(home / "results" / "smoke")]
    empty = environment | {"PREFVEC_CACHE": str(home / "empty")}
    done = subprocess.run(command, env=empty, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    again, drawn = ROOT / ".prefvec/replay/figures/smoke", home / "figures" / "smoke"
    pictures = {str(p.relative_to(drawn)): p.read_bytes() for p in drawn.rglob("*.pdf")}
    assert pictures == {str(p.relative_to(again)): p.read_bytes() for p in again.rglob("*.pdf")}
    assert f"{len(pictures)} figures drawn" in done.stdout
    assert ".prefvec/replay" in (ROOT / "paper_src/tex/generated/figures.tex").read_text()


@pytest.mark.real
@pytest.mark.notebooks
@pytest.mark.paper
def test_the_run_is_held_against_one_of_another_machine(smoke_run):
    """The report is what continuous integration keeps. Other processors round otherwise: texts of eight
    tokens are seldom touched by it, numbers of four questions often."""
    home, *_ = smoke_run
    found = compare(REFERENCE, home / "results" / "smoke")
    write_text(AREA / "smoke.md", as_markdown(found, "smoke"))
    record = found.as_record()
    assert record["answers"] > 200 and sum(record["numbers"].values()) > 150
    assert record["same_answers"] > 0.8 * record["answers"], found.text()


@pytest.mark.real
def test_a_profile_gives_a_notebook_what_differs_for_its_trait_and_pair():
    paper, path = load_profile("paper"), NOTEBOOKS / "04_adapters.ipynb"
    for trait in paper.traits:
        given = profile_parameters(path, "paper", {"trait": trait})
        assert given["max_new_tokens"] == paper.settings_of(trait)["max_new_tokens"]
        assert given["doses"] == paper.settings_of(trait)["doses"]
    assert len({paper.settings_of(trait)["max_new_tokens"] for trait in paper.traits}) > 1
    source, target = paper.pairs[0]
    extended = NOTEBOOKS / "08_extensions.ipynb"
    assert profile_parameters(extended, "paper", {"source": source, "target": target})["sizes"]
    back = profile_parameters(extended, "paper", {"source": target, "target": source})
    assert (back["sizes"], back["traits"]) == ([], list(paper.traits))


def test_parts_of_a_profile_share_no_name_and_reach_their_notebooks():
    """They are given to notebooks by name: two of one name would be taken for each other."""
    paper, names = load_profile("paper"), [set(Settings.model_fields)]
    for part in ("extensions", "diagnostics", "judge", "black_box"):
        mine = set(getattr(paper, part).model_dump()) - {"traits"}
        assert all(mine.isdisjoint(others) for others in names), part
        names.append(mine)
    for name, part in (("06_judge", paper.judge), ("07_black_box", paper.black_box)):
        given = profile_parameters(NOTEBOOKS / f"{name}.ipynb", "paper", {})
        wanted = part.model_dump(exclude={"traits"})
        assert wanted.items() <= given.items()


@pytest.fixture(scope="session")
def nbval_run(smoke_run, tmp_path_factory):
    """Every notebook executed by nbval, two at a time: cells that must run, and what became of each."""
    import papermill

    _, environment, _ = smoke_run
    folder, cells = tmp_path_factory.mktemp("nbval"), {}
    for name in ALL:
        path = NOTEBOOKS / f"{name}.ipynb"
        declared, profile = parameters_of(path), load_profile("smoke")
        source, target = profile.pairs[0]
        chosen = {"source": source, "target": target, "model": source, "models": profile.models}
        chosen |= {"pairs": [list(p) for p in profile.pairs], "traits": list(profile.traits)}
        known = {k: v for k, v in chosen.items() if k in declared}
        given = profile_parameters(path, "smoke", known)
        prepared = folder / f"{name}.ipynb"
        papermill.execute_notebook(
            str(path), str(prepared), parameters=checked_parameters(path, given), prepare_only=True
        )
        book = nbformat.read(prepared, as_version=4)
        cells[name] = sum(c.cell_type == "code" for c in book.cells)
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout", "600", "-p", "no:cacheprovider",
         "-n", "2", "--dist", "loadfile", "-q", "-c", os.devnull, "--rootdir", str(folder),
         f"--junitxml={report}", *(str(folder / f"{name}.ipynb") for name in ALL)],
        env=environment, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    ran = {name: [] for name in ALL}
    for case in ElementTree.parse(report).iter("testcase"):
        failed = [child for child in case if child.tag in ("failure", "error", "skipped")]
        name = case.get("classname").removesuffix(".ipynb").rpartition("/")[2]
        ran[name].append(failed[0].text if failed else "")
    return cells, ran


@pytest.mark.notebooks
@pytest.mark.parametrize("name", ALL)
def test_nbval_executes_every_cell_under_the_smoke_profile(name, nbval_run):
    """nbval passes on notebooks without outputs or cells: the cells are counted."""
    cells, ran = nbval_run
    assert [text[-3000:] for text in ran[name] if text] == []
    assert len(ran[name]) == cells[name] > 1
