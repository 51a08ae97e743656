"""`experiment_dashboard.html`: all cells in one page that needs no network and no server.

Charts are Vega-Lite, written with Altair; its JavaScript is put into the page. Everything that the page
shows is one JSON block; texts of traits and models reach the page as text, never as markup.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from prefvec.errors import ReportError
from prefvec.paths import RESULTS
from prefvec.report.cells import SHOWN, Gathered, arrow, curve_frame, pair_folder, trait_unit, why
from prefvec.report.figures import label
from prefvec.report.findings import Findings, verdict_frame
from prefvec.report.verdicts import succeeded
from prefvec.report.views import plain as interval
from prefvec.report.views import plain_value
from prefvec.store import write_text

TEMPLATE = Path(__file__).with_suffix(".html")
MAX_BYTES = 3_000_000
N_SAMPLES = 3  # questions whose answers are shown
MAX_CHARACTERS = 400  # of an answer
PICKED = "the selected method"


def write_dashboard(study: Gathered, cells: pd.DataFrame, found: Findings) -> Path:
    """Write the page of a profile. Raises ReportError if it grows beyond 3 MB."""
    page = render(page_data(study, cells, found))
    if len(page.encode()) > MAX_BYTES:
        raise ReportError(
            f"experiment_dashboard.html has {len(page.encode()) / 1e6:.1f} MB, the limit is "
            f"{MAX_BYTES / 1e6:.0f}: lower N_SAMPLES or MAX_CHARACTERS in report/dashboard.py"
        )
    return write_text(RESULTS / study.profile / "experiment_dashboard.html", page)


def page_data(study: Gathered, cells: pd.DataFrame, found: Findings) -> dict:
    """What the page shows, as plain values: options, efficiencies, answers, verdicts, chart specs."""
    ran = frozenset().union(*cells["ran"])
    methods = [m for m in SHOWN if m in ran]
    names = _names(study)
    te = _efficiencies(cells, methods, names)
    pairs = list(dict.fromkeys(row["pair"] for row in te))
    chosen = found.choice.method if found.choice.method in methods else methods[0]
    start = {"pair": pairs[0], "trait": study.traits[0], "method": chosen}
    verdicts = verdict_frame(found).replace("--", "–").to_numpy().tolist()
    charts = {
        "heat": _heat(te, start),
        "methods": _methods(te, [label(m) for m in methods], start),
        "dose": _dose(_curves(study, names), start),
    }
    return {
        "profile": study.profile,
        "options": {"pair": pairs, "trait": list(study.traits), "method": methods},
        "labels": {m: label(m) for m in methods},
        "units": {trait: trait_unit(study, trait) for trait in study.traits},
        "start": start,
        "te": te,
        "samples": _samples(study, methods, names),
        "verdicts": verdicts,
        "charts": {name: chart.to_dict() for name, chart in charts.items()},
    }


def render(data: Mapping) -> str:
    """The page with its data and libraries in it."""
    text = json.dumps(plain_value(data), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":  # no text can end the script block it is in
        text = text.replace(character, f"\\u{ord(character):04x}")
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("/*LIBRARY*/", vl_convert.javascript_bundle())
    return page.replace("/*DATA*/", text)


def _names(study: Gathered) -> dict[tuple[str, str], str]:
    """A name for each pair: by family, or by model where families would name two pairs alike."""
    pairs = [tuple(pair) for pair in study.pairs]
    if len({arrow(*pair) for pair in pairs}) == len(pairs):
        return {pair: arrow(*pair) for pair in pairs}
    return {pair: " → ".join(pair) for pair in pairs}


def _efficiencies(cells: pd.DataFrame, methods: list[str], names: dict) -> list[dict]:
    rows = []
    for cell in cells.to_dict("records"):
        for method in methods:
            value, low, high = cell[method].as_json()
            done = bool(succeeded(cell, method))
            rows.append(
                {
                    "pair": names[cell["source"], cell["target"]],
                    "trait": cell["trait"],
                    "method": method,
                    "label": label(method),
                    "te": value,
                    "low": low,
                    "high": high,
                    "text": interval(cell[method]) if value is not None else "–",
                    "reason": why(cell, method),
                    "succeeded": done,
                    "tick": " ✓" if done else "",
                }
            )
    return rows


def _curves(study: Gathered, names: dict) -> list[dict]:
    """Mean scores by dose; the unsteered answers are the point at dose 0 of every method."""
    frame = curve_frame(study)
    rows = []
    for (source, target, trait), part in frame.groupby(["source", "target", "trait"], sort=False):
        base = part[part.method == "unsteered"]
        for method, points in part[part.method != "unsteered"].groupby("method", sort=False):
            for r in pd.concat([base, points]).itertuples():
                rows.append(
                    {
                        "pair": names[source, target],
                        "trait": trait,
                        "method": method,
                        "label": label(method),
                        "dose": r.dose,
                        "score": r.value,
                        "low": r.ci_low,
                        "high": r.ci_high,
                    }
                )
    return [{k: v for k, v in row.items() if not _missing(v)} for row in rows]


def _samples(study: Gathered, methods: list[str], names: dict) -> list[dict]:
    """Answers to the first questions of the evaluation split, unsteered and of every method."""
    rows = []
    for (source, target, trait), manifest in study.manifests.items():
        seen = set()
        for stage in ("03", "04"):
            path = (
                pair_folder(study.profile, (source, target), trait) / f"generations_{stage}.jsonl"
            )
            if not path.exists():
                continue
            lines = path.read_text(encoding="utf-8").split("\n")
            answers = [json.loads(line) for line in lines if line.strip()]
            first = list(dict.fromkeys(a["question"] for a in answers))[:N_SAMPLES]
            for a in answers:
                at_site = a["method"] in methods and abs(a["dose"]) == manifest["site"]["dose"]
                key = (a["question"], a["method"])
                if a["question"] not in first or key in seen:
                    continue
                if at_site or a["method"] == "unsteered":
                    seen.add(key)
                    rows.append(
                        {
                            "pair": names[source, target],
                            "trait": trait,
                            "method": a["method"],
                            "question": a["question"],
                            "text": a["text"][:MAX_CHARACTERS],
                            "collapsed": bool(a["collapsed"]),
                        }
                    )
    return rows


def _picked(chart: alt.Chart, start: dict, *names: str) -> alt.Chart:
    """The chart with the page's selections as parameters, and the rows that fit them."""
    for name in names:
        chart = chart.add_params(alt.param(name=name, value=start[name]))
        chart = chart.transform_filter(f"datum.{name} == {name}")
    return chart


