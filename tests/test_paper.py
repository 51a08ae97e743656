"""The paper: every number has one source, every text survives LaTeX, or the build stops."""

import shutil
import subprocess

import pandas as pd
import pytest

from prefvec import pipeline
from prefvec.errors import ReportError
from prefvec.paths import ROOT, TEX
from prefvec.report import dashboard, paper
from prefvec.report.cells import SHOWN
from prefvec.report.figures import LABELS
from prefvec.report.numbers import Numbers, check_uses, format_number, merge, write_tex
from prefvec.report.tables import escape, interval_text, write_table
from prefvec.stats import Estimate

HOSTILE = r"100% of $x_1 & {y}\input{/etc/passwd} ~ ^ # <b> λ → α <script>x</script> поэт 意味 😀"


def test_a_key_given_twice_in_a_notebook_is_refused():
    numbers = Numbers("notebooks/x")
    numbers.add("a.b", 1)
    with pytest.raises(ReportError, match="'a.b' is given twice in notebooks/x"):
        numbers.add("a.b", 2)
    with pytest.raises(ReportError, match="use lower-case"):
        numbers.add("A b", 2)


def test_a_key_with_two_sources_is_refused(tmp_path):
    for name in ("one", "two"):
        numbers = Numbers(name)
        numbers.add("k", 1)
        numbers.save(tmp_path / f"{name}.json")
    with pytest.raises(ReportError, match="'k' has two sources: one and two"):
        merge(list(tmp_path.glob("*.json")))


def test_a_use_without_a_source_names_file_line_and_key(tmp_path):
    (tmp_path / "a.tex").write_text(
        "fine \\res{known}\n5\\,\\% and \\resci{missing}\n% \\res{commented}\n"
    )
    with pytest.raises(ReportError, match=r"a.tex:2: \\res\{missing\} has no source"):
        check_uses({"known": {}}, [tmp_path / "a.tex"])
    assert check_uses({"known": {}, "missing": {}}, [tmp_path / "a.tex"]) == {"known", "missing"}


def test_numbers_are_formatted_with_unit_and_interval():
    numbers = Numbers("n")
    numbers.add("te", Estimate(0.683, 0.4, 1.1))
    numbers.add("share", 0.25, "%", 0)
    numbers.add("none", Estimate(float("nan"), float("nan"), float("nan")))
    assert format_number(numbers.values["te"], interval=True) == "$0.68$ $[0.40, 1.10]$"
    assert format_number(numbers.values["share"]) == r"$25$\,\%"
    assert format_number(numbers.values["none"]) == "undefined"
    numbers.add("nothing", Estimate(-0.001, -0.3, 0.001), digits=1)
    assert format_number(numbers.values["nothing"], interval=True) == "$0.0$ $[-0.3, 0.0]$"
    assert interval_text(Estimate(-0.001, -0.3, 0.001), 1) == r"$0.0\;[-0.3,\,0.0]$"


def test_tables_escape_text_and_check_their_columns(tmp_path):
    frame = pd.DataFrame({"a_b": [HOSTILE], "x": [interval_text(Estimate(1, 0, 2))], "n": [1234]})
    text = write_table(frame, tmp_path / "t.tex").read_text()
    wide = write_table(frame.rename(columns={"a_b": f"{HOSTILE}\nb"}), tmp_path / "t2.tex")
    assert rf"\shortstack[r]{{{escape(HOSTILE)} \\ b}} & x" in wide.read_text()
    assert r"a\_b" in text and r"\textbackslash{}input" in text and r"\num{1234}" in text
    with pytest.raises(ReportError, match="table t: 3 columns, but align is 'll'"):
        write_table(frame, tmp_path / "t.tex", "ll")


def latex(folder, body):
    shutil.copy(TEX / "prefvec.sty", folder)
    (folder / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,siunitx,prefvec}\n"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    command = ["lualatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")


@pytest.mark.paper
def test_latex_prints_hostile_text_and_keyed_numbers(tmp_path):
    numbers = {
        "te.x-1_y": {"value": 0.5, "low": 0.1, "high": 0.9, "unit": "", "digits": 2, "source": "s"}
    }
    write_tex(numbers, tmp_path / "numbers.tex")
    write_table(pd.DataFrame({f"{HOSTILE}\nb": [HOSTILE]}), tmp_path / "t1.tex")
    done = latex(tmp_path, "\\input{numbers}\\resci{te.x-1_y} \\input{t1} " + escape(HOSTILE))
    assert done.returncode == 0, done.stdout[-1500:]
    printed = subprocess.run(
        ["pdftotext", "t.pdf", "-"], cwd=tmp_path, capture_output=True, text=True
    ).stdout
    flat = "".join(printed.split())
    for word in ("100%of$x", "&{y}\\input{/etc/passwd}", "<b>", "意味", "поэт", "😀", "<script>"):
        assert word in flat, word
    assert "Missing character" not in done.stdout


@pytest.mark.paper
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (r"\res{nothing}", "number `nothing' has no source"),
        (r"\prefvecnumber{a}{1}{1}\prefvecnumber{a}{2}{2}", "number `a' has two sources"),
    ],
)
def test_latex_itself_stops_at_an_undefined_or_double_key(tmp_path, body, message):
    done = latex(tmp_path, body)
    assert done.returncode != 0 and message in done.stdout


@pytest.mark.paper
def test_an_undefined_reference_fails_the_build(tmp_path, monkeypatch):
    shutil.copy(TEX / "prefvec.sty", tmp_path)
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\begin{document}See Table~\\ref{tab:nowhere}.\\end{document}"
    )
    monkeypatch.setattr(pipeline, "TEX", tmp_path)
    with pytest.raises(ReportError, match="undefined references: .*tab:nowhere"):
        pipeline.build_pdf()
    assert not (tmp_path / "main.pdf").exists()


@pytest.mark.paper
def test_a_long_line_of_the_log_does_not_hide_that_the_bibliography_is_missing(
    tmp_path, monkeypatch
):
    """A log line of 78 or 79 characters is joined by latexmk with the next, "No file main.bbl."."""
    (tmp_path / "refs.bib").write_text(
        "@book{a, author={A. A}, title={T}, publisher={P}, year=1999}"
    )
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\begin{document}\\cite{a}\\bibliographystyle{plain}"
        f"\\immediate\\write-1{{{'x' * 78}}}\\bibliography{{refs}}\\end{{document}}"
    )
    monkeypatch.setattr(pipeline, "TEX", tmp_path)
    assert pipeline.build_pdf().exists()


def test_a_markdown_table_survives_bars_and_unknown_values():
    frame = pd.DataFrame({"a": ["x|y", HOSTILE], "b": ["--", 1]})
    lines = paper.markdown(frame).splitlines()
    assert lines[2] == r"| x\|y | – |" and len(lines) == 4


def test_every_method_of_the_study_has_a_name_for_readers():
    unnamed = [m for m in SHOWN if m not in LABELS]
    assert unnamed == [] and len({LABELS[m] for m in SHOWN}) == len(SHOWN)


def test_the_paper_rule_declares_what_the_notebook_writes():
    rule = (ROOT / "Snakefile").read_text().split("rule paper:")[1].split("rule pdf:")[0]
    for name in ("verdicts.json", "experiment_dashboard.html", "summary_report.md"):
        assert f"{{OUT}}/{name}" in rule
    assert dashboard.TEMPLATE.relative_to(ROOT).as_posix() in rule  # an edit of it reruns the stage
