"""All verdicts of a study together: the chosen method, `verdicts.json`, the paper's numbers, a table."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.metrics.coherence import PERPLEXITY_TOKENS
from prefvec.paths import RESULTS
from prefvec.report import choice, strategy, verdicts
from prefvec.report.cells import BOUND, Gathered, arrow, site_frame
from prefvec.report.figures import label
from prefvec.report.numbers import number_key
from prefvec.report.verdicts import Criteria, Requirements, Scenario, Symmetry, Verdict
from prefvec.report.views import plain, plain_value
from prefvec.stats import Estimate
from prefvec.store import write_json
from prefvec.transfer.methods import controls_of
from prefvec.transfer.sweep import NOTHING

OTHERS = (
    "zero_pad",
    "ridge_concept",
    "ridge_r2",
    NOTHING,
)  # what the chosen method is held against


class Findings(NamedTuple):
    """What the study found, and the method that it is reported for."""

    choice: choice.Choice
    ranking: pd.DataFrame
    best: pd.DataFrame
    hypotheses: tuple[Verdict, ...]
    criteria: list[Criteria]
    scenario: Scenario
    symmetry: Symmetry
    requirements: Requirements
    strategy: strategy.Strategy
    protocol: strategy.Protocol
    gains: dict[str, Estimate]
    above_zero: dict[str, int]
    criterion: dict[str, Estimate]


def find(study: Gathered, cells: pd.DataFrame) -> Findings:
    """Choose the method on the choice split, then judge."""
    chosen, ranking = choice.choose(study)
    h1, h2, h3 = verdicts.verdict_h1(study), verdicts.verdict_h2(cells), verdicts.verdict_h3(cells)
    found = verdicts.criteria(cells, site_frame(study), chosen.method)
    return Findings(
        chosen,
        ranking,
        choice.best_frame(cells, chosen.method),
        (h1, h2, h3),
        found,
        verdicts.scenario(found),
        verdicts.symmetry(cells, chosen.method),
        verdicts.requirements(study, h2, h3),
        strategy.strategy(study, cells),
        strategy.protocol(cells),
        _gains(cells, chosen.method),
        _above_zero(cells, chosen.method),
        verdicts.criterion(cells),
    )


def _gains(cells: pd.DataFrame, method: str) -> dict[str, Estimate]:
    """What a method is above its controls (`shuffled`, `wrong_trait`) and `OTHERS`, cell by cell."""
    controls = dict(zip(controls_of(method), ("shuffled", "wrong_trait"), strict=True))
    found = choice.gains(cells, method, (*controls, *OTHERS))
    return {controls.get(other, other): gain for other, gain in found.items()}


def _above_zero(cells: pd.DataFrame, method: str) -> dict[str, int]:
    """In how many cells the efficiency of a method and of its controls has its interval above 0."""
    shuffled, wrong = controls_of(method)
    names = {"": method, ".shuffled": shuffled, ".wrong_trait": wrong}
    return {key: int(sum(e.low > 0 for e in cells[name])) for key, name in names.items()}


def write_verdicts(study: Gathered, found: Findings) -> Path:
    """`verdicts.json`: every verdict with the rows it rests on, and what is missing."""
    record = {
        "choice": found.choice._asdict() | {"ranking": found.ranking.to_dict("records")},
        "best": found.best.to_dict("records"),
        "gains": found.gains,
        "criterion": found.criterion,
        **{v.key: v for v in found.hypotheses},
        "criteria": found.criteria,
        "scenario": found.scenario,
        "symmetry": found.symmetry,
        "requirements": found.requirements,
        "strategy": found.strategy,
        "protocol": found.protocol,
        "missing": study.missing,
    }
    return write_json(RESULTS / study.profile / "verdicts.json", plain_value(record))


def numbers(found: Findings) -> dict[str, tuple]:
    """Key → (value, unit, digits) for the paper."""
    out = {
        "best.method": (label(found.choice.method), "", 0),
        "rule.bound": (BOUND, "", 1),
        "rule.margin": (verdicts.CONTROL_MARGIN, "", 1),
        "rule.perplexity_tokens": (PERPLEXITY_TOKENS, "", 0),
    }
    for row in found.best.itertuples():
        out[number_key("best.te", row.key)] = (row.mean, "", 2)
        out[number_key("best.n", row.key)] = (row.n, "", 0)
    for other, gain in found.gains.items():
        out[number_key("best.gain", other)] = (gain, "", 2)
    for key, count in found.above_zero.items():
        out[f"best.above_zero{key}"] = (count, "", 0)
    for cells, gain in found.criterion.items():
        out[number_key("criterion.gain", cells)] = (gain, "", 2)
    for row in found.ranking.itertuples():
        out[number_key("best.choice", row.method)] = (row.mean, "", 2)
    for verdict in found.hypotheses:
        out[f"verdict.{verdict.key}.status"] = (verdict.status, "", 0)
        out[f"verdict.{verdict.key}.value"] = (verdict.value, "%", 0)
        out[f"verdict.{verdict.key}.n"] = (verdict.n, "", 0)
        out[f"verdict.{verdict.key}.of"] = (verdict.of, "", 0)
    out["verdict.criteria.met"] = (sum(c.met is True for c in found.criteria), "", 0)
    out["verdict.criteria.judged"] = (sum(c.met is not None for c in found.criteria), "", 0)
    for name in ("coherence", "trait_strength"):
        values = [getattr(c, name) for c in found.criteria]
        values = [v for v in values if np.isfinite(v)]
        out[f"verdict.criteria.{name}"] = (float(np.mean(values)) if values else np.nan, "", 1)
    out["verdict.scenario.status"] = (found.scenario.status, "", 0)
    out["verdict.scenario.share"] = (found.scenario.share, "%", 0)
    out["verdict.scenario.n"] = (found.scenario.n, "", 0)
    out["verdict.symmetry.gap"] = (found.symmetry.gap, "", 2)
    out["verdict.symmetry.mean"] = (found.symmetry.mean, "", 2)
    for method, cosine in found.requirements.alignment.items():
        out[f"verdict.alignment.{method}"] = (cosine, "", 2)
    out["verdict.strategy.agreement"] = (found.strategy.agreement, "%", 0)
    out["verdict.strategy.n"] = (found.strategy.n, "", 0)
    for row in found.protocol.rows:
        out[f"verdict.protocol.{row['step']}"] = (row["mean"], "", 2)
        out[f"verdict.protocol.{row['step']}.first"] = (row["first_success"], "", 0)
    return out


def verdict_frame(found: Findings) -> pd.DataFrame:
    """Claim, verdict, the estimate it rests on and the cells that entered, one row a verdict."""
    rows = [
        (f"{v.key.upper()}: {v.claim}", v.status, plain(v.value), f"{v.n} of {v.of}")
        for v in found.hypotheses
    ]
    judged = sum(c.met is not None for c in found.criteria)
    met = sum(c.met is True for c in found.criteria)
    name, s = label(found.choice.method), found.scenario
    limits = f"coherence > {verdicts.MIN_COHERENCE}, trait > {verdicts.MIN_TRAIT}, collapse < {verdicts.MAX_COLLAPSE:.0%}"
    rows.append((f"Criteria ({limits}), {name}", f"met in {met}", "", f"{judged} of {len(found.criteria)}"))  # fmt: skip
    rows.append((f"Scenario: transfers and meets the criteria, {name}", s.status, plain(s.share), f"{s.n} of {s.of}"))  # fmt: skip
    y = found.symmetry
    known = sum(np.isfinite(row["gap"]) for row in y.rows)
    rows.append(
        ("Symmetry: mean |TE(A→B) − TE(B→A)|", "", plain(y.gap), f"{known} of {len(y.rows)} pairs")
    )
    t = found.strategy
    rows.append(("Compatibility advises the kind that was best", "", plain(t.agreement), f"{t.n} of {t.of}"))  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "verdict", "value [95 % interval]", "cells"])


def criteria_frame(found: Findings) -> pd.DataFrame:
    """Coherence and trait strength (1–5) and collapse of the chosen method, one row a cell."""

    def show(x: float, digits: int = 1) -> str:
        return f"{x:.{digits}f}" if np.isfinite(x) else "–"

    yes = {True: "yes", False: "no", None: "–"}
    rows = [
        (arrow(c.source, c.target), c.trait, show(c.coherence), show(c.trait_strength),
         show(c.collapse, 2), yes[c.met], yes[c.transferred], c.missing)
        for c in found.criteria
    ]  # fmt: skip
    columns = ["pair", "trait", "coherence", "trait strength", "collapsed", "criteria met"]
    return pd.DataFrame(rows, columns=[*columns, "transfers", "missing"])


def protocol_frame(found: Findings) -> pd.DataFrame:
    """Each step's mean efficiency and the cells in which it is the first to succeed."""
    rows = [
        (r["step"], label(r["method"]), plain(r["mean"]), r["n"], r["first_success"], r["missing"])
        for r in found.protocol.rows
    ]
    columns = ["step", "method", "mean efficiency", "cells", "first to succeed in", "missing"]
    return pd.DataFrame(rows, columns=columns)


def strategy_frame(found: Findings) -> pd.DataFrame:
    """Advice from compatibility beside what was best, one row a cell."""
    rows = [
        (arrow(r["source"], r["target"]), r["trait"], f"{r['overall']:.2f}", f"{r['dimension']:.2f}",
         r["advised"], r["best"], label(r["best_method"]), f"{r['best_efficiency']:.2f}", r["missing"])
        for r in found.strategy.rows
    ]  # fmt: skip
    columns = ["pair", "trait", "overall", "width", "advised", "best", "method", "efficiency"]
    return pd.DataFrame(rows, columns=[*columns, "missing"]).replace("nan", "–")
