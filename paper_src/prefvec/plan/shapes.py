"""Sizes of models that need not be loaded, or even be here, and prompts of their size."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefvec.errors import ConfigError
from prefvec.models.load import LoadedModel
from prefvec.models.prompt import PromptFormat
from prefvec.models.registry import ModelSpec, first_problem, require_white_box, resolve
from prefvec.paths import DATA, cache_dir, slug

ASSUMPTIONS = DATA / "plan.yaml"
CHARACTERS_PER_TOKEN = 4  # where a model's own tokenizer is not here
UNGATED = ("gpt2", "gpt_neox", "gptj", "opt", "phi", "falcon", "bloom")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(_Frozen):
    """A decoder's sizes. `head`: width of one attention head (None: width / heads)."""

    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    head: int | None = None
    tied: bool = False
    gated: bool = True

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.head or self.width // self.heads

    @property
    def block_parameters(self) -> int:
        """Weights of all blocks' matrices: what every token is multiplied with."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        mlp = (3 if self.gated else 2) * self.width * self.intermediate
        return self.layers * (attention + mlp)

    @property
    def head_parameters(self) -> int:
        """Weights of the output head: only for tokens whose logits are read."""
        return self.width * self.vocabulary

    @property
    def parameters(self) -> int:
        """All weights in matrices (norms and biases, below 0.1 %, are left out)."""
        return self.block_parameters + self.head_parameters * (1 if self.tied else 2)

    def cache_bytes(self, itemsize: int) -> int:
        """Keys and values of one token, bytes."""
        return 2 * self.layers * self.kv_heads * self.head_width * itemsize


class Overheads(_Frozen):
    """Costs beside the model work; units in the names."""

    start_seconds: float = Field(ge=0)
    stage_seconds: float = Field(ge=0)
    content_seconds: float = Field(ge=0)
    pdf_seconds: float = Field(ge=0)
    process_mib: float = Field(ge=0)
    download_mb_per_second: float = Field(gt=0)
    convert_mb_per_second: float = Field(gt=0)
    load_mb_per_second: float = Field(gt=0)
    notebook_mib: float = Field(ge=0)
    solve_gflops: float = Field(gt=0)
    fit_seconds: float = Field(ge=0)


class AssumedDevice(_Frozen):
    """A device by its data sheet: TFLOP/s, GB/s, GiB, share reached, milliseconds a block."""

    tflops: float = Field(gt=0)
    bandwidth: float = Field(gt=0)
    memory: float = Field(ge=0)
    utilisation: float = Field(gt=0, le=1)
    block_ms: float = Field(ge=0)


class Assumptions(_Frozen):
    """`data/plan.yaml`, checked."""

    overheads: Overheads
    devices: dict[str, AssumedDevice]
    default_gpu: str
    shapes: dict[str, Shape]


@lru_cache
def assumptions(path: Path = ASSUMPTIONS) -> Assumptions:
    """The editable assumptions. Raises ConfigError naming the file and field."""
    try:
        return Assumptions(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError, TypeError) as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error


@dataclass(frozen=True)
class Outline:
    """What counting needs of a model: the part of `LoadedModel` that a `Study` asks for, without
    weights. `exact`: its own tokenizer counts the prompts' tokens."""

    spec: ModelSpec
    shape: Shape
    prompt: PromptFormat
    folder: Path | None
    exact: bool

    id = LoadedModel.id
    layer_at = LoadedModel.layer_at
    check_layer = LoadedModel.check_layer

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return self.shape.layers

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.shape.width


class OutlinePool:
    """Outlines by name, in place of a `ModelPool`. `exact` False never reads a tokenizer."""

    def __init__(self, exact: bool = True):
        self.exact = exact
        self._found: dict[str, Outline] = {}
        self.read: dict[
            tuple, tuple[int, int]
        ] = {}  # prompts and tokens of a capture, by what they are
        self.counted: dict[str, list] = {}  # what `stages` has counted with this pool, by profile

    def get(self, name: str) -> Outline:
        """The outline of a model."""
        if name not in self._found:
            self._found[name] = outline(name, self.exact)
        return self._found[name]


