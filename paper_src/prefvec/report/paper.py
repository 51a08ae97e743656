"""From the results of every stage to what LaTeX reads, and to `experiment_results.json`."""

import shutil
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from prefvec.paths import FIGURES, RESULTS, ROOT, TEX, pair_name, slug
from prefvec.report import claims
from prefvec.report import numbers as number_files
from prefvec.report.cells import (
    NO_EFFECT,
    SHOWN,
    Gathered,
    arrow,
    defined,
    pair_folder,
    short,
    why,
)
from prefvec.report.choice import ranking_frame
from prefvec.report.figures import label
from prefvec.report.findings import Findings, criteria_frame, protocol_frame, verdict_frame
from prefvec.report.tables import interval_text
from prefvec.report.views import plain
from prefvec.stats import Estimate
from prefvec.store import read_json, write_json, write_text
from prefvec.transfer.methods import controls_of
from prefvec.transfer.sweep import NOTHING, ORACLE

GENERATED = TEX / "generated"
BESIDE = ("ridge_concept", "ridge_r2", "zero_pad")


def counts(cells: pd.DataFrame) -> dict[str, int]:
    """On how many cells a method's transfer efficiency has its interval above zero."""
    out = {"pairs.n": len(cells)}
    for method in SHOWN:
        estimates = cells[method]
        out[f"pairs.defined.{method}"] = int(sum(np.isfinite(e.value) for e in estimates))
        out[f"pairs.above_zero.{method}"] = int(sum(e.low > 0 for e in estimates))
    return out


def pair_tables(cells: pd.DataFrame, method: str) -> dict[str, pd.DataFrame]:
    """For LaTeX, by name: `pairs`, the chosen map beside both plain ridge maps and direct writing;
    `pair_controls`, the same map beside its controls, what doing nothing amounts to, and the share of
    answers that the own vector breaks. Cells with a value alone."""
    table = _pairs(defined(cells, method), method, interval_text)
    maps = ["pair", "trait", *(label(m) for m in dict.fromkeys((method, *BESIDE)))]
    controls = [c for c in table if c not in maps]
    first = ["pair", "trait", label(method)]
    parts = {"pairs": table[maps], "pair_controls": table[[*first, *controls]]}
    return {name: part.rename(columns=_two_lines) for name, part in parts.items()}


def pair_frame(cells: pd.DataFrame, method: str) -> pd.DataFrame:
    """The same for the notebook."""
    return _pairs(cells, method, plain)


def best_table(found: Findings) -> pd.DataFrame:
    """For LaTeX: the chosen method's mean efficiency on the evaluation split, by set of cells."""
    return _best(found, interval_text)


def best_frame(found: Findings) -> pd.DataFrame:
    """The same for the notebook."""
    return _best(found, plain)


def write_results(profile: str, results: list[dict]) -> Path:
    """`experiment_results.json`: one record a cell."""
    return write_json(RESULTS / profile / "experiment_results.json", results)


def write_summary(study: Gathered, cells: pd.DataFrame, found: Findings) -> Path:
    """`summary_report.md`: verdicts, the ranking, every cell, and what is missing, to be pasted."""
    gone = missing_frame(study, cells)
    parts = [
        f"# Summary of profile `{study.profile}`",
        "## Verdicts",
        markdown(verdict_frame(found)),
        "## The method, chosen on the choice split",
        f"**{label(found.choice.method)}**: {found.choice.reason}.",
        markdown(ranking_frame(found.ranking)) if len(found.ranking) else "",
        "Its transfer efficiency on the evaluation questions:",
        markdown(best_frame(found)),
        "## All cells",
        "Transfer efficiency with 95 % intervals (0 = random direction, 1 = target's own vector; "
        "– = unknown, see below).",
        *(
            f"### {trait}\n\n{markdown(cell_frame(cells[cells.trait == trait]))}"
            for trait in study.traits
        ),
        f"## Criteria, {label(found.choice.method)}",
        markdown(criteria_frame(found)),
        "## From direct transfer to maps in bands",
        markdown(protocol_frame(found)),
        "## What is missing",
        markdown(gone) if len(gone) else "Nothing.",
    ]
    text = "\n\n".join(part for part in parts if part)
    return write_text(RESULTS / study.profile / "summary_report.md", text + "\n")


