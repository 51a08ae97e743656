"""How fast a machine is: measured in a few seconds and kept, or assumed from a data sheet."""

import json
import math
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from prefvec.errors import ConfigError
from prefvec.paths import cache_dir, slug
from prefvec.plan.shapes import ASSUMPTIONS, Shape, assumptions, local_folder, outline
from prefvec.store import canonical_hash, file_sha256, write_json

ROWS = (8, 32, 128, 512)  # shapes at which matrix products are timed
PATH_FITS = (
    11  # a λ path takes about as long as so many single fits (measured: 9 at 816 × 896 → 576)
)
YARDSTICK = "smollm2-135m-instruct"  # the embedded model that efficiency is measured on
RIDGE = (256, 640)  # prompts, and widths, of the two λ paths that are timed
CODE = ("generation.py", "batching.py", "prefill.py", "cache.py", "activations.py", "steering.py")
FREE = 0.85  # share of the cores that a product must get for the measurement to be kept
FALLBACK_EFFICIENCY = 0.6  # share of the matrix rate, where no embedded model is here to measure


@dataclass(frozen=True)
class Rates:
    """What one device does. `products`: FLOP/s of matrix products by rows, largest last.
    `prefill`, `decode`: a pass over prompts and a decoding step, in units of that.
    `bandwidth`: bytes/s. `block_seconds`: launch of one block of one pass. `solve`: nominal float64
    FLOP/s of a ridge fit, on the processor, after `fit_seconds`. `memory`: bytes of the device."""

    name: str
    kind: str
    products: dict[int, float]
    prefill: float
    decode: float
    bandwidth: float
    block_seconds: float
    solve: float
    fit_seconds: float
    memory: float
    itemsize: int
    cores: int
    basis: str

    def flops(self, rows: float) -> float:
        """FLOP/s of matrix products with so many rows, interpolated between the measured ones."""
        known = sorted(self.products)
        values = [math.log(self.products[k]) for k in known]
        return math.exp(np.interp(math.log(max(1.0, rows)), np.log(known), values))


def measured(device: str = "auto", dtype: str = "auto") -> Rates:
    """This machine's rates, from the cache if the library has not changed since.

    device and dtype as in a profile. Takes a few seconds the first time; never fetches a model.
    """
    import torch

    from prefvec.models.load import pick_device, pick_dtype

    place, kind = pick_device(device), pick_dtype(pick_device(device), dtype)
    threads = torch.get_num_threads()
    there = local_folder(outline(YARDSTICK, exact=False).spec) is not None
    identity = canonical_hash([_device_name(place), str(kind), threads, _code_digest(), there])
    path = cache_dir() / "device" / f"plan-{slug(place.type)}-{identity[:16]}.json"
    if path.exists():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return Rates(**{**kept, "products": {int(k): v for k, v in kept["products"].items()}})
        except (ValueError, TypeError, AttributeError):
            path.unlink()
    print("measuring this machine (once, about 15 s) …", file=sys.stderr, flush=True)
    before = _core_share(threads)
    rates = _calibrate(place, kind, threads, there)
    share = min(before, _core_share(threads))
    if share < FREE:  # other work slowed this down: useful now, wrong to keep
        basis = f"{rates.basis}; other programs took {1 - share:.0%} of the cores, so not kept"
        print(f"note: {basis}", file=sys.stderr, flush=True)
        return replace(rates, basis=basis)
    write_json(path, asdict(rates))
    return rates


def assumed(name: str, cores: int = 1) -> Rates:
    """A device by its data sheet in data/plan.yaml; `cores` counts for a processor.

    Raises ConfigError for an unknown name.
    """
    known = assumptions().devices
    if name not in known:
        raise ConfigError(
            f"device '{name}' is unknown: use one of {', '.join(known)}, or add it to {ASSUMPTIONS.name}"
        )
    sheet, cpu = known[name], name == "cpu"
    cores = cores if cpu else 1
    peak = 1e12 * sheet.tflops * cores
    return Rates(
        name=f"{cores} cores" if cpu else name,
        kind="cpu" if cpu else "cuda",
        products={1: peak},
        prefill=sheet.utilisation,
        decode=sheet.utilisation,
        bandwidth=1e9 * sheet.bandwidth * sheet.utilisation * min(cores, 4),
        block_seconds=sheet.block_ms / 1000,
        solve=1e9 * assumptions().overheads.solve_gflops,
        fit_seconds=assumptions().overheads.fit_seconds,
        memory=sheet.memory * 2**30,
        itemsize=4 if cpu else 2,
        cores=cores,
        basis=f"assumed in {ASSUMPTIONS.name}",
    )


def _calibrate(place, kind, threads: int, yardstick: bool) -> Rates:
    import torch

    solve, fit_seconds = _solve_rate()
    products = {rows: _product_rate(rows, place, kind) for rows in ROWS}
    memory = torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else 0
    rates = Rates(
        name=_device_name(place),
        kind=place.type,
        products=products,
        prefill=FALLBACK_EFFICIENCY,
        decode=FALLBACK_EFFICIENCY,
        bandwidth=_bandwidth(place),
        block_seconds=0.0,
        solve=solve,
        fit_seconds=fit_seconds,
        memory=memory,
        itemsize=kind.itemsize,
        cores=threads,
        basis="matrix rates measured, efficiency assumed (no embedded model is here)",
    )
    return _with_efficiency(rates, str(kind).removeprefix("torch.")) if yardstick else rates


