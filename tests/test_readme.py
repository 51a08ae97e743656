"""The pages a reader sees first say what the committed results say."""

import re

import pytest

from prefvec.cli import main
from prefvec.errors import ReportError
from prefvec.paths import ROOT
from prefvec.profile import load_profile
from prefvec.report import prose

README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBERS = {
    "te": {"value": -0.151, "low": -0.5, "high": 0.004, "unit": "", "digits": 2},
    "share": {"value": 0.25, "low": None, "high": None, "unit": "%", "digits": 0},
    "verdict": {"value": "rejected", "low": None, "high": None, "unit": "", "digits": 0},
    "gone": {"value": None, "low": None, "high": None, "unit": "", "digits": 2},
}
FIXED = {"0", "1", "95", "05c", "06", "07"}  # the scale's ends, the level of intervals, notebooks
MODELS = re.compile(r"Qwen2\.5-0\.5B|SmolLM2(-135M)?|Gemma-3-270M")


def test_a_keyed_number_is_written_anew_with_or_without_its_interval():
    text = "a <!--=te-->0.9<!--/-->, <!--#te-->x<!--/-->; <!--=share--><!--/-->, <!--=verdict-->?<!--/-->"
    assert prose.filled(text, NUMBERS) == (
        "a <!--=te-->−0.15 [−0.50, 0.00]<!--/-->, <!--#te-->−0.15<!--/-->; "
        "<!--=share-->25 %<!--/-->, <!--=verdict-->rejected<!--/-->"
    )
    assert "-->undefined<!--" in prose.filled("<!--=gone-->1<!--/-->", NUMBERS)


def test_a_key_without_a_number_is_named_with_its_line():
    with pytest.raises(ReportError, match="page.md:2: number 'et' has no source"):
        prose.filled("one\n<!--=et-->1<!--/-->", NUMBERS, "page.md")


def run_numbers(monkeypatch, path) -> int:
    monkeypatch.setattr("sys.argv", ["prefvec", "numbers", str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_numbers_of_the_readme_are_those_of_the_committed_results(
    tmp_path, monkeypatch, capsys
):
    page = tmp_path / "README.md"
    page.write_text(README, encoding="utf-8")
    assert run_numbers(monkeypatch, page) == 0
    count = int(re.search(r": (\d+) numbers of profile paper", capsys.readouterr().out).group(1))
    assert count == len(prose.KEYED.findall(README)) > 25
    assert page.read_text(encoding="utf-8") == README, "run `prefvec numbers` and read it again"


def test_a_changed_result_changes_the_page(tmp_path):
    found = prose.numbers_of(load_profile("paper"))
    changed = found | {"best.te.all": {**found["best.te.all"], "value": 0.5}}
    page = tmp_path / "README.md"
    page.write_text(README, encoding="utf-8")
    prose.fill(page, changed)
    assert page.read_text(encoding="utf-8") != README


def test_what_was_found_has_no_number_without_a_key():
    found = README.split("## What it found")[1].split("\n## ")[0]
    bare = re.sub(r"\]\([^)]*\)|`[^`]*`", "", prose.KEYED.sub("", found))
    left = re.findall(r"[\w.]*\d[\w.]*", MODELS.sub("", bare))
    assert [word for word in left if word.strip(".") not in FIXED] == []


def test_a_page_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    assert run_numbers(monkeypatch, tmp_path / "none.md") == 2
    assert "none.md does not exist" in capsys.readouterr().err


def test_every_figure_of_a_notebook_is_listed():
    listed = (ROOT / "figures" / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        for name in re.findall(r'run\.figure\(\s*"([^"]+)"', path.read_text(encoding="utf-8")):
            assert re.search(rf"/{name}\s+{path.stem}\b", listed), f"{name} of {path.stem}"
