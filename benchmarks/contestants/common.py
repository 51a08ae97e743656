"""What every contestant shares: the task, the clock, and how results are handed back.

A contestant is a script `NAME.py TASK.json OUT.json`. The task names a model folder (safetensors), prompts as
token ids, one steering vector, a layer, the doses (in multiples of the vector), new tokens a row, the
token ids that end an answer (none: forced length) and the number of timed repetitions. The output
has the seconds of each repetition, and text and length of every answer, dose by dose.
"""

import functools
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

Rows = list[list[int]]


class Answers(NamedTuple):
    """Texts and their lengths in tokens, in the order dose by dose, prompt by prompt."""

    texts: list[str]
    lengths: list[int]


def compete(load: Callable[[dict], object], sweep: Callable[[object, dict], Answers]) -> None:
    """Load, warm up, time `sweep` as often as the task says, and write the output file."""
    with open(sys.argv[1]) as file:
        task = json.load(file)
    torch.set_num_threads(task["threads"])
    task["vector"] = np.load(task["vector"], allow_pickle=False)
    started = time.perf_counter()
    with torch.inference_mode():
        model = load(task)
        load_seconds = time.perf_counter() - started
        sweep(model, {**task, "doses": task["doses"][:1], "new_tokens": 4})
        seconds, answers = [], Answers([], [])
        for _ in range(task["repeat"]):
            started = time.perf_counter()
            answers = sweep(model, task)
            seconds.append(time.perf_counter() - started)
    result = {
        "load_seconds": load_seconds,
        "seconds": seconds,
        "peak_mib": peak_mib(),
        **answers._asdict(),
    }
    with open(sys.argv[2], "w") as file:
        json.dump(result, file)
    print(f"{sys.argv[0]}: median {statistics.median(seconds):.2f} s", flush=True)


def peak_mib() -> float:
    """Largest memory of this process, MiB.

    Linux carries `ru_maxrss` over from the process that started this one, so VmHWM is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def padded(prompts: Rows, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids and mask `[rows, longest]`."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(prompts):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids, mask


def generation_arguments(task: dict) -> dict:
    """Arguments of transformers' `generate`: greedy, ends at the stop tokens or at the limit."""
    return {
        "max_new_tokens": task["new_tokens"],
        "do_sample": False,
        "eos_token_id": task["stop_ids"] or None,
        "pad_token_id": 0,
    }


def steered_batch(
    model, task: dict, prompts: Rows, delta: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """transformers' `generate` with `delta` (`[width]`, or `[rows, 1, width]`) added at every position
    by a forward hook on the task's layer; for `decoded`: ids, and how many are the prompt's."""
    ids, mask = padded(prompts)
    block = model.model.layers[task["layer"]]
    handle = block.register_forward_hook(lambda _module, _inputs, out: out + delta)
    out = model.generate(ids, attention_mask=mask, **generation_arguments(task))
    handle.remove()
    return out, ids.shape[1]


def decoded(outputs: list[tuple[torch.Tensor, int]], task: dict) -> Answers:
    """Answers from `generate`'s outputs: (ids, prompt tokens) of each call, in order."""
    rows = []
    for out, start in outputs:
        for row in out[:, start:].tolist():
            stop = task["stop_ids"]
            end = next((i for i, token in enumerate(row) if token in stop), len(row))
            rows.append(row[:end])
    tokenizer = _tokenizer(task["folder"])
    return Answers([tokenizer.decode(r).strip() for r in rows], [len(r) for r in rows])


@functools.cache
def _tokenizer(folder: str):
    """Read once, in the warm-up: no sweep is charged for it."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(f"{folder}/tokenizer.json")


def hugging_face_model(task: dict):
    """The model in transformers, float32 (or the task's type), ready to generate.

    The folder is written by transformers 5; version 4 does not know its `rope_parameters` and
    would take its own default for the base of the rotary embedding.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, __version__

    dtype = getattr(torch, task["dtype"])
    config = AutoConfig.from_pretrained(task["folder"])
    if __version__.startswith("4."):
        config.rope_theta = config.rope_parameters["rope_theta"]
    model = AutoModelForCausalLM.from_pretrained(task["folder"], config=config, torch_dtype=dtype)
    model.eval()
    model.generation_config.eos_token_id = None
    return model
