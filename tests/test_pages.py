"""Pages of executed notebooks and the index: complete, offline, without the machine, hostile text inert."""

import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest

from prefvec.errors import PrefvecError, ReportError
from prefvec.notebooks import execute, subject_of, write_missing_pages
from prefvec.paths import RESULTS, ROOT, pair_name
from prefvec.report import cells as all_cells
from prefvec.report import dashboard, findings, index, pages, paper, strategy, views
from prefvec.store import read_json, write_json, write_text
from study_records import MODELS, write_cell, write_model

HOSTILE = "</td></pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> 100% a_b & \\x $y$ {z} {{ 7*7 }} 意味 עברית"
QWEN, SMOL, _ = MODELS
PAIRS = [[QWEN, SMOL], [SMOL, QWEN]]
NAMES = ["<img src=x onerror=alert(1)> & 意味 #1?%41", "silly"]  # of traits
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Addresses(HTMLParser):
    """Every address that a page names."""

    def __init__(self, page: str):
        super().__init__()
        self.found, self.ids = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found += [given[k] for k in ("href", "src", "action", "srcset", "data") if k in given]
        self.ids |= {given["id"]} if "id" in given else set()


def output(kind, **data):
    return nbformat.v4.new_output(kind, **data)


def notebook_of(*outputs, source="1"):
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs))
    notebook.cells = [nbformat.v4.new_markdown_cell("# 04 · Maps & more\n\nSome *text*."), cell]
    return notebook


def hostile_notebook():
    answers = pd.DataFrame(
        {
            "method": ["unsteered", "oracle"],
            "dose": [0.0, 2.0],
            "question": HOSTILE,
            "text": HOSTILE,
        }
    )
    shown = views.examples(answers, 2.0, ["unsteered", "oracle"], n=1)
    frame = pd.DataFrame({HOSTILE: [HOSTILE]}, index=pd.Index([HOSTILE], name=HOSTILE))
    with pd.option_context("display.max_colwidth", None):
        tables = [shown._repr_html_(), frame._repr_html_()]
    return notebook_of(
        *(output("execute_result", data={"text/html": table}) for table in tables),
        output("stream", name="stdout", text=HOSTILE),
        output("execute_result", data={"text/plain": HOSTILE}),
        output("display_data", data={"image/png": PIXEL}),
        source=f"run.figure(\n    'x', {HOSTILE!r})",
    )


@pytest.fixture
def visit(browser):
    """Open a page in Chromium; what it asks for and what goes wrong in it are in `requests`, `problems`."""

    def opened(path):
        page = browser.new_page()
        page.problems, page.requests = [], []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_timeout(200)
        return page

    return opened


def test_hostile_text_is_shown_as_text_in_every_kind_of_output(visit, tmp_path):
    path = write_text(tmp_path / "p.html", pages.render(hostile_notebook(), HOSTILE))
    page = visit(path)
    shown = page.inner_text("body")
    body = page.inner_text("main")
    # Styler: question and two answers; frame: its header, index name, index, cell; stream; plain; subject.
    assert body.count(HOSTILE) == 10 and "{{ 7*7 }}" in shown
    assert page.title() == f"04 · Maps & more | {HOSTILE}"
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 1  # the figure
    assert page.evaluate("document.images[0].naturalWidth") == 1
    assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]
    assert page.problems == []


def test_even_markup_that_a_notebook_does_not_escape_runs_nothing_and_asks_for_nothing(
    visit, tmp_path
):
    raw = "<script>document.title='owned'</script><img src='https://example.org/x.png' onerror=\"document.title='owned'\">"
    page = visit(
        write_text(
            tmp_path / "p.html",
            pages.render(notebook_of(output("display_data", data={"text/html": raw}))),
        )
    )
    assert page.title() == "04 · Maps & more"
    assert page.problems and all("Content Security Policy" in text for text in page.problems)


def test_a_page_names_no_address_and_is_small():
    page = pages.render(notebook_of(output("stream", name="stdout", text="x")))
    assert [a for a in Addresses(page).found if not a.startswith("data:")] == []
    assert not re.search(r"https?:|@import|url\(", page)
    assert "default-src 'none'" in page and len(page) < 15_000


def test_progress_warnings_and_widgets_are_left_out():
    notebook = notebook_of(
        output("stream", name="stderr", text="a warning"),
        output("display_data", data={pages.WIDGET: {}, "text/plain": "0%|   | 0/3"}),
        output("stream", name="stdout", text="kept"),
    )
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"a": 1}}
    page = pages.render(pages.published(notebook))
    assert "kept" in page and "warning" not in page and "0/3" not in page and "widget" not in page


def executable(tmp_path, *sources):
    notebook = nbformat.v4.new_notebook()
    parameters = 'trait: str = "verbosity"  # a trait\nmodel: str = "smollm2-135m-instruct"  # one'
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# 42 · Folders"),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(source) for source in sources),
    ]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "language": "python",
        "display_name": "Python 3",
    }
    nbformat.write(notebook, tmp_path / "42_folders.ipynb")
    return tmp_path / "42_folders.ipynb"


