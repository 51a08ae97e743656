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
from prefvec.report.pages import published
from prefvec.store import write_text


def refresh(name: str) -> None:
    """Execute one notebook in place, keeping its results and dropping its progress."""
    path = find_notebook(name)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=None, record_timing=False, resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    write_text(path, nbformat.writes(published(notebook)) + "\n")


if __name__ == "__main__":
    for each in sys.argv[1:] or sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")):
        print(each, flush=True)
        refresh(each)
