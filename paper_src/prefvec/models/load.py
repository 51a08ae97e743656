"""Load a model for capture and steering: device, dtype, fingerprint, hook points."""

import functools
import gc
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import torch

from prefvec.errors import ConfigError, ModelError
from prefvec.machine import identifying
from prefvec.models.hooks import HookPoints, find_hook_points
from prefvec.models.linear import Packing, fastest_packing, pack_linear_layers, product_seconds
from prefvec.models.materialise import fingerprint, materialise
from prefvec.models.prompt import PromptFormat
from prefvec.models.registry import ModelSpec, resolve
from prefvec.paths import cache_dir, slug
from prefvec.store import canonical_hash, write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class LoadedModel:
    """A causal language model in evaluation mode with all that the library needs around it."""

    spec: ModelSpec
    model: torch.nn.Module
    tokenizer: object
    prompt: PromptFormat
    hooks: HookPoints
    fingerprint: str
    device: torch.device
    dtype: torch.dtype
    load_seconds: float = field(default=0.0, compare=False)
    abilities: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        """Registry id, hub id or path that the model was asked for by."""
        return self.spec.id

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.model.config.get_text_config().hidden_size

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks; layer i is the output of block i, 0 … n_layers − 1."""
        return len(self.hooks.blocks)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end an answer."""
        return self.prompt.stop_ids

    def identity(self) -> dict:
        """What a cached activation or generation depends on besides its inputs."""
        return {
            "fingerprint": self.fingerprint,
            "dtype": _name_of(self.dtype),
            "device": self.device.type,
            "prompt_format": self.prompt.digest,
        }

    def layer_at(self, fraction: float) -> int:
        """Layer at a proportional depth (0 = first block, 1 = last)."""
        return round(fraction * (self.n_layers - 1))

    def check_layer(self, layer: int) -> int:
        """Refuse a layer that the model does not have."""
        if not 0 <= layer < self.n_layers:
            raise ConfigError(
                f"layer {layer} is out of range for {self.id}: it has {self.n_layers} blocks, "
                f"layers 0 … {self.n_layers - 1}"
            )
        return layer


def load_model(name: str, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load a model by registry id, hub id, folder or GGUF file.

    device: auto (CUDA, then MPS, then CPU), cpu, cuda, mps. dtype: auto, float32, bfloat16,
    float16. Raises ConfigError for an unknown name, device or dtype, FetchError, ModelError.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    spec = resolve(name)
    place = pick_device(device)
    kind = pick_dtype(place, dtype)
    folder = materialise(spec)
    hf_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    started = time.perf_counter()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=kind, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{name}: transformers can't load it as a causal model: {str(error).splitlines()[0]}"
        ) from error
    model.to(place).eval().requires_grad_(False)
    if place.type == "cpu":
        pack_linear_layers(model, _cpu_choice()["packing"].get(_name_of(kind), "none"))
    return LoadedModel(
        spec=spec,
        model=model,
        tokenizer=tokenizer,
        prompt=PromptFormat.for_model(spec, tokenizer, model.generation_config),
        hooks=find_hook_points(model, spec.hooks),
        fingerprint=fingerprint(folder),
        device=place,
        dtype=kind,
        load_seconds=time.perf_counter() - started,
    )


class ModelPool:
    """Holds at most `size` models; the least recently used one is let go. One that somebody still
    uses is handed out again, not loaded a second time beside itself."""

    def __init__(self, device: str = "auto", dtype: str = "auto", size: int = 2):
        self.device, self.dtype, self.size = device, dtype, size
        self._models: dict[str, LoadedModel] = {}
        self._alive: WeakValueDictionary[str, LoadedModel] = WeakValueDictionary()

    def loaded(self) -> list[LoadedModel]:
        """The models in memory."""
        return list(self._models.values())

    def get(self, name: str) -> LoadedModel:
        """The model, loaded if need be."""
        if name in self._models:
            self._models[name] = self._models.pop(name)
            return self._models[name]
        while len(self._models) >= self.size:
            del self._models[next(iter(self._models))]
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        loaded = self._alive.get(name) or load_model(name, self.device, self.dtype)
        self._alive[name] = self._models[name] = loaded
        return loaded


def pick_device(name: str) -> torch.device:
    """auto, cpu, cuda or mps to a device that is there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name not in there:
        raise ConfigError(f"device '{name}' is unknown: use auto, cpu, cuda or mps")
    if not there[name]:
        raise ConfigError(f"device '{name}' is not available on this machine: use auto or cpu")
    return torch.device(name)


def pick_dtype(device: torch.device, name: str) -> torch.dtype:
    """auto: bfloat16 on a GPU; on a CPU whichever of float32 and bfloat16 multiplies faster."""
    if name != "auto":
        if name not in DTYPES:
            raise ConfigError(f"dtype '{name}' is unknown: use auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type != "cpu":
        return torch.bfloat16
    return DTYPES[_cpu_choice()["dtype"]]


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@functools.lru_cache
def _cpu_choice() -> dict:
    """Measured once a machine and kept, so that a noisy second measurement can't flip it."""
    import platform

    path = cache_dir() / "device" / f"{slug(_cpu_name() or platform.machine())}.json"
    if path.exists():
        with suppress(ValueError):
            found = json.loads(path.read_text())
            if {"dtype", "packing"} <= set(found):
                return found
    packing = {name: fastest_packing(DTYPES[name]) for name in ("float32", "bfloat16")}
    rates = {name: _gflops(DTYPES[name], chosen) for name, chosen in packing.items()}
    # bfloat16 costs precision, so it must be clearly faster to be chosen.
    choice = "bfloat16" if rates["bfloat16"] > 1.5 * rates["float32"] else "float32"
    record = {"dtype": choice, "gflops_at_64_rows": rates, "packing": packing}
    write_json(path, record)
    return record


def _cpu_name() -> str:
    """Hash of what identifies the processor, empty where the system does not tell."""
    lines = identifying()
    return canonical_hash(lines)[:16] if lines else ""


def _gflops(dtype: torch.dtype, packing: Packing, rows: int = 64, width: int = 2048) -> float:
    return round(2 * rows * width**2 / product_seconds(dtype, packing, rows, width) / 1e9, 1)
