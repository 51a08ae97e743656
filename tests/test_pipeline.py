"""The pipeline: code is an input, one run at a time, the reader's own pairs."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefvec import pipeline
from prefvec.errors import ConfigError, PrefvecError
from prefvec.notebooks import diagnostic_notebooks
from prefvec.paths import CONFIG, ROOT
from prefvec.profile import load_profile
from prefvec.traits import TRAITS

README = (ROOT / "README.md").read_text()
OTHER_MODES = re.compile(r"--(replay|plan|explore|setup-only|verify|full|executor)")


def readme_commands():
    """Arguments of the README's `./run_all.sh` commands that run a profile here."""
    lines = re.findall(r"(?m)\./run_all\.sh([^`#&\n]*)", README)
    return sorted(
        {
            tuple(line.split())
            for line in lines
            if not OTHER_MODES.search(line) and "NAME" not in line
        }
    )


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIG.glob("*.yaml")))
def test_every_profile_loads(name):
    profile = load_profile(name)
    for pair in profile.pairs:
        for trait in profile.traits:
            profile.settings_for(*pair, trait)


def test_an_unknown_or_malformed_profile_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown profile 'quik': did you mean 'quick'"):
        load_profile("quik")
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\ndescription: d\npairs: [[a, b]]\ntraits: [verbosity]\nsettings: {n_evalution: 3}\n"
    )
    with pytest.raises(ConfigError, match="p.yaml: unknown parameter 'n_evalution'"):
        load_profile(str(path))
    for name, message in (
        ("../../evil", "name: String should match"),
        ("paper", "name: 'paper' is taken"),
    ):
        path.write_text(f"name: {name}\ndescription: d\npairs: [[a, b]]\ntraits: [verbosity]\n")
        load_profile.cache_clear()
        with pytest.raises(ConfigError, match=message):
            load_profile(str(path))
    path.write_bytes(b"name: \xff")
    load_profile.cache_clear()
    with pytest.raises(ConfigError, match="can't be read"):
        load_profile(str(path))
    load_profile.cache_clear()


def test_library_modules_that_a_notebook_imports_are_inputs_of_its_rule():
    direct = pipeline.library_inputs("03_direct_transfer")
    assert {"paper_src/prefvec/transfer/sweep.py", "paper_src/prefvec/steering.py"} <= set(direct)
    assert "paper_src/prefvec/cli.py" not in direct
    sizes = pipeline.library_inputs("00_architectures")
    assert "paper_src/prefvec/models/architecture.py" in sizes
    assert "paper_src/prefvec/effects.py" in direct and "paper_src/prefvec/effects.py" not in sizes


def test_the_paper_has_every_embedded_pair_and_every_trait():
    paper = load_profile("paper")
    models = set(paper.models)
    assert len(models) == 3
    assert set(paper.pairs) == {(a, b) for a in models for b in models if a != b}
    assert set(paper.traits) == {path.stem for path in TRAITS.glob("*.yaml")}
    assert paper.extensions.sizes[-1] >= 5000


