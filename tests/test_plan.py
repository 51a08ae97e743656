"""The plan: its counts are the run's counts; its times follow the rates; nothing is guessed silently."""

import json
import math
import subprocess
import sys
from collections import Counter

import pytest

from prefvec.effects import READ
from prefvec.errors import ConfigError
from prefvec.metrics.gold import load_gold
from prefvec.notebooks import diagnostic_notebooks
from prefvec.paths import DATA, ROOT, pair_name
from prefvec.plan import rates as rates_module
from prefvec.plan import report, shapes
from prefvec.plan.costs import ANSWER_FILE_BYTES, Costs, disk, fresh
from prefvec.plan.counting import Work
from prefvec.plan.pair_work import LEARNED, MATCHED, MATCHED_RANDOM
from prefvec.plan.rates import Rates, assumed, ridge_flops
from prefvec.plan.schedule import GPU_RULES, elapsed, schedule
from prefvec.plan.shapes import OutlinePool, assumptions, outline
from prefvec.plan.text import as_text, duration
from prefvec.plan.work import stages
from prefvec.profile import load_profile
from prefvec.study import JUDGES
from prefvec.traits import load_trait
from prefvec.transfer.extensions import SAMPLED
from prefvec.transfer.methods import WRONG
from prefvec.transfer.sizes import SUBSETS
from prefvec.validation import OTHER_METHODS

PAPER = DATA / "results" / "paper"
# What the publishers say, in billions (qwen2.5-coder: 0.494 and the head, which its GGUF file holds apart).
PUBLISHED = {
    "smollm2-135m-instruct": 0.1345, "gemma-3-270m": 0.268, "qwen2.5-coder-0.5b-instruct": 0.630,
    "gpt2-medium": 0.355, "mistral-7b-v0.1": 7.24, "gemma-7b": 8.54, "llama-2-7b": 6.74,
    "llama-3-8b": 8.03, "qwen-7b": 7.72, "qwen2.5-7b-instruct": 7.62, "llama-3.1-8b-instruct": 8.03,
    "mistral-7b-instruct-v0.3": 7.25, "llama-2-13b": 13.02, "qwen2.5-32b-instruct": 32.8,
}  # fmt: skip


@pytest.fixture(scope="module")
def counted():
    """Outlines, and what is counted with them."""
    return OutlinePool(exact=False)


@pytest.fixture(scope="module")
def paper(counted):
    """The stages of the paper's profile, counted without any model."""
    return stages(load_profile("paper"), counted)


@pytest.fixture(scope="module")
def full():
    """The stages of profile `full`."""
    return stages(load_profile("full"), OutlinePool(exact=False))


def cell(stage_list, rule, part):
    """The stage of a rule for a model or a pair, for the profile's first trait."""
    return next(s for s in stage_list if (s.rule, s.name.split("/")[0]) == (rule, part))


@pytest.fixture(scope="module")
def committed(paper):
    """(stage, lines of its generations file) for every stage of the committed run that has the profile's
    settings; what was run with others, or not yet, is left out."""
    profile = load_profile("paper")
    stages_there = [
        stage
        for stage in paper
        if stage.answers
        and stage.rule in ("validate", "direct_transfer", "adapters")
        and (PAPER / stage.name / f"manifest_{stage.notebook}.json").is_file()
        and report.matching_manifest(profile, stage)
    ]
    if not stages_there:
        pytest.skip(f"no stage in {PAPER.relative_to(ROOT)} was run with the profile's settings")
    return [
        (stage, lines(PAPER / stage.name / f"generations_{stage.notebook}.jsonl"))
        for stage in stages_there
    ]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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


def test_planned_answers_are_exactly_the_rows_of_the_committed_run(committed):
    for stage, rows in committed:
        assert stage.answers == len(rows), stage.id


def test_planned_conditions_are_exactly_those_of_the_committed_run(committed):
    """By method and number of doses, not only in sum."""
    for stage, rows in committed:
        split = "selection" if stage.rule == "validate" else "evaluation"
        planned = [w.key for w in stage.work if w.kind == "generate" and w.key[2] == split]
        real = {(r["method"], r["layer"], r["dose"]) for r in rows}
        trait = stage.name.split("/")[1]
        names = [next(p for p in key[4:] if p != trait) for key in planned]
        assert sorted(names) == sorted(method for method, _, _ in real), stage.id


