"""The plan as a record and as text: stages, totals, GPUs, and how it compares with real runs."""

import json
from dataclasses import replace
from pathlib import Path

import psutil

from prefvec.notebooks import find_notebook, parameters_of
from prefvec.paths import DATA, RESULTS
from prefvec.plan.costs import MIB, Costs, disk, fresh
from prefvec.plan.counting import Stage
from prefvec.plan.rates import Rates, assumed, measured
from prefvec.plan.schedule import GPU_RULES, Scheduled, elapsed, most_memory, schedule
from prefvec.plan.shapes import ASSUMPTIONS, OutlinePool, assumptions
from prefvec.plan.work import stages
from prefvec.profile import Profile, Settings, computed_dtype, load_profile

SAFETY = 3.0  # resources asked of a cluster are the plan's, times this
FLOOR_MINUTES, FLOOR_MIB = 15, 2048


def plan(profile: Profile, cores: int, gpus: int, gpu: str | None, pdf: bool = True) -> dict:
    """Everything the plan says about a profile here, and about `full` on one GPU and on `gpus`.

    gpu: a device of data/plan.yaml, or None for this machine's own, else the default one. Raises
    ConfigError for a model of unknown size or an unknown device.
    """
    device = profile.settings.get("device", "auto")
    wants_gpu = device == "cuda"
    here = measured("cpu" if wants_gpu else device)
    own = measured("cuda") if gpu is None and _has_gpu() else None
    accelerator = own or assumed(gpu or assumptions().default_gpu)
    pool = OutlinePool()
    record = {"profile": profile.name, "here": None, "gpu": [], "checks": []}
    if not wants_gpu:
        record["here"] = _on(profile, pool, here, cores, int(here.kind == "cuda"), pdf)
        record["checks"] = checks(profile, pool, here)
    subject = profile if wants_gpu else load_profile("full")
    for count in dict.fromkeys((1, gpus)):
        record["gpu"].append(_on(subject, pool, accelerator, cores, count, pdf, here))
    return record


