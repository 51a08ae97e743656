"""Tiny random models of many decoder families: what `screen` checks the library on."""

from functools import lru_cache
from pathlib import Path

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from prefvec.errors import ConfigError
from prefvec.models.hooks import find_hook_points
from prefvec.models.load import LoadedModel
from prefvec.models.prompt import PromptFormat
from prefvec.models.registry import HookPaths, ModelSpec
from prefvec.paths import DATA

FAMILIES_FILE = DATA / "families.yaml"
FEW = ("llama", "qwen2", "gemma3_text", "mistral", "gpt2", "gpt_neox", "falcon", "mamba")


@lru_cache
def families(path: Path = FAMILIES_FILE) -> tuple[str, ...]:
    """The names of all families in the file."""
    return tuple(_read(path)["families"])


@lru_cache
def _read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tiny_config(family: str, path: Path = FAMILIES_FILE):
    """The configuration of a tiny model of a family. Raises ConfigError for a family not in the file."""
    raw = _read(path)
    if family not in raw["families"]:
        raise ConfigError(
            f"unknown family '{family}': {path.name} has {', '.join(raw['families'])}"
        )
    own = dict(raw["families"][family])
    kind = own.pop("type", family)
    default = AutoConfig.for_model(kind)
    sizes = {k: v for k, v in raw["sizes"].items() if hasattr(default, k)} | own
    return AutoConfig.for_model(kind, **{k: v for k, v in sizes.items() if v is not None})


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level: any text, no training."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def tiny_model(config, name: str, seed: int = 0, hooks: HookPaths | None = None) -> LoadedModel:
    """A randomly initialised model, wrapped like a real one; float32, on the CPU.

    Raises ModelError where its hook points can't be found.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
        with torch.no_grad():
            for (
                parameter
            ) in model.parameters():  # larger weights: distinct logits, no ties in argmax
                if parameter.ndim == 2:
                    parameter.mul_(4)
    tokenizer = tiny_tokenizer()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    spec = ModelSpec(
        id=f"tiny-{name}-{seed}", path=f"/nowhere/{name}", prompt="examples", hooks=hooks
    )
    return LoadedModel(
        spec=spec, model=model, tokenizer=tokenizer,
        prompt=PromptFormat("examples", tokenizer, frozenset({tokenizer.eos_token_id}), ()),
        hooks=find_hook_points(model, hooks), fingerprint=f"{name}{seed}",
        device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip
