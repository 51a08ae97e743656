"""Measure prefvec against its peers: `benchmarks/run.sh`, or this file in the project's environment.

Builds the peers' environments, runs every work, checks that the contestants wrote the same texts,
prints a table and writes `results.json` after each work, so an interrupted run keeps what it has.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from contests import OURS, PEERS, WORK, contest, process, sweep_rows
from environments import HERE
from records import Record, against, as_table, best_ratio, judged, record

from prefvec.machine import name as processor_name
from prefvec.machine import units
from prefvec.report.manifest import git_state
from prefvec.store import write_json

MODEL = "smollm2-135m-instruct"
EMBEDDED = ["smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct"]
AS_DOCUMENTED = ["transformers_dose", "steering_vectors_lib", "repeng_lib", "pyvene_lib", "transformer_lens_lib"]  # fmt: skip
ON_TRANSFORMERS = [*AS_DOCUMENTED, "transformers_rows"]


def main() -> None:
    """Run the works asked for and write the results."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeat", type=int, default=5, help="repetitions a contestant")
    arguments.add_argument("--tokens", type=int, default=32, help="new tokens a row, forced length")
    arguments.add_argument("--only", help="works, separated by commas: " + ", ".join(WORKS))
    arguments.add_argument("--output", type=Path, default=HERE / "results.json")
    given = arguments.parse_args()
    chosen = given.only.split(",") if given.only else list(WORKS)
    unknown = set(chosen) - set(WORKS)
    if unknown:
        arguments.error(f"--only: unknown work {', '.join(unknown)}; known: {', '.join(WORKS)}")
    WORK.mkdir(exist_ok=True)
    task = {**common_task(given.repeat), "new_tokens": given.tokens}
    kept = json.loads(given.output.read_text()) if given.output.exists() else []
    for name in chosen:
        print(f"\n{name} …", flush=True)
        rows = WORKS[name](task)
        print(as_table(rows), flush=True)
        kept = [r for r in kept if r["group"] != name]
        kept += [{"group": name, **asdict(r)} for r in rows]
        write_json(given.output, kept)
        write_json(given.output.with_name("machine.json"), machine(task, kept))
    print("\n" + as_table([Record(**{k: v for k, v in r.items() if k != "group"}) for r in kept]))


def common_task(repeat: int) -> dict:
    """What every contestant is given: prompts, the model's own verbosity vector, the files."""
    import numpy as np

    from prefvec.models.fetch import gguf_file
    from prefvec.models.load import load_model, pick_device, pick_dtype
    from prefvec.models.materialise import materialise
    from prefvec.models.registry import resolve
    from prefvec.traits import load_questions, load_trait
    from prefvec.vectors import extract

    loaded = load_model(MODEL, device="cpu", dtype="float32")
    questions = load_questions("extraction", 16)
    layer = loaded.n_layers // 2
    vector = extract(loaded, load_trait("verbosity"), questions, [layer], n_instructions=2)
    np.save(WORK / "vector.npy", vector.at(layer))
    dtype = str(pick_dtype(pick_device("cpu"), "auto")).removeprefix("torch.")
    return {
        "folder": str(materialise(resolve(MODEL))),
        "gguf": str(gguf_file(resolve(MODEL))),
        "prompts": [loaded.prompt.encode(loaded.prompt.render(q)) for q in questions],
        "vector": str(WORK / "vector.npy"),
        "layer": layer,
        "doses": [-1.0, -0.5, 0.5, 1.0],
        "stop_ids": [],
        "end_ids": sorted(loaded.stop_ids),
        "repeat": repeat,
        "threads": os.cpu_count(),
        "dtype": "float32",
        "dtype_asked": "float32",
        "auto_dtype": dtype,
        "rows": 64,
        "first": True,
        "models": EMBEDDED,
        "scratch": str(WORK),
    }


def target_of(work: str, rows: list[Record], peers: list[str], target: float, what: str) -> Record:
    """The ratio to the best of some peers, held against a target."""
    value, name = best_ratio(rows, peers)
    return judged(work, f"prefvec / {what}", value, "×", target, note=f"best: {name}")


def forced(task: dict) -> list[Record]:
    """16 prompts × 4 doses; nothing ends early."""
    rows = sweep_rows("forced length, float32", task, [OURS, *PEERS])
    rates = [r for r in rows if r.unit == "tokens/s"]
    rows.append(target_of("forced length, float32", rates, ON_TRANSFORMERS, 1.8, "best on transformers"))  # fmt: skip
    if task["auto_dtype"] != "float32":
        auto = sweep_rows("forced length, auto", {**task, "dtype_asked": "auto"}, [OURS])
        rates = against([auto[0], *rates[1:]], OURS)
        rows += auto
    note = f"auto is {task['auto_dtype']} here"
    for peers, target, what in (
        (AS_DOCUMENTED, 4.0, "best as documented"),
        (["llama_cpp"], 2.0, "llama.cpp Q4_1"),
    ):
        found = target_of("forced length, auto", rates, peers, target, what)
        rows.append(Record(**{**asdict(found), "note": f"{found.note}; {note}"}))
    return rows


