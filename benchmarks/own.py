"""Measurements of prefvec alone, each in its own process: `own.py NAME TASK.json OUT.json`.

Each gives {"values": {contestant: [one number a repetition]}, "note": …}.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from contestants.common import peak_mib

from prefvec.activations import Prompt, capture
from prefvec.generation import Request, generate
from prefvec.models.load import load_model
from prefvec.steering import Steer


def loaded(task):
    """The model that is measured; rows never end."""
    model = load_model(task["folder"], device="cpu", dtype=task["dtype_asked"])
    object.__setattr__(model.prompt, "stop_ids", frozenset())
    object.__setattr__(model.prompt, "stop_strings", ())
    return model


def clock(work) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sweep(model, task, rows, tokens):
    """A forced-length sweep: 16 prompts at one dose, then at the next, … until there are `rows`."""
    vector = np.load(task["vector"], allow_pickle=False)
    prompts = task["prompts"]
    requests = [
        Request(
            tuple(prompts[i % len(prompts)]),
            (Steer(vector, task["layer"], 0.1 * (1 + i // len(prompts))),),
        )
        for i in range(rows)
    ]
    generate(model, requests, tokens)


def matrix_rate(model, rows: int) -> float:
    """GFLOP/s of plain float products of the shapes of one block, `rows` rows."""
    layers = [m for m in model.hooks.blocks[0].modules() if isinstance(m, torch.nn.Linear)]
    pairs = [(torch.randn(rows, m.in_features).to(model.dtype), m.weight.t()) for m in layers]
    work = sum(2 * rows * m.in_features * m.out_features for m in layers)

    def products():
        for _ in range(10):
            for x, weight in pairs:
                torch.mm(x, weight)

    products()
    return 10 * work / min(clock(products) for _ in range(5)) / 1e9


def parameters(module) -> int:
    """Weights of the linear layers in a module."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Linear))


def decode_share(task):
    """Decoding at 256 rows: arithmetic done per second, by the matrix-product rate."""
    model, rows = loaded(task), 256
    sweep(model, task, rows, 4)
    flops = 2 * rows * parameters(model.model)
    shares = []
    for _ in range(task["repeat"]):
        rate = matrix_rate(model, rows)
        long = clock(lambda: sweep(model, task, rows, 28))
        short = clock(lambda: sweep(model, task, rows, 4))
        shares.append(flops * 24 / (long - short) / 1e9 / rate)
    return {"prefvec": shares}


def capture_share(task):
    """Capture at mid-depth of prompts that share nothing: arithmetic per second, by the rate."""
    model = loaded(task)
    layer = model.n_layers // 2
    generator = np.random.default_rng(0)
    prompts = [Prompt(generator.integers(5, 40_000, size=48).tolist()) for _ in range(256)]
    flops = 2 * 256 * 48 * sum(parameters(b) for b in model.hooks.blocks[: layer + 1])
    capture(model, prompts[:32], [layer])
    shares = []
    for _ in range(task["repeat"]):
        rate = matrix_rate(model, 4096)
        shares.append(flops / clock(lambda: capture(model, prompts, [layer])) / 1e9 / rate)
    return {"prefvec": shares}


def extraction(task):
    """Vectors at mid-depth from 64 contrast pairs: prefvec, and `output_hidden_states` as usual."""
    from prefvec.traits import load_questions, load_trait
    from prefvec.vectors import contrast_prompts

    model = loaded(task)
    layer = model.n_layers // 2
    positive, negative = contrast_prompts(
        model, load_trait("verbosity"), load_questions("extraction", 16), 4
    )
    prompts = positive + negative

    def usual():
        found = []
        for start in range(0, len(prompts), 16):
            rows = [p.ids for p in prompts[start : start + 16]]
            longest = max(map(len, rows))
            ids = torch.tensor([[0] * (longest - len(r)) + list(r) for r in rows])
            mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
            with torch.inference_mode():
                out = model.model(ids, attention_mask=mask, output_hidden_states=True)
            found.append(out.hidden_states[layer + 1][:, -1])
        return torch.cat(found)

    ours = capture(model, prompts, [layer])[layer]
    theirs = usual().float().numpy()
    cosine = float((ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs))
    values = {"prefvec": [], "transformers, output_hidden_states": []}
    for _ in range(task["repeat"]):
        values["prefvec"].append(clock(lambda: capture(model, prompts, [layer])))
        values["transformers, output_hidden_states"].append(clock(usual))
    return values, f"same activations: cosine {cosine:.6f}"


