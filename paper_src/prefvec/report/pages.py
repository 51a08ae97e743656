"""An executed notebook as one HTML page that opens without Jupyter, a network or a script.

nbconvert renders the cells into `page.html`. Its own templates load MathJax, require.js and Mermaid from
elsewhere and hold 250 kB of JupyterLab's styles; this one loads nothing, and its policy forbids to.
Progress bars and what tells of the machine (folders, times) stay out of the page.
"""

import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat

from prefvec.paths import FIGURES, RESULTS, ROOT, cache_dir
from prefvec.store import write_text

TEMPLATE = Path(__file__).with_name("page.html")
WIDGET = "application/vnd.jupyter.widget-view+json"


def write_page(executed: Path, page: Path, subject: str = "", private: Iterable[Path] = ()) -> Path:
    """Write an executed notebook as HTML.

    subject: what it was run for, shown above its title; private: folders that the page must not name,
    beside those of the repository, of Python and of the user.
    """
    notebook = published(nbformat.read(executed, as_version=4), private)
    return write_text(page, render(notebook, subject))


def published(notebook: nbformat.NotebookNode, private: Iterable[Path] = ()):
    """The notebook itself, without progress bars, times and folders of the machine it ran on."""
    ran = notebook.metadata.get("papermill", {}).get("input_path")
    hide = _hider(private, Path(ran).parent.parent if ran else ROOT)
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = hide(cell.source)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_progress(o)]
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = hide(output.text)
                for kind, text in output.get("data", {}).items():
                    if isinstance(text, str) and kind.startswith("text/"):
                        output.data[kind] = hide(text)
    return notebook


def render(notebook: nbformat.NotebookNode, subject: str = "") -> str:
    """The page of a notebook, with its figures in it."""
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        figure = re.search(r'run\.figure\(\s*"(\w+)"', cell.source)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                name = figure[1].replace("_", " ") if figure else "figure"
                output.metadata["alt"] = name
    exporter = HTMLExporter(template_name="basic", template_file=str(TEMPLATE))
    exporter.exclude_anchor_links = True
    page, _ = exporter.from_notebook_node(
        notebook, {"title": title_of(notebook), "subject": subject}
    )
    return page


def title_of(notebook: nbformat.NotebookNode) -> str:
    """The first heading of a notebook: `04 · Adapters: …`."""
    for cell in notebook.cells:
        heading = (
            re.search(r"^# (.+)$", cell.source, re.M) if cell.cell_type == "markdown" else None
        )
        if heading:
            return heading[1].strip()
    return "notebook"


def _is_progress(output) -> bool:
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def _hider(private: Iterable[Path], repository: Path):
    """A function that takes the folders of a machine out of a text."""
    names = {Path.home(): "~", Path(tempfile.gettempdir()): "tmp", Path(sys.prefix): "python"}
    names |= {cache_dir(): "cache", ROOT: "", repository: ""}
    names |= {RESULTS: "data/results", FIGURES: "figures"}
    names |= dict.fromkeys(map(Path, private), "…")
    known = {str(path.absolute()): name for path, name in names.items()}
    known = {path: name for path, name in known.items() if len(Path(path).parts) > 1}
    # The longest first: a repository is often in a home.
    ordered = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w.~-])({ordered})(/|(?![\w.-]))")

    def name(found: re.Match) -> str:
        return f"{known[found[1]]}{found[2]}".removeprefix("/") or "."

    return lambda text: pattern.sub(name, text)
