"""Seconds, memory and disk of counted work at a device's rates."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import psutil

from prefvec.batching import MAX_ROWS, MEMORY_LIMIT, MEMORY_SHARE
from prefvec.generation import PROMPT_TOKENS
from prefvec.metrics.likelihood import MAX_LOGITS
from prefvec.paths import DATA, RESULTS, slug
from prefvec.plan.counting import Stage, Work
from prefvec.plan.rates import Rates, decode_flops, ridge_flops
from prefvec.plan.shapes import Outline, OutlinePool, Shape, assumptions
from prefvec.store import read_rows

CAPTURE_TOKENS, SCORE_TOKENS = 4096, 2048  # tokens of one pass
OCCUPANCY = 0.85  # share of a batch's rows that are not finished, on average: they refill at 0.75
SERVED_AT_ONCE, SERVED_SLOTS = 2, 2048  # requests at once, tokens of each, in 06 and 07
SERVED_READING = 0.5  # share of the memory's bandwidth that llama.cpp's small steps reach
ANSWER_BYTES, ANSWER_FILE_BYTES = 400, 4400  # a row of generations_*.jsonl; an answer in the cache
MIB = 2**20


class Length(NamedTuple):
    """Expected new tokens of an answer, and where that is from."""

    tokens: float
    basis: str


class Costs:
    """Costs of a profile's stages on one device. Work whose key is known costs nothing."""

    def __init__(self, pool: OutlinePool, rates: Rates, profile: str):
        self.pool, self.rates, self.profile = pool, rates, profile
        self.assumed = assumptions().overheads

    def seconds(self, stage: Stage, known: set[tuple] = frozenset(), cores: int = 0) -> float:
        """Wall time of a stage on `cores` (0: all that the rates are of)."""
        if stage.rule == "model":
            return self._fetch_seconds(stage.models[0])
        if stage.rule == "pdf":
            return self.assumed.pdf_seconds
        fixed = self.assumed.start_seconds + self.assumed.stage_seconds
        fixed += self.assumed.content_seconds if stage.rule == "adapters" else 0
        fixed += sum(self._weights(m) for m in stage.models) / self.assumed.load_mb_per_second / 1e6
        share = self.rates.cores / (cores or self.rates.cores) if self.rates.kind == "cpu" else 1.0
        return fixed + share * sum(self.work_seconds(stage.work, known).values())

    def work_seconds(self, work: Iterable[Work], known: set[tuple] = frozenset()) -> dict:
        """Seconds by kind of work, on all cores."""
        out: dict[str, float] = defaultdict(float)
        todo = fresh(work, known)
        for item in todo:
            if item.kind == "ridge":
                out["ridge"] += self._ridge_seconds(item)
            elif item.kind == "ask":
                out["ask"] += self._ask_seconds(item)
            elif item.kind != "generate":
                per_pass = CAPTURE_TOKENS if item.kind == "capture" else SCORE_TOKENS
                out[item.kind] += self._pass_seconds(item, per_pass)
        for items in _calls(w for w in todo if w.kind == "generate"):
            out["generate"] += self._generate_seconds(items)
        return out

    def memory(self, stage: Stage) -> tuple[float, float]:
        """Peak MiB of the host and of the accelerator (0 where there is none)."""
        host, models = self.assumed.process_mib, stage.models[-2:]
        held = [self._weights(name) / MIB for name in models]
        calls = _calls(w for w in stage.work if w.kind == "generate")
        batches = [self._answers_mib(items) for items in calls]
        batches += [self._batch_mib(w) for w in stage.work if w.kind != "generate"]
        batch = max(batches, default=0.0)
        if stage.rule in ("architectures", "model"):  # whole models, in float32
            whole = [m for m in stage.models if stage.notebook or self._converts(m)]
            return host + max(map(self._float32_mib, whole), default=0.0), 0.0
        if self.rates.kind == "cpu":
            return host + sum(held) + sum(map(self._packed_mib, models)) + batch, 0.0
        return host + max(held, default=0.0), sum(held) + batch

    def rows(self, model: str, slots: float, count: int) -> int:
        """Rows of a batch: what the device uses at full rate, or what its memory holds."""
        budget = min(MEMORY_SHARE * psutil.virtual_memory().available, MEMORY_LIMIT)
        if self.rates.kind == "cuda":
            budget = 2 * MEMORY_SHARE * max(0.0, self.rates.memory - 2 * self._weights(model))
        fits = int(budget / self._row_bytes(self._shape(model), slots))
        return max(1, min(MAX_ROWS.get(self.rates.kind, 512), fits, count))

    def length(self, model: str, limit: int) -> Length:
        """Expected new tokens: the mean of committed answers cut at the limit, else the limit."""
        return _length(slug(model), limit, self.profile)

    def _shape(self, model: str) -> Shape:
        return self.pool.get(model).shape

    def _weights(self, model: str) -> float:
        return self._shape(model).parameters * self.rates.itemsize

    def _converts(self, model: str) -> bool:
        found = self.pool.get(model)
        return found.folder is None and found.spec.gguf is not None

    def _packed_mib(self, model: str) -> float:
        """The second copy of the weights that `models/linear.py` keeps in float32."""
        shape = self._shape(model)
        packed = shape.block_parameters + shape.head_parameters
        return packed * 4 / MIB if self.rates.itemsize == 4 else 0.0

    def _float32_mib(self, model: str) -> float:
        return self._shape(model).parameters * 4 / MIB

    def _row_bytes(self, shape: Shape, slots: float) -> float:
        return shape.cache_bytes(self.rates.itemsize) * slots * (1 + 1 / shape.layers) + 12 * shape.vocabulary  # fmt: skip

    def _batch_mib(self, work: Work) -> float:
        if work.kind == "ridge":
            widths = self._shape(work.model).width + work.target_width
            return 8 * 4 * work.tokens * widths / MIB
        shape = self._shape(work.model)
        if work.kind == "ask":  # the server holds the file and its caches
            return (shape.parameters + SERVED_AT_ONCE * SERVED_SLOTS * shape.cache_bytes(2)) / MIB
        if work.kind == "score":
            logits = 2 * 4 * min(MAX_LOGITS, work.logits * shape.vocabulary)
            return (logits + self._pass_bytes(shape, min(SCORE_TOKENS, work.tokens))) / MIB
        return self._pass_bytes(shape, min(CAPTURE_TOKENS, work.tokens)) / MIB

    def _answers_mib(self, items: list[Work]) -> float:
        shape, count = self._shape(items[0].model), sum(w.rows for w in items)
        tokens = sum(w.tokens for w in items)
        slots = tokens / count + items[0].new_tokens
        rows = self.rows(items[0].model, slots, count)
        held = rows * self._row_bytes(shape, slots)
        return (held + self._pass_bytes(shape, min(PROMPT_TOKENS, tokens))) / MIB

    def _pass_bytes(self, shape: Shape, tokens: int) -> float:
        """Intermediate values of one block for so many tokens."""
        return self.rates.itemsize * tokens * (3 * shape.intermediate + 4 * shape.width)

    def _pass_seconds(self, work: Work, per_pass: int) -> float:
        """Prompts through the blocks, in passes of so many tokens."""
        shape, r = self._shape(work.model), self.rates
        passes = math.ceil(work.tokens / per_pass)
        flops = 2 * (shape.block_parameters * work.depth * work.tokens + shape.head_parameters * work.logits)  # fmt: skip
        compute = flops / (r.flops(work.tokens / passes) * r.prefill)
        reading = passes * shape.block_parameters * work.depth * r.itemsize / r.bandwidth
        return max(compute, reading, passes * shape.layers * work.depth * r.block_seconds)

    def _generate_seconds(self, items: list[Work]) -> float:
        """One call: prompts, then steps over a batch that refills as answers end."""
        model, limit = items[0].model, items[0].new_tokens
        shape, r = self._shape(model), self.rates
        count = sum(w.rows for w in items)
        prompts = Work(
            "capture", (), model, count, sum(round(w.tokens * w.depth) for w in items), logits=count
        )
        total = count * self.length(model, limit).tokens
        context = sum(w.tokens for w in items) / count + limit / 2
        rows = self.rows(model, context + limit / 2, count)
        steps = max(limit, total / (OCCUPANCY * rows))
        compute = steps * decode_flops(shape, total / steps) / (r.flops(total / steps) * r.decode)
        weights = (shape.block_parameters + shape.head_parameters) * r.itemsize
        reading = steps * weights / r.bandwidth
        launching = steps * shape.layers * r.block_seconds
        caches = total * context * shape.cache_bytes(r.itemsize) / r.bandwidth
        return (
            self._pass_seconds(prompts, PROMPT_TOKENS) + max(compute, reading, launching) + caches
        )

    def _ask_seconds(self, work: Work) -> float:
        """Requests to llama.cpp: prompts one by one, then steps over the few that are served at once, each of
        which reads the weights, of a byte. Roughly: llama.cpp's own rates are not measured."""
        shape, r = self._shape(work.model), self.rates
        each = work.tokens / max(1, work.rows)
        compute = 2 * shape.block_parameters * work.tokens / (r.flops(each) * r.prefill)
        steps = work.rows * self.length(work.model, work.new_tokens).tokens / SERVED_AT_ONCE
        reading = (shape.block_parameters + shape.head_parameters) / (SERVED_READING * r.bandwidth)
        return compute + steps * reading

    def _ridge_seconds(self, work: Work) -> float:
        flops = ridge_flops(work.tokens, self._shape(work.model).width, work.target_width)
        return work.rows * (self.rates.fit_seconds + flops / self.rates.solve)

    def _fetch_seconds(self, model: str) -> float:
        found = self.pool.get(model)
        if found.folder is not None:
            return 2.0
        seconds = download_bytes(found) / self.assumed.download_mb_per_second / 1e6
        if found.spec.gguf is not None:
            seconds += found.shape.parameters * 4 / self.assumed.convert_mb_per_second / 1e6
        return seconds