def _heat(te: list[dict], start: dict) -> alt.Chart:
    """Efficiency of the selected method by pair and trait."""
    base = alt.Chart(alt.Data(values=te)).encode(
        x=alt.X("trait:N", sort=None, title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("pair:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
        tooltip=["pair:N", "trait:N", "label:N", "text:N", "reason:N"],
    )
    colour = alt.Color("te:Q", title="TE").scale(scheme="purpleorange", domain=[-1, 1], clamp=True)
    cells = base.mark_rect(stroke="white").encode(
        color=alt.condition("isValid(datum.te)", colour, alt.value("#e8e8e8"))
    )
    dark = alt.condition(
        "isValid(datum.te) && abs(datum.te) > 0.7", alt.value("white"), alt.value("black")
    )
    texts = base.transform_calculate(shown="datum.text + datum.tick")
    texts = texts.mark_text(fontSize=11).encode(text="shown:N", color=dark)
    layered = alt.layer(cells, texts).properties(
        width=alt.Step(135), height=alt.Step(34), background="transparent"
    )
    return _picked(layered, start, "method")


def _methods(te: list[dict], order: list[str], start: dict) -> alt.Chart:
    """Efficiency of all methods in the selected cell, the selected one marked."""
    base = alt.Chart(alt.Data(values=te)).encode(
        y=alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=260)),
        color=alt.condition("datum.method == method", alt.value("#D55E00"), alt.value("#0072B2")),
        tooltip=["label:N", "text:N", "reason:N"],
    )
    scale = alt.Scale(domain=[-1.5, 2], clamp=True)
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale, title="transfer efficiency"), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=55).encode(x=alt.X("te:Q", scale=scale))
    at = alt.Chart(alt.Data(values=[{"x": 0}, {"x": 1}])).mark_rule(color="#999", strokeDash=[4, 3])
    picked = _picked(alt.layer(bars, points), start, "pair", "trait")
    picked = picked.add_params(alt.param(name="method", value=start["method"]))
    return alt.layer(at.encode(x="x:Q"), picked).properties(width=330)


def _dose(curves: list[dict], start: dict) -> alt.Chart:
    """Score by signed dose: own vector, a random direction, the selected method."""
    names = [label("oracle"), PICKED, label("random_0")]
    base = alt.Chart(alt.Data(values=curves)).encode(
        x=alt.X("dose:Q", title="signed dose (lengths of the target's own vector)"),
        color=alt.Color(
            "series:N", title=None, legend=alt.Legend(orient="bottom", columns=1)
        ).scale(domain=names, range=["#000000", "#D55E00", "#7F7F7F"]),
        tooltip=["label:N", "dose:Q", "score:Q", "low:Q", "high:Q"],
    )
    y = {"title": "mean score", "scale": alt.Scale(zero=False)}
    bands = base.mark_errorbar(ticks=True).encode(y=alt.Y("low:Q", **y), y2="high:Q")
    lines = base.mark_line(point=True).encode(y=alt.Y("score:Q", **y))
    layered = _picked(alt.layer(bands, lines), start, "pair", "trait")
    layered = layered.add_params(alt.param(name="method", value=start["method"]))
    layered = layered.transform_calculate(
        series=f"datum.method == method ? '{PICKED}' : datum.label"
    ).transform_filter(f"indexof({json.dumps(names)}, datum.series) >= 0")
    return layered.properties(width=380, height=260)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))
