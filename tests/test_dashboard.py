"""The dashboard in a real browser: it changes with its menus, needs no network and runs no text."""

import json
import re

import pytest

from prefvec.errors import ReportError
from prefvec.report import cells as all_cells
from prefvec.report import dashboard, findings, overview, paper, strategy
from prefvec.report.figures import save
from prefvec.store import write_text
from study_records import MODELS, write_cell, write_model

QWEN, SMOL, _ = MODELS
PAIRS, TRAITS = [[QWEN, SMOL], [SMOL, QWEN]], ["verbosity", "silly"]
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & 'q' \u2028"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Three of four cells: answers of one hold markup, one has no effect to transfer."""
    for module in (all_cells, dashboard, findings, paper, strategy):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    root = tmp_path / "p"
    write_cell(root, (QWEN, SMOL, "verbosity"))
    write_cell(root, (SMOL, QWEN, "verbosity"), learned={"ridge_concept": 0.31, "cca": 0.5})
    write_cell(root, (SMOL, QWEN, "silly"), defined=False)
    write_model(root, QWEN, "verbosity")
    answers = [
        {"method": "unsteered", "dose": 0.0, "question": HOSTILE, "text": "Plain.", "collapsed": False},
        {"method": "ridge_concept", "dose": -2.0, "question": HOSTILE, "text": HOSTILE, "collapsed": True},
    ]  # fmt: skip
    folder = all_cells.pair_folder("p", PAIRS[0], "verbosity")
    write_text(folder / "generations_04.jsonl", "\n".join(json.dumps(a) for a in answers))
    write_text(folder / "generations_03.jsonl", "")
    return all_cells.gather("p", PAIRS, TRAITS)


def written(study):
    cells = all_cells.pair_cells(study)
    return dashboard.write_dashboard(study, cells, findings.find(study, cells))


def test_the_page_is_one_small_file_without_addresses(study):
    page = written(study)
    text = page.read_text()
    assert page.name == "experiment_dashboard.html" and page.stat().st_size < 3_000_000
    own = dashboard.TEMPLATE.read_text()
    assert not re.search(r"https?://|<link|@import|\bsrc=", own)
    assert "default-src 'none'" in text  # the browser itself refuses any request


def test_the_data_block_cannot_be_left(study):
    """Texts are inside one JSON block in which no markup character is written as it is."""
    [block] = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>',
        written(study).read_text(),
        re.S,
    )
    assert "<" not in block and "\u2028" not in block
    texts = [row["text"] for row in json.loads(block)["samples"]]
    assert HOSTILE in texts  # and yet nothing is lost


def test_a_page_beyond_the_limit_is_refused(study, monkeypatch):
    monkeypatch.setattr(dashboard, "MAX_BYTES", 1000)
    with pytest.raises(ReportError, match="experiment_dashboard.html has .* MB, the limit is"):
        written(study)


def test_pairs_of_one_family_keep_their_own_names(study):
    alike = study._replace(pairs=[[QWEN, SMOL], ["qwen2.5-7b-instruct", SMOL]])
    found = dashboard._names(alike)
    assert len(set(found.values())) == 2


@pytest.fixture
def page(browser, study):
    """The dashboard, loaded; what went wrong in it is in `page.problems`."""
    page = browser.new_page()
    page.problems, page.requests = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(written(study).as_uri())
    page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
    return page


def test_the_menus_change_what_is_shown(page):
    assert page.inner_text("#cell").startswith("Qwen2.5 → SmolLM2, verbosity, ridge")
    assert "TE 0.80 [0.65, 0.95], above 0 and above its control" in page.inner_text("#cell")
    before = page.inner_html("#heat"), page.inner_html("#methods"), page.inner_html("#dose")
    assert "0.80 [0.65, 0.95] ✓" in before[0] and "oracle" in before[2]

    page.select_option("#method", "zero_pad")
    page.wait_for_function("document.querySelector('#heat').textContent.includes('0.05')")
    assert "0.80" not in page.inner_text("#heat")
    assert page.inner_text("#steered").startswith("zero-pad")

    page.select_option("#pair", "SmolLM2 → Qwen2.5")
    page.select_option("#method", "ridge_concept")
    page.wait_for_function("document.querySelector('#cell').textContent.includes('0.31')")
    page.wait_for_function(
        "before => document.querySelector('#methods').innerHTML !== before", arg=before[1]
    )
    page.wait_for_function(
        "before => document.querySelector('#dose').innerHTML !== before", arg=before[2]
    )
    assert "So (verbosity)." in page.inner_text("#samples")

    page.select_option("#trait", "silly")
    assert all_cells.NO_EFFECT in page.inner_text("#cell")
    page.select_option("#pair", "Qwen2.5 → SmolLM2")
    assert "has not run" in page.inner_text("#cell")
    assert "no answers" in page.inner_text("#samples")
    assert page.problems == []


