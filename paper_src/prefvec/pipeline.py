"""Run a profile through Snakemake: one rule a notebook, resumable, one run at a time."""

import ast
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from prefvec.errors import ConfigError, PrefvecError, ReportError
from prefvec.paths import DATA, FIGURES, NOTEBOOKS, RESULTS, ROOT, TEX
from prefvec.profile import SOME_TRAITS, Profile, load_profile
from prefvec.store import atomic_path

PACKAGE = ROOT / "paper_src" / "prefvec"
STATE = ROOT / ".prefvec"
# What a job on another node must know of this process's surroundings.
PASSED_ON = ("PREFVEC_CACHE", "PREFVEC_RESULTS", "PREFVEC_FIGURES", "PREFVEC_ROOT", "HF_HOME")


def library_inputs(notebook: str) -> list[str]:
    """Library files that a notebook imports, directly or through others: the rule's code inputs."""
    found: set[Path] = set()
    todo = list(_imports(NOTEBOOKS / f"{notebook}.py"))
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += _imports(path)
    return sorted(str(path.relative_to(ROOT)) for path in found)


def _imports(path: Path) -> set[Path]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prefvec"):
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("prefvec")}
    files = set()
    for name in names:
        base = PACKAGE.joinpath(*name.split(".")[1:])
        files |= {p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()}
    return files


def overridden(
    profile: str,
    source: str | None,
    targets: str | None,
    trait: str | None,
    settings: dict[str, object],
) -> Profile:
    """A profile with the reader's own pairs, trait or settings, checked like a file. A source without
    targets gets the profile's, or its other models where it is the only target itself. Raises ConfigError
    where no pair is left."""
    from prefvec.judge.judging import is_local

    base = load_profile(profile)
    changes = base.model_dump()
    if source is not None or targets is not None:
        sources = [source] if source else list(dict.fromkeys(a for a, _ in base.pairs))
        chosen = list(dict.fromkeys(b for _, b in base.pairs))
        if targets is not None:
            chosen = [name.strip() for name in targets.split(",")]
        elif chosen == sources:
            chosen = base.models
        changes["pairs"] = [(a, b) for a in sources for b in chosen if a != b]
        if not changes["pairs"]:
            raise ConfigError(
                f"--target-models {','.join(chosen)}: the source itself is the only target: name another"
            )
    if trait:
        changes["traits"] = [trait]
        for part in SOME_TRAITS:
            if changes[part]["traits"]:
                changes[part]["traits"] = [trait]
    if not is_local(changes["pairs"][0][1]):  # llama.cpp serves GGUF files alone
        changes["black_box"]["traits"] = []
    given = {k: v for k, v in settings.items() if v is not None}
    changes["settings"] = {**base.settings, **given}
    changes["trait_settings"] = {
        name: {**its, **given}
        for name, its in base.trait_settings.items()
        if name in changes["traits"]
    }
    result = Profile(**changes)
    result.settings_for(*result.pairs[0], result.traits[0])
    return result


def apart(profile: Profile) -> Profile:
    """The profile under a name of its own, `<name>-own`, where its results would replace committed ones:
    those are of the profile as its file says it."""
    if not profile.claims or RESULTS != DATA / "results":
        return profile
    name = f"{profile.name}-own"
    print(f"your own choices: results in data/results/{name}; those of '{profile.name}' stay")
    return profile.model_copy(update={"name": name, "claims": False})


def run(
    profile: Profile,
    cores: int,
    pdf: bool,
    dry_run: bool,
    extra: Sequence[str] = (),
    executor: str = "local",
    jobs: int = 0,
    goal: str = "all",
) -> int:
    """Run (or dry-run) the pipeline of a profile; Snakemake's exit status.

    cores: of this machine, or of one job where the executor is not `local`; jobs: at once on a
    cluster; extra: further options for Snakemake; goal: the rule to end with, `all` or `validated`
    (notebooks 01 and 02 of the sources). A dry run changes nothing and may be made beside a run.
    Raises PrefvecError if another run holds the repository, ConfigError for an executor that can't be used.
    """
    where = _executor_options(profile, executor, jobs)
    STATE.mkdir(exist_ok=True)
    settings = profile.model_dump(mode="json") | {"cores": cores}
    if executor != "local" or dry_run:  # only a cluster is asked for memory and time
        from prefvec.plan.report import resources

        settings["resources"] = resources(profile, cores)
    if dry_run:  # it changes nothing: beside a run too, and with a configuration of its own
        with tempfile.TemporaryDirectory(dir=STATE, prefix="dry-run-") as folder:
            config = Path(folder) / f"profile-{profile.name}.json"
            config.write_text(json.dumps(settings))
            command = [*_snakemake(config, cores, goal, pdf, where), "--dry-run", *extra]
            return _followed(command, executor)[0]
    with _one_run():
        config = STATE / f"profile-{profile.name}.json"
        config.write_text(json.dumps(settings))
        started = time.monotonic()
        command = [*_snakemake(config, cores, goal, pdf, where), "--quiet", "rules", *extra]
        status, nothing = _followed(command, executor)
        if status == 0:
            if not nothing and (RESULTS / profile.name / "index.html").exists():
                from prefvec.report.index import write_index

                # Notebook 09 wrote it before its own page and the PDF were there.
                write_index(RESULTS / profile.name, FIGURES / profile.name)
            minutes = (time.monotonic() - started) / 60
            print(
                "nothing had to be done: every stage is up to date"
                if nothing
                else f"profile {profile.name} finished in {minutes:.1f} min"
            )
        return status


