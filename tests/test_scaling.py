"""Beyond one machine: resources of every job, executors, and jobs that run somewhere else."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from prefvec import pipeline
from prefvec.notebooks import diagnostic_notebooks
from prefvec.paths import ROOT, slug
from prefvec.plan.report import FLOOR_MIB, FLOOR_MINUTES, resources
from prefvec.profile import load_profile

SUBMIT = "{submit} {{threads}} {{resources.mem_mb}} {{resources.runtime}} {{resources.gpu}}"


def run(results: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`prefvec run …` with its results elsewhere."""
    elsewhere = {"PREFVEC_RESULTS": str(results / "results"), "PREFVEC_FIGURES": str(results / "figures")}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "prefvec.cli", "run", *arguments],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, **elsewhere, **environment},
    )  # fmt: skip


def jobs_of(text: str) -> list[tuple[str, dict[str, str]]]:
    """(rule, resources) of every job of a dry run but `all`."""
    blocks = re.findall(r"rule (\w+):\n(.*?)(?:\n\[|\n\n|\Z)", text, re.S)
    pairs = [(rule, re.search(r"resources: (.*)", block)) for rule, block in blocks]
    return [
        (r, dict(x.split("=", 1) for x in m[1].split(", "))) for r, m in pairs if m and r != "all"
    ]


@pytest.fixture
def markers():
    """Markers of fetched models, as after a run; those that were not there are taken away again."""
    folder = ROOT / ".prefvec" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    made = [p for m in load_profile("smoke").models if not (p := folder / slug(m)).exists()]
    for path in made:
        path.touch()
    yield
    for path in made:
        path.unlink()


def test_every_job_asks_for_memory_time_and_a_gpu_only_where_the_profile_wants_one(tmp_path):
    small = run(tmp_path, "--profile", "smoke", "--dry-run", "--cores", "2", "--", "--forceall")
    jobs = dict(jobs_of(small.stdout))
    assert {"model", "architectures", "extract", "validate", "adapters", "paper", "pdf"} <= set(jobs)  # fmt: skip
    for rule, asked in jobs.items():
        assert int(asked["mem_mb"]) >= FLOOR_MIB and int(asked["runtime"]) >= FLOOR_MINUTES, rule
        assert asked["gpu"] == "0"
    large = run(tmp_path, "--full", "--dry-run", "--cores", "8", "--no-pdf")
    jobs = dict(jobs_of(large.stdout))
    with_gpu = {rule for rule, asked in jobs.items() if asked["gpu"] == "1"}
    stages = {"extract", "validate", "direct_transfer", "adapters", "extensions"}
    assert with_gpu == stages | set(diagnostic_notebooks())
    assert int(jobs["architectures"]["mem_mb"]) > 30_000  # an 8B model in float32


@pytest.mark.parametrize("name", ["smoke", "paper", "full"])
def test_the_plan_knows_every_job_of_the_snakefile(tmp_path, name):
    """Otherwise a job would ask for the default, and nobody would notice."""
    done = run(tmp_path, "--profile", name, "--dry-run", "--cores", "2", "--", "--forceall")
    asked = [asked for _, asked in jobs_of(done.stdout)]
    planned = resources(load_profile(name), 2)
    assert len(asked) == len(planned)
    assert sorted(int(a["mem_mb"]) for a in asked) == sorted(p["mem_mb"] for p in planned.values())


def test_a_model_that_is_fetched_again_does_not_hide_stages_that_are_missing(tmp_path, markers):
    """Snakemake leaves out what depends on a remade file that is marked `ancient`."""
    done = run(
        tmp_path, "--profile", "smoke", "--dry-run", "--cores", "2", "--", "--forcerun", "model"
    )
    assert {"extract", "validate", "direct_transfer", "adapters", "paper"} <= {
        rule for rule, _ in jobs_of(done.stdout)
    }