def zero_dose(task):
    """A sweep at α = 0 against the same without any addition: time ratio."""
    model = loaded(task)
    vector = np.load(task["vector"], allow_pickle=False)
    prompts = [tuple(p) for p in task["prompts"]]
    plain = [Request(p) for p in prompts]
    zero = [Request(p, (Steer(vector, task["layer"], 0.0),)) for p in prompts]
    same = generate(model, plain, 16) == generate(model, zero, 16)
    pairs = []
    for i in range(2 * task["repeat"]):
        order = (plain, zero) if i % 2 else (zero, plain)
        seconds = {id(r): clock(lambda r=r: generate(model, r, 24)) for r in order}
        pairs.append(seconds[id(zero)] / seconds[id(plain)])
    return {"prefvec": pairs}, "same texts" if same else "TEXTS DIFFER"


def dose_cost(task):
    """Time of 16 doses by the time of 4, same prompts."""
    model = loaded(task)
    sweep(model, task, 16, 4)
    ratios = []
    for _ in range(task["repeat"]):
        few = clock(lambda: sweep(model, task, 64, 32))
        ratios.append(clock(lambda: sweep(model, task, 256, 32)) / few)
    return {"prefvec": ratios}


def scaling(task):
    """Tokens per second by rows, by new tokens and by number of doses."""
    model = loaded(task)
    sweep(model, task, 16, 4)
    sizes = {f"rows={n}": (n, 24) for n in (1, 4, 16, 64, 256, 512)}
    sizes |= {f"tokens={n}": (64, n) for n in (8, 16, 32, 64, 128)}
    sizes |= {f"doses={n}": (16 * n, 24) for n in (1, 2, 4, 8, 16)}
    values = {name: [] for name in sizes}
    for _ in range(min(3, task["repeat"])):
        for name, (rows, tokens) in sizes.items():
            seconds = clock(lambda r=rows, t=tokens: sweep(model, task, r, t))
            values[name].append(rows * tokens / seconds)
    return values


def ridge(task):
    """The λ path at 7B width: 5 000 rows, 4096 → 4096, 12 λ, 5 random and 5 grouped folds.

    Variances of the source's principal directions fall as 1/k, as those of residual streams do
    roughly; with equal ones (`flat`), the hardest case, float64 is needed in more places.
    """
    from prefvec.adapters.ridge import ridge_path

    n, d = 5000, 4096
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((n, d), dtype=np.float32)
    flat = generator.standard_normal((n, d), dtype=np.float32)
    falling = flat * np.float32(np.arange(1, d + 1)) ** np.float32(-0.5)
    styles = [str(i % 50) for i in range(n)]
    penalties = np.geomspace(1e-4, 1e3, 12).tolist()
    before = peak_mib() / 1024
    values = {"seconds": [], "flat": []}
    for name, x in [("seconds", falling)] * min(5, task["repeat"]) + [("flat", flat)]:
        y = x[:, ::-1] + noise
        values[name].append(clock(lambda x=x, y=y: ridge_path(x, y, styles, penalties)))
    values["GiB"] = [peak_mib() / 1024]
    return values, f"before the call {before:.2f} GiB"


def ridge_plain(task):
    """One of the path's 132 fits done plainly by scikit-learn, times their number."""
    from sklearn.linear_model import Ridge

    n, d = 4000, 4096
    generator = np.random.default_rng(0)
    x, y = (generator.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    seconds = clock(lambda: Ridge(alpha=100.0, solver="cholesky").fit(x, y))
    return {"scikit-learn Ridge, a fit a fold and λ": [132 * seconds]}, "extrapolated from one fit"


def start_up(task):
    """Seconds to load each materialised model."""
    values = {}
    for name in task["models"]:
        values[name] = [clock(lambda n=name: load_model(n)) for _ in range(task["repeat"])]
    return values


def materialising(task):
    """Seconds from the three assembled GGUF files to loadable folders, one after the other."""
    import os

    from prefvec.models.fetch import gguf_file
    from prefvec.models.registry import resolve

    files = [gguf_file(resolve(name)) for name in task["models"]]
    with tempfile.TemporaryDirectory(dir=Path(task["scratch"])) as folder:
        os.environ["PREFVEC_CACHE"] = folder
        from prefvec.models.materialise import materialise

        for file in files:
            place = Path(folder) / "gguf" / file.name
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(file)
        values = {}
        for name in task["models"]:
            values[name] = [clock(lambda n=name: materialise(resolve(n)))]
    return values


def main() -> None:
    """Run the measurement that the command line names."""
    with open(sys.argv[2]) as file:
        task = json.load(file)
    torch.set_num_threads(task["threads"])
    found = globals()[sys.argv[1]](task)
    values, note = found if isinstance(found, tuple) else (found, "")
    with open(sys.argv[3], "w") as file:
        json.dump({"values": values, "note": note}, file)


if __name__ == "__main__":
    main()
