"""Execute every notebook with its own defaults (the quick profile) and keep the outputs in git.

    python scripts/refresh_notebooks.py [03_direct_transfer …]

Run it after a change to a notebook or to what it shows. Progress bars and timings are left out, so
that two refreshes of the same results differ in nothing.
"""

import sys

import nbformat
from nbclient import NotebookClient

from prefvec.notebooks import find_notebook
from prefvec.paths import NOTEBOOKS, ROOT
from prefvec.store import write_text

WIDGET = "application/vnd.jupyter.widget-view+json"


def refresh(name: str) -> None:
    """Execute one notebook in place, keeping its results and dropping its progress."""
    path = find_notebook(name)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=None, record_timing=False, resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_progress(o)]
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = output.text.replace(str(ROOT) + "/", "")
                for kind, text in output.get("data", {}).items():
                    if isinstance(text, str) and kind.startswith("text/"):
                        output.data[kind] = text.replace(str(ROOT) + "/", "")
    write_text(path, nbformat.writes(notebook) + "\n")


def _is_progress(output) -> bool:
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


if __name__ == "__main__":
    for each in sys.argv[1:] or sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")):
        print(each, flush=True)
        refresh(each)
