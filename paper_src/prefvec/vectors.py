"""Steering vectors: extraction from contrastive prompts, arithmetic, files with a card."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prefvec.activations import Pooling, Prompt, capture
from prefvec.errors import TraitError, VectorError
from prefvec.models.hooks import Component
from prefvec.models.load import LoadedModel
from prefvec.models.prompt import Example
from prefvec.store import Store, atomic_path, canonical_hash, write_json
from prefvec.traits import Trait

LAYER_CONVENTION = "output of block i, 0-based (hidden_states[i + 1])"
Aggregator = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Card:
    """What a vector is and whom it fits."""

    model: str
    fingerprint: str
    width: int
    trait: str
    trait_digest: str
    data_hash: str
    method: str
    pooling: str
    component: str = "residual"
    unit: str = "activation norm"
    layer_convention: str = LAYER_CONVENTION
    n_pairs: int = 0


@dataclass(frozen=True)
class SteeringVector:
    """A direction per layer, float32 `[width]`, in units of the residual stream, with its card."""

    directions: dict[int, np.ndarray]
    card: Card

    def at(self, layer: int) -> np.ndarray:
        """The direction of a layer. Raises VectorError if it was not extracted there."""
        if layer not in self.directions:
            raise VectorError(
                f"{self.card.trait} vector of {self.card.model} has layers "
                f"{', '.join(map(str, sorted(self.directions)))}, not {layer}: extract it there"
            )
        return self.directions[layer]

    def norm(self, layer: int) -> float:
        """Euclidean length at a layer (activation norm)."""
        return float(np.linalg.norm(self.at(layer)))

    def check(self, loaded: LoadedModel) -> "SteeringVector":
        """Refuse a model that the vector was not taken from."""
        return self.check_owner(loaded.id, loaded.fingerprint)

    def check_owner(self, model: str, fingerprint: str) -> "SteeringVector":
        """The same for a model that is not loaded."""
        if fingerprint != self.card.fingerprint:
            raise VectorError(
                f"this {self.card.trait} vector belongs to {self.card.model} (fingerprint "
                f"{self.card.fingerprint}), not to {model} ({fingerprint}): "
                "map it with an adapter, or extract it again"
            )
        return self

    def __mul__(self, factor: float) -> "SteeringVector":
        return replace(
            self, directions={k: np.float32(factor) * v for k, v in self.directions.items()}
        )

    __rmul__ = __mul__

    def __neg__(self) -> "SteeringVector":
        return self * -1.0

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        if other.card.fingerprint != self.card.fingerprint or set(other.directions) != set(
            self.directions
        ):
            raise VectorError("vectors of different models or layers can't be added")
        card = replace(
            self.card, trait=f"{self.card.trait}+{other.card.trait}", trait_digest="mixed"
        )
        total = {k: v + other.directions[k] for k, v in self.directions.items()}
        return SteeringVector(total, card)

    def __sub__(self, other: "SteeringVector") -> "SteeringVector":
        return self + (-other)

    def save(self, path: Path) -> Path:
        """Write `path` (.safetensors) and its card beside it (.json)."""
        from safetensors.numpy import save_file

        path = Path(path).with_suffix(".safetensors")
        with atomic_path(path) as temporary:
            save_file(
                {f"layer.{k}": np.ascontiguousarray(v) for k, v in self.directions.items()},
                temporary,
            )
        write_json(
            path.with_suffix(".json"), {**self.card.__dict__, "layers": sorted(self.directions)}
        )
        return path

    @classmethod
    def load(cls, path: Path, loaded: LoadedModel | None = None) -> "SteeringVector":
        """Read a saved vector; with `loaded`, refuse one that belongs to another model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(path).with_suffix(".safetensors")
        try:
            fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            fields.pop("layers")
            card = Card(**fields)
            arrays = load_file(path)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise VectorError(f"{path}: not a readable vector with its card ({error})") from error
        directions = {int(name.removeprefix("layer.")): array for name, array in arrays.items()}
        if any(v.shape != (card.width,) for v in directions.values()):
            raise VectorError(f"{path}: its card says width {card.width}, its data are different")
        vector = cls(directions, card)
        return vector.check(loaded) if loaded else vector


