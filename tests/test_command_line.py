"""extract, steer, evaluate and run --validate: bad input is one line and no work; results are as the library's."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from conftest import tiny_model
from prefvec import cli, notebooks
from prefvec.errors import ConfigError
from prefvec.generation import Request, generate
from prefvec.paths import ROOT
from prefvec.steering import Steer
from prefvec.store import write_json
from prefvec.study import plain_prompt
from prefvec.vectors import Card, SteeringVector

CHAT = "smollm2-135m-instruct"
EXTRACT = ["extract", "--model", CHAT, "--trait", "formality", "--output", "v.safetensors"]
STEER = ["steer", "--model", CHAT, "--vectors", "v.safetensors", "--prompt", "Why?"]
EVALUATE = [
    "evaluate", "--source", CHAT, "--target", "gemma-3-270m", "--trait", "verbosity", "--output", "out",
]  # fmt: skip


@pytest.fixture
def prefvec(monkeypatch, capsys, tmp_path):
    """Run the command line here, in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["prefvec", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def no_work(monkeypatch):
    """Anything that would load a model or start a kernel fails the test."""

    def refuse(*_a, **_k):
        raise AssertionError("work was started")

    monkeypatch.setattr("prefvec.models.load.load_model", refuse)
    monkeypatch.setattr("prefvec.models.materialise.materialise", refuse)
    monkeypatch.setattr("prefvec.notebooks.execute", refuse)


def vector_of(loaded, layers, seed=0):
    generator = np.random.default_rng(seed)
    directions = {i: generator.normal(size=loaded.width).astype(np.float32) for i in layers}
    card = Card(loaded.id, loaded.fingerprint, loaded.width, "silly", "d", "h", "mean", "last")
    return SteeringVector(directions, card)


def replaced(arguments, *given):
    """The arguments without the options that are given anew, and these."""
    kept, names = list(arguments), given[::2]
    for name in names:
        if name in kept:
            at = kept.index(name)
            del kept[at : at + 2]
    return [*kept, *given]


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (EXTRACT, ["--model", "smolm2"], "unknown model 'smolm2': did you mean"),
        (EXTRACT, ["--trait", "formalty"], "unknown trait 'formalty': did you mean 'formality'? Use a built-in one"),
        (EXTRACT, ["--trait", "none.yaml"], "unknown trait 'none.yaml'"),
        (EXTRACT, ["--output", "v.bin"], "--output v.bin: it must end in .safetensors or .gguf"),
        (EXTRACT, ["--output", "/proc/v.gguf"], "can't be written (/proc: "),
        (EXTRACT, ["--layer", "30"], "--layer 30 is out of range: smollm2-135m-instruct has 30 blocks"),
        (EXTRACT, ["--layer", "3,x"], "--layer '3,x': 'x' is not a whole number"),
        (EXTRACT, ["--layer", "-1"], "-1 is below 0"),
        (EXTRACT, ["--layer", "0", "--output", "v.gguf"], "llama.cpp can't steer block 0"),
        (EXTRACT, ["--method", "pac"], "--method 'pac' is unknown: did you mean 'pca'?"),
        (EXTRACT, ["--seed", "-1"], "--seed -1: it must be 0 or more"),
        (EXTRACT, ["--seed", "x"], "Invalid value for '--seed'"),
        (EXTRACT, ["--profile", "quik"], "unknown profile 'quik'"),
        (EXTRACT, ["--device", "gpu"], "device 'gpu' is unknown: use auto, cpu, cuda or mps"),
        (EXTRACT, ["--dtype", "int3"], "'dtype': Input should be 'auto', 'float32'"),
        (EXTRACT, ["--modle", "a"], "No such option: --modle"),
        (["extract"], [], "Missing option '--model': see prefvec extract --help"),
        (STEER, ["--model", "smolm2"], "unknown model 'smolm2'"),
        (STEER, ["--vectors", "w.safetensors"], "--vectors w.safetensors: no .safetensors or .gguf file"),
        (STEER, ["--prompt", "  "], "--prompt: number 1 is empty"),
        (STEER, ["--prompts-file", "no.txt"], "--prompts-file no.txt can't be read"),
        (STEER, ["--prompts-file", "blank.txt"], "--prompts-file blank.txt: has no prompt"),
        (STEER[:5], [], "no prompt: give --prompt TEXT"),
        (STEER, ["--coefficient", "1;2"], "--coefficient '1;2': '1;2' is not a number"),
        (STEER, ["--coefficient", "1,,2"], "'' is not a number: separate them by commas"),
        (STEER, ["--coefficient", "nan"], "'nan' is not finite"),
        (STEER, ["--layer", "-3"], "--layer -3 is below 0"),
        (STEER, ["--layer", "44"], "--layer 44 is out of range"),
        (STEER, ["--max-new-tokens", "0"], "--max-new-tokens 0: it must be at least 1"),
        (STEER, ["--output", "."], "is a folder: name a file"),
        (STEER, ["--dtype", "int3"], "dtype 'int3' is unknown"),
        (STEER, ["--device", "gpu"], "device 'gpu' is unknown"),
        (STEER, [], "v.safetensors: not a readable vector with its card"),
        (EVALUATE, ["--source", "qwen"], "unknown model 'qwen'"),
        (EVALUATE, ["--target", "qwen"], "unknown model 'qwen'"),
        (EVALUATE, ["--trait", "verbositi"], "unknown trait 'verbositi'"),
        (EVALUATE, ["--coefficients", "0.5,one"], "--coefficients '0.5,one': 'one' is not a number"),
        (EVALUATE, ["--coefficients", "-1,2"], "-1 is not above 0"),
        (EVALUATE, ["--num-prompts", "2"], "--num-prompts 2: it must be at least 4"),
        (EVALUATE, ["--num-prompts", "900"], "has 64 items, 900 were asked for"),
        (EVALUATE, ["--methods", "ridge_concept,rigde_r2"], "'rigde_r2' is unknown: did you mean 'ridge_r2'"),
        (EVALUATE, ["--output", "blank.txt"], "is a file: name a folder"),
        (EVALUATE, ["--output", "blank.txt/out"], "can't be written"),
        (EVALUATE, ["--profile", "quik"], "unknown profile 'quik': did you mean 'quick'?"),
        (EVALUATE, ["--seed", "-1"], "--seed -1"),
        (EVALUATE, ["--device", "gpu"], "device 'gpu' is unknown"),
        (EVALUATE, ["--dtype", "int3"], "dtype 'int3' is unknown"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_no_work(prefvec, no_work, tmp_path, command, given, message):
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "v.safetensors").write_text("no vector")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = prefvec(*replaced(command, *given))
    assert status == 2 and out == ""
    assert err.startswith("error: ") and message in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["extract", "steer", "evaluate"])