def test_work_that_two_stages_share_is_counted_once(paper):
    profile = load_profile("paper")
    pair, trait = profile.pairs[0], profile.traits[0]
    settings = profile.settings_for(*pair, trait)
    direct, adapters = (
        cell(paper, rule, pair_name(*pair)) for rule in ("direct_transfer", "adapters")
    )
    left = fresh(adapters.work, {w.key for w in direct.work})
    new = Counter(w.key[5] for w in left if w.kind == "generate" and w.key[2] == "evaluation")
    # References are there already, but for the random ones' dose at equal KL.
    expected = Counter(
        [
            *LEARNED,
            *MATCHED,
            *(f"random_{i}" for i in range(min(MATCHED_RANDOM, settings.n_random))),
        ]
    )
    expected["ridge_concept"] += len(settings.doses) - 1
    assert new == expected
    asked = [w.key for w in left if w.kind == "generate" and w.key[2] == "choice"]
    both_ways = len(WRONG)  # another trait's vector is tried towards both of its poles
    expected = len(LEARNED) + both_ways + settings.n_random + len(["oracle", "unsteered"])
    assert len(asked) == expected
    assert not [w for w in left if w.key[0] == "path" or "selection" in w.key]
    [read] = [w for w in left if w.key[0] == "perplexity"]
    assert read.rows == len(READ) * settings.n_evaluation


def test_what_03_asks_of_the_target_is_what_02_has_asked(paper):
    source, target = load_profile("paper").pairs[0]
    validated = cell(paper, "validate", target)
    direct = cell(paper, "direct_transfer", pair_name(source, target))
    own = {w.key for w in direct.work if "own" in w.key}
    assert own and own <= {w.key for w in validated.work}
    steered = {part for w in validated.work if w.kind == "generate" for part in w.key}
    assert {"own", *OTHER_METHODS} <= steered
    [gold] = [w for w in validated.work if w.key[0] == "gold"]
    texts = 2 * len(load_gold(load_profile("paper").traits[0]))
    assert (gold.model, gold.rows) == (next(j for j in JUDGES if j != target), 2 * texts)


def test_answers_that_01_reads_are_the_classifier_s_texts(paper):
    profile = load_profile("paper")
    by_classifier = [t for t in profile.traits if load_trait(t).measure == "classifier"]
    assert by_classifier
    for trait in by_classifier:
        for judge in JUDGES:
            found = {s.rule: s for s in paper if s.name == f"{judge}/{trait}"}
            texts = {w for w in found["extract"].work if w.key[0] == "texts" and w.model == judge}
            [first] = [w for w in texts if w.key[3] == 0]  # pooled over, and the classifier's
            assert first.rows > 0 and texts <= set(found["validate"].work)


def test_both_directions_share_the_captures_of_their_models(paper):
    source, target = load_profile("paper").pairs[0]
    there, back = (
        {w.key for w in cell(paper, "adapters", name).work if w.kind == "capture"}
        for name in (pair_name(source, target), pair_name(target, source))
    )
    shared = {key for key in there & back if key[2].startswith("alignment")}
    assert {key[1] for key in shared} == {source, target} and len(shared) == 2


def test_diagnostics_follow_04_and_leave_to_it_what_it_has_computed(paper):
    profile = load_profile("paper")
    found = [s for s in paper if s.rule in diagnostic_notebooks()]
    cells = len(profile.pairs) * len(profile.diagnostics.traits)
    assert len(found) == cells * len(diagnostic_notebooks())
    last = next(s for s in paper if s.rule == "paper")
    for stage in found:
        adapters = next(s for s in paper if s.id == f"adapters {stage.name}")
        assert adapters.id in stage.needs and stage.id in last.needs
        assert stage.rule in GPU_RULES and stage.whole and stage.answers > 0
        new = fresh(stage.work, {w.key for w in adapters.work})
        assert new and not [w for w in new if w.key[0] == "path"]


