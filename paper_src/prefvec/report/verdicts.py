"""Verdicts on the hypotheses and criteria of the study, computed from the cells' records.

Every threshold is a constant here and was fixed in advance. A cell is a directed pair and a trait; a
cell without the numbers that a verdict needs is left out of it and counted: `n` of `of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd

from prefvec.report.cells import NO_EFFECT, Gathered, bounded, own_vector, why
from prefvec.report.figures import label
from prefvec.report.views import plain_value
from prefvec.stats import UNKNOWN, Estimate, mean_ci
from prefvec.transfer.methods import DIRECT, LEARNED, controls_of

CONTROL_MARGIN = 0.2  # a success beats the map fitted on shuffled pairs by more than this
H1_DIRECTION = 0.7  # share of answers that must move the steered way
H2_EXPECTED = (0.1, 0.3)  # success rate that is expected of direct transfer
H3_GAIN = 0.2  # adapters must succeed on this much larger a share than direct transfer
MIN_COHERENCE, MIN_TRAIT, MAX_COLLAPSE = 3.5, 2.5, 0.3
CLEAR_SHARE, PARTIAL_SHARE = 2 / 3, 1 / 3  # of the judged cells
MIN_KNOWN = 0.5  # share of the cells that must have a value before anything is concluded
SUPPORTED, REJECTED, UNDECIDED = "supported", "rejected", "undecided"


class Record:
    """What can be written to a results file."""

    def as_record(self) -> dict:
        """Plain values by field name."""
        return {f.name: plain_value(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Verdict(Record):
    """What became of one claim: `status` is supported, rejected or undecided (for want of numbers).

    value: the estimate the status rests on, its interval over cells; n: how many entered, of `of`;
    rows: one record a cell, with the reason where it is missing.
    """

    key: str
    claim: str
    status: str
    value: Estimate
    n: int
    of: int
    rows: list[dict] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Criteria(Record):
    """How good one method's answers are in one cell, on scales from 1 to 5 (`criteria`)."""

    source: str
    target: str
    trait: str
    method: str
    coherence: float
    coherence_basis: str
    trait_strength: float
    collapse: float
    met: bool | None
    transferred: bool | None
    missing: str


@dataclass(frozen=True)
class Scenario(Record):
    """Clear success, partial success or failure of one method over the study (`scenario`)."""

    method: str
    status: str
    share: Estimate
    n: int
    of: int


@dataclass(frozen=True)
class Symmetry(Record):
    """Efficiencies of one method from A to B and back, |difference| and mean, by pair and trait."""

    method: str
    gap: Estimate
    mean: Estimate
    rows: list[dict]


@dataclass(frozen=True)
class Requirements(Record):
    """Direct transfer's success rate, what adapters add, and how the maps align the models: the mean
    over cells of the cosine between mapped and own vector, by map."""

    direct_rate: Estimate
    adapter_gain: Estimate
    alignment: dict[str, Estimate]


def succeeded(cell, method: str) -> bool | None:
    """Does a method transfer in a cell? The 95 % intervals of its effect and of its transfer efficiency
    lie above 0, and the efficiency is more than `CONTROL_MARGIN` (0.2) above that of its control
    (`controls_of`): a map fitted on pairs in random order, which carries no correspondence between the
    models. Other controls are reported, and do not enter. (Where random directions move the score the wrong way, an
    efficiency above 0 is not yet an effect.) None where either efficiency is unknown.
    """
    found, control = cell[method], cell[controls_of(method)[0]]
    if not np.isfinite([found.value, control.value]).all():
        return None
    moved = cell["effects"][method].low > 0
    return bool(moved and found.low > 0 and found.value - control.value > CONTROL_MARGIN)


def criterion(cells: pd.DataFrame, seed: int = 0) -> dict[str, Estimate]:
    """What choosing the ridge penalty by held-out concepts gains in efficiency over choosing it by
    reconstruction: mean over all cells, and over all but the main one (the first)."""
    gain = bounded(cells, "ridge_concept") - bounded(cells, "ridge_r2")
    return {"all": mean_ci(gain, seed), "others": mean_ci(gain[1:], seed)}


