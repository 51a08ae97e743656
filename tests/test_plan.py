"""The plan: its counts are the run's counts; its times follow the rates; nothing is guessed silently."""

import json
import math
import subprocess
import sys

import pytest

from prefvec.errors import ConfigError
from prefvec.paths import DATA, ROOT
from prefvec.plan import rates as rates_module
from prefvec.plan import report, shapes
from prefvec.plan.costs import Costs, disk, fresh
from prefvec.plan.rates import Rates, assumed, ridge_flops
from prefvec.plan.schedule import GPU_RULES, elapsed, schedule
from prefvec.plan.shapes import OutlinePool, assumptions, outline
from prefvec.plan.text import as_text, duration
from prefvec.plan.work import Work, stages
from prefvec.profile import load_profile

PAPER = DATA / "results" / "paper"
# What the publishers say, in billions (qwen2.5-coder: 0.494 and the head, which its GGUF file holds apart).
PUBLISHED = {
    "smollm2-135m-instruct": 0.1345, "gemma-3-270m": 0.268, "qwen2.5-coder-0.5b-instruct": 0.630,
    "gpt2-medium": 0.355, "mistral-7b-v0.1": 7.24, "gemma-7b": 8.54, "llama-2-7b": 6.74,
    "llama-3-8b": 8.03, "qwen-7b": 7.72, "qwen2.5-7b-instruct": 7.62, "llama-3.1-8b-instruct": 8.03,
    "mistral-7b-instruct-v0.3": 7.25, "llama-2-13b": 13.02, "qwen2.5-32b-instruct": 32.8,
}  # fmt: skip


@pytest.fixture(scope="module")
def paper():
    """The stages of the paper's profile, counted without any model."""
    return stages(load_profile("paper"), OutlinePool(exact=False))


@pytest.fixture(scope="module")
def full():
    """The stages of profile `full`."""
    return stages(load_profile("full"), OutlinePool(exact=False))


def files(stage_list):
    """(stage, lines of the generations file that it wrote in the committed run)."""
    for stage in stage_list:
        path = PAPER / stage.name / f"generations_{stage.notebook}.jsonl"
        if stage.answers and stage.rule != "extensions":
            yield stage, [json.loads(line) for line in path.read_text().splitlines()]


def test_assumed_shapes_have_the_published_number_of_parameters():
    known = assumptions().shapes
    assert set(known) == set(PUBLISHED)
    for name, billions in PUBLISHED.items():
        assert known[name].parameters / 1e9 == pytest.approx(billions, rel=0.01), name


@pytest.mark.real
def test_assumed_shapes_are_those_of_the_models_that_are_here():
    for name in ("smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct"):
        found = outline(name, exact=False)
        if found.folder is not None:
            real, said = found.shape, assumptions().shapes[name]
            assert real.parameters == said.parameters and real.cache_bytes(4) == said.cache_bytes(4)


def test_planned_answers_are_exactly_the_rows_of_the_committed_run(paper):
    checked = list(files(paper))
    assert len(checked) == 6
    for stage, rows in checked:
        assert stage.answers == len(rows), stage.id


def test_planned_conditions_are_exactly_those_of_the_committed_run(paper):
    """By method and number of doses, not only in sum."""
    for stage, rows in files(paper):
        split = "selection" if stage.rule == "validate" else "evaluation"
        planned = [w.key for w in stage.work if w.kind == "generate" and w.key[2] == split]
        real = {(r["method"], r["layer"], r["dose"]) for r in rows}
        names = [next(p for p in key[4:] if p != "verbosity") for key in planned]
        assert sorted(names) == sorted(method for method, _, _ in real)


def test_work_that_two_stages_share_is_counted_once(paper):
    by_rule = {s.rule: s for s in paper if "qwen2.5-coder-0.5b-instruct--" in s.name}
    direct, adapters = by_rule["direct_transfer"], by_rule["adapters"]
    known = {w.key for w in direct.work}
    left = fresh(adapters.work, known)
    methods = {w.key[5] for w in left if w.kind == "generate"}
    # ridge_concept at three doses and four other maps; references and selection are there already
    assert len([w for w in left if w.kind == "generate"]) == 7
    assert methods == {"ridge_concept", "ridge_r2", "procrustes", "shuffled_pairing", "wrong_trait"}
    assert not [w for w in left if w.key[0] == "path"]


def test_what_03_asks_of_the_target_is_what_02_has_asked(paper):
    target = "smollm2-135m-instruct"
    by_name = {(s.rule, s.name.split("/")[0]): s for s in paper}
    validated = by_name["validate", target]
    direct = by_name["direct_transfer", f"qwen2.5-coder-0.5b-instruct--{target}"]
    own = {w.key for w in direct.work if "own" in w.key}
    assert own and own <= {w.key for w in validated.work}
    steered = {part for w in validated.work if w.kind == "generate" for part in w.key}
    assert {"own", "pca", "actadd"} <= steered
    gold = [w for w in validated.work if w.key[0] == "gold"]
    assert [(w.model, w.rows) for w in gold] == [("qwen2.5-coder-0.5b-instruct", 2 * 48)]


