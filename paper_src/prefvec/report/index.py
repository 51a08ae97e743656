"""`index.html` beside a profile's results: one page that leads to the paper, figures, runs and manifests.

It is made of what is on disk and links to nothing else, by relative addresses. Its template escapes
every text.
"""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import jinja2

from prefvec.errors import ReportError
from prefvec.paths import NOTEBOOKS, TEX, pair_name, slug
from prefvec.report.cells import arrow
from prefvec.report.figures import label
from prefvec.report.views import plain
from prefvec.stats import Estimate
from prefvec.store import read_json, write_text

TEMPLATE = Path(__file__).with_suffix(".html")
PAPER = "manifest_09.json"
DOCUMENTS = {
    "experiment_dashboard.html": ("Dashboard", "every cell, dose curves and answers, interactive"),
    "summary_report.md": ("Summary", "verdicts, ranking, every cell, what is missing"),
    "experiment_results.json": ("Results", "one record a pair, trait, method, dose and metric"),
    "verdicts.json": ("Verdicts", "every verdict with the rows it rests on"),
}


def write_index(results: Path, figures: Path, committed: bool = False) -> Path:
    """Write `index.html` into a profile's results.

    results, figures: as `data/results/paper` and `figures/paper`; committed: link to no file that git
    ignores (pages, PDF), for an index that is committed. Raises ReportError if notebook 09 has not run
    there, or (committed) outside a checkout.
    """
    results = Path(results).absolute()
    page = render(results, Path(figures).absolute(), committed)
    return write_text(results / "index.html", page)


def render(results: Path, figures: Path, committed: bool = False) -> str:
    """The index as HTML."""
    study = read_json(results / PAPER) if (results / PAPER).exists() else {}
    if "pairs" not in study or not (results / "verdicts.json").exists():
        raise ReportError(f"{results}: no finished run of a profile: run notebook 09 first")
    links = _Links(results, figures, committed)
    runs = _runs(results, links)
    pairs, traits = [tuple(pair) for pair in study["pairs"]], study["traits"]
    names = {pair: arrow(*pair) for pair in pairs}
    if len(set(names.values())) < len(pairs):  # two models of one family
        names = {pair: " → ".join(pair) for pair in pairs}
    verdicts = read_json(results / "verdicts.json")
    models = list(dict.fromkeys(model for pair in pairs for model in pair))
    named = {pair_name(*pair): name for pair, name in names.items()}
    for run in runs:
        owner, *rest = run["parts"] or ["all cells"]
        run["cell"] = ", ".join([named.get(owner, owner), *rest])
    pictures = _pictures(figures, links, named)
    efficiencies = _efficiencies(results, verdicts)

    def row(owner: str) -> dict:
        return _row(owner, traits, runs, pictures, efficiencies)

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        profile=results.name,
        answer=_answer(verdicts),
        claims=[verdicts[key] for key in ("h1", "h2", "h3")],
        documents=_documents(results, links),
        notebooks=[(p.stem, links.to(p)) for p in sorted(NOTEBOOKS.glob("*.ipynb")) if links.to(p)],
        traits=traits,
        pairs=[(names[pair], row(pair_name(*pair))) for pair in pairs],
        models=[(model, row(slug(model))) for model in models],
        pictures=pictures,
        runs=runs,
        minutes=sum(run["minutes"] or 0 for run in runs),
        memory=max((run["memory"] or 0 for run in runs), default=0),
    )


class _Links:
    """Relative addresses of the files that are there (and that git keeps, if `committed`)."""

    def __init__(self, results: Path, figures: Path, committed: bool):
        self.results = results
        self.hidden = frozenset()
        if committed:
            files = [p for folder in (results, figures) for p in folder.rglob("*") if p.is_file()]
            self.hidden = _ignored([*files, TEX / "main.pdf", *NOTEBOOKS.glob("*.ipynb")], results)

    def to(self, path: Path) -> str:
        """The address of a file from the index; "" if there is none."""
        if not path.is_file() or path in self.hidden:
            return ""
        return quote(Path(os.path.relpath(path, self.results)).as_posix())


def _ignored(paths: Iterable[Path], folder: Path) -> frozenset[Path]:
    done = subprocess.run(
        ["git", "check-ignore", "--stdin", "-z"], cwd=folder, text=True, capture_output=True,
        input="\0".join(map(str, paths)), check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):  # 1: none is ignored
        raise ReportError(f"{folder}: git can't say what it ignores ({done.stderr.strip()})")
    return frozenset(Path(text) for text in done.stdout.split("\0") if text)


