"""From the results of every stage to what LaTeX reads, and to `experiment_results.json`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from prefvec.errors import ReportError
from prefvec.models.registry import resolve
from prefvec.paths import FIGURES, RESULTS, ROOT, TEX, pair_name, slug
from prefvec.report import numbers as number_files
from prefvec.report.figures import LOOK, label
from prefvec.report.tables import interval_text
from prefvec.report.views import plain
from prefvec.stats import Estimate
from prefvec.store import read_json, write_json, write_text

GENERATED = TEX / "generated"
PAIR_STAGES = ("03", "04")
SHOWN = ("ridge_concept", "ridge_r2", "procrustes", "zero_pad", "interpolate", "random_projection",
         "shuffled_pairing", "wrong_trait")  # fmt: skip


def pair_folder(profile: str, pair: list[str], trait: str) -> Path:
    """Results folder of a directed pair and trait."""
    return RESULTS / profile / pair_name(*pair) / trait


def gather(profile: str, pairs: list[list[str]], traits: list[str]) -> list[dict]:
    """The records of all pairs and traits. Raises ReportError naming a stage that has not run."""
    records, seen = [], set()
    for pair in pairs:
        for trait in traits:
            for stage in PAIR_STAGES:
                path = pair_folder(profile, pair, trait) / f"results_{stage}.json"
                if not path.exists():
                    raise ReportError(
                        f"{path} is missing: run notebook {stage} for {pair[0]} → {pair[1]} first"
                    )
                for record in read_json(path):
                    key = tuple(
                        record[k] for k in ("source", "target", "trait", "method", "dose", "metric")
                    )
                    if key not in seen:  # references appear in both stages, with the same values
                        seen.add(key)
                        records.append(record)
    return records


def pair_cells(results: list[dict], pairs: list[list[str]], traits: list[str]) -> pd.DataFrame:
    """Transfer efficiency of each method at each pair's chosen dose, one row a (pair, trait)."""
    frame = pd.DataFrame(results)
    effect = frame[(frame.metric == "effect") & frame.transfer_efficiency.notna()]
    rows = []
    for source, target in pairs:
        for trait in traits:
            cell = effect[
                (effect.source == source) & (effect.target == target) & (effect.trait == trait)
            ]
            chosen = cell[cell.method == "procrustes"].dose  # run at the chosen dose alone
            row = {"source": source, "target": target, "trait": trait}
            at_dose = cell[cell.dose.isin(chosen)].set_index("method")
            for method in SHOWN:
                known = method in at_dose.index
                values = (
                    at_dose.loc[method, ["transfer_efficiency", "te_ci_low", "te_ci_high"]]
                    if known
                    else [np.nan] * 3
                )
                row[method] = Estimate(*(float("nan") if v is None else float(v) for v in values))
            rows.append(row)
    return pd.DataFrame(rows)


def counts(cells: pd.DataFrame) -> dict[str, int]:
    """On how many cells a method's transfer efficiency has its interval above zero."""
    out = {"pairs.n": len(cells)}
    for method in SHOWN:
        estimates = cells[method]
        out[f"pairs.defined.{method}"] = int(sum(np.isfinite(e.value) for e in estimates))
        out[f"pairs.above_zero.{method}"] = int(sum(e.low > 0 for e in estimates))
    return out


def pair_table(cells: pd.DataFrame) -> pd.DataFrame:
    """For LaTeX: the learned maps by pair."""
    return _pairs(cells, interval_text)


def pair_frame(cells: pd.DataFrame) -> pd.DataFrame:
    """The same for the notebook."""
    return _pairs(cells, plain)