def test_answers_that_01_reads_are_the_classifier_s_texts():
    profile = load_profile("paper").model_copy(update={"traits": ("silly",)})
    found = {s.rule: s for s in stages(profile, OutlinePool(exact=False)) if "smollm2" in s.name}
    texts = {w.key: w for w in found["extract"].work if w.kind == "generate"}
    assert len(texts) == 1
    known = {w.key: w for w in found["validate"].work}
    assert all(
        (known[key].rows, known[key].tokens) == (w.rows, w.tokens) for key, w in texts.items()
    )


def test_both_directions_share_the_captures_of_their_models(paper):
    shared = [s for s in paper if s.rule != "extensions"]
    captures = [w.key for s in shared for w in s.work if w.kind == "capture"]
    distinct = set(captures)
    assert len([k for k in distinct if k[2].startswith("alignment")]) == 2
    assert len(captures) > 2 * len(distinct)


def test_the_size_curve_is_the_first_pairs_alone_and_08_waits_for_both_directions(paper):
    first, second = (s for s in paper if s.rule == "extensions")
    assert {n.split("/")[0] for n in first.needs if n.startswith("adapters")} == {
        f"adapters {first.name}", f"adapters {second.name}",
    }  # fmt: skip
    sizes = sorted(w.tokens for w in first.work if w.kind == "ridge")
    assert sizes == [50] * 3 + [150] * 3 + [500] * 3 + [1500] * 3 + [5000] * 3
    assert not [w for w in second.work if w.kind == "ridge"]
    sampled = [w for w in second.work if w.kind == "generate"]
    assert second.answers == sum(w.rows for w in sampled) == 4 * 3 * 48
    assert (
        "extensions" in GPU_RULES and first.id in next(s for s in paper if s.rule == "paper").needs
    )


def test_a_trait_that_is_scored_by_likelihood_is_read_by_the_pair_s_other_model(full):
    scores = [(s, w) for s in full for w in s.work if w.kind == "score" and w.key[0] == "score"]
    assert scores and all("verbosity" not in w.key for _, w in scores)
    for stage, work in scores:
        assert work.model != next(w.model for w in stage.work if w.kind == "generate")


def test_answers_are_as_long_as_the_committed_ones_cut_at_the_limit(paper):
    costs = Costs(OutlinePool(exact=False), assumed("cpu", 2), "paper")
    model = "smollm2-135m-instruct"
    tokens = [r["n_tokens"] for s, rows in files(paper) for r in rows if s.name.split("/")[0].endswith(model)]  # fmt: skip
    for limit in (16, 64):
        expected = sum(min(limit, n) for n in tokens) / len(tokens)
        assert costs.length(model, limit).tokens == pytest.approx(expected)
    unknown = costs.length(model, 65)
    assert unknown.tokens == 65 and "upper bound" in unknown.basis


def test_time_follows_the_rates():
    pool, work = OutlinePool(exact=False), Work("capture", ("k",), "llama-2-7b", 64, 64_000)
    slow, fast = (Costs(pool, assumed(name), "full").work_seconds([work])["capture"] for name in ("a100", "h100"))  # fmt: skip
    # 2 FLOPs a weight and token, at the assumed share of the peak
    shape, sheet = assumptions().shapes["llama-2-7b"], assumptions().devices["a100"]
    assert slow == pytest.approx(2 * shape.block_parameters * 64_000 / (sheet.tflops * 1e12 * sheet.utilisation))  # fmt: skip
    assert fast < slow
    assert Costs(pool, assumed("a100"), "full").work_seconds([work], {("k",)}) == {}


@pytest.mark.parametrize("share, kept", [(0.4, False), (0.99, True)])
def test_rates_measured_beside_other_programs_are_not_kept(
    share, kept, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path))
    monkeypatch.setattr(rates_module, "_core_share", lambda threads: share)
    monkeypatch.setattr(
        rates_module, "_calibrate", lambda *_: Rates("x", "cpu", {1: 1e9}, 1, 1, 1e9, 0, 1e9, 0, 0, 4, 2, "here")
    )  # fmt: skip
    found = rates_module.measured("cpu")
    assert bool(list(tmp_path.rglob("plan-*.json"))) == kept
    assert ("60% of the cores" in found.basis) != kept
    assert ("not kept" in capsys.readouterr().err) != kept


def test_rates_between_measured_rows_are_interpolated():
    rates = Rates("x", "cpu", {1: 1e9, 100: 100e9}, 1, 1, 1e9, 0, 1e9, 0, 0, 4, 2, "test")
    assert rates.flops(10) == pytest.approx(10e9)
    assert rates.flops(1000) == pytest.approx(100e9)  # never beyond what was measured
    assert ridge_flops(10, 20, 30) == 10 * 20 * 10 + 10 * 10 * 30