def _calls(items: Iterable[Work]) -> list[list[Work]]:
    """Answers that are generated in one call: a model's on a split."""
    calls: dict[tuple, list[Work]] = defaultdict(list)
    for item in items:
        calls[item.model, item.key[2]].append(item)
    return list(calls.values())


def fresh(work: Iterable[Work], known: set[tuple]) -> list[Work]:
    """What is not known yet, each key once."""
    return list({item.key: item for item in work if item.key not in known}.values())


def disk(stages: list[Stage], pool: OutlinePool) -> dict[str, float]:
    """MiB of a profile's models (and how much of that is there), cache, and results with figures."""
    models = dict.fromkeys(m for s in stages if s.rule == "model" for m in s.models)
    outlines = [pool.get(name) for name in models]
    work = fresh((w for s in stages for w in s.work), set())
    answers = sum(w.rows for w in work if w.kind == "generate")
    notebooks = sum(bool(s.notebook) for s in stages)
    there = [_folder_bytes(o.folder) if o.folder else 0 for o in outlines]
    sizes = [t or _model_bytes(o) for t, o in zip(there, outlines, strict=True)]
    return {
        "models": sum(sizes) / MIB,
        "models_there": sum(there) / MIB,
        "cache": (sum(w.kept for w in work) + answers * ANSWER_FILE_BYTES) / MIB,
        "results": sum(s.answers for s in stages) * ANSWER_BYTES / MIB
        + 2 * notebooks * assumptions().overheads.notebook_mib,
    }