def test_an_executed_notebook_has_a_page_that_does_not_tell_of_the_machine(tmp_path):
    text = (ROOT / "data/traits/silly.yaml").read_text().replace("name: silly", "name: sillier")
    trait = write_text(tmp_path / "private-place" / "mine.yaml", text)
    path = executable(
        tmp_path,
        "import sys, pathlib\nfrom prefvec.paths import RESULTS, ROOT, cache_dir\n"
        "print(trait, pathlib.Path.home() / 'x', ROOT, cache_dir() / 'y', sys.prefix)\nprint(2 / 7)",
        "RESULTS / 'quick' / 'manifest_04.json'",
    )
    ran = execute(path, {"trait": str(trait)}, tmp_path / "out" / "42_folders.ipynb")
    page = ran.with_suffix(".html").read_text()
    shown = re.sub(r"<[^>]+>", "", page)
    assert "0.2857142857142857" in shown and "~/x . cache/y python" in shown
    assert "PosixPath('data/results/quick/manifest_04.json')" in shown.replace("&#39;", "'")
    assert "trait = &quot;…/mine.yaml&quot;" in shown or 'trait = "…/mine.yaml"' in shown
    private = [tmp_path, ROOT, RESULTS, Path.home(), Path.cwd()]
    assert [str(folder) for folder in private if str(folder) in page] == []
    assert str(ROOT) in ran.read_text() and "start_time" not in page  # the notebook itself tells
    assert "<title>42 · Folders | smollm2-135m-instruct, sillier</title>" in page
    assert sorted(p.name for p in ran.parent.iterdir()) == ["42_folders.html", "42_folders.ipynb"]

    page_file = ran.with_suffix(".html")
    assert write_missing_pages(tmp_path) == []  # only of folders called notebooks
    ran.parent.rename(tmp_path / "notebooks")
    assert write_missing_pages(tmp_path) == []
    (tmp_path / "notebooks" / page_file.name).unlink()
    [again] = write_missing_pages(tmp_path)
    assert again.read_text() == page


def test_a_notebook_that_stops_has_no_page(tmp_path):
    with pytest.raises(PrefvecError, match="told you"):
        execute(
            executable(tmp_path, "raise ValueError('told you')"), {}, tmp_path / "out" / "o.ipynb"
        )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["o.failed.ipynb"]