def test_a_stage_of_a_model_takes_half_the_cores_and_two_run_side_by_side(paper):
    costs = Costs(OutlinePool(exact=False), assumed("cpu", 2), "paper")
    jobs = schedule(paper, costs, cores=2)
    assert [job.stage.id for job in jobs] == [stage.id for stage in paper]
    ends = {job.stage.id: job.start + job.seconds for job in jobs}
    together = set()
    for job in jobs:
        assert all(ends[need] <= job.start for need in job.stage.needs)
        beside = [j for j in jobs if j.start <= job.start < j.start + j.seconds]
        assert len(beside) == 1 or not any(j.stage.whole for j in beside)
        together.add(len(beside))
    assert together == {1, 2}


def test_more_gpus_are_never_slower_and_never_run_more_jobs_than_there_are(full):
    costs = Costs(OutlinePool(exact=False), assumed("a100"), "full")
    times = []
    for gpus in (1, 2, 4, 8):
        jobs = [j for j in schedule(full, costs, cores=8, gpus=gpus) if j.stage.rule in GPU_RULES]
        for job in jobs:
            assert sum(j.start <= job.start < j.start + j.seconds for j in jobs) <= gpus
        times.append(elapsed(jobs))
    assert times == sorted(times, reverse=True) and times[-1] < 0.6 * times[0]


def test_disk_counts_answers_activations_and_models(paper):
    found = disk(paper, OutlinePool(exact=False))
    assert found["models"] >= 4 * (0.494 + 0.1345) * 1e9 / 2**20 * 0.9
    answers = len({w.key for s in paper for w in s.work if w.kind == "generate"})
    assert answers * 12 * 4400 / 2**20 < found["cache"] < 500


def test_resources_grow_with_the_model_and_have_a_floor():
    small, large = (resources(name) for name in ("smoke", "full"))
    assert min(r["mem_mb"] for r in small) == report.FLOOR_MIB
    assert min(r["runtime"] for r in small) == report.FLOOR_MINUTES
    assert max(r["mem_mb"] for r in large) > 4 * max(r["mem_mb"] for r in small)


def resources(name: str) -> list[dict]:
    return list(report.resources(load_profile(name), 4).values())


def test_what_is_unknown_is_an_error_that_names_the_fix(tmp_path):
    with pytest.raises(ConfigError, match="device 'b300' is unknown: use one of a100.*plan.yaml"):
        assumed("b300")
    with pytest.raises(ConfigError, match="size of model 'org/new' is unknown: fetch it"):
        outline("org/new", exact=False)
    broken = tmp_path / "plan.yaml"
    broken.write_text(
        shapes.ASSUMPTIONS.read_text().replace("utilisation: 0.4,", "utilisation: 4,")
    )
    with pytest.raises(ConfigError, match="devices.a100.utilisation"):
        assumptions(broken)


@pytest.mark.parametrize("name", ["paper", "full"])
def test_the_plan_says_what_is_assumed_and_is_json(monkeypatch, name):
    monkeypatch.setattr(report, "measured", lambda _device: assumed("cpu", 2))
    monkeypatch.setattr(report, "_has_gpu", lambda: False)
    record = report.plan(load_profile(name), 2, 3, None)
    json.dumps(record, allow_nan=False)
    text = as_text(record)
    assert "rates are a data sheet's, not measured: edit data/plan.yaml" in text
    assert "profile full on one GPU" in text and "profile full on 3 GPUs" in text
    assert (
        "upper bound" in text
    )  # nobody has run `full`: answers are taken to be as long as allowed
    assert [item["gpus"] for item in record["gpu"]] == [1, 3]
    if name == "paper":
        stages_here = [
            r for r in record["here"]["stages"] if not r["stage"].startswith("extensions")
        ]
        rows = {row["stage"]: row["rows"] for row in stages_here if row["rows"]}
        files = (DATA / "results" / "paper").glob("*/verbosity/generations_0*.jsonl")
        committed = [len(path.read_text(encoding="utf-8").splitlines()) for path in files]
        assert len(committed) == 6 and sorted(rows.values()) == sorted(committed)
        for check in record["checks"]:  # the committed manifests
            assert check["measured_seconds"] > 0 and math.isfinite(check["time_ratio"])
        assert any(check["stages"].startswith("03 + 04") for check in record["checks"])


def test_manifests_of_other_settings_are_not_compared():
    profile = load_profile("paper")
    changed = profile.model_copy(update={"settings": {**profile.settings, "n_random": 2}})
    pool = OutlinePool(exact=False)
    assert len(report.checks(profile, pool, assumed("cpu", 2))) == 6
    assert report.checks(changed, pool, assumed("cpu", 2)) == []


def test_durations_read_like_a_person_says_them():
    assert [duration(s) for s in (7, 99, 240, 7200)] == ["7 s", "99 s", "4 min", "2.0 h"]


@pytest.mark.real
def test_the_plan_command_measures_this_machine_once(tmp_path):
    command = [sys.executable, "-m", "prefvec.cli", "plan", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["here"]["basis"].startswith("measured on smollm2-135m-instruct")
    assert 10 < record["here"]["elapsed_seconds"] < 10_000
    assert not record["here"]["prompts_estimated"]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "measuring" not in again.stderr and json.loads(again.stdout) == record
