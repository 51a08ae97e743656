"""Verdicts follow from records by the rules that are written down, and say what is missing."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from prefvec.errors import ReportError
from prefvec.models.architecture import recommended_strategy
from prefvec.paths import DATA
from prefvec.report import cells as all_cells
from prefvec.report import choice, findings, paper, strategy, verdicts
from prefvec.report.views import plain_value
from prefvec.stats import Estimate
from prefvec.store import read_json, write_json
from study_records import MODELS, PAIRS, TRAITS, record, write_cell, write_model

QWEN, SMOL, GEMMA = MODELS
MODULES = (all_cells, findings, paper, strategy)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results folder of the made-up profile `p`."""
    for module in MODULES:
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path / "p"


def load(pairs, traits):
    study = all_cells.gather("p", pairs, traits)
    return study, all_cells.pair_cells(study)


def one_cell(results, **given):
    write_cell(results, (QWEN, SMOL, "verbosity"), **given)
    return load([[QWEN, SMOL]], ["verbosity"])


def test_efficiencies_are_read_at_the_chosen_dose_not_at_a_matched_one(results):
    _, cells = one_cell(results)
    assert cells.dose[0] == -2.0
    assert cells.procrustes[0].value == 0.6  # 0.33 is the record at the matched dose
    assert cells.zero_pad[0].value == 0.05 and cells.cca[0].low == pytest.approx(0.55)


def test_what_is_missing_is_listed_with_its_reason(results):
    write_cell(results, (QWEN, SMOL, "verbosity"))
    write_cell(results, (QWEN, SMOL, "silly"), defined=False)
    study, cells = load([[QWEN, SMOL], [SMOL, QWEN]], ["verbosity", "silly"])
    assert len(cells) == 4  # none is dropped
    rows = {(c["source"], c["trait"]): c for c in cells.to_dict("records")}
    assert all_cells.why(rows[QWEN, "verbosity"], "ridge_concept") == ""
    assert all_cells.why(rows[QWEN, "verbosity"], "mlp") == "the method was not run"
    assert all_cells.why(rows[QWEN, "silly"], "ridge_concept") == all_cells.NO_EFFECT
    assert "notebook 04 has not run" in all_cells.why(rows[SMOL, "silly"], "ridge_concept")
    gone = paper.missing_frame(study, cells)
    assert ((gone.what == "notebook 03") & (gone.pair == "SmolLM2 → Qwen2.5")).sum() == 2
    assert (gone.reason == all_cells.NO_EFFECT).sum() == 1


def test_no_results_at_all_is_one_readable_error(results):
    with pytest.raises(ReportError, match="no results of profile 'p'.*run notebooks 03 and 04"):
        load([[QWEN, SMOL]], ["verbosity"])


@pytest.mark.parametrize(
    ("te", "control", "expected"),
    [(0.8, 0.1, True), (0.8, 0.61, False), (0.14, -0.5, False), (0.32, 0.1, True)],
)
def test_success_needs_an_interval_above_zero_and_a_margin_over_the_control(
    results, te, control, expected
):
    """Intervals of the made-up efficiencies are ± 0.15."""
    _, cells = one_cell(
        results, learned={"ridge_concept": te}, controls={"shuffled_pairing": control}
    )
    assert verdicts.succeeded(cells.to_dict("records")[0], "ridge_concept") is expected


def test_an_effect_the_wrong_way_is_no_success_however_bad_random_directions_are(results):
    _, cells = one_cell(results)
    cell = cells.to_dict("records")[0]
    assert verdicts.succeeded(cell, "ridge_concept")
    cell["effects"] = {**cell["effects"], "ridge_concept": Estimate(-4.0, -10.0, 2.0)}
    assert verdicts.succeeded(cell, "ridge_concept") is False


def test_success_is_unknown_without_the_control(results):
    _, cells = one_cell(results, controls={"wrong_trait": 0.0})
    assert verdicts.succeeded(cells.to_dict("records")[0], "ridge_concept") is None
    assert verdicts.verdict_h2(cells).status == "undecided"
    assert "control" in str(verdicts.verdict_h2(cells).rows[0]["missing"])


@pytest.mark.parametrize(("rates", "status"), [((0.25, 0.25, 0.25, 0.25), "supported"), ((1, 0, 0, 0), "undecided"), ((0, 0, 0, 0), "rejected"), ((1, 1, 0.5, 0.5), "rejected")])  # fmt: skip
def test_h2_asks_for_a_rate_between_10_and_30_percent(results, rates, status):
    names = ("zero_pad", "interpolate", "pca_projection", "random_projection")
    for pair, rate in zip(PAIRS, rates, strict=False):
        write_cell(
            results,
            (*pair, "silly"),
            direct={m: 0.9 if i < 4 * rate else 0.0 for i, m in enumerate(names)},
        )
    _, cells = load(PAIRS[:4], ["silly"])
    verdict = verdicts.verdict_h2(cells)
    assert verdict.status == status and verdict.value.value == pytest.approx(np.mean(rates))
    assert (verdict.n, verdict.of) == (4, 4)
    assert verdict.rows[0]["succeeded"] == (list(names[: int(4 * rates[0])]))