def pair_figure(cells: pd.DataFrame) -> plt.Figure:
    """Transfer efficiency by pair and method, points with 95 % intervals."""
    looks = {**LOOK, "zero_pad": ("#CC79A7", "v", "-"), "wrong_trait": ("#7F7F7F", "x", "-")}
    methods = ["ridge_concept", "ridge_r2", "procrustes", "zero_pad", "wrong_trait"]
    figure, axes = plt.subplots(figsize=(5.2, 0.62 * len(cells) + 1.3))
    for i, cell in cells.reset_index(drop=True).iterrows():
        for j, method in enumerate(methods):
            value, low, high = np.clip(np.array(cell[method], float), -1.5, 2.0)
            at = -i - 0.13 * (j - 2)
            colour, marker, _ = looks[method]
            axes.hlines(at, low, high, color=colour, lw=1.2)
            axes.plot(
                value, at, marker, color=colour, ms=4, label=label(method) if i == 0 else None
            )
    axes.axvline(0, color="0.5", lw=0.8)
    axes.axvline(1, color="0.5", lw=0.8, ls="--")
    names = [f"{short(c.source)} → {short(c.target)}" for c in cells.itertuples()]
    axes.set_yticks(-np.arange(len(cells)), names)
    axes.set(
        xlabel="transfer efficiency (0 = random direction, 1 = target's own vector)",
        xlim=(-1.5, 2.0),
    )
    axes.legend(
        fontsize=7,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.28 if len(cells) > 2 else -0.45),
        ncol=3,
    )
    return figure


def short(model: str) -> str:
    """A model's family where the registry knows it."""
    family = resolve(model).family
    return model if family == "unknown" else family


def write_results(profile: str, results: list[dict]) -> Path:
    """`experiment_results.json`: one record a cell."""
    return write_json(RESULTS / profile / "experiment_results.json", results)


def write_summary(profile: str, cells: pd.DataFrame) -> Path:
    """`summary_report.md`: the pairs' table in words a reader can paste."""
    frame = pair_frame(cells)
    lines = [f"# Summary of profile `{profile}`", "", "Transfer efficiency with 95 % intervals "
             "(0 = random direction, 1 = target's own vector; – = the own vector does not beat random).", ""]  # fmt: skip
    lines += ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * frame.shape[1]]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    return write_text(RESULTS / profile / "summary_report.md", "\n".join(lines) + "\n")


def write_tex(profile: str, pairs: list[list[str]], traits: list[str]) -> tuple[dict, set[str]]:
    r"""Write `generated/`: numbers, tables and where the figures are. Checks every `\res{…}`.

    The first pair and trait are the main ones: their numbers have the prefix `main.` as well.
    """
    folders = [pair_folder(profile, pair, trait) for pair in pairs for trait in traits]
    models = sorted(p for p in (RESULTS / profile).glob("*/*/numbers_0[12].json"))
    top = sorted((RESULTS / profile).glob("numbers_*.json"))
    files = [f for folder in folders for f in sorted(folder.glob("numbers_*.json"))] + models + top
    numbers = number_files.merge(files)
    prefix = number_files.number_key(pair_name(*pairs[0]), traits[0], "")
    main = {"main." + k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)}
    source, target = (short(m) for m in pairs[0])
    words = {
        "value": None,
        "low": None,
        "high": None,
        "unit": "",
        "digits": 0,
        "source": "notebooks/09_paper",
    }
    named = {
        "main.source": source,
        "main.target": target,
        "main.trait": traits[0],
        "profile": profile,
    }
    numbers |= main | {k: {**words, "value": v} for k, v in named.items()}
    used = number_files.check_uses(
        numbers, sorted([TEX / "main.tex", *(TEX / "sections").glob("*.tex")])
    )
    number_files.write_tex(numbers, GENERATED / "numbers.tex")
    for folder in (RESULTS / profile, folders[0]):
        for table in sorted((folder / "tables").glob("*.tex")):
            write_text(GENERATED / "tables" / table.name, table.read_text(encoding="utf-8"))
    roots = [FIGURES / profile, FIGURES / profile / pair_name(*pairs[0]) / traits[0]]
    roots += [FIGURES / profile / slug(pairs[0][0]) / traits[0]]
    paths = "".join(f"{{{_relative(root)}/}}" for root in roots)
    write_text(
        GENERATED / "figures.tex", f"% Written by notebooks/09_paper.\n\\graphicspath{{{paths}}}\n"
    )
    return numbers, used


def _relative(path: Path) -> str:
    try:
        return "../../" + path.relative_to(ROOT).as_posix()
    except ValueError:
        return path.as_posix()


def _pairs(cells: pd.DataFrame, show) -> pd.DataFrame:
    frame = {
        "source": [short(m) for m in cells.source],
        "target": [short(m) for m in cells.target],
        "trait": list(cells.trait),
    }
    for method in ("ridge_concept", "ridge_r2", "wrong_trait", "shuffled_pairing"):
        frame[label(method)] = [show(e) for e in cells[method]]
    return pd.DataFrame(frame)
