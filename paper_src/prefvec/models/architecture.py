"""Where to read and write inside a decoder, and what two architectures have in common."""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

from prefvec.errors import ModelError

Component = Literal["residual", "attention", "mlp"]
COMPONENTS: tuple[Component, ...] = ("residual", "attention", "mlp")

DIRECT_ABOVE, SCALED_ABOVE = 0.8, 0.7  # thresholds of `recommended_strategy`

# Names that transformers' decoders give to a block's two sublayers, most common first.
ATTENTION_NAMES = ("self_attn", "attn", "attention", "self_attention")
MLP_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "fc2", "output")


@dataclass(frozen=True)
class HookPoints:
    """The modules whose outputs are the residual stream, attention and MLP outputs by layer."""

    blocks: tuple[nn.Module, ...]
    attention: tuple[nn.Module, ...]
    mlp: tuple[nn.Module, ...]

    def module(self, layer: int, component: Component = "residual") -> nn.Module:
        """The module to hook. Layer i is block i: its output is `hidden_states[i + 1]`
        (the last one before the final norm)."""
        if component not in COMPONENTS:
            raise ModelError(
                f"component '{component}' is unknown: use one of {', '.join(COMPONENTS)}"
            )
        modules = {"residual": self.blocks, "attention": self.attention, "mlp": self.mlp}
        found = modules[component]
        if not found:
            raise ModelError(
                f"no {component} module was found in {type(self.blocks[0]).__name__}; its children "
                f"are {', '.join(n for n, _ in self.blocks[0].named_children())}"
            )
        return found[layer]


def find_hook_points(model: nn.Module) -> HookPoints:
    """The decoder blocks and their sublayers, found by structure.

    The blocks are the one module list as long as `config.num_hidden_layers`. Raises ModelError
    with the module tree when there is none; a missing sublayer is an error when it is asked for.
    """
    depth = model.config.get_text_config().num_hidden_layers
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not lists:
        tree = ", ".join(f"{name}: {type(m).__name__}" for name, m in model.named_children())
        raise ModelError(
            f"{type(model).__name__}: no list of {depth} decoder blocks was found (children: {tree})"
        )
    blocks = tuple(max(lists, key=lambda found: sum(p.numel() for p in found.parameters())))
    return HookPoints(blocks, _children(blocks, ATTENTION_NAMES), _children(blocks, MLP_NAMES))


def _children(blocks: tuple[nn.Module, ...], names: tuple[str, ...]) -> tuple[nn.Module, ...]:
    for name in names:
        if all(isinstance(getattr(block, name, None), nn.Module) for block in blocks):
            return tuple(getattr(block, name) for block in blocks)
    return ()


@dataclass(frozen=True)
class Architecture:
    """What the comparison of two models is computed from."""

    model: str
    family: str
    decoder: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    attention: str
    intermediate: int
    norm: str
    activation: str
    positions: str
    tokenizer: str
    vocabulary: int
    parameters: int

    def as_dict(self) -> dict:
        """Plain values, for tables."""
        return asdict(self)


def analyse(loaded) -> Architecture:
    """Read a loaded model's architecture from its configuration and modules."""
    model, config = loaded.model, loaded.model.config.get_text_config()
    heads = config.num_attention_heads
    kv = getattr(config, "num_key_value_heads", None) or heads
    norms = [
        type(m).__name__ for m in loaded.hooks.blocks[0].modules() if "Norm" in type(m).__name__
    ]
    return Architecture(
        model=loaded.id,
        family=loaded.spec.family,
        decoder=type(model).__name__,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=kv,
        attention="MHA" if kv == heads else "MQA" if kv == 1 else "GQA",
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        norm="RMSNorm" if norms and "RMS" in norms[0] else "LayerNorm",
        activation=str(
            getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", None)
            or getattr(config, "activation_function", "unknown")
        ),
        positions="rotary" if getattr(config, "rope_parameters", None) else "learned",
        tokenizer=type(loaded.tokenizer).__name__,
        vocabulary=config.vocab_size,
        parameters=sum(p.numel() for p in model.parameters()),
    )  # fmt: skip


def compatibility(a: Architecture, b: Architecture, shared_vocabulary: float) -> dict[str, float]:
    """Compatibility by aspect and overall, each in [0, 1] (1 = the same).

    Sizes compare as min/max, kinds as equal or not, the vocabulary by `shared_vocabulary`, the
    Jaccard overlap of the two token sets. `overall` is the mean of the aspects: a description,
    not a prediction; notebooks 03 and 04 measure what it is worth.
    """

    def ratio(x: float, y: float) -> float:
        return min(x, y) / max(x, y)

    scores = {
        "dimension": ratio(a.width, b.width),
        "depth": ratio(a.layers, b.layers),
        "attention": (float(a.attention == b.attention) + ratio(a.heads, b.heads)) / 2,
        "norm": float(a.norm == b.norm),
        "activation": float(a.activation == b.activation),
        "positions": float(a.positions == b.positions),
        "tokenizer": shared_vocabulary,
    }
    return {**scores, "overall": sum(scores.values()) / len(scores)}


def recommended_strategy(scores: dict[str, float]) -> Literal["direct", "scaled", "adapted"]:
    """What `compatibility` would have one do: above 0.8 overall write the vector as it is; above 0.7
    in dimension rescale it; else learn a map. A rule of thumb, to be held against measurements."""
    if scores["overall"] > DIRECT_ABOVE:
        return "direct"
    return "scaled" if scores["dimension"] > SCALED_ABOVE else "adapted"


def vocabulary_overlap(a, b) -> float:
    """Jaccard overlap of two tokenizers' token strings, word-boundary marks made alike."""

    def tokens(tokenizer) -> set[str]:
        return {t.replace("Ġ", "▁") for t in tokenizer.get_vocab()}

    ours, theirs = tokens(a), tokens(b)
    return len(ours & theirs) / len(ours | theirs)


def block_output(output: object) -> torch.Tensor:
    """The activations `[rows, tokens, width]` in a module's output (a tensor, or first in a tuple)."""
    tensor = output if isinstance(output, torch.Tensor) else output[0]
    if not isinstance(tensor, torch.Tensor) or tensor.ndim != 3:
        shape = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ModelError(f"a hooked module gave {shape}, not [rows, tokens, width]")
    return tensor


def replace_output(output: object, tensor: torch.Tensor) -> object:
    """The module's output with its activations replaced."""
    return tensor if isinstance(output, torch.Tensor) else (tensor, *output[1:])


def matching_layer(fraction_of: int, depth_from: int, depth_to: int) -> int:
    """The layer at the same proportional depth: round(l · (n_to − 1) / (n_from − 1))."""
    return math.floor(fraction_of * (depth_to - 1) / max(1, depth_from - 1) + 0.5)