def resources(profile: Profile, cores: int) -> dict[str, dict[str, int]]:
    """Memory (MiB) and time (minutes) to ask of a cluster for each job, by its id: the plan's at
    assumed rates, as if nothing were computed yet, times a safety factor, and a floor below.

    Rates are assumed because a cluster's nodes are not this machine.
    """
    pool = OutlinePool(exact=False)
    device = assumptions().default_gpu if profile.settings.get("device") == "cuda" else "cpu"
    costs = Costs(pool, assumed(device, cores), profile.name)
    out = {}
    for stage in stages(profile, pool):
        share = 0 if stage.whole else max(1, cores // 2)
        seconds = costs.seconds(stage, cores=share)
        out[stage.id] = {
            "mem_mb": max(FLOOR_MIB, round(1.5 * costs.memory(stage)[0])),
            "runtime": max(FLOOR_MINUTES, round(SAFETY * seconds / 60)),
        }
    return out


def checks(profile: Profile, pool: OutlinePool, rates: Rates) -> list[dict]:
    """Predicted against measured wall time and memory, for stages that have a manifest with the
    same settings. 03 and 04 of a pair share work, which the first of them does: they are summed."""
    costs = Costs(pool, rates, profile.name)
    groups: dict[str, list[tuple[Stage, dict, set]]] = {}
    known: set[tuple] = set()
    found = stages(profile, pool)
    for stage in found:
        manifest = matching_manifest(profile, stage)
        if manifest is not None:
            pair = stage.rule in ("direct_transfer", "adapters")
            name = f"03 + 04 {stage.name}" if pair else f"{stage.notebook} {stage.name}"
            groups.setdefault(name, []).append((stage, manifest, set(known)))
        known |= {work.key for work in stage.work}
    out = []
    for name, parts in groups.items():
        if len(parts) < (2 if name.startswith("03") else 1):
            continue
        start = assumptions().overheads.start_seconds  # before the manifest's clock
        seconds = sum(costs.seconds(s, before, m["threads"]) - start for s, m, before in parts)
        real = sum(m["wall_seconds"] for _, m, _ in parts)
        memory = max(costs.memory(s)[0] for s, _, _ in parts)
        real_memory = max(m["peak_memory_mib"] for _, m, _ in parts)
        commit = parts[0][1].get("git", {}).get("commit") or "unknown"
        out.append(
            {
                "stages": name,
                "commit": commit[:7],
                "threads": parts[0][1]["threads"],
                "measured_seconds": round(real, 1),
                "predicted_seconds": round(seconds, 1),
                "time_ratio": round(seconds / real, 2),
                "measured_mib": real_memory,
                "predicted_mib": round(memory),
                "memory_ratio": round(memory / real_memory, 2),
            }
        )
    return out


def _on(
    profile: Profile, pool: OutlinePool, rates: Rates, cores: int, gpus: int, pdf: bool,
    host: Rates | None = None,
) -> dict:  # fmt: skip
    """A profile on one device: its stages, and totals."""
    if host is not None:  # ridge fits run on the processor whatever the models run on
        rates = replace(rates, solve=host.solve, fit_seconds=host.fit_seconds)
    costs = Costs(pool, rates, profile.name)
    found = stages(profile, pool, pdf)
    jobs = schedule(found, costs, cores, gpus)
    single = schedule(found, costs, cores, gpus and 1, one_by_one=True)
    host_mib, device_mib = most_memory(jobs, costs)
    models = {m for s in found for m in s.models}
    writing = {w.model for s in found for w in s.work if w.kind == "generate"}
    limit = profile.settings_for(*profile.pairs[0], profile.traits[0]).max_new_tokens
    return {
        "profile": profile.name,
        "device": rates.name,
        "basis": rates.basis,
        "gpus": gpus,
        "cores": cores,
        "stages": [_row(job, costs) for job in jobs],
        "one_by_one_seconds": round(elapsed(single)),
        "elapsed_seconds": round(elapsed(jobs)),
        "host_mib": round(host_mib),
        "device_mib": round(device_mib),
        "device_has_mib": round(rates.memory / MIB),
        "host_has_mib": round(psutil.virtual_memory().total / MIB),
        "disk_mib": {k: round(v) for k, v in disk(found, pool).items()},
        "answer_lengths": {m: costs.length(m, limit)._asdict() for m in sorted(writing)},
        "limit": limit,
        "prompts_estimated": sorted(m for m in models if not pool.get(m).exact),
    }


def _row(job: Scheduled, costs: Costs) -> dict:
    stage, todo = job.stage, fresh(job.stage.work, set(job.known))
    new = [w for w in todo if w.kind in ("generate", "ask")]
    memory = costs.memory(stage)
    return {
        "stage": stage.id,
        "rows": stage.answers,
        "new_rows": sum(w.rows for w in new),
        "prompt_tokens": sum(w.tokens for w in new),
        "new_tokens": round(sum(w.rows * costs.length(w.model, w.new_tokens).tokens for w in new)),
        "captured_tokens": sum(w.tokens for w in todo if w.kind == "capture"),
        "scored_tokens": sum(w.tokens for w in todo if w.kind == "score"),
        "fits": sum(w.rows for w in todo if w.kind == "ridge"),
        "seconds": round(job.seconds, 1),
        "seconds_by_work": {
            k: round(v, 1) for k, v in costs.work_seconds(stage.work, set(job.known)).items()
        },  # fmt: skip
        "start": round(job.start, 1),
        "host_mib": round(memory[0]),
        "device_mib": round(memory[1]),
    }


def matching_manifest(profile: Profile, stage: Stage) -> dict | None:
    """The manifest of a stage that was run with the same settings, if there is one."""
    if stage.rule not in GPU_RULES:
        return None
    for root in dict.fromkeys((RESULTS, DATA / "results")):
        path: Path = root / profile.name / stage.name / f"manifest_{stage.notebook}.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        settings = manifest.get("settings")
        if not settings:
            continue
        wanted = profile.settings_for(settings["source"], settings["target"], settings["trait"])
        # A setting that is newer than the run had its default then; others are not the stage's.
        notebook = (
            "04" if stage.rule == "extensions" else stage.notebook
        )  # 08 takes what 04 ran with
        declared = parameters_of(find_notebook(notebook)).keys() & Settings.model_fields
        if wanted.dtype == computed_dtype(manifest):  # asked for, or chosen by `auto`
            settings = settings | {"dtype": wanted.dtype}
        then = {k: settings.get(k, Settings.model_fields[k].default) for k in declared}
        return manifest if then.items() <= wanted.model_dump().items() else None
    return None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def assumption_file() -> str:
    """Where the assumptions are, for messages."""
    return f"data/{ASSUMPTIONS.name}"