def test_a_page_says_what_it_was_run_for():
    assert subject_of({"profile": "p", "source": "a", "target": "/m/b.gguf", "trait": "silly"}) == (
        "profile p, a → b.gguf, silly"
    )
    assert subject_of({"profile": "p", "model": "a", "trait": "/gone/mine.yaml"}) == (
        "profile p, a, mine"
    )
    assert subject_of({"profile": "p", "traits": ["silly", "honest"]}) == "profile p, silly, honest"


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A finished profile of two pairs and two traits, one cell without stages; its two folders."""
    results, figures = tmp_path / "results", tmp_path / "elsewhere" / "figures"
    for module in (all_cells, dashboard, findings, paper, strategy):
        monkeypatch.setattr(module, "RESULTS", results)
    monkeypatch.setattr(index, "TEX", tmp_path / "tex")
    root = results / "p q"
    for trait in NAMES:
        write_cell(root, (QWEN, SMOL, trait), choice={"ridge_concept": 0.7})
    write_cell(root, (SMOL, QWEN, NAMES[1]), learned={"ridge_concept": 0.31}, choice={"cca": 0.1})
    write_model(root, QWEN, NAMES[0])
    for path in root.rglob("manifest_0*.json"):
        manifest = read_json(path) | {
            "git": {"commit": "abcdef0123456", "dirty": path.name == "manifest_03.json"}
        }
        stage = {"03": "03_direct_transfer", "04": "04_adapters"}[manifest["stage"]]
        write_json(path, manifest | {"stage": stage, "wall_seconds": 90.0, "peak_memory_mib": 1234})
        if manifest["stage"] == "04":
            write_text(path.parent / "notebooks" / f"{stage}.html", "<p>page</p>")
            write_text(figures / path.parent.relative_to(results) / "dose_response.png", "")
    write_text(figures / "p q" / "pairs.png", "")
    study = all_cells.gather("p q", PAIRS, NAMES)
    cells = all_cells.pair_cells(study)
    found = findings.find(study, cells)
    paper.write_results("p q", study.records)
    paper.write_summary(study, cells, found)
    findings.write_verdicts(study, found)
    write_text(root / "experiment_dashboard.html", "")
    write_json(
        root / "manifest_09.json",
        {
            "stage": "09_paper",
            "pairs": PAIRS,
            "traits": NAMES,
            "git": {"commit": None, "dirty": None},
        },
    )
    write_text(tmp_path / "tex" / "main.pdf", "%PDF-")
    return root, figures / "p q"


def dead_links(page: Path) -> list[str]:
    """Addresses of a page that lead nowhere, or not by a relative path."""
    read = Addresses(page.read_text())
    return [
        a
        for a in read.found
        if (
            a[1:] not in read.ids if a.startswith("#") else not (page.parent / unquote(a)).is_file()
        )
        or re.match(r"[a-z]+:|/", a)
    ]


def test_every_link_of_the_index_leads_somewhere(profile):
    results, figures = profile
    page = index.write_index(results, figures)
    addresses = Addresses(page.read_text()).found
    assert dead_links(page) == []
    named = {Path(unquote(a)).name for a in addresses}
    assert named >= {
        "main.pdf", "summary_report.md", "experiment_dashboard.html", "experiment_results.json",
        "verdicts.json", "04_adapters.html", "manifest_03.json", "manifest_04.json", "manifest_09.json",
        "pairs.png", "dose_response.png", "04_adapters.ipynb",
    }  # fmt: skip
    assert "03_direct_transfer.html" not in named  # it is not there
    assert len([a for a in addresses if a.endswith("04_adapters.html")]) == 6  # a matrix and a list
    (results / "summary_report.md").unlink()
    assert dead_links(page) == ["summary_report.md"]  # the check itself can fail
    assert dead_links(index.write_index(results, figures)) == []


def test_the_index_follows_the_results(profile):
    results, figures = profile
    page = index.write_index(results, figures).read_text()
    assert re.search(r"mean transfer\s+efficiency of <b>0\.64 \[", page)
    assert "over 3 of 4 cells (the rest have no value)" in page
    assert page.count(">0.80 [0.65, 0.95]</span>") == 2 and ">0.31 [0.16, 0.46]</span>" in page
    assert "<code>abcdef0123</code>" in page and '<span class="dirty">changed</span>' in page
    assert ">1.5</td>" in page and "1234 MiB at most" in page

    saved = read_json(results / "verdicts.json")
    saved["best"][0]["mean"] = [0.123, 0.1, 0.2]
    write_json(results / "verdicts.json", saved)
    folder = results / pair_name(*PAIRS[1]) / NAMES[1]
    manifest = read_json(folder / "manifest_04.json")
    write_json(folder / "manifest_04.json", manifest | {"site": manifest["site"] | {"dose": 1.0}})
    changed = index.write_index(results, figures).read_text()
    assert "<b>0.12 [0.10, 0.20]</b>" in changed
    saved["best"][0]["mean"] = [None, None, None]
    write_json(results / "verdicts.json", saved)
    assert (
        "No cell has a transfer efficiency yet" in index.write_index(results, figures).read_text()
    )


def test_the_pdf_of_another_profile_is_not_this_ones(profile):
    results, figures = profile
    os.utime(index.TEX / "main.pdf", (1, 1))  # older than the profile's numbers
    assert "main.pdf" not in index.write_index(results, figures).read_text()


def test_the_index_shows_hostile_names_as_text_and_asks_for_nothing(profile, visit):
    results, figures = profile
    path = index.write_index(results, figures)
    page = visit(path)
    assert NAMES[0] in page.inner_text(".matrix >> nth=0")
    assert page.locator("img:not([loading])").count() == 0 and page.locator("script").count() == 0
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith("file:")] == []
    group = page.locator("a[href^='#figures-']").first
    group.click()
    assert page.locator(f"{group.get_attribute('href')} figure").first.is_visible()  # it opens
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_index_to_commit_leads_to_nothing_that_git_ignores(profile, monkeypatch):
    results, figures = profile
    repository = results.parents[1]
    with pytest.raises(ReportError, match="git can't say what it ignores"):
        index.render(results, figures, committed=True)
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    write_text(repository / ".gitignore", "notebooks/\nmain.pdf\n")
    monkeypatch.setattr(index, "NOTEBOOKS", repository / "none")  # git knows of this folder alone
    page = index.render(results, figures, committed=True)
    assert "main.pdf" in index.render(results, figures) and "main.pdf" not in page
    assert "04_adapters.html" not in page and "pairs.png" in page and "manifest_04.json" in page


def test_the_committed_index_leads_to_what_is_in_git():
    page = RESULTS / "paper" / "index.html"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    tracked = set(listed.stdout.split("\0"))
    if str(page.relative_to(ROOT)) not in tracked:
        pytest.skip("no index is committed: prefvec index data/results/paper --committed")
    addresses = Addresses(page.read_text()).found
    paths = [(page.parent / unquote(a)).resolve() for a in addresses if not a.startswith("#")]
    assert [p for p in paths if str(p.relative_to(ROOT)) not in tracked] == []


def test_an_unfinished_or_older_profile_has_no_index(tmp_path):
    with pytest.raises(ReportError, match="run notebook 09 first"):
        index.write_index(tmp_path, tmp_path)
    (tmp_path / "manifest_09.json").write_text(json.dumps({"stage": "09_paper"}))
    with pytest.raises(ReportError, match="run notebook 09 first"):
        index.write_index(tmp_path, tmp_path)