def cell_frame(cells: pd.DataFrame) -> pd.DataFrame:
    """Every method that was run anywhere by row, a column a pair; cells of one trait."""
    ran = frozenset().union(*cells["ran"])
    methods = [m for m in SHOWN if m in ran]
    frame = {"method": [label(m) for m in methods]}
    for cell in cells.to_dict("records"):
        frame[arrow(cell["source"], cell["target"])] = [plain(cell[m]) for m in methods]
    return pd.DataFrame(frame)


def missing_frame(study: Gathered, cells: pd.DataFrame) -> pd.DataFrame:
    """What has no number and why: stages that have not run, cells without an effect to transfer,
    methods that were not run."""
    rows = [
        (arrow(m["source"], m["target"]), m["trait"], m["what"], m["reason"]) for m in study.missing
    ]
    nowhere = set(SHOWN) - frozenset().union(*cells["ran"])
    if nowhere:
        rows.append(("all", "all", "; ".join(label(m) for m in SHOWN if m in nowhere), "not run"))
    for cell in cells.to_dict("records"):
        if cell["missing"]:
            continue
        pair = arrow(cell["source"], cell["target"])
        if NO_EFFECT in [why(cell, m) for m in SHOWN]:
            rows.append((pair, cell["trait"], "transfer efficiency", NO_EFFECT))
        absent = [label(m) for m in SHOWN if m not in cell["ran"] and m not in nowhere]
        if absent:
            rows.append((pair, cell["trait"], "; ".join(absent), "not run"))
    return pd.DataFrame(rows, columns=["pair", "trait", "what", "reason"])


def markdown(frame: pd.DataFrame) -> str:
    """A Markdown table, whatever characters the cells hold."""

    def row(values) -> str:
        texts = ["–" if str(v) == "--" else str(v).replace("|", "\\|") for v in values]
        return "| " + " | ".join(texts) + " |"

    return "\n".join(
        [row(frame.columns), "|" + "---|" * frame.shape[1]]
        + [row(values) for values in frame.itertuples(index=False)]
    )


def all_numbers(profile: str, pairs: list[list[str]], traits: list[str]) -> dict[str, dict]:
    """The numbers of a profile by key. The first pair and trait are the main ones: their numbers have
    the prefix `main.` as well, as have those of the pair over all traits (notebook 08).

    Raises ReportError where a key has two sources.
    """
    folders = [pair_folder(profile, pair, trait) for pair in pairs for trait in traits]
    models = sorted(p for p in (RESULTS / profile).glob("*/*/numbers_0[12].json"))
    top = sorted((RESULTS / profile).glob("numbers_*.json"))
    folders += [RESULTS / profile / pair_name(*pair) for pair in pairs]  # notebook 08
    files = [f for folder in folders for f in sorted(folder.glob("numbers_*.json"))] + models + top
    numbers = number_files.merge(files)
    prefix = number_files.number_key(pair_name(*pairs[0]), traits[0], "")
    main = {"main." + k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)}
    of_pair = number_files.number_key(pair_name(*pairs[0]), "")
    cells = tuple(number_files.number_key(pair_name(*pairs[0]), trait, "") for trait in traits)
    main |= {
        "main." + k.removeprefix(of_pair): v
        for k, v in numbers.items()
        if k.startswith(of_pair) and not k.startswith(cells)
    }
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
    return numbers | main | {k: {**words, "value": v} for k, v in named.items()}


