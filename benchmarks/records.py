"""Results: one record a row, ratios, and targets."""

import math
import statistics
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Record:
    """One measured row. `ratio` is how many times better prefvec is than this contestant (above 1:
    prefvec is better), or the value itself where there is no contestant; `met` says whether it
    meets `target` (None: no target). A contestant that failed has no median, and a `note`."""

    work: str
    contestant: str
    median: float | None
    unit: str
    ratio: float | None
    n: int = 0
    low: float | None = None
    high: float | None = None
    target: float | None = None
    met: bool | None = None
    note: str = ""


def record(work: str, contestant: str, values: list[float], unit: str, note: str = "") -> Record:
    """Median and range of repetitions; without any, a row that says why."""
    if not values:
        return Record(work, contestant, None, unit, None, note=note or "no result")
    return Record(
        work, contestant, statistics.median(values), unit, None, len(values), min(values),
        max(values), note=note,
    )  # fmt: skip


def against(rows: list[Record], ours: str, higher_is_better: bool = True) -> list[Record]:
    """The rows with ratios to ours."""
    own = next((r.median for r in rows if r.contestant == ours), None)
    out = []
    for row in rows:
        ratio = None
        if own and row.median:
            ratio = own / row.median if higher_is_better else row.median / own
        out.append(Record(**{**asdict(row), "ratio": ratio}))
    return out


def judged(
    work: str,
    contestant: str,
    value: float | None,
    unit: str,
    target: float,
    at_most: bool = False,
    n: int = 1,
    note: str = "",
) -> Record:
    """A value held against its target."""
    if value is None or math.isnan(value):
        return Record(work, contestant, None, unit, None, target=target, met=False, note=note)
    met = value <= target if at_most else value >= target
    return Record(work, contestant, value, unit, value, n, target=target, met=met, note=note)


def best_ratio(rows: list[Record], contestants: list[str]) -> tuple[float | None, str]:
    """The ratio to the best of these contestants, and its name."""
    found = [(r.ratio, r.contestant) for r in rows if r.contestant in contestants and r.ratio]
    return min(found) if found else (None, "no contestant ran")


def as_table(rows: list[Record]) -> str:
    """The records as aligned text."""
    head = ("work", "contestant", "median", "unit", "ratio", "target", "note")
    lines = [head]
    for r in rows:
        target = "" if r.target is None else f"{r.target:g} {'met' if r.met else 'MISSED'}"
        lines.append(
            (
                r.work,
                r.contestant,
                "–" if r.median is None else f"{r.median:.4g}",
                r.unit,
                "–" if r.ratio is None else f"{r.ratio:.2f}",
                target,
                r.note,
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)  # fmt: skip