def natural(task: dict) -> list[Record]:
    """16 prompts × 8 doses of both signs, at most 64 tokens, until the end of the answer.

    Every peer runs once; the fastest of them runs as often as prefvec.
    """
    task = {
        **task,
        "doses": [-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0],
        "new_tokens": 64,
        "stop_ids": task["end_ids"],
        "dtype_asked": "auto",
    }
    work = "natural length, auto"
    found = contest([OURS, *AS_DOCUMENTED], task, finalists=1)
    rows = []
    for name in (OURS, *AS_DOCUMENTED):
        out, note = found[name]
        tokens = f"{sum(out['lengths'])} tokens" if out else ""
        note = "; ".join(filter(None, [note, tokens]))
        rows.append(record(work, name, out["seconds"] if out else [], "s", note))
    rows = against(rows, OURS, higher_is_better=False)
    return [*rows, target_of(work, rows, AS_DOCUMENTED, 6.0, "best as documented")]


def own(name: str, task: dict) -> tuple[dict[str, list[float]], str]:
    """A measurement of `own.py`: values by contestant, and its note."""
    out, note = process(sys.executable, "own.py", task, name)
    return (out["values"], out["note"]) if out else ({}, note)


def own_share(work: str, name: str, target: float, unit: str, at_most: bool = False):
    """A work of one number a repetition, held against a target."""

    def measure(task: dict) -> list[Record]:
        values, note = own(name, task)
        row = record(work, "prefvec", values.get("prefvec", []), unit, note)
        checked = judged(work, "prefvec", row.median, unit, target, at_most, row.n, note)
        return [Record(**{**asdict(checked), "low": row.low, "high": row.high, "ratio": None})]

    return measure


def extraction(task: dict) -> list[Record]:
    """Capture and vector of 128 contrast prompts at mid-depth."""
    values, note = own("extraction", task)
    rows = [record("capture and extraction", name, v, "s", note) for name, v in values.items()]
    return against(rows, "prefvec", higher_is_better=False)


def ridge(task: dict) -> list[Record]:
    """The λ path at 7B width."""
    values, note = own("ridge", task)
    plain, plain_note = own("ridge_plain", task)
    work = "ridge path, 5 000 × (4096 → 4096), 12 λ, 5 + 5 folds"
    rows = [record(work, "prefvec", values.get("seconds", []), "s", note)]
    seconds, memory = rows[0].median, values.get("GiB", [None])[0]
    rows += [record(work, "prefvec, flat spectrum", values.get("flat", []), "s", note)]
    rows += [record(work, name, v, "s", plain_note) for name, v in plain.items()]
    return [
        *against(rows, "prefvec", higher_is_better=False),
        judged(work, "prefvec, time", seconds, "s", 60, at_most=True),
        judged(work, "prefvec, peak memory", memory, "GiB", 4, at_most=True),
    ]


def start_up(task: dict) -> list[Record]:
    """Loading a materialised model, and materialising all three from their GGUF files."""
    loads, note = own("start_up", task)
    rows = [record("load", name, v, "s", note) for name, v in loads.items()]
    made, note = own("materialising", task)
    rows += [record("materialise", name, v, "s", note) for name, v in made.items()]
    total = sum(v[0] for v in made.values()) if len(made) == len(EMBEDDED) else None
    return [*rows, judged("materialise", "all three", total, "s", 60, at_most=True, note=note)]


def scaling(task: dict) -> list[Record]:
    """Tokens per second by rows, tokens and doses: the points of the figure."""
    values, note = own("scaling", task)
    return [record("scaling", name, v, "tokens/s", note) for name, v in values.items()]


WORKS = {
    "forced": forced,
    "natural": natural,
    "decode": own_share("decode at 256 rows, share of the matrix rate", "decode_share", 0.45, "share"),
    "capture": own_share("capture at mid-depth, share of the matrix rate", "capture_share", 0.65, "share"),
    "extraction": extraction,
    "zero-dose": own_share("α = 0 against no addition", "zero_dose", 1.02, "× time", at_most=True),
    "doses": own_share("4 × the doses", "dose_cost", 3.0, "× time", at_most=True),
    "ridge": ridge,
    "start-up": start_up,
    "scaling": scaling,
}  # fmt: skip


def machine(task: dict, rows: list[dict]) -> dict:
    """What the numbers were measured on, and how many of our texts are the reference's."""
    import torch

    notes = [r["note"] for r in rows if r["contestant"] == OURS and "as the reference" in r["note"]]
    checked = notes[0].split(" texts")[0].split("; ")[-1] if notes else "not checked"
    return {
        "git": git_state(),
        "processor": processor_name(),
        "units": units(),
        "threads": task["threads"],
        "torch": torch.__version__,
        "auto_dtype": task["auto_dtype"],
        "model": MODEL,
        "equal_texts": checked,
    }


if __name__ == "__main__":
    main()