@pytest.mark.parametrize(
    ("learned", "status"),
    [
        ([0.9] * 6, "supported"),
        ([0.0] * 6, "rejected"),
        ([0.9, 0.0, 0.0, 0.0, 0.0, 0.0], "rejected"),  # 17 points
        ([0.9, 0.9, -0.9, 0.0, 0.0, 0.0], "undecided"),  # 33 points; the interval holds 0
    ],
)
def test_h3_asks_for_20_points_and_an_interval_above_zero(results, learned, status):
    for pair, te in zip(PAIRS, learned, strict=True):
        write_cell(results, (*pair, "silly"), direct={"zero_pad": 0.0}, learned={"cca": te})
    _, cells = load(PAIRS, ["silly"])
    verdict = verdicts.verdict_h3(cells)
    assert verdict.status == status
    assert verdict.value.value == pytest.approx(np.mean([te > 0.5 for te in learned]))


def test_h1_is_rejected_by_one_weak_vector_and_says_what_has_not_run(results):
    write_cell(results, (QWEN, SMOL, "verbosity"))
    study, _ = load([[QWEN, SMOL], [SMOL, QWEN]], ["verbosity"])
    assert verdicts.verdict_h1(study).status == "undecided"
    write_model(results, QWEN, "verbosity", 0.9)
    verdict = verdicts.verdict_h1(study)
    assert (verdict.status, verdict.n, verdict.of) == ("supported", 1, 2)
    assert verdict.rows[1]["missing"] == "notebook 02 has not run"
    write_model(results, SMOL, "verbosity", 0.7)  # must be above
    assert verdicts.verdict_h1(study).status == "rejected"


def test_the_criteria_follow_their_formulas(results):
    study, cells = one_cell(results)
    [c] = verdicts.criteria(cells, all_cells.site_frame(study), "ridge_concept")
    assert c.coherence == pytest.approx(5 - math.log2(16 / 8) - 4 * 0.05)
    assert c.trait_strength == pytest.approx(1 + 4 * 0.8) and c.collapse == 0.05
    assert c.met is True and c.transferred is True and c.coherence_basis.startswith("perplexity")
    [c] = verdicts.criteria(cells, all_cells.site_frame(study), "cca")
    assert c.coherence == pytest.approx(4.8) and c.coherence_basis == "collapse alone"
    [c] = verdicts.criteria(cells, all_cells.site_frame(study), "ridge_r2")  # a negative effect
    assert c.trait_strength == 1 and c.met is False
    [c] = verdicts.criteria(cells, all_cells.site_frame(study), "mlp")
    assert c.met is None and c.missing == "the method was not run"


@pytest.mark.parametrize(
    ("working", "status"), [(4, "clear success"), (3, "partial success"), (1, "failure")]
)
def test_the_scenario_is_the_share_of_cells_that_transfer_and_meet_the_criteria(
    results, working, status
):
    for i, pair in enumerate(PAIRS):
        write_cell(results, (*pair, "silly"), learned={"ridge_concept": 0.8 if i < working else 0.0})  # fmt: skip
    study, cells = load(PAIRS, ["silly", "honest"])  # honest has not run: it does not count
    found = verdicts.scenario(
        verdicts.criteria(cells, all_cells.site_frame(study), "ridge_concept")
    )
    assert found.status == status and (found.n, found.of) == (6, 12)


def test_symmetry_compares_both_directions_once(results):
    write_cell(results, (QWEN, SMOL, "silly"), learned={"ridge_concept": 0.9})
    write_cell(results, (SMOL, QWEN, "silly"), learned={"ridge_concept": 0.4})
    write_cell(results, (QWEN, GEMMA, "silly"), learned={"ridge_concept": 0.4})
    _, cells = load([[QWEN, SMOL], [SMOL, QWEN], [QWEN, GEMMA], [GEMMA, QWEN]], ["silly"])
    found = verdicts.symmetry(cells, "ridge_concept")
    assert found.gap.value == pytest.approx(0.5) and found.mean.value == pytest.approx(0.65)
    assert len(found.rows) == 2 and "has not run" in str([r["missing"] for r in found.rows])