@contextmanager
def _one_run() -> Iterator[None]:
    """Hold the repository; PrefvecError if another run does."""
    with open(STATE / "run.lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise PrefvecError(
                f"another run ({lock.read().strip() or 'unknown process'}) is working in {ROOT}: "
                "wait for it to end, or use another clone"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


def _snakemake(config: Path, cores: int, goal: str, pdf: bool, where: Sequence[str]) -> list[str]:
    """The command for a configuration, without what is to be said of the jobs."""
    return [
        sys.executable, "-m", "snakemake", *([] if goal == "all" else [goal]), "--snakefile", str(ROOT / "Snakefile"), "--directory", str(ROOT),
        "--cores", str(cores), "--configfile", str(config), "--rerun-incomplete", "--nolock",
        "--config", f"pdf={int(pdf)}", *where,
    ]  # fmt: skip


def _followed(command: Sequence[str], executor: str) -> tuple[int, bool]:
    """Run Snakemake and print what it says; its exit status, and whether there was nothing to do."""
    environment = {k: v for k, v in os.environ.items() if k != "PREFVEC_PIPELINE_PID"}
    if executor == "local":  # the id of a process means nothing on another node
        environment["PREFVEC_PIPELINE_PID"] = str(os.getpid())
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)  # fmt: skip
    nothing = False
    for line in process.stdout:
        nothing |= "Nothing to be done" in line
        if "Nothing to be done" not in line:
            print(line, end="", flush=True)
    return process.wait(), nothing


def _executor_options(profile: Profile, executor: str, jobs: int) -> list[str]:
    """Snakemake's options for where the jobs run."""
    if executor == "local":
        if jobs:
            raise ConfigError("--jobs is for a cluster: give --executor too, or --cores")
        # One GPU here: stages that want one take turns.
        return ["--resources", "gpu=1"] if profile.settings.get("device") == "cuda" else []
    if executor == "kubernetes":
        raise ConfigError(
            "executor 'kubernetes' assumes that jobs share no folder, and stages do: use "
            "--executor cluster-generic with scripts/kubernetes.sh (docs/scaling.md)"
        )
    module = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
    if find_spec(module) is None:
        raise ConfigError(
            f"executor '{executor}' is not installed: pip install "
            f"snakemake-executor-plugin-{executor}, or use local"
        )
    passed = [name for name in PASSED_ON if name in os.environ]
    options = ["--executor", executor, "--jobs", str(jobs or 10), "--latency-wait", "60"]
    return options + (["--envvars", *passed] if passed else [])


def build_pdf() -> Path:
    """`paper_src/tex/main.pdf` by latexmk, in place of the old one only when it is whole.

    Raises ReportError with LaTeX's first error, and for undefined references or citations.
    """
    build = TEX / "build"
    build.mkdir(exist_ok=True)
    epoch = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    environment = {
        "SOURCE_DATE_EPOCH": epoch or "0",
        "FORCE_SOURCE_DATE": "1",
        # Else latexmk joins a log line of 79 characters with the next, and may overlook in it that there
        # is no bibliography yet.
        "max_print_line": "1000",
    }
    command = ["latexmk", "-lualatex", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "-outdir=build", "main.tex"]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=TEX, capture_output=True, text=True, errors="replace",
            env={**os.environ, **environment},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ReportError(
            "latexmk is not installed: run ./run_all.sh --setup-only, or use --no-pdf"
        ) from error
    log = (build / "main.log").read_text(errors="replace") if (build / "main.log").exists() else ""
    if done.returncode:
        errors = [line for line in log.splitlines() if ".tex:" in line or line.startswith("!")]
        raise ReportError(f"LaTeX stopped: {errors[0] if errors else done.stdout[-300:]}")
    absent = [line for line in log.splitlines() if line.startswith("Missing character")]
    if absent:
        raise ReportError(f"the paper has a character that no font has: {absent[0]}")
    undefined = [line for line in log.splitlines() if "undefined" in line and "Warning" in line]
    if undefined:
        raise ReportError(f"the paper has undefined references: {undefined[0]}")
    with atomic_path(TEX / "main.pdf") as temporary:
        shutil.copyfile(build / "main.pdf", temporary)
    return TEX / "main.pdf"