def difference_in_means(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """mean(positive) − mean(negative), `[n, d]` each (Rimsky et al. 2024, CAA)."""
    return positive.mean(axis=0) - negative.mean(axis=0)


def first_component(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """First principal component of the paired differences, uncentred, with the mean difference's
    sign and length (Zou et al. 2023, RepE)."""
    differences = positive - negative
    _, _, components = np.linalg.svd(differences, full_matrices=False)
    mean = differences.mean(axis=0)
    direction = components[0] * np.sign(components[0] @ mean)
    return direction * np.linalg.norm(mean)


def single_pair(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Difference of the first pair alone (Turner et al. 2023, ActAdd)."""
    return positive[0] - negative[0]


AGGREGATORS: dict[str, Aggregator] = {
    "mean": difference_in_means,
    "pca": first_component,
    "actadd": single_pair,
}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two vectors; NaN where one is zero."""
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length > 0 else float("nan")


def half_cosine(
    positive: np.ndarray, negative: np.ndarray, aggregate: Aggregator = difference_in_means
) -> float:
    """Cosine between what the even and what the odd pairs `[n, d]` give; NaN for a single pair."""
    if len(positive) < 2:
        return float("nan")
    return cosine(*(aggregate(positive[i::2], negative[i::2]) for i in (0, 1)))


def contrast_prompts(
    loaded: LoadedModel, trait: Trait, questions: Sequence[str], n_instructions: int | None = None
) -> tuple[list[Prompt], list[Prompt]]:
    """Paired prompts that ask for the trait and for its opposite.

    A chat model gets each question under each instruction pair; a base model gets it after
    in-context examples of either kind; texts of a custom trait are taken as they are.
    """
    fmt = loaded.prompt
    if trait.positive_texts:
        texts = zip(trait.positive_texts, trait.negative_texts, strict=False)
        pairs = [(Prompt(fmt.encode(p)), Prompt(fmt.encode(n))) for p, n in texts]
    elif fmt.kind == "chat" and trait.instructions:
        pairs = [
            (
                Prompt(fmt.encode(fmt.render(q, system=pair.positive))),
                Prompt(fmt.encode(fmt.render(q, system=pair.negative))),
            )
            for pair in trait.instructions[:n_instructions]
            for q in questions
        ]
    elif trait.examples:
        shown = [
            [Example(e.question, getattr(e, pole)) for e in trait.examples]
            for pole in ("positive", "negative")
        ]
        pairs = [
            tuple(Prompt(fmt.encode(fmt.render(q, examples=examples))) for examples in shown)
            for q in questions
        ]
    else:
        raise TraitError(
            f"trait '{trait.name}' has no `examples`, which the base model {loaded.id} needs: "
            "add question/positive/negative examples to the trait file"
        )
    positive, negative = zip(*pairs, strict=True)
    return list(positive), list(negative)


def split_half_cosine(
    loaded: LoadedModel,
    trait: Trait,
    questions: Sequence[str],
    layers: Sequence[int],
    n_instructions: int | None = None,
    store: Store | None = None,
    method: str = "mean",
) -> dict[int, float]:
    """Cosine between the vectors of even and odd pairs by layer: near 1, the direction does not
    depend on which prompts were asked. `method`: as `extract`."""
    positive, negative = contrast_prompts(loaded, trait, questions, n_instructions)
    both = capture(loaded, positive + negative, layers, store=store)
    n = len(positive)
    aggregate = AGGREGATORS[method]
    return {layer: half_cosine(acts[:n], acts[n:], aggregate) for layer, acts in both.items()}


def extract(
    loaded: LoadedModel,
    trait: Trait,
    questions: Sequence[str],
    layers: Sequence[int],
    n_instructions: int | None = None,
    method: str = "mean",
    pooling: Pooling = "last",
    component: Component = "residual",
    store: Store | None = None,
) -> SteeringVector:
    """The trait's vector at each layer. +v points to the trait's positive pole.

    Raises TraitError for a trait that the model can't be asked for, VectorError for a method.
    """
    positive, negative = contrast_prompts(loaded, trait, questions, n_instructions)
    return from_prompts(
        loaded, trait, positive, negative, layers, method, pooling, component, store
    )


def from_prompts(
    loaded: LoadedModel,
    trait: Trait,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    layers: Sequence[int],
    method: str = "mean",
    pooling: Pooling = "last",
    component: Component = "residual",
    store: Store | None = None,
) -> SteeringVector:
    """The vector of given prompts, `positive[i]` and `negative[i]` a pair; the rest as `extract`."""
    if method not in AGGREGATORS:
        raise VectorError(f"extraction method '{method}' is unknown: use {', '.join(AGGREGATORS)}")
    both = capture(
        loaded,
        [*positive, *negative],
        layers,
        component,
        pooling,
        store,
        label=f"extract {trait.name}",
    )
    n = len(positive)
    directions = {
        layer: AGGREGATORS[method](acts[:n], acts[n:]).astype(np.float32)
        for layer, acts in both.items()
    }
    card = Card(
        model=loaded.id,
        fingerprint=loaded.fingerprint,
        width=loaded.width,
        trait=trait.name,
        trait_digest=trait.digest,
        data_hash=canonical_hash([p.ids for p in [*positive, *negative]])[:16],
        method=method,
        pooling=pooling,
        component=component,
        n_pairs=n,
    )
    return SteeringVector(directions, card)