def test_the_library_floors_hold():
    """A module imports only from its own floor or those below."""
    floors = {
        0: ("paths", "profile", "errors", "store", "progress", "machine"),
        1: ("models", "traits", "tasks", "stats"),
        2: ("batching", "cache", "abilities", "sampling", "activations", "steering"),
        3: ("prefill", "vectors", "generation"),
        4: ("adapters", "metrics"),
        5: (
            "study", "summaries", "transfer", "effects", "extraction", "validation", "diagnostics",
            "families", "screen", "judge", "blackbox",
        ),
        6: (
            "report", "plan", "cli", "commands", "pipeline", "notebooks", "replay", "verify", "explore",
        ),
    }  # fmt: skip
    floor_of = {name: floor for floor, names in floors.items() for name in names}
    for path in pipeline.PACKAGE.rglob("*.py"):
        part = path.relative_to(pipeline.PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for imported in pipeline._imports(path):
            other = imported.relative_to(pipeline.PACKAGE).parts[0].removesuffix(".py")
            if other != "__init__":
                assert floor_of[other] <= floor_of[part], f"{path.name} imports {other}"


def test_diagnostics_run_for_traits_of_the_profile_and_for_the_reader_s_own(tmp_path):
    paper = load_profile("paper")
    assert set(paper.diagnostics.traits) == {"verbosity", "formality"}
    assert pipeline.overridden("paper", None, None, "silly", {}).diagnostics.traits == ["silly"]
    assert pipeline.overridden("summarise", None, None, "silly", {}).diagnostics.traits == []
    text = (CONFIG / "smoke.yaml").read_text().replace("name: smoke", "name: own")
    path = tmp_path / "own.yaml"
    for given, message in (
        ("traits: [honest]", "diagnostics.traits has 'honest', which is not in traits"),
        ("traits: [verbosity], depths: [0.5, 0.2]", "diagnostics.depths.*rising order"),
        ("trait: [verbosity]", "diagnostics.trait"),
    ):
        path.write_text(re.sub(r"diagnostics: .*", f"diagnostics: {{{given}}}", text))
        load_profile.cache_clear()
        with pytest.raises(ConfigError, match=message):
            load_profile(str(path))
    load_profile.cache_clear()


def test_judge_and_black_box_follow_the_reader_s_trait_and_llama_cpp_needs_a_gguf(tmp_path):
    paper = load_profile("paper")
    assert set(paper.judge.traits) == set(paper.traits)
    assert paper.black_box.traits == ["verbosity", "formality"]
    own = pipeline.overridden("paper", None, None, "silly", {})
    assert own.judge.traits == own.black_box.traits == ["silly"]
    assert pipeline.overridden("quick", None, None, "silly", {}).judge.traits == []
    elsewhere = pipeline.overridden("paper", None, "gpt2-medium", None, {})
    assert elsewhere.black_box.traits == [] and elsewhere.judge == paper.judge
    text = (CONFIG / "smoke.yaml").read_text().replace("name: smoke", "name: own")
    path = tmp_path / "own.yaml"
    for given, message in (
        ("judge: {traits: [honest]}", "judge.traits has 'honest', which is not in traits"),
        ("judge: {n_gold: 1}", "judge.n_gold"),
        ("black_box: {traits: [silly]}", "black_box.traits has 'silly', which is not in traits"),
        ("black_box: {n_seeds: 3}", "black_box.n_seeds"),
    ):
        path.write_text(re.sub(rf"(?m)^{given.split(':')[0]}: .*", given, text))
        load_profile.cache_clear()
        with pytest.raises(ConfigError, match=message):
            load_profile(str(path))
    load_profile.cache_clear()


def test_overrides_make_the_reader_s_own_pairs():
    own = pipeline.overridden(
        "quick", "gpt2-medium", "smollm2-135m-instruct,gemma-3-270m", "silly", {"n_evaluation": 8}
    )
    assert own.pairs == (("gpt2-medium", "smollm2-135m-instruct"), ("gpt2-medium", "gemma-3-270m"))
    assert own.traits == ("silly",) and own.settings["n_evaluation"] == 8
    with pytest.raises(ConfigError, match="n_evaluation"):
        pipeline.overridden("quick", None, None, None, {"n_evaluation": 1})
    spaced = pipeline.overridden(
        "quick", "gpt2-medium", "gemma-3-270m, smollm2-135m-instruct", None, {}
    )
    assert [target for _, target in spaced.pairs] == ["gemma-3-270m", "smollm2-135m-instruct"]


def test_a_source_that_is_the_only_target_gets_another_or_is_refused():
    qwen, smol = load_profile("quick").pairs[0]
    assert pipeline.overridden("quick", smol, None, None, {}).pairs == ((smol, qwen),)
    with pytest.raises(ConfigError, match="the source itself is the only target"):
        pipeline.overridden("quick", smol, smol, None, {})


def test_the_reader_s_own_choices_do_not_replace_committed_results(monkeypatch, tmp_path, capsys):
    own = pipeline.overridden("paper", None, None, "silly", {})
    moved = pipeline.apart(own)
    assert moved.name == "paper-own" and not moved.claims
    assert "those of 'paper' stay" in capsys.readouterr().out
    assert pipeline.apart(load_profile("quick")).name == "quick"  # nothing of it is committed
    monkeypatch.setattr(pipeline, "RESULTS", tmp_path)  # a verification, elsewhere
    assert pipeline.apart(own).name == "paper"


@pytest.mark.parametrize("command", readme_commands())
def test_commands_of_the_readme_can_be_run(command, tmp_path):
    """As dry runs, from another folder: a profile, models, options and a trait file that are there."""
    (tmp_path / "my_trait.yaml").write_text(re.search(r"```yaml\n(.*?)```", README, re.S).group(1))
    done = subprocess.run(
        [sys.executable, "-m", "prefvec.cli", "run", *command, "--dry-run", "--no-pdf"],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PREFVEC_RESULTS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]


def test_a_second_run_at_the_same_time_is_refused_and_a_dry_one_is_not(monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "STATE", tmp_path)
    seen = []

    class Ended:
        stdout = ()

        def __init__(self, command, **_):
            seen.append(json.loads(Path(command[command.index("--configfile") + 1]).read_text()))

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(pipeline.subprocess, "Popen", Ended)
    smoke = load_profile("smoke")
    with open(tmp_path / "run.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(PrefvecError, match="another run .* is working"):
            pipeline.run(smoke, 1, pdf=False, dry_run=False)
        assert not seen
        assert pipeline.run(smoke, 1, pdf=False, dry_run=True) == 0
    assert seen[0]["name"] == "smoke" and [p.name for p in tmp_path.iterdir()] == ["run.lock"]
    assert pipeline.run(smoke, 1, pdf=False, dry_run=False) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source-model", "qwen"], "unknown model 'qwen'"),
        (["--trait", "verbositi"], "unknown trait 'verbositi'"),
        (["--trait", "missing.yaml"], "unknown trait 'missing.yaml'"),
        (["--profile", "papre"], "unknown profile 'papre'"),
        (["--num-pairs", "1"], "parameter 'n_evaluation'"),
        (["--quick", "--full"], "exclude each other"),
        (["--quick", "--profile", "smoke"], "--quick and --profile smoke exclude each other"),
        (["--cores", "-3"], "Invalid value for '--cores'"),
        (["--target-models", "", "--quick"], "unknown model ''"),
        (["papre"], "unexpected 'papre': options for Snakemake come after --"),
        (["--jobs", "4"], "--jobs is for a cluster"),
        (["--executor", "nowhere"], "executor 'nowhere' is not installed: pip install"),
        (["--executor", "kubernetes"], "use --executor cluster-generic with scripts/kubernetes.sh"),
    ],
)
def test_bad_arguments_are_one_line_and_no_work(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "prefvec.cli", "run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_dry_run_says_what_would_run_and_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFVEC_RESULTS", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "prefvec.cli", "run", "--profile", "smoke", "--dry-run", "--cores", "2"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    for stage in (
        "architectures",
        "extract",
        "validate",
        "direct_transfer",
        "adapters",
        *diagnostic_notebooks(),
        "judge",
        "black_box",
        "extensions",
        "paper",
        "pdf",
    ):
        assert f"rule {stage}:" in done.stdout
    assert "reason: Missing output files" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_stage_ends_with_a_pipeline_that_was_killed_outright(tmp_path):
    """Its output pipe is gone as well; the stage must not survive as an orphan."""
    code = (
        "import os, subprocess, sys, time\n"
        "stage = 'from prefvec.notebooks import _die_with_pipeline; import time;'\n"
        "stage += '_die_with_pipeline(); print(1, flush=True); time.sleep(60)'\n"
        "environment = {**os.environ, 'PREFVEC_PIPELINE_PID': str(os.getpid())}\n"
        "child = subprocess.Popen([sys.executable, '-c', stage], env=environment, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    stage = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(50):
        status = Path(f"/proc/{stage}/stat")
        if not status.exists() or status.read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the stage outlived its pipeline")


def test_a_traits_own_settings_hold_for_it_alone_and_a_given_one_for_all(tmp_path):
    text = (
        (CONFIG / "smoke.yaml")
        .read_text()
        .replace("traits: [verbosity]", "traits: [verbosity, silly]")
        .replace("name: smoke", "name: own")
    )
    path = tmp_path / "own.yaml"
    path.write_text(text + "trait_settings: {silly: {max_new_tokens: 9}}\n")
    base = load_profile(str(path))
    pair = base.pairs[0]
    assert base.settings_for(*pair, "silly").max_new_tokens == 9
    assert base.settings_for(*pair, "verbosity").max_new_tokens != 9
    given = pipeline.overridden(str(path), None, None, None, {"max_new_tokens": 11})
    assert {given.settings_for(*pair, t).max_new_tokens for t in given.traits} == {11}
    assert pipeline.overridden(str(path), None, None, "verbosity", {}).trait_settings == {}
    path.write_text(text + "trait_settings: {honest: {max_new_tokens: 9}}\n")
    load_profile.cache_clear()
    with pytest.raises(ConfigError, match="trait_settings of 'honest'"):
        load_profile(str(path))