def _with_efficiency(rates: Rates, dtype: str) -> Rates:
    """Share of the matrix rate that capture and decoding reach on an embedded model."""
    from prefvec.activations import Prompt, capture
    from prefvec.generation import Request, generate
    from prefvec.models.load import load_model

    loaded = load_model(YARDSTICK, rates.kind, dtype)
    shape = outline(YARDSTICK, exact=False).shape
    generator = np.random.default_rng(0)
    ends = loaded.stop_ids

    def prompts(count: int, length: int) -> list[tuple[int, ...]]:
        ids = generator.integers(1000, 40000, (count, length)).tolist()
        return [tuple(i for i in row if i not in ends) for row in ids]

    count, length = (32, 64) if rates.kind == "cpu" else (64, 64)
    layers = list(range(loaded.n_layers))
    capture(loaded, [Prompt(p) for p in prompts(2, 8)], layers)
    rows = [Prompt(p) for p in prompts(count, length)]
    seconds = _timed(lambda: capture(loaded, rows, layers))
    work = 2 * shape.block_parameters * count * length
    prefill = work / seconds / rates.flops(count * length)

    batch, short, long = 96, 2, 14
    asked = [Request(p) for p in prompts(batch, 8)]
    once = _timed(lambda: generate(loaded, asked, short))
    seconds = _timed(lambda: generate(loaded, asked, long)) - once
    block = 0.0
    if rates.kind != "cpu":  # one row: what a step costs whatever its size
        single = asked[:1]
        step = _timed(lambda: generate(loaded, single, long)) - _timed(lambda: generate(loaded, single, short))  # fmt: skip
        block = max(0.0, step / (long - short) / loaded.n_layers)
        decode = prefill  # small batches of a small model are launch-bound: nothing to learn
    else:
        work = (long - short) * decode_flops(shape, batch)
        decode = work / max(seconds, 1e-6) / rates.flops(batch)
    basis = f"measured on {loaded.id}, {dtype}"
    return replace(rates, prefill=prefill, decode=decode, block_seconds=block, basis=basis)  # fmt: skip


def decode_flops(shape: Shape, rows: float) -> float:
    """FLOPs of one new token in each of so many rows: two a weight, head included."""
    return 2 * rows * (shape.block_parameters + shape.head_parameters)


def ridge_flops(n: int, d_source: int, d_target: int) -> float:
    """FLOPs of one decomposition of a ridge fit, up to a factor that calibration absorbs."""
    return float(n) * d_source * min(n, d_source) + float(n) * min(n, d_source) * d_target


def _product_rate(rows: int, place, kind, width: int = 2048) -> float:
    import torch

    width = width if place.type == "cpu" else 2 * width
    a = torch.randn(rows, width, device=place).to(kind)
    b = torch.randn(width, width, device=place).to(kind)
    a @ b

    def product() -> None:
        a @ b
        if place.type == "cuda":
            torch.cuda.synchronize()

    best = min(_timed(product) for _ in range(5))
    return 2 * rows * width * width / best


def _core_share(threads: int, width: int = 1024, seconds: float = 0.5) -> float:
    """Share of the cores, 0 to 1, that matrix products on the processor get for half a second."""
    import torch

    a = torch.randn(width, width)
    started, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        a @ a
    return (time.process_time() - used) / (time.perf_counter() - started) / threads


def _bandwidth(place) -> float:
    import torch

    source = torch.ones(1 << 26, device=place)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        if place.type == "cuda":
            torch.cuda.synchronize()

    copy()
    return 2 * source.nbytes / min(_timed(copy) for _ in range(3))


def _solve_rate() -> tuple[float, float]:
    """Nominal FLOP/s of a ridge fit and the seconds that any fit takes, from paths of two sizes."""
    from prefvec.adapters import ridge_path

    generator = np.random.default_rng(0)
    seconds, work = [], []
    for n in RIDGE:
        x, y = generator.normal(size=(2, n, n))
        styles = [str(i // 8) for i in range(n)]
        seconds.append(_timed(lambda: ridge_path(x, y, styles, (0.01, 0.1, 1.0, 10.0))))  # noqa: B023
        work.append(PATH_FITS * ridge_flops(n, n, n))
    rate = (work[1] - work[0]) / max(1e-3, seconds[1] - seconds[0])
    return rate, max(0.0, seconds[1] - work[1] / rate) / PATH_FITS


def _timed(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _device_name(place) -> str:
    if place.type == "cuda":
        import torch

        return torch.cuda.get_device_name(place)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {os.cpu_count()} cores"


def _code_digest() -> str:
    """Changes when code that decides the rates does."""
    package = Path(__file__).resolve().parents[1]
    files = [*(package / name for name in CODE), *sorted((package / "models").glob("*.py"))]
    files += [package / "adapters" / "ridge.py", Path(__file__)]
    return canonical_hash([file_sha256(path) for path in files if path.exists()])
