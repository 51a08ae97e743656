"""What the engine costs, from `benchmarks/results.json`: table and figure of the paper's appendix."""

import matplotlib.pyplot as plt
import pandas as pd

from prefvec.errors import ReportError
from prefvec.paths import ROOT
from prefvec.store import read_json

RESULTS = ROOT / "benchmarks" / "results.json"
MACHINE = ROOT / "benchmarks" / "machine.json"
PANELS = {
    "rows": "rows in the sweep",
    "tokens": "new tokens a row (64 rows)",
    "doses": "doses (16 prompts each)",
}
SPEED, AUTO, NATURAL = "forced length, float32", "forced length, auto", "natural length, auto"


def records() -> pd.DataFrame:
    """The committed benchmark: one row a measurement (`benchmarks/README.md` names the columns)."""
    return pd.DataFrame(read_json(RESULTS))


def contestants(rows: pd.DataFrame) -> pd.DataFrame:
    """Forced- and natural-length sweeps by contestant: median, unit and ratio."""
    chosen = rows[rows.work.isin([SPEED, NATURAL]) & rows.unit.isin(["tokens/s", "s"])]
    return pd.DataFrame(
        {
            "Sweep": [work.split(",")[0] for work in chosen.work],
            "Contestant": [
                name.removesuffix("_lib").removesuffix("_engine").replace("_", " ")
                for name in chosen.contestant
            ],
            "Median": [f"{value:.1f}" if value == value else "--" for value in chosen["median"]],
            "Unit": list(chosen.unit),
            "prefvec is better by": [f"{x:.2f} ×" if x == x else "--" for x in chosen.ratio],
        }
    )


def targets(rows: pd.DataFrame) -> pd.DataFrame:
    """The works that have a target, what was measured, and whether it was met."""
    held = rows[rows.target.notna()]
    return held[["work", "contestant", "median", "unit", "target", "met", "note"]].reset_index(
        drop=True
    )


def numbers(rows: pd.DataFrame) -> dict[str, float | int | str]:
    """What the paper says of the engine, by key."""
    machine, held = read_json(MACHINE), targets(rows)

    def ratio(work: str, contestant: str) -> float:
        found = held[(held.work == work) & (held.contestant == f"prefvec / {contestant}")]
        if found.empty:
            raise ReportError(
                f"{RESULTS.name} has no row '{work}: prefvec / {contestant}': run benchmarks/run.sh"
            )
        return float(found["median"].iloc[0])

    return {
        "engine.processor": f"{machine['processor']} ({machine['torch']})",
        "engine.threads": machine["threads"],
        "engine.texts": machine["equal_texts"],
        "engine.forced": ratio(SPEED, "best on transformers"),
        "engine.documented": ratio(AUTO, "best as documented"),
        "engine.natural": ratio(NATURAL, "best as documented"),
        "engine.met": int(held.met.sum()),
        "engine.targets": len(held),
    }


def scaling_figure(rows: pd.DataFrame) -> plt.Figure:
    """Tokens per second by rows, new tokens and doses; one panel each."""
    points = rows[rows.work == "scaling"]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(7, 2), sharey=True)
    for ax, (name, label) in zip(axes, PANELS.items(), strict=True):
        mine = points[points.contestant.str.startswith(f"{name}=")]
        x = [int(text.split("=")[1]) for text in mine.contestant]
        ax.plot(x, mine["median"], "o-", color="#0072B2", markersize=4)
        ax.set_xscale("log", base=2)
        crowded = {a for a, b in zip(x, x[1:], strict=False) if len(x) > 5 and b < 4 * a}
        ax.set_xticks(x, ["" if value in crowded else str(value) for value in x])
        ax.set_xlabel(label)
        ax.set_ylim(0, None)
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("tokens per second")
    figure.tight_layout()
    return figure