def _runs(results: Path, links: _Links) -> list[dict]:
    """One row a manifest, by folder and stage."""
    rows = []
    for path in sorted(results.rglob("manifest_*.json"), key=lambda p: (len(p.parts), p)):
        manifest = read_json(path)
        stage, git = manifest["stage"], manifest.get("git", {})
        seconds = manifest.get("wall_seconds")
        rows.append(
            {
                "parts": list(path.parent.relative_to(results).parts),
                "stage": stage,
                "number": stage.partition("_")[0],
                "page": links.to(path.parent / "notebooks" / f"{stage}.html"),
                "manifest": links.to(path),
                "commit": (git.get("commit") or "")[:10],
                "dirty": git.get("dirty"),
                "minutes": None if seconds is None else seconds / 60,
                "memory": manifest.get("peak_memory_mib"),
            }
        )
    return rows


def _row(owner: str, traits: list[str], runs: list, pictures: list, efficiencies: dict) -> dict:
    """What there is of a pair or a model: by trait, and for all traits together (`all`)."""
    nothing = {"te": "", "tint": ""}
    cells = {}
    for key, parts in {"all": [owner], **{t: [owner, t] for t in traits}}.items():
        cells[key] = {
            "runs": [run for run in runs if run["parts"] == parts],
            "figures": next((p["id"] for p in pictures if p["parts"] == parts), ""),
            **efficiencies.get((owner, key), nothing),
        }
    return cells


def _efficiencies(results: Path, verdicts: dict) -> dict[tuple[str, str], dict]:
    """The chosen method's transfer efficiency at each cell's site, as text and as a colour, by results
    folder of the pair and trait."""
    doses = {
        path.parent.relative_to(results).parts: read_json(path)["site"]["dose"]
        for path in results.glob("*/*/manifest_04.json")
    }
    out = {}
    for record in read_json(results / "experiment_results.json"):
        cell = (pair_name(record["source"], record["target"]), record["trait"])
        chosen = record["metric"] == "effect" and record["method"] == verdicts["choice"]["method"]
        if not chosen or abs(record["dose"]) != doses.get(cell):
            continue
        te = record["transfer_efficiency"]
        found = Estimate.from_json([te, record["te_ci_low"], record["te_ci_high"]])
        strength = 0 if te is None else min(abs(te), 1) * 0.32
        colour = "0,114,178" if strength and te > 0 else "213,94,0"
        out[cell] = {
            "te": "no value" if te is None else plain(found).replace("--", "–"),
            "tint": f"rgba({colour},{strength:.2f})" if strength else "",
        }
    return out


def _answer(verdicts: dict) -> dict:
    best = next(row for row in verdicts["best"] if row["key"] == "all")
    value = best["mean"]
    return {
        "method": label(verdicts["choice"]["method"]),
        "reason": verdicts["choice"]["reason"],
        "mean": "" if value[0] is None else plain(Estimate.from_json(value)),
        "n": best["n"],
        "of": best["of"],
    }


def _documents(results: Path, links: _Links) -> list[tuple[str, str, str]]:
    """Title, address, what it is. The PDF is the last profile's: here if it is newer than the numbers."""
    pdf = TEX / "main.pdf"
    ours = pdf.exists() and pdf.stat().st_mtime >= (results / PAPER).stat().st_mtime
    rows = [("Paper", links.to(pdf) if ours else "", "PDF")]
    rows += [(title, links.to(results / name), what) for name, (title, what) in DOCUMENTS.items()]
    return [row for row in rows if row[1]]


def _pictures(figures: Path, links: _Links, named: dict[str, str]) -> list[dict]:
    """Figures by folder: those over all cells first."""
    groups: dict[tuple[str, ...], list] = {}
    for path in sorted(figures.rglob("*.png"), key=lambda p: (len(p.parts), p)):
        address = links.to(path)
        if address:
            parts = path.parent.relative_to(figures).parts
            groups.setdefault(parts, []).append((path.stem.replace("_", " "), address))
    rows = []
    for i, (parts, found) in enumerate(groups.items()):
        owner, *rest = parts or ["all cells"]
        title = ", ".join([named.get(owner, owner), *rest])
        rows.append({"id": f"figures-{i}", "parts": list(parts), "title": title, "figures": found})
    return rows
