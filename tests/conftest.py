"""Tiny random models for mechanics; results are only ever tested on the real ones."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen2Config,
)

from prefvec import families
from prefvec.abilities import path
from prefvec.models.load import LoadedModel
from prefvec.store import Store

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# These run stages in the repository, which one run holds at a time.
PIPELINE = {"test_notebooks", "test_scaling"}
VOCABULARY = 300
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SMALL = {"vocab_size": VOCABULARY, "num_hidden_layers": 4}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SMALL, hidden_size=48, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2),
    "gemma3": Gemma3TextConfig(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=16),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_layer=4, n_embd=32, n_head=4, n_positions=128),
    "gpt_neox": GPTNeoXConfig(**SMALL, hidden_size=32, intermediate_size=48, num_attention_heads=4),
}  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files stay together on a worker, for their fixtures; those that start the pipeline all on one."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.split("::")[0]).stem
            return "pipeline" if file in PIPELINE else file

    return ByFile(config, log)


def tiny_model(kind: str, seed: int = 0) -> LoadedModel:
    """A randomly initialised model of an architecture, wrapped like a real one."""
    loaded = families.tiny_model(CONFIGS[kind], kind, seed)
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


@pytest.fixture
def browser():
    """Headless Chromium of the distribution."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium (run_tests.sh does it when it may)")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def random_ids(count: int, low: int = 5, high: int = 14, seed: int = 0) -> list[tuple[int, ...]]:
    """Token id lists of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(low, high, (count,), generator=generator).tolist()
    return [tuple(torch.randint(3, 250, (n,), generator=generator).tolist()) for n in lengths]