def write_tex(
    profile: str, pairs: list[list[str]], traits: list[str], strict: bool = False
) -> tuple[dict, dict[str, str]]:
    r"""Write `generated/`: numbers, claims, tables and where the figures are; the numbers, and what
    became of each claim. Checks every `\res{…}` and `\claim{…}`; strict: a claim that does not hold
    stops the build.

    The first pair and trait are the main ones (`all_numbers`).
    """
    folders = [pair_folder(profile, pair, trait) for pair in pairs for trait in traits]
    numbers = all_numbers(profile, pairs, traits)
    switches = {
        "extensions": ("extended", _extended(profile, pairs[0])),
        "diagnostics": ("diagnosed", _ran(profile, pairs[0], traits[0], "05a", "05b", "05c")),
        "prediction": ("foretold", numbers["prediction.verdict"]["value"] != "undecided"),
        "truth": ("told", numbers["truth.pairs"]["value"] > 0),
        "judge": ("judged", _ran(profile, pairs[0], traits[0], "06", "07")),
    }
    left_out = [name for name, (_, there) in switches.items() if not there]
    sources = sorted([TEX / "main.tex", *(TEX / "sections").glob("*.tex")])
    sources = [path for path in sources if path.stem not in left_out]
    number_files.check_uses(numbers, sources)
    claimed = claims.check_claims(numbers, sources, strict)
    claims.write_tex(claimed, GENERATED / "claims.tex")
    number_files.write_tex(numbers, GENERATED / "numbers.tex")
    shutil.rmtree(GENERATED / "tables", ignore_errors=True)  # another profile's would be printed
    for folder in (RESULTS / profile, folders[0], folders[0].parent):
        for table in sorted((folder / "tables").glob("*.tex")):
            write_text(GENERATED / "tables" / table.name, table.read_text(encoding="utf-8"))
    roots = [FIGURES / profile, FIGURES / profile / pair_name(*pairs[0]) / traits[0]]
    roots += [
        FIGURES / profile / pair_name(*pairs[0]),
        FIGURES / profile / slug(pairs[0][0]) / traits[0],
    ]
    paths = "".join(f"{{{_relative(root)}/}}" for root in roots)
    switch = "".join(
        f"\\newif\\if{name}\n\\{name}{str(there).lower()}\n" for name, there in switches.values()
    )
    write_text(
        GENERATED / "figures.tex",
        f"% Written by notebooks/09_paper.\n\\graphicspath{{{paths}}}\n{switch}",
    )
    return numbers, claimed


def _extended(profile: str, pair: list[str]) -> bool:
    """Has notebook 08 run for the main pair, with nothing left out? Else its section is left out."""
    manifest = RESULTS / profile / pair_name(*pair) / "manifest_08.json"
    return manifest.exists() and not read_json(manifest)["missing"]


def _ran(profile: str, pair: list[str], trait: str, *numbers: str) -> bool:
    """Have these notebooks run for the main pair and trait? Else their section is left out."""
    folder = pair_folder(profile, pair, trait)
    return all((folder / f"manifest_{number}.json").exists() for number in numbers)


def _relative(path: Path) -> str:
    try:
        return "../../" + path.relative_to(ROOT).as_posix()
    except ValueError:
        return path.as_posix()


def _pairs(cells: pd.DataFrame, method: str, show) -> pd.DataFrame:
    frame = {
        "pair": [arrow(*pair) for pair in zip(cells.source, cells.target, strict=True)],
        "trait": list(cells.trait),
    }
    for name in dict.fromkeys((method, *BESIDE, *controls_of(method))):
        frame[label(name)] = [show(e) for e in cells[name]]
    frame[label(NOTHING)] = [show(Estimate(e.value, np.nan, np.nan)) for e in cells[NOTHING]]
    broken = [b.get(ORACLE, np.nan) for b in cells["broken"]]
    frame["own vector breaks"] = ["--" if np.isnan(x) else f"{x:.0%}" for x in broken]
    return pd.DataFrame(frame)


def _two_lines(name: str) -> str:
    """A column's name for LaTeX, in lines about as wide as an interval."""
    return "\n".join(textwrap.wrap(name, 18, break_on_hyphens=False))


def _best(found: Findings, show) -> pd.DataFrame:
    best = found.best
    return pd.DataFrame(
        {
            "cells": best.cells,
            "mean efficiency": [show(e) for e in best["mean"]],
            "defined": [f"{row.n} of {row.of}" for row in best.itertuples()],
        }
    )
