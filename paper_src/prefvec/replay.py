"""Rebuild what a reader sees from saved results: figures, tables, numbers and the PDF, with no model.

Nothing is written into the results that are replayed: they are copied, and the copy's paper stage is
computed anew and compared with what was saved.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from prefvec import notebooks
from prefvec.errors import ReportError
from prefvec.paths import FIGURES, ROOT, TEX, pair_name, slug
from prefvec.report import figures
from prefvec.report.compare import EXACT, compare
from prefvec.report.figure_data import FOLDER, drawn_again
from prefvec.report.index import write_index
from prefvec.store import read_json

AREA = ROOT / ".prefvec" / "replay"
PAPER = "09_paper"
PARAMETERS = ("pairs", "traits", "claims")  # of notebook 09, from its manifest


class Replayed(NamedTuple):
    """figures: how many were drawn; kept: how many had nothing to be drawn from and are those that the
    run left; numbers: of the paper's stage, and how many are the same float as
    the saved one; verdicts: (name, saved, computed) that differ; folder: where it all is."""

    figures: int
    kept: int
    numbers: int
    same: int
    verdicts: list[tuple[str, str, str]]
    folder: Path


def figure_files(results: Path) -> list[Path]:
    """The figure data of a results folder. Raises ReportError if there is none."""
    found = sorted(results.rglob(f"{FOLDER}/*.json"))
    if not found:
        raise ReportError(
            f"{results}: no {FOLDER}/*.json in it: give a folder like data/results/paper"
        )
    return found


def redraw(results: Path, target: Path | None = None, workers: int = 0) -> list[Path]:
    """Draw all figures of a results folder again: `<target>/<parts…>/<name>.pdf` and `.png`.

    target: `figures/<name of the folder>` if None. Raises ReportError for damaged figure data.
    """
    results = Path(results).absolute()
    with _drawing(results, target or FIGURES / results.name, workers) as drawn:
        return drawn()


@contextmanager
def _drawing(
    results: Path, target: Path, workers: int = 0, first: Collection[Path] = ()
) -> Iterator[Callable[..., list[Path]]]:
    """Draw in processes of their own while the caller works, from the data files `first` before the
    others. Gives a function that waits for the figures, of some data files or all, and gives their files."""
    files = sorted(figure_files(results), key=lambda path: path not in first)
    folders = [target / path.parent.parent.relative_to(results) for path in files]
    workers = min(workers or os.cpu_count() or 1, len(files))
    # Fresh processes: a fork of one that has loaded torch may hang in its threads.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), figures.use_style)
    jobs = {
        pool.submit(_draw, path, folder): path for path, folder in zip(files, folders, strict=True)
    }

    def drawn(some: Collection[Path] | None = None) -> list[Path]:
        wanted = [job for job, path in jobs.items() if some is None or path in some]
        bar = tqdm(as_completed(wanted), total=len(wanted), desc="figures", disable=None)
        return [job.result() for job in bar]

    try:
        yield drawn
    finally:
        pool.shutdown(cancel_futures=True)


def replay(results: Path, pdf: bool = True) -> Replayed:
    """Figures, tables, numbers, claims and (pdf) `paper_src/tex/main.pdf` from a results folder.

    Raises ReportError if the folder holds no finished paper stage, if a number or a claim of the paper
    fails, or if LaTeX does.
    """
    results = Path(results).absolute()
    manifest = results / "manifest_09.json"
    if not manifest.exists():
        raise ReportError(f"{results}: no manifest_09.json, so no finished run of a profile")
    study = read_json(manifest)
    if any(name not in study for name in PARAMETERS):
        raise ReportError(f"{manifest}: made by an older version: run notebook 09 again")
    copy, drawn = AREA / "results" / results.name, AREA / "figures" / results.name
    shutil.rmtree(AREA, ignore_errors=True)
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("notebooks", "*.log", ".*"))
    # A stage of an older version left a figure and not what it was drawn from.
    if (FIGURES / results.name).exists():
        shutil.copytree(FIGURES / results.name, drawn)
    saved = set(drawn.rglob("*.pdf"))
    given = {"profile": results.name, **{k: study[k] for k in PARAMETERS}}
    output = AREA / "notebooks" / f"{PAPER}.ipynb"
    printed = _printed(results, study["pairs"][0], study["traits"][0])
    with _drawing(results, drawn, first=printed) as figures_drawn:
        with notebooks.results_in(AREA / "results", AREA / "figures"):
            notebooks.execute(notebooks.find_notebook(PAPER), given, output)
        found = compare(results, copy)
        if pdf:
            from prefvec.pipeline import build_pdf

            figures_drawn(printed)
            build_pdf()
        fresh = figures_drawn()
    kept = len(saved - set(fresh))
    write_index(copy, drawn)  # with the PDF
    same = int((found.numbers.status == EXACT).sum())
    return Replayed(len(fresh), kept, len(found.numbers), same, found.changed, AREA)


def _printed(results: Path, pair: Sequence[str], trait: str) -> set[Path]:
    """Data of the figures that the paper prints: over all cells, and of its main pair and trait."""
    texts = [path.read_text(encoding="utf-8") for path in (TEX / "sections").glob("*.tex")]
    names = {name for text in texts for name in re.findall(r"\\includegraphics[^{]*{(\w+)}", text)}
    cell = results / pair_name(*pair)
    roots = (results, cell, cell / trait, results / slug(pair[0]) / trait)
    return {root / FOLDER / f"{name}.json" for root in roots for name in names}


def _draw(path: Path, folder: Path) -> Path:
    import matplotlib.pyplot as plt

    pdf, png = (folder / f"{path.stem}.{suffix}" for suffix in ("pdf", "png"))
    before = pdf.read_bytes() if pdf.exists() and png.exists() else b""
    figure = drawn_again(path)
    figures.save(figure, folder, path.stem, ("pdf",))
    if pdf.read_bytes() != before:  # else the picture beside it is of the same drawing
        figures.save(figure, folder, path.stem, ("png",))
    plt.close(figure)
    return pdf
