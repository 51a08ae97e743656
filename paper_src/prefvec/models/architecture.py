"""What a model is made of, and what two architectures have in common."""

import math
from dataclasses import asdict, dataclass
from typing import Literal

DIRECT_ABOVE, SCALED_ABOVE = 0.8, 0.7  # thresholds of `recommended_strategy`


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


def matching_layer(fraction_of: int, depth_from: int, depth_to: int) -> int:
    """The layer at the same proportional depth: round(l · (n_to − 1) / (n_from − 1))."""
    return math.floor(fraction_of * (depth_to - 1) / max(1, depth_from - 1) + 0.5)