def test_advice_follows_compatibility_and_is_held_against_what_was_best(results):
    assert recommended_strategy({"overall": 0.81, "dimension": 0.1}) == "direct"
    assert recommended_strategy({"overall": 0.8, "dimension": 0.71}) == "scaled"
    assert recommended_strategy({"overall": 0.8, "dimension": 0.7}) == "adapted"
    write_cell(results, (QWEN, SMOL, "silly"))
    write_cell(results, (SMOL, QWEN, "silly"), direct={"zero_pad": 0.95})
    write_json(
        results / "results_00.json", [{"pair": [SMOL, QWEN], "overall": 0.9, "dimension": 0.6}]
    )
    study, cells = load([[QWEN, SMOL], [SMOL, QWEN], [QWEN, GEMMA]], ["silly"])
    found = strategy.strategy(study, cells)
    assert [row["advised"] for row in found.rows] == ["direct", "direct", ""]
    assert [row["best"] for row in found.rows] == ["adapted", "direct", ""]
    assert found.agreement.value == 0.5 and found.n == 2
    assert "notebook 00 has not run" in found.rows[2]["missing"]


def test_the_protocol_stops_at_the_first_success(results):
    learned = {"ridge_concept": 0.8, "multiscale": 0.9}
    write_cell(results, (QWEN, SMOL, "silly"), direct={"zero_pad": 0.9}, learned=learned)
    write_cell(results, (SMOL, QWEN, "silly"), direct={"zero_pad": 0.0}, learned=learned)
    _, cells = load([[QWEN, SMOL], [SMOL, QWEN]], ["silly"])
    rows = {row["step"]: row for row in strategy.protocol(cells).rows}
    assert [r["first_success"] for r in rows.values()] == [1, 0, 1, 0]
    assert rows["direct"]["mean"].value == pytest.approx(0.45)
    assert rows["scaled"]["missing"] == "the method was not run"


def test_the_method_is_chosen_on_the_choice_split_and_judged_on_the_evaluation(results):
    for pair in PAIRS:
        for trait in TRAITS:
            write_cell(results, (*pair, trait), choice={"cca": 0.9, "ridge_concept": 0.5})
    study, cells = load(PAIRS, TRAITS)
    chosen, ranking = choice.choose(study)
    assert chosen.method == "cca" and "24 cells" in chosen.reason
    assert list(ranking.method) == ["cca", "ridge_concept"]
    best = choice.best_frame(cells, chosen.method).set_index("key")
    assert best.of.to_dict() == {
        "all": 24, "core": 6, "core.main": 2, "Gemma 3.main": 4, "sound": 24,
        "trait.verbosity": 6, "trait.formality": 6, "trait.silly": 6, "trait.honest": 6,
    }  # fmt: skip
    assert best["mean"]["all"].value == pytest.approx(0.7)  # the evaluation's value, not 0.9
    numbers = findings.numbers(findings.find(study, cells))
    assert numbers["best.te.gemma-3.main"][0].value == pytest.approx(0.7)
    assert numbers["verdict.h3.status"][0] == "supported"


def test_without_a_choice_split_the_protocols_method_is_reported_with_the_reason(results):
    study, _ = one_cell(results)
    chosen, ranking = choice.choose(study)
    assert chosen.method == "ridge_concept" and "no cell has a choice split" in chosen.reason
    assert ranking.empty


def test_the_written_verdicts_and_summary_hold_every_cell(results):
    write_cell(results, (QWEN, SMOL, "verbosity"))
    write_model(results, QWEN, "verbosity")
    study, cells = load([[QWEN, SMOL], [SMOL, QWEN]], ["verbosity"])
    found = findings.find(study, cells)
    record = read_json(findings.write_verdicts(study, found))
    assert {"h1", "h2", "h3", "scenario", "symmetry", "strategy", "protocol"} <= set(record)
    assert record["h2"]["status"] == "undecided" and len(record["criteria"]) == 2
    assert [m["what"] for m in record["missing"]] == ["notebook 03", "notebook 04"]
    text = paper.write_summary(study, cells, found).read_text()
    assert "| undecided |" in text and "SmolLM2 → Qwen2.5" in text and "has not run" in text
    assert "nan" not in text


def test_a_record_without_a_finite_bound_is_none_in_json():
    row = record((QWEN, SMOL, "silly"), "cca", -2.0, "effect", 1.0, (0.5, None, 0.9))
    found = all_cells._efficiency(pd.Series(row))
    assert found.as_json() == [0.5, None, 0.9] and not found.low > 0
    json.dumps(plain_value({"a": found, "b": np.float64("nan")}), allow_nan=False)