def test_requests_to_judge_and_black_box_are_counted_for_the_first_pair(paper):
    profile = load_profile("paper")
    found = {(s.rule, s.name): s for s in paper if s.rule in ("judge", "black_box")}
    main, last = pair_name(*profile.pairs[0]), next(s for s in paper if s.rule == "paper")
    expected = {("judge", f"{main}/{t}") for t in profile.judge.traits}
    expected |= {("black_box", f"{main}/{t}") for t in profile.black_box.traits}
    assert set(found) == expected
    for stage in found.values():
        assert f"adapters {stage.name}" in stage.needs and stage.id in last.needs
    judge, box = (found[rule, f"{main}/verbosity"] for rule in ("judge", "black_box"))
    [asked] = judge.work
    n = 2 * profile.judge.n_gold + 2 * profile.judge.n_broken  # labelled, whole and broken texts
    assert (asked.kind, asked.rows) == ("ask", n + 2 * judge.answers)
    assert judge.answers == 5 * profile.judge.n_judged
    [asked] = [w for w in box.work if w.kind == "ask"]
    # 3 vectors × 4 coefficients, 2 × 4 biases, 2 without either; equal requests are sent once
    assert box.answers == (2 + 12 + 8) * profile.black_box.n_asked
    assert asked.rows == (2 + 4 + 8) * profile.black_box.n_asked
    costs = Costs(OutlinePool(exact=False), assumed("cpu", 2), "paper")
    slow = asked._replace(new_tokens=2 * asked.new_tokens, rows=2 * asked.rows)
    assert 0 < costs.work_seconds([asked])["ask"] < costs.work_seconds([slow])["ask"]


def test_a_judge_behind_an_address_takes_no_work_here(counted):
    profile = load_profile("smoke")
    paid = profile.model_copy(
        update={"judge": profile.judge.model_copy(update={"judge_model": "gpt-4o"})}
    )
    [stage] = [s for s in stages(paid, counted) if s.rule == "judge"]
    assert stage.work == () and stage.answers > 0


def test_the_map_of_layers_is_counted_pair_by_pair(paper):
    profile = load_profile("paper")
    pair, trait = profile.pairs[0], profile.diagnostics.traits[0]
    stage = next((s for s in paper if s.id == f"layers {pair_name(*pair)}/{trait}"), None)
    if stage is None:
        pytest.skip("notebook 05c is not there")
    n = len(profile.diagnostics.depths)
    mapped = [w for w in stage.work if w.kind == "generate" and "map" in w.key]
    assert len(mapped) == 2 * n * n + 2 * n
    assert {w.rows for w in mapped} == {profile.settings_of(trait)["n_selection"]}


def test_the_size_curve_is_the_first_pairs_alone_and_08_waits_for_both_directions(paper):
    profile = load_profile("paper")
    assert "extensions" in GPU_RULES
    for i, (source, target) in enumerate(profile.pairs):
        stage = next(s for s in paper if s.id == f"extensions {pair_name(source, target)}")
        chosen = profile.extensions_of(source, target)
        assert {n.split("/")[0] for n in stage.needs if n.startswith("adapters")} == {
            f"adapters {pair_name(source, target)}", f"adapters {pair_name(target, source)}",
        }  # fmt: skip
        sizes = [w.tokens for w in stage.work if w.kind == "ridge" and w.key[0].startswith("size")]
        assert sorted(sizes) == (sorted(SUBSETS * profile.extensions.sizes) if i == 0 else [])
        sampled = [w for w in stage.work if w.kind == "generate" and w.key[2] == "sampling"]
        n = profile.settings_for(source, target, profile.traits[0]).n_evaluation
        assert sum(w.rows for w in sampled) == (len(SAMPLED) + 1) * chosen.n_seeds * n
        # beside what is steered anew: the unsteered ones and one vector of 04, and its references
        parts = ("composition", "size", "sampling")
        steered = [w for w in stage.work if w.kind == "generate" and w.key[2] in parts]
        assert stage.answers > sum(w.rows for w in steered) > 0
        assert stage.id in next(s for s in paper if s.rule == "paper").needs


@pytest.mark.parametrize("name", ["paper", "full"])
def test_a_trait_that_is_scored_by_likelihood_is_read_by_another_model(request, name):
    found = request.getfixturevalue(name)
    scores = [(s, w) for s in found for w in s.work if w.kind == "score" and w.key[0] == "score"]
    expected = {t for t in load_profile(name).traits if load_trait(t).measure == "likelihood"}
    assert expected and {w.key[1] for _, w in scores} == expected
    for stage, work in scores:
        writer = work.key[-2]
        assert work.model != writer and writer in stage.models