def outline(name: str, exact: bool = True) -> Outline:
    """A model's sizes and prompts, from its folder if it is here, else from the assumptions.

    Raises ConfigError when neither knows its sizes.
    """
    spec = require_white_box(resolve(name))
    folder = local_folder(spec)
    shape = _read_shape(folder) if folder else assumptions().shapes.get(spec.id)
    if shape is None:
        raise ConfigError(
            f"plan: the size of model '{name}' is unknown: fetch it (prefvec fetch {name}), or add "
            f"it under `shapes` in {ASSUMPTIONS.name}"
        )
    tokenizer = _tokenizer(folder) if exact and folder else None
    counted = tokenizer or _Characters(spec.prompt or "chat")
    prompt = PromptFormat.for_model(spec, counted, _NoEnd())
    return Outline(spec, shape, prompt, folder, tokenizer is not None)


def local_folder(spec: ModelSpec) -> Path | None:
    """The folder with a model's configuration if it has been fetched; never fetches."""
    if spec.path is not None and not spec.path.endswith(".gguf"):
        return Path(spec.path)
    if spec.hub is not None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(spec.hub.repo, "config.json", revision=spec.hub.revision)
        return Path(found).parent if isinstance(found, str) else None
    folder = cache_dir() / "models" / slug(spec.id)
    return folder if (folder / "config.json").is_file() else None


def _read_shape(folder: Path) -> Shape:
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {**raw, **raw.get("text_config", {})}

    def field(*names: str) -> int | None:
        return next((config[name] for name in names if config.get(name)), None)

    width, heads = field("hidden_size", "n_embd"), field("num_attention_heads", "n_head")
    try:
        return Shape(
            width=width,
            layers=field("num_hidden_layers", "n_layer"),
            heads=heads,
            kv_heads=field("num_key_value_heads") or heads,
            head=field("head_dim"),
            intermediate=field("intermediate_size", "n_inner") or 4 * width,
            vocabulary=field("vocab_size"),
            tied=config.get("tie_word_embeddings", True),
            gated=config.get("model_type") not in UNGATED,
        )
    except (ValidationError, TypeError) as error:
        raise ConfigError(f"{folder / 'config.json'}: {first_problem(error)}") from error


def _tokenizer(folder: Path):
    from transformers import AutoTokenizer

    try:
        return _Remembering(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    except (OSError, ValueError):
        return None


class _Remembering:
    """A tokenizer that reads a text once: a plan meets the same prompts in every cell."""

    def __init__(self, tokenizer):
        self._tokenizer, self._known = tokenizer, {}

    def __getattr__(self, name: str):
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **options):
        return self._once((text, *options.items()), self._tokenizer, text, options)

    def apply_chat_template(self, messages: list[dict], **options) -> str:
        key = (*(tuple(m.items()) for m in messages), *options.items())
        return self._once(key, self._tokenizer.apply_chat_template, messages, options)

    def _once(self, key: tuple, compute, given, options: dict):
        if key not in self._known:
            self._known[key] = compute(given, **options)
        return self._known[key]


class _NoEnd:
    eos_token_id = None


class _Characters:
    """Stands in for a tokenizer that is not here: a token is four characters."""

    bos_token_id = eos_token_id = None

    def __init__(self, kind: str):
        self.chat_template = "assumed" if kind == "chat" else None

    def get_vocab(self) -> dict[str, int]:
        return {}

    def apply_chat_template(self, messages: list[dict], **_) -> str:
        turns = "".join(f"<|{m['role']}|>\n{m['content']}<|end|>\n" for m in messages)
        return f"{turns}<|assistant|>\n"

    def __call__(self, text: str, **_) -> dict[str, list]:
        step = CHARACTERS_PER_TOKEN
        return {"input_ids": [text[i : i + step] for i in range(0, len(text), step)]}