def download_bytes(model: Outline) -> float:
    """Bytes to fetch: the GGUF file, or bfloat16 weights from the hub."""
    if model.spec.gguf is not None:
        return model.spec.gguf.size or model.shape.parameters
    return 2 * model.shape.parameters


def _model_bytes(model: Outline) -> float:
    converted = model.shape.parameters * 4 if model.spec.gguf is not None else 0
    return download_bytes(model) + converted


def _folder_bytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


@lru_cache
def _length(model: str, limit: int, profile: str) -> Length:
    for root in dict.fromkeys((RESULTS, DATA / "results")):
        found: dict[str, list[int]] = defaultdict(list)
        for path in sorted(root.glob("*/*/*/generations_*.jsonl")):
            name, pair = path.parts[len(root.parts)], path.parts[len(root.parts) + 1]
            if pair.split("--")[-1] == model and _limit_of(path) >= limit:
                rows = read_rows(path)
                # Of notebooks 06 and 07 they are 04's again, or another program's: without a count.
                found[name] += [min(limit, row["n_tokens"]) for row in rows if "n_tokens" in row]
        found = {name: counts for name, counts in found.items() if counts}
        if found:
            name = profile if profile in found else max(found, key=lambda n: len(found[n]))
            tokens = sum(found[name]) / len(found[name])
            return Length(tokens, f"mean of {len(found[name])} answers in results/{name}")
    return Length(float(limit), "upper bound: no results of this model with such a limit")


def _limit_of(path: Path) -> int:
    manifest = path.with_name(path.name.replace("generations", "manifest")).with_suffix(".json")
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["settings"]["max_new_tokens"]
    except (OSError, ValueError, KeyError):
        return 0