@pytest.mark.parametrize("executor", ["local", "cluster-generic"])
def test_only_stages_on_this_machine_watch_the_pipeline_s_process(monkeypatch, executor, tmp_path):
    """On another node the process id is nobody's, and the stage would end itself."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    seen = {}

    class Ended:
        stdout = ()

        def __init__(self, command, env, **_):
            seen.update(command=command, env=env)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.setattr(pipeline, "STATE", tmp_path)
    monkeypatch.setenv("PREFVEC_PIPELINE_PID", "1")  # as inside another run
    monkeypatch.setenv("PREFVEC_CACHE", "/shared/cache")
    pipeline.run(load_profile("smoke"), 1, pdf=False, dry_run=False, executor=executor)
    here = executor == "local"
    assert seen["env"].get("PREFVEC_PIPELINE_PID") == (str(os.getpid()) if here else None)
    assert ("--envvars" in seen["command"]) is not here
    assert here or "PREFVEC_CACHE" in seen["command"]


def test_stages_on_one_gpu_take_turns(monkeypatch):
    assert pipeline._executor_options(load_profile("full"), "local", 0) == ["--resources", "gpu=1"]
    assert pipeline._executor_options(load_profile("paper"), "local", 0) == []


@pytest.mark.skipif(not find_spec("snakemake_executor_plugin_slurm"), reason="no Slurm plugin")
def test_a_dry_run_for_slurm_lists_the_same_jobs(tmp_path):
    done = run(
        tmp_path, "--full", "--no-pdf", "--dry-run", "--cores", "8", "--executor", "slurm", "--jobs", "20",
        "--", "--slurm-no-account",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    rules = [rule for rule, _ in jobs_of(done.stdout)]
    assert rules.count("adapters") == 12 and rules.count("extract") == 9
    assert "threads: 8" in done.stdout


@pytest.mark.real
def test_jobs_that_are_submitted_elsewhere_do_the_same(tmp_path):
    """The generic executor with a submit command that starts the job script in the background, in
    an environment of its own: what a job needs has to come with it."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    submit, log = tmp_path / "submit.sh", tmp_path / "submitted"
    kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "PREFVEC_PIPELINE_PID")}
    kept["PATH"] = "/usr/bin:/bin"  # not the environment's: the job must know its own python
    words = " ".join(f"{k}={v}" for k, v in kept.items())
    submit.write_text(
        f'#!/bin/sh\necho "$@" >>{log}\n'
        f'env -i {words} nohup sh "$5" >>{tmp_path}/job.log 2>&1 </dev/null &\necho $!\n'
    )
    submit.chmod(submit.stat().st_mode | stat.S_IXUSR)
    base = os.path.relpath(tmp_path / "results" / "smoke", ROOT)
    done = run(
        tmp_path, "--profile", "smoke", "--no-pdf", "--cores", "2", "--executor", "cluster-generic",
        "--jobs", "2", "--", "--cluster-generic-submit-cmd", SUBMIT.format(submit=submit),
        "--latency-wait", "10", "--", f"{base}/manifest_00.json",
        f"{base}/smollm2-135m-instruct/verbosity/manifest_01.json",
        PREFVEC_CACHE=os.environ.get("PREFVEC_CACHE", os.path.expanduser("~/.cache/prefvec")),
    )  # fmt: skip
    job_log = tmp_path / "job.log"
    assert done.returncode == 0, done.stdout[-1500:] + (job_log.read_text()[-1500:] if job_log.exists() else "")  # fmt: skip
    submitted = [line.split() for line in log.read_text().splitlines()]
    assert len(submitted) == 2  # `model` ran here
    assert all(int(mib) >= FLOOR_MIB and int(minutes) >= FLOOR_MINUTES and gpus == "0" for _, mib, minutes, gpus, _ in submitted)  # fmt: skip
    folder = tmp_path / "results" / "smoke"
    manifest = json.loads((folder / "smollm2-135m-instruct/verbosity/manifest_01.json").read_text())
    assert manifest["stage"] == "01_extract" and manifest["threads"] == 1
    assert (folder / "tables" / "architectures.tex").exists()


def test_a_kubernetes_job_has_the_stage_s_script_resources_and_volume(tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *create*) cat >{tmp_path}/job.yaml;; *"get job"*) cat {tmp_path}/condition;; esac\n'
    )
    kubectl.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PREFVEC_K8S_IMAGE": "python:3.11-slim",
        "PREFVEC_K8S_CLAIM": "prefvec",
        "PREFVEC_K8S_MOUNT": "/shared",
    }

    def kubernetes(*arguments: str) -> subprocess.CompletedProcess:
        command = ["bash", str(ROOT / "scripts" / "kubernetes.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    script = "/shared/prefvec/.snakemake/tmp.x/snakejob.direct_transfer.3.sh"
    for gpus in ("0", "2"):
        done = kubernetes("submit", "4", "24024", "90", gpus, script)
        assert done.returncode == 0, done.stderr
        job = yaml.safe_load((tmp_path / "job.yaml").read_text())
        assert job["metadata"]["name"] == done.stdout.strip()
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", done.stdout.strip())
        stage = job["spec"]["template"]["spec"]["containers"][0]
        assert stage["command"] == ["sh", script] and job["spec"]["activeDeadlineSeconds"] == 5400
        assert stage["resources"]["requests"] == {"cpu": "4", "memory": "24024Mi"}
        assert stage["resources"]["limits"].get("nvidia.com/gpu") == (2 if gpus == "2" else None)
        assert stage["volumeMounts"][0]["mountPath"] == "/shared"
    for condition, expected in (("", "running"), ("Complete", "success"), ("FailureTarget Failed", "failed")):  # fmt: skip
        (tmp_path / "condition").write_text(condition)
        assert kubernetes("status", "prefvec-x").stdout.strip() == expected
    environment.pop("PREFVEC_K8S_CLAIM")
    assert "PREFVEC_K8S_CLAIM" in kubernetes("submit", "1", "1", "1", "0", script).stderr


def test_run_all_passes_its_arguments_to_run_or_to_plan(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    (tmp_path / "scripts" / "bootstrap.sh").write_text(
        f'ROOT={tmp_path}\nbootstrap() {{ echo "latex $WANT_LATEX"; PATH={tmp_path}:$PATH; }}\n'
    )
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)

    def said(*arguments: str) -> list[str]:
        command = ["bash", str(tmp_path / "run_all.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()

    assert said() == ["latex 1", "-m prefvec.cli run"]
    assert said("--quick", "--", "--forceall") == ["latex 1", "-m prefvec.cli run --quick -- --forceall"]  # fmt: skip
    assert said("--full", "--plan", "--gpus", "8") == ["latex 0", "-m prefvec.cli plan --full --gpus 8"]  # fmt: skip
