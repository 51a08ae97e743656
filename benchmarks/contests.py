"""Contests: every contestant in its own process, at its best batch size, with its texts checked."""

import json
import os
import subprocess
import sys

from environments import HERE, PROJECT, python_of
from records import Record, against, record

WORK = HERE / ".work"
LIMIT = 3600  # seconds a contestant may take
OURS = "prefvec_engine"
# Contestant: its environment and, where it takes any number of rows, the batch sizes to try.
PEERS = {
    "transformers_dose": (PROJECT, [16]),
    "transformers_rows": (PROJECT, [32, 64]),
    "steering_vectors_lib": ("transformers4", [16]),
    "repeng_lib": ("transformers4", [16]),
    "pyvene_lib": ("transformers4", [16]),
    "transformer_lens_lib": ("transformers5", [16]),
    "llama_cpp": (PROJECT, [16, 64]),
}


def process(python: str, script: str, task: dict, *before: str) -> tuple[dict | None, str]:
    """Run a script of this folder on a task in its own process; its output, or why there is none."""
    question, answer = WORK / "task.json", WORK / "out.json"
    question.write_text(json.dumps(task))
    answer.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [python, str(HERE / script), *before, str(question), str(answer)],
            capture_output=True, text=True, timeout=LIMIT,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
                 "WANDB_MODE": "disabled", "OMP_NUM_THREADS": str(task["threads"])},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"took more than {LIMIT} s"
    if done.returncode or not answer.exists():
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return None, reason[:160]
    return json.loads(answer.read_text()), ""


def compete(name: str, task: dict) -> tuple[dict | None, str]:
    """A contestant in its environment; its output, or why there is none."""
    environment, _ = PEERS.get(name, (PROJECT, []))
    try:
        python = python_of(environment)
    except RuntimeError as error:
        return None, str(error)[:160]
    return process(python, f"contestants/{name}.py", task)


def best_size(name: str, task: dict) -> int:
    """The batch size at which a contestant is fastest, of those it can take."""
    _, sizes = PEERS.get(name, (PROJECT, [task["rows"]]))
    if len(sizes) == 1:
        return sizes[0]
    tried = {n: compete(name, {**task, "rows": n, "repeat": 1})[0] for n in sizes}
    return max(sizes, key=lambda n: rates(tried[n])[0] if tried[n] else 0.0)


def rates(out: dict) -> list[float]:
    """Tokens per second of each repetition."""
    return [sum(out["lengths"]) / seconds for seconds in out["seconds"]]


def contest(
    names: list[str], task: dict, finalists: int | None = None
) -> dict[str, tuple[dict | None, str]]:
    """Every contestant's output and batch size, or None and why there is no output.

    A round has one repetition of each, so a machine that slows down slows all of them. After the
    first round ours and the `finalists` fastest others go on (None: all).
    """
    found: dict[str, tuple[dict | None, str]] = {}
    sizes = {name: best_size(name, task) for name in names}
    playing = list(names)
    for turn in range(task["repeat"]):
        for name in playing:
            out, reason = compete(name, {**task, "rows": sizes[name], "repeat": 1})
            before = found.get(name, (None, ""))[0]
            if out and before:
                out["seconds"] = before["seconds"] + out["seconds"]
                out["peak_mib"] = max(before["peak_mib"], out["peak_mib"])
            note = reason or f"{sizes[name]} rows a batch" * (name in PEERS)
            found[name] = (out, note)
            print(f"  {name}: {round(rates(out)[-1]) if out else '–'} tokens/s {note}", flush=True)
        playing = [name for name in playing if found[name][0]]
        if turn == 0 and finalists is not None:
            others = [name for name in playing if name != OURS]
            others.sort(key=lambda name: found[name][0]["seconds"][0])
            playing = [name for name in playing if name in (OURS, *others[:finalists])]
    return found


def equal_texts(names: list[str], task: dict) -> dict[str, str]:
    """Share of texts equal to the plain reference's, on four prompts and two doses."""
    small = {
        **task,
        "prompts": task["prompts"][:4],
        "doses": [-1.0, 1.0],
        "new_tokens": 16,
        "repeat": 1,
    }
    reference = {
        first: process(sys.executable, "contestants/reference.py", {**small, "first": first})[0]
        for first in (True, False)
    }
    found = {}
    for name in names:
        if name == "llama_cpp":
            found[name] = "other weights (Q4_1), unsteered"
            continue
        out, _ = compete(name, small)
        want = reference[name != OURS]
        if out and want:
            same = [a == b for a, b in zip(out["texts"], want["texts"], strict=True)]
            found[name] = f"{sum(same)}/{len(same)} texts as the reference"
    return found


def sweep_rows(work: str, task: dict, contestants: list[str]) -> list[Record]:
    """Tokens per second of each contestant, with ratios, checks and peak memory."""
    checked = equal_texts(contestants, {**task, "stop_ids": []})
    rows, memory = [], []
    for name, (out, note) in contest(contestants, task).items():
        note = "; ".join(filter(None, [note, checked.get(name, "")]))
        rows.append(record(work, name, rates(out) if out else [], "tokens/s", note))
        if out:
            memory.append(record(f"{work}: peak memory", name, [out["peak_mib"]], "MiB"))
    return against(rows, OURS) + against(memory, OURS, higher_is_better=False)