def success_table(cells: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """1.0, 0.0 or NaN (unknown) for every cell and method."""
    rows = cells.to_dict("records")
    found = {m: [np.nan if (s := succeeded(c, m)) is None else float(s) for c in rows] for m in methods}  # fmt: skip
    return pd.DataFrame(found, index=cells.index, dtype=float)


def _enough(known: int, of: int) -> bool:
    return known > 0 and known >= MIN_KNOWN * of


def verdict_h1(study: Gathered) -> Verdict:
    """H1: each source's own vector steers it: direction score above 0.7 for every model and trait."""
    rows = []
    for model in dict.fromkeys(source for source, _ in study.pairs):
        for trait in study.traits:
            found = own_vector(study.profile, model, trait)
            row = {"model": model, "trait": trait, "direction": UNKNOWN, "passed": None}
            if found:
                row["direction"] = Estimate.from_json(found["h1_direction"])
                row["passed"] = row["direction"].value > H1_DIRECTION
            rows.append(row | {"missing": "" if found else "notebook 02 has not run"})
    passed = [float(row["passed"]) for row in rows if row["passed"] is not None]
    status = SUPPORTED if all(passed) else REJECTED
    if status == SUPPORTED and not _enough(len(passed), len(rows)):
        status = UNDECIDED  # one that fails rejects the claim, however many have not run
    claim = f"every source's own vector steers it (direction score above {H1_DIRECTION})"
    return Verdict("h1", claim, status, mean_ci(passed), len(passed), len(rows), rows)


def verdict_h2(cells: pd.DataFrame) -> Verdict:
    """H2: methods that learn nothing succeed (`succeeded`) in 10 to 30 % of the cases.

    The rate is the mean over cells of the share of direct methods that succeed in a cell. Supported if
    its interval (cells resampled) lies within that range, rejected if it lies outside, else undecided.
    """
    table = success_table(cells, DIRECT)
    rate = mean_ci(table.mean(axis=1))
    low, high = H2_EXPECTED
    n = int(table.notna().any(axis=1).sum())
    status = UNDECIDED
    if _enough(n, len(cells)) and (rate.low > high or rate.high < low):
        status = REJECTED
    elif _enough(n, len(cells)) and low <= rate.low and rate.high <= high:
        status = SUPPORTED
    claim = f"direct transfer succeeds in {100 * low:.0f}–{100 * high:.0f} % of the cases"
    return Verdict("h2", claim, status, rate, n, len(cells), _rows(cells, table))


def verdict_h3(cells: pd.DataFrame) -> Verdict:
    """H3: adapters succeed more often than direct methods, by more than 20 points.

    The gain is the mean over cells of the share of learned maps that succeed minus that of the direct
    methods in the same cell. Supported if it exceeds 0.2 and its interval (cells resampled) lies above
    0; rejected if it does not exceed 0.2; undecided if only the interval forbids the claim.
    """
    learned, direct = success_table(cells, tuple(LEARNED)), success_table(cells, DIRECT)
    gains = learned.mean(axis=1) - direct.mean(axis=1)
    gain = mean_ci(gains)
    n = int(gains.notna().sum())
    if not _enough(n, len(cells)) or (gain.value > H3_GAIN and not gain.low > 0):
        status = UNDECIDED
    else:
        status = SUPPORTED if gain.value > H3_GAIN else REJECTED
    claim = f"adapters succeed more often than direct methods, by over {100 * H3_GAIN:.0f} points"
    return Verdict("h3", claim, status, gain, n, len(cells), _rows(cells, learned))


def criteria(cells: pd.DataFrame, site: pd.DataFrame, method: str) -> list[Criteria]:
    """Coherence, trait strength and collapse of a method's answers in each cell (`site_frame`).

    coherence = 5 − max(0, log₂(perplexity / unsteered perplexity)) − 4 · collapsed share, within 1 to
    5: a point for each doubling of perplexity; without the perplexity of the method, the collapse
    alone (`coherence_basis`: an upper bound). Trait strength = 1 + 4 · clip(effect / effect of the
    target's own vector, 0, 1). Met: above 3.5, above 2.5, and fewer than 30 % collapsed.
    """
    out = []
    for cell in cells.to_dict("records"):
        names = [cell[k] for k in ("source", "target", "trait")]
        mine = site[(site[["source", "target", "trait"]] == names).all(axis=1)]
        values = {(r.method, r.metric): r.value for r in mine.itertuples()}

        def get(name: str, metric: str, values=values) -> float:
            value = values.get((name, metric))
            return np.nan if value is None else float(value)

        collapse = get(method, "collapse")
        ratio = get(method, "perplexity") / get("unsteered", "perplexity")
        basis = "perplexity and collapse" if np.isfinite(ratio) else "collapse alone"
        worse = max(0.0, float(np.log2(ratio))) if np.isfinite(ratio) else 0.0
        coherence = float(np.clip(5 - worse - 4 * collapse, 1, 5))
        own = get("oracle", "effect")
        share = get(method, "effect") / own if own > 0 else np.nan
        strength = float(1 + 4 * np.clip(share, 0, 1))
        known = np.isfinite([coherence, strength]).all()
        met = bool(coherence > MIN_COHERENCE and strength > MIN_TRAIT and collapse < MAX_COLLAPSE)
        reason = why(cell, method)
        if not known and not reason:
            reason = NO_EFFECT
        out.append(
            Criteria(
                *names,
                method,
                coherence,
                basis,
                strength,
                collapse,
                met if known else None,
                succeeded(cell, method),
                reason,
            )
        )
    return out


def scenario(found: Sequence[Criteria]) -> Scenario:
    """The study in one word, for one method: the share of cells in which it transfers (`succeeded`)
    and meets the criteria. From two thirds of the judged cells on: clear success; from one third on:
    partial success; else failure. Undecided if fewer than half of the cells can be judged."""
    judged = [c for c in found if c.met is not None and c.transferred is not None]
    share = mean_ci([float(c.met and c.transferred) for c in judged])
    if not _enough(len(judged), len(found)):
        status = UNDECIDED
    elif share.value >= CLEAR_SHARE:
        status = "clear success"
    else:
        status = "partial success" if share.value >= PARTIAL_SHARE else "failure"
    return Scenario(found[0].method if found else "", status, share, len(judged), len(found))


def symmetry(cells: pd.DataFrame, method: str) -> Symmetry:
    """Is A → B as good as B → A? Pairs that the study has in both directions."""
    by_cell = {
        (c["source"], c["target"], c["trait"]): (c, te)
        for c, te in zip(cells.to_dict("records"), bounded(cells, method), strict=True)
    }
    rows = []
    for (a, b, trait), (forth, te_forth) in by_cell.items():
        if a >= b or (b, a, trait) not in by_cell:
            continue
        back, te_back = by_cell[b, a, trait]
        rows.append(
            {
                "a": a,
                "b": b,
                "trait": trait,
                "te_ab": te_forth,
                "te_ba": te_back,
                "gap": abs(te_forth - te_back),
                "mean": (te_forth + te_back) / 2,
                "missing": "; ".join(filter(None, dict.fromkeys([why(forth, method), why(back, method)]))),
            }
        )  # fmt: skip
    gaps, means = ([row[k] for row in rows] for k in ("gap", "mean"))
    return Symmetry(method, mean_ci(gaps), mean_ci(means), rows)


def requirements(study: Gathered, h2: Verdict, h3: Verdict) -> Requirements:
    """Direct transfer rate, adapter improvement and cross-model alignment."""
    cosines: dict[str, list[float]] = {}
    for manifest in study.manifests.values():
        for method, found in manifest.get("maps", {}).items():
            cosines.setdefault(method, []).append(found["cosine_to_own"])
    return Requirements(h2.value, h3.value, {m: mean_ci(v) for m, v in cosines.items()})


def _rows(cells: pd.DataFrame, table: pd.DataFrame) -> list[dict]:
    """One record a cell: which methods succeed, which don't, and why the others are unknown."""
    rows = []
    for cell, found in zip(cells.to_dict("records"), table.to_dict("records"), strict=True):
        unknown = [m for m, s in found.items() if np.isnan(s)]
        rows.append(
            {
                **{k: cell[k] for k in ("source", "target", "trait")},
                "succeeded": [m for m, s in found.items() if s == 1],
                "failed": [m for m, s in found.items() if s == 0],
                "missing": {
                    label(m): why(cell, m) or f"control: {why(cell, controls_of(m)[0])}"
                    for m in unknown
                },
            }
        )
    return rows