def test_verdicts_are_listed(page):
    listed = page.inner_text("#verdicts")
    assert "H2: direct transfer succeeds" in listed and "rejected" in listed


def test_hostile_text_is_shown_and_not_run(page):
    assert "</script><script>document.title='owned'</script>" in page.inner_text("#samples")
    page.wait_for_timeout(300)
    assert page.title() == "prefvec: results"
    assert page.locator("#samples img, #samples script").count() == 0
    assert page.locator("td.collapsed").count() == 1


def test_nothing_is_asked_of_a_network(page):
    assert [url for url in page.requests if not url.startswith("file:")] == []


def test_the_figures_over_all_cells_are_drawn_with_what_is_missing(study, tmp_path):
    cells = all_cells.pair_cells(study)
    drawn = {
        "pairs": overview.pair_efficiencies(cells, "ridge_concept"),
        "transfer_success_matrix": overview.success_matrix(cells, "ridge_concept"),
        "evaluation_scores_comparison": overview.scores_comparison(cells, "ridge_concept"),
        "model_performance_radar": overview.performance_radar(cells, "ridge_concept"),
        "dose_small_multiples": overview.dose_multiples(
            all_cells.curve_frame(study), cells, ["cca", "ridge_concept"], dict.fromkeys(TRAITS, "u")
        ),
    }  # fmt: skip
    texts = [t.get_text() for t in drawn["transfer_success_matrix"].axes[0].texts]
    assert sorted(texts) == ["0.31\n[0.16, 0.46]", "0.80\n[0.65, 0.95]", "missing", "undefined"]
    panels = drawn["pairs"].axes
    assert [axes.get_title() for axes in panels] == ["verbosity"]  # silly has no value anywhere
    assert [t.get_text() for t in drawn["pairs"].legends[0].get_texts()][1:] == [
        "zero-pad / truncate", "ridge, shuffled pairing", "wrong trait, ridge",
    ]  # fmt: skip
    hatched = [p for p in drawn["transfer_success_matrix"].axes[0].patches if p.get_hatch()]
    assert len(hatched) == 0
    labels = drawn["dose_small_multiples"].legends[0].get_texts()
    assert "ridge, λ by held-out concepts" in [
        t.get_text() for t in labels
    ]  # cca: at one dose alone
    radar = drawn["model_performance_radar"].axes[0]
    assert "silly\n(no value)" in [t.get_text() for t in radar.get_xticklabels()]
    assert radar.get_ylim() == (0, 1)
    for name, figure in drawn.items():
        assert figure.get_figwidth() <= overview.WIDTH
        save(figure, tmp_path, name)
        assert (tmp_path / f"{name}.pdf").stat().st_size > 5000


def test_a_cell_that_the_control_reaches_is_hatched(study):
    cells = all_cells.pair_cells(study)
    figure = overview.success_matrix(cells, "wrong_trait")  # 0.2 against the control's 0.1
    assert sum(bool(p.get_hatch()) for p in figure.axes[0].patches) == 2


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_study_without_any_efficiency_is_still_drawn_and_says_so(study, tmp_path):
    """As in the smallest profile: one pair that has not run, one without an effect to transfer."""
    study = study._replace(pairs=PAIRS[::-1], traits=["silly", "honest"])
    cells = all_cells.pair_cells(study)
    found = findings.find(study, cells)
    assert {v.status for v in found.hypotheses[1:]} == {"undecided"}
    curve, units = all_cells.curve_frame(study), dict.fromkeys(study.traits, "u")
    for name, figure in {
        "pairs": overview.pair_efficiencies(cells, "ridge_concept"),
        "matrix": overview.success_matrix(cells, "ridge_concept"),
        "scores": overview.scores_comparison(cells, "ridge_concept"),
        "radar": overview.performance_radar(cells, "ridge_concept"),
        "dose": overview.dose_multiples(curve, cells, ["ridge_concept"], units),
    }.items():
        save(figure, tmp_path, name)