def test_answers_are_as_long_as_the_committed_ones_cut_at_the_limit():
    costs = Costs(OutlinePool(exact=False), assumed("cpu", 2), "paper")
    model = JUDGES[0]
    found = []  # (limit of the run, tokens of the answer)
    for path in PAPER.glob("*/*/generations_*.jsonl"):
        if path.parts[-3].split("--")[-1] == model:
            manifest = path.with_name(path.stem.replace("generations", "manifest") + ".json")
            limit = json.loads(manifest.read_text())["settings"]["max_new_tokens"]
            found += [(limit, row["n_tokens"]) for row in lines(path) if "n_tokens" in row]
    longest = max(limit for limit, _ in found)
    for limit in (16, longest):
        tokens = [min(limit, n) for allowed, n in found if allowed >= limit]
        assert costs.length(model, limit).tokens == pytest.approx(sum(tokens) / len(tokens))
    unknown = costs.length(model, longest + 1)
    assert unknown.tokens == longest + 1 and "upper bound" in unknown.basis


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
    work = fresh((w for s in paper for w in s.work), set())
    answers = sum(w.rows for w in work if w.kind == "generate") * ANSWER_FILE_BYTES
    activations = sum(w.kept for w in work if w.kind == "capture")
    assert min(answers, activations) > 0
    assert found["cache"] == pytest.approx((answers + activations) / 2**20)


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
def test_the_plan_says_what_is_assumed_and_is_json(monkeypatch, request, name):
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
        planned = {row["stage"]: row["rows"] for row in record["here"]["stages"]}
        assert planned == {s.id: s.answers for s in request.getfixturevalue("paper")}


def test_the_plan_is_held_against_the_committed_manifests(counted, committed):
    found = report.checks(load_profile("paper"), counted, assumed("cpu", 2))
    for check in found:
        assert check["measured_seconds"] > 0 and math.isfinite(check["time_ratio"])
    named = " ".join(check["stages"] for check in found)
    assert all(s.name in named for s, _ in committed if s.rule == "validate")


def test_manifests_of_other_settings_are_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "DATA", tmp_path)
    profile, pool, rates = load_profile("smoke"), OutlinePool(exact=False), assumed("cpu", 2)
    ran = [s for s in stages(profile, pool) if s.rule in GPU_RULES]
    measured = {"wall_seconds": 9.0, "peak_memory_mib": 99.0, "threads": 2}

    def write(without=None):
        for stage in ran:
            models = (*stage.name.split("/")[0].split("--"),) * 2  # a model's stage: it twice
            settings = profile.settings_for(*models[:2], profile.traits[0]).model_dump()
            settings.pop(without, None)
            path = tmp_path / "smoke" / stage.name / f"manifest_{stage.notebook}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({**measured, "settings": settings}))

    write()
    compared = report.checks(profile, pool, rates)
    assert len(compared) == len(ran) - len(profile.pairs)  # 03 and 04 of a pair are one
    changed = profile.model_copy(update={"settings": {**profile.settings, "seed": 7}})
    assert report.checks(changed, pool, rates) == []
    write(without="n_evaluation")  # newer than the run, whose default then is not the profile's
    assert report.checks(profile, pool, rates) == []


def test_durations_read_like_a_person_says_them():
    assert [duration(s) for s in (7, 99, 240, 7200)] == ["7 s", "99 s", "4 min", "2.0 h"]


@pytest.mark.real
def test_the_plan_command_measures_this_machine_once(tmp_path):
    cli = [sys.executable, "-m", "prefvec.cli"]
    for model in {name for pair in load_profile("quick").pairs for name in pair}:
        subprocess.run([*cli, "fetch", model], cwd=ROOT, check=True)  # whatever test came before
    command = [*cli, "plan", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["here"]["basis"].startswith("measured on smollm2-135m-instruct")
    assert 10 < record["here"]["elapsed_seconds"] < 10_000
    assert not record["here"]["prompts_estimated"]
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "not kept" in done.stderr:  # other programs were busy, as the record says
        assert "other programs took" in record["here"]["basis"]
        assert "measuring" in again.stderr
    else:
        assert "measuring" not in again.stderr and json.loads(again.stdout) == record