def test_the_committed_results_say_what_their_records_say():
    """The real pairs: one direction transfers, in the other the control reaches the same."""
    pairs = [[QWEN, SMOL], [SMOL, QWEN]]
    study = all_cells.gather("paper", pairs, ["verbosity"])
    cells = all_cells.pair_cells(study)
    raw = read_json(DATA / "results/paper" / f"{QWEN}--{SMOL}" / "verbosity" / "results_04.json")
    dose = study.manifests[QWEN, SMOL, "verbosity"]["site"]["dose"]
    for method in ("ridge_concept", "procrustes", "shuffled_pairing"):
        [want] = [
            r["transfer_efficiency"]
            for r in raw
            if r["method"] == method and r["metric"] == "effect" and abs(r["dose"]) == dose
        ]
        assert cells[method][0].value == want
    found = findings.find(study, cells)
    for cell in cells.to_dict("records"):
        te, control = cell["ridge_concept"], cell["shuffled_pairing"]
        expected = te.low > 0 and te.value - control.value > 0.2
        assert verdicts.succeeded(cell, "ridge_concept") is bool(expected)
    assert found.hypotheses[0].of == 2 and found.strategy.n == 2
    assert {v.status for v in found.hypotheses} <= {"supported", "rejected", "undecided"}


@pytest.mark.parametrize(
    "known, h2, h3", [(2, "undecided", "undecided"), (12, "rejected", "supported")]
)
def test_two_cells_of_many_decide_nothing(known, h2, h3, monkeypatch):
    def shares(frame, methods):
        table = pd.DataFrame(np.nan, index=frame.index, columns=list(methods))
        table.iloc[:known] = float("ridge_concept" in methods)
        return table

    monkeypatch.setattr(verdicts, "success_table", shares)
    monkeypatch.setattr(verdicts, "_rows", lambda *_: [])
    cells = pd.DataFrame({"a": range(24)})
    assert (verdicts.verdict_h2(cells).status, verdicts.verdict_h3(cells).status) == (h2, h3)


def test_a_map_is_held_against_its_own_controls(results):
    learned = {"ridge_concept": 0.6, "multiscale": 0.9}
    own = {"shuffled_pairing": 0.1, "wrong_trait": 0.2, "shuffled_multiscale": 0.8, "wrong_trait_multiscale": 0.3}  # fmt: skip
    write_cell(
        results,
        (QWEN, SMOL, "verbosity"),
        learned=learned,
        controls=own | {"nothing": 0.4},
        choice=learned,
    )
    study, cells = load([[QWEN, SMOL]], ["verbosity"])
    cell = cells.iloc[0]
    assert verdicts.succeeded(cell, "ridge_concept") and not verdicts.succeeded(cell, "multiscale")
    gains = findings.find(study, cells).gains
    found = {name: gain.value for name, gain in gains.items()}
    assert found == pytest.approx({"shuffled": 0.1, "wrong_trait": 0.6, "zero_pad": 0.85, "ridge_concept": 0.3,
                                   "ridge_r2": np.nan, "nothing": 0.5}, nan_ok=True)  # fmt: skip


def test_a_cell_whose_ends_break_is_not_sound_and_the_criterion_is_held_over_all_cells(results):
    for trait, r2 in (("verbosity", -0.1), ("formality", 0.7)):
        write_cell(results, (QWEN, SMOL, trait), learned={"ridge_concept": 0.8, "ridge_r2": r2})
    _, cells = load([[QWEN, SMOL]], ["verbosity", "formality"])
    assert all_cells.sound(cells).tolist() == [True, True]
    cells.loc[0, "broken"]["oracle"] = 0.5
    cells.loc[1, "broken"]["random"] = 0.2
    assert all_cells.sound(cells).tolist() == [False, False]
    gain = verdicts.criterion(cells)
    assert gain["all"].value == pytest.approx(0.5) and gain["others"].value == pytest.approx(0.1)


def test_the_tables_of_cells_hold_those_with_a_value_beside_maps_and_beside_controls(results):
    write_cell(results, (QWEN, SMOL, "verbosity"), learned={"ridge_concept": 0.6})
    write_cell(results, (QWEN, SMOL, "silly"), defined=False)
    _, cells = load([[QWEN, SMOL]], ["verbosity", "silly"])
    maps, controls = paper.pair_tables(cells, "ridge_concept").values()
    assert list(maps.trait) == list(controls.trait) == ["verbosity"]
    assert maps.iloc[0, 2] == controls.iloc[0, 2] == r"$0.60\;[0.45,\,0.75]$"
    assert list(controls.columns)[-1] == "own vector breaks" and controls.iloc[0, -1] == "5%"
    assert controls.iloc[0, -2] == "$0.00$"  # nothing, without an interval
