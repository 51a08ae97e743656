"""Tiny random models for mechanics; results are only ever tested on the real ones."""

import os

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from prefvec.abilities import path
from prefvec.models.hooks import find_hook_points
from prefvec.models.load import LoadedModel
from prefvec.models.prompt import PromptFormat
from prefvec.models.registry import ModelSpec
from prefvec.store import Store

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
VOCABULARY = 300
SMALL = {"vocab_size": VOCABULARY, "num_hidden_layers": 4}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SMALL, hidden_size=48, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2),
    "gemma3": Gemma3TextConfig(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=16),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_layer=4, n_embd=32, n_head=4, n_positions=128),
    "gpt_neox": GPTNeoXConfig(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=4),
}  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level: any text, no training."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def tiny_model(kind: str, seed: int = 0, layers: int = 4) -> LoadedModel:
    """A randomly initialised model of an architecture, wrapped like a real one."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]
    model = AutoModelForCausalLM.from_config(config).float().eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():  # larger weights: distinct logits, no ties in argmax
            if parameter.ndim == 2:
                parameter.mul_(4)
    tokenizer = tiny_tokenizer()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    spec = ModelSpec(id=f"tiny-{kind}-{seed}", path=f"/nowhere/{kind}", prompt="examples")
    loaded = LoadedModel(
        spec=spec, model=model, tokenizer=tokenizer,
        prompt=PromptFormat("examples", tokenizer, frozenset({tokenizer.eos_token_id}), ()),
        hooks=find_hook_points(model), fingerprint=f"{kind}{seed}",
        device=torch.device("cpu"), dtype=torch.float32,
    )  # fmt: skip
    path(loaded)  # tried here, so that tests can count passes
    return loaded


@pytest.fixture(params=sorted(CONFIGS))
def tiny(request) -> LoadedModel:
    """One tiny model of each architecture."""
    return tiny_model(request.param)


@pytest.fixture
def llama() -> LoadedModel:
    """One tiny Llama."""
    return tiny_model("llama")


@pytest.fixture
def store(tmp_path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


def random_ids(count: int, low: int = 5, high: int = 14, seed: int = 0) -> list[tuple[int, ...]]:
    """Token id lists of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(low, high, (count,), generator=generator).tolist()
    return [tuple(torch.randint(3, 250, (n,), generator=generator).tolist()) for n in lengths]