def test_help_shows_an_example_that_is_complete(prefvec, command):
    status, out, _ = prefvec(command, "--help")
    assert status == 0
    example = " ".join(out.split("Example:")[1].split("╭")[0].split())
    assert example.startswith(f"prefvec {command} --")
    needed = {line.split()[2] for line in out.splitlines() if line.startswith("│ *")}
    assert needed and needed <= set(example.split())


def test_the_command_line_starts_without_heavy_libraries():
    code = "import sys, prefvec.cli; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture
def tiny_chat(monkeypatch, tmp_path):
    """A tiny model in place of the real one, and a store of its own."""
    loaded = tiny_model("llama")
    monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("prefvec.models.load.load_model", lambda *_: loaded)
    monkeypatch.setattr("prefvec.models.materialise.materialise", lambda _: None)
    monkeypatch.setattr("prefvec.models.materialise.fingerprint", lambda _: loaded.fingerprint)
    return loaded


def test_several_vectors_are_added_at_the_layer_nearest_to_the_middle(prefvec, tiny_chat, tmp_path):
    a, b = vector_of(tiny_chat, [0, 2, 3]), vector_of(tiny_chat, [2, 3], seed=1)
    a.save(tmp_path / "v"), b.save(tmp_path / "w")
    given = [
        "--vectors",
        "w.safetensors",
        "--coefficient",
        "-1,0",
        "--max-new-tokens",
        "6",
        "--json",
    ]
    status, out, err = prefvec(*STEER, *given, "--output", "answers.jsonl")
    assert status == 0, err
    rows = json.loads(out)
    assert [(row["coefficient"], row["layer"]) for row in rows] == [(-1, 2), (0, 2)]
    ids = plain_prompt(tiny_chat, "Why?")
    wanted = [
        Request(ids, (Steer(a.at(2) + b.at(2), 2, -1.0),)),
        Request(ids),
        *(Request(ids, (Steer(v.at(2), 2, -1.0),)) for v in (a, b)),
    ]
    texts = [answer.text for answer in generate(tiny_chat, wanted, 6)]
    assert [row["text"] for row in rows] == texts[:2] and len(set(texts)) == 4
    written = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == rows


def test_answers_are_printed_question_by_question_with_the_plain_one_first(
    prefvec, tiny_chat, tmp_path
):
    vector_of(tiny_chat, [1]).save(tmp_path / "v")
    (tmp_path / "more.txt").write_text("Who?\n\nWhy?\n")
    given = [
        "--prompts-file",
        "more.txt",
        "--baseline",
        "--coefficient",
        "2",
        "--max-new-tokens",
        "3",
    ]
    status, out, _ = prefvec(*STEER, *given)
    assert status == 0
    heads = [
        line for line in out.splitlines() if line in ("Why?", "Who?") or line.startswith("  [")
    ]
    assert [head.split(";")[0] for head in heads] == [
        "Why?", "  [unsteered", "  [+2 silly, layer 1", "Who?", "  [unsteered", "  [+2 silly, layer 1",
    ]  # fmt: skip


def test_a_vector_of_another_model_or_layer_is_refused(prefvec, tiny_chat, tmp_path, monkeypatch):
    vector_of(tiny_chat, [1]).save(tmp_path / "v")
    status, _, err = prefvec(*STEER, "--layer", "2")
    assert status == 2 and "has layers 1, not 2" in err
    vector_of(tiny_chat, [3]).save(tmp_path / "w")
    status, _, err = prefvec(*STEER, "--vectors", "w.safetensors")
    assert status == 2 and "no layer in common" in err
    monkeypatch.setattr("prefvec.models.materialise.fingerprint", lambda _: "another")

    def unloaded(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("prefvec.models.load.load_model", unloaded)
    status, out, err = prefvec(*STEER)
    assert status == 2 and out == "" and f"not to {CHAT} (another): map it with an adapter" in err
    assert len(err.strip().splitlines()) == 1


def record(method, dose, metric, value, te=None):
    return {
        "method": method, "dose": dose, "metric": metric, "n": 5, "value": value, "ci_low": value,
        "ci_high": value, "transfer_efficiency": te, "te_ci_low": te, "te_ci_high": te,
    }  # fmt: skip


@pytest.mark.parametrize("output", ["out", "table.json"])
def test_evaluate_runs_the_notebooks_there_and_reports_their_rows(
    prefvec, monkeypatch, tmp_path, output
):
    """Stand-ins for the kernels: they write where theirs would, from what they are given."""
    started = []

    def execute(path, given, to):
        notebooks.checked_parameters(path, given)
        started.append((path.stem, given["doses"], given["n_evaluation"], given["seed"]))
        cell = (
            tmp_path
            / output.removesuffix(".json")
            / "smoke"
            / f"{CHAT}--gemma-3-270m"
            / "verbosity"
        )
        assert to == cell / "notebooks" / path.name
        assert os.environ["PREFVEC_RESULTS"] == str(tmp_path / output.removesuffix(".json"))
        names = {"04": ["ridge_r2", "mlp"], "03": ["zero_pad"]}[path.stem[:2]]
        rows = [
            record(name, dose, metric, 3.0, te)
            for name, dose, te in [
                ("unsteered", 0.0, None), ("oracle", -2.0, 1.0), *((n, -2.0, 0.5) for n in names),
                ("random", -2.0, None), ("oracle", -1.7, 1.0),
            ]
            for metric in ("score", "effect", "collapse")
        ]  # fmt: skip
        write_json(cell / f"results_{path.stem[:2]}.json", rows)
        site = {"layer_source": 14, "layer_target": 8, "dose": 2.0}
        write_json(cell / f"manifest_{path.stem[:2]}.json", {"site": site})

    monkeypatch.delenv("PREFVEC_RESULTS", raising=False)
    monkeypatch.setattr("prefvec.notebooks.execute", execute)
    given = ["--coefficients", "2,0.5", "--num-prompts", "5", "--methods", "zero_pad,mlp"]
    given += ["--profile", "smoke", "--seed", "3"]
    command = replaced(EVALUATE, "--output", output, *given)
    status, out, err = prefvec(*command, "--json")
    assert status == 0, err
    assert started == [(s, [0.5, 2.0], 5, 3) for s in ("04_adapters", "03_direct_transfer")]
    assert "PREFVEC_RESULTS" not in os.environ
    found = json.loads(out)
    cells = [(row["method"], row["coefficient"], row["efficiency"][0]) for row in found["rows"]]
    assert cells == [
        ("unsteered", 0.0, None), ("oracle", -2.0, 1.0), ("random", -2.0, None), ("mlp", -2.0, 0.5),
        ("zero_pad", -2.0, 0.5),
    ]  # fmt: skip
    file = tmp_path / (output if output.endswith(".json") else "out/evaluation.json")
    assert json.loads(file.read_text()) == found
    status, out, _ = prefvec(*command)
    assert status == 0 and "layer 14 -> 8, chosen coefficient 2" in out
    assert any("zero-pad / truncate" in line and "0.50" in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("given", "dtype"),
    [([], "float32"), (["--dtype", "bfloat16"], "bfloat16"), (["--profile", "quick"], "auto")],
)
def test_evaluate_computes_in_the_arithmetic_of_its_profile(
    prefvec, monkeypatch, tmp_path, given, dtype
):
    def execute(path, parameters, to):
        raise ConfigError(parameters.get("dtype", "auto"))

    monkeypatch.setattr("prefvec.notebooks.execute", execute)
    command = replaced(EVALUATE, "--output", "out", "--profile", "paper", *given)
    assert prefvec(*command)[2].startswith(f"error: {dtype}")


def test_a_profile_can_stop_after_its_sources_are_validated(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "prefvec.cli", "run", "--profile", "smoke", "--validate", "--dry-run"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PREFVEC_RESULTS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    rules = {
        line.split()[1].rstrip(":")
        for line in done.stdout.splitlines()
        if line.startswith(("rule ", "localrule "))
    }
    assert (
        {"extract", "validate", "validated"}
        <= rules
        <= {"model", "extract", "validate", "validated"}
    )
    assert CHAT in done.stdout and "gemma" not in done.stdout


@pytest.mark.real
def test_a_real_model_is_steered_by_its_vector_from_the_shell(prefvec, tmp_path):
    status, out, err = prefvec(*EXTRACT, "--layer", "14", "--json")
    assert status == 0, err
    found = json.loads(out)
    [layer] = found["layers"]
    assert (layer["layer"], found["trait"], found["n"]) == (14, "formality", 30)
    assert layer["norm"] > 0 and layer["split_half_cosine"] > 0.5
    saved = SteeringVector.load(tmp_path / "v.safetensors")
    assert np.linalg.norm(saved.at(14)) == pytest.approx(layer["norm"])

    given = ["--baseline", "--coefficient", "3", "--max-new-tokens", "8", "--json"]
    status, out, err = prefvec(*STEER, *given)
    assert status == 0, err
    plain, steered = json.loads(out)
    assert plain["coefficient"] == 0 and plain["text"] and plain["text"] != steered["text"]

    status, out, _ = prefvec(*replaced(EXTRACT, "--output", "v.gguf"), "--layer", "14")
    assert status == 0 and "+ leads to 'formal'" in out
    given = replaced(STEER, "--vectors", "v.gguf")
    status, out, _ = prefvec(*given, "--coefficient", "3", "--max-new-tokens", "8", "--json")
    assert json.loads(out)[0]["text"] == steered["text"]

    status, out, err = prefvec(*replaced(STEER, "--model", "gemma-3-270m"))
    assert status == 2 and out == ""
    assert f"belongs to {CHAT}" in err and "map it with an adapter" in err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "is a folder: name a file"),
        ("o.txt", "an executed notebook is a file NAME.ipynb"),
        ("/proc/x.ipynb", "can't be written (/proc: "),
    ],
)
def test_a_notebook_that_can_t_be_written_is_refused(prefvec, no_work, output, message):
    status, out, err = prefvec("notebook", "03", "--output", output)
    assert status == 2 and out == "" and err.startswith("error: ") and message in err


@pytest.mark.parametrize("given", ["[1]", "3", "{"])
def test_parameters_that_are_no_json_object_are_refused(prefvec, no_work, given):
    status, _, err = prefvec("notebook", "03", "--output", "o.ipynb", "--json", given)
    assert status == 2 and "--json is not a JSON object" in err
