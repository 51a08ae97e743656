"""The methods: directions in the target's residual stream, all of the same length (but `unscaled`).

All directions are scaled to the length of the target's own vector, so a dose of 1 adds a vector of
that length whatever the method; doses are signed towards the trait's positive pole. What differs
between methods is direction alone.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import NamedTuple

import numpy as np

from prefvec.adapters import Adapter, MultiScale, Ridge, RidgePath, make_adapter, ridge_path
from prefvec.adapters.direct import zero_padded
from prefvec.study import Study
from prefvec.traits import TRAITS, Trait, load_trait
from prefvec.transfer.sweep import ORACLE, Site
from prefvec.vectors import cosine

DIRECT = ("zero_pad", "interpolate", "pca_projection", "random_projection")
UNSCALED = "unscaled"  # zero-padding at the source vector's own length
# Controls of two maps: fitted on pairs in random order; the right map, sent another trait's vector.
CONTROLS_OF = {
    "ridge_concept": ("shuffled_pairing", "wrong_trait"),
    "multiscale": ("shuffled_multiscale", "wrong_trait_multiscale"),
}
CONTROLS = tuple(name for pair in CONTROLS_OF.values() for name in pair)
WRONG = tuple(wrong for _, wrong in CONTROLS_OF.values())
REVERSED = "_reversed"  # ending of a direction's name: the same, pointing the other way


class Maps(NamedTuple):
    """Mapped vectors `[d_target]` by method, as the maps give them, and what is known of the fits."""

    directions: dict[str, np.ndarray]
    diagnostics: dict[str, dict[str, float]]
    path: RidgePath


def reference_directions(study: Study, layer: int) -> dict[str, np.ndarray]:
    """The oracle (the target's own vector) and norm-matched random directions at a layer."""
    return references_of(study, study.vector(study.target).at(layer))


def references_of(study: Study, own: np.ndarray) -> dict[str, np.ndarray]:
    """The same for the target's own vector `[d_target]` at a layer."""
    out = {ORACLE: own}
    for i in range(study.settings.n_random):
        generator = np.random.default_rng([study.settings.seed, i, len(own)])
        out[f"random_{i}"] = with_length(generator.normal(size=len(own)), np.linalg.norm(own))
    return out


def direct_methods(study: Study, site: Site) -> dict[str, np.ndarray]:
    """Maps that pair no prompts, with the references, all at the oracle's length; and `unscaled`,
    the zero-padded source vector at its own length, as who does not know the oracle would add it."""
    source = study.vector(study.source).at(site.layer_source)
    alignment = study.alignment
    x, y = alignment.source[site.layer_source], alignment.target[site.layer_target]
    mapped = {name: direct_map(study, name, x, y).map(source) for name in DIRECT}
    scaled = _scaled(reference_directions(study, site.layer_target), mapped)
    return {**scaled, UNSCALED: zero_padded(source, y.shape[1]).astype(np.float32)}


def direct_map(study: Study, name: str, x: np.ndarray, y: np.ndarray) -> Adapter:
    """A map of `DIRECT` between activations `[n, d_source]`, `[n, d_target]`."""
    options = {"seed": study.settings.seed} if name == "random_projection" else {}
    return make_adapter(name, **options).fit(x, y)


def learned_methods(study: Study, site: Site) -> tuple[dict[str, np.ndarray], Maps]:
    """Maps fitted on ordinary prompts and their controls, with the references, all at the oracle's
    length; and the maps as they are."""
    maps = fit_maps(study, (site.layer_source, site.layer_target))
    return _scaled(reference_directions(study, site.layer_target), maps.directions), maps


def fit_maps(study: Study, layers: tuple[int, int]) -> Maps:
    """Fit every learned map between two layers and map the source vector through it.

    Methods are those of `LEARNED` and, for the maps of `CONTROLS_OF`, two controls each: the map fitted
    on rows of the target in random order, and the control trait's vector through the right map. That
    one points to the control trait's own pole where the study's trait is steered to its own.
    """
    source, target = layers
    vector = study.vector(study.source).at(source)
    fit = MapFits(study, layers)
    fits = {name: make(fit) for name, make in LEARNED.items()}
    shuffled = {"ridge_concept": fit.shuffled, "multiscale": fit.shuffled_multiscale}
    fits |= {CONTROLS_OF[name][0]: adapter for name, adapter in shuffled.items()}
    directions = {name: adapter.map(vector) for name, adapter in fits.items()}
    control = study.control_trait
    wrong = study.trait.sign * control.sign * study.vector(study.source, control).at(source)
    directions |= {CONTROLS_OF[name][1]: fits[name].map(wrong) for name in CONTROLS_OF}
    own = study.vector(study.target).at(target)
    diagnostics = {
        name: {
            **(fits[name].diagnostics() if name in fits else {}),
            "cosine_to_own": cosine(mapped, own),
            "relative_length": float(np.linalg.norm(mapped) / np.linalg.norm(own)),
        }
        for name, mapped in directions.items()
    }
    return Maps(directions, diagnostics, fit.path)


def controls_of(method: str) -> tuple[str, str]:
    """A map's controls (shuffled pairs, wrong trait): its own, or those of the ridge map."""
    return CONTROLS_OF.get(method, CONTROLS_OF["ridge_concept"])


def both_ways(directions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Directions, and those of the wrong trait reversed too."""
    return {**directions, **{name + REVERSED: -directions[name] for name in WRONG}}


def strongest_wrong(
    directions: Mapping[str, np.ndarray], effects: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Directions, those of the wrong trait turned the way that moves the score more: which pole of
    another trait comes closest to this one is not known before. effects: mean effect of every
    direction of `both_ways`, on questions that results are not reported on."""
    turned = {name: -directions[name] for name in WRONG if effects[name + REVERSED] > effects[name]}
    return {**directions, **turned}


def with_length(vector: np.ndarray, length: float) -> np.ndarray:
    """The vector scaled to a Euclidean length; a zero vector stays zero."""
    norm = np.linalg.norm(vector)
    return (vector * (length / norm) if norm > 0 else vector).astype(np.float32)


class MapFits:
    """Paired activations between two layers, and the maps that others start from."""

    def __init__(self, study: Study, layers: tuple[int, int]):
        self.study, self.layers = study, layers
        alignment = study.alignment
        self.x, self.y = alignment.source[layers[0]], alignment.target[layers[1]]
        self.styles, self.questions = alignment.styles, alignment.questions

    @cached_property
    def path(self) -> RidgePath:
        """Cross-validated λ path of the ridge map."""
        return cached_path(self.study, self.x, self.y, self.styles)

    @cached_property
    def concept(self) -> Ridge:
        """The ridge map, λ chosen on held-out styles."""
        return Ridge(self.path.best_concept).fit(self.x, self.y)

    @cached_property
    def shuffled(self) -> Ridge:
        """The same with the target's rows in random order: what it carries is no correspondence."""
        return Ridge(self.path.best_concept).fit(self.x, self.y[self.shuffle])

    @cached_property
    def shuffle(self) -> np.ndarray:
        """A random order of the target's rows `[n]`."""
        return np.random.default_rng(self.study.settings.seed).permutation(len(self.y))

    @cached_property
    def multiscale(self) -> MultiScale:
        """Ridge within bands of principal axes, the bands weighted on held-out styles."""
        return MultiScale().fit(self.x, self.y, self.styles)

    @cached_property
    def shuffled_multiscale(self) -> MultiScale:
        """The same with the target's rows in random order, and the weights of the right order: those
        of the wrong one are about zero, and a control that does nothing is none."""
        weights = self.multiscale.band_weights
        return MultiScale(band_weights=weights).fit(self.x, self.y[self.shuffle], self.styles)

    @cached_property
    def few_shot(self) -> Adapter:
        """A map from the contrast differences of two other traits alone."""
        others = other_traits(self.study)
        source, target = (
            np.stack([self.study.vector(model, trait).at(layer) for trait in others])
            for model, layer in zip(
                (self.study.source, self.study.target), self.layers, strict=True
            )
        )
        return make_adapter("few_shot").fit(source, target)

    @cached_property
    def within(self) -> Ridge:
        """Ridge on what styles change: each row minus the mean over styles of its question, in both
        models. What is left is of the kind that a steering vector is; content is gone."""
        x, y = (centred_by(acts, self.questions) for acts in (self.x, self.y))
        path = cached_path(self.study, x, y, self.styles)
        return Ridge(path.best_concept).fit(x, y)


def other_traits(study: Study, n: int = 2) -> list[Trait]:
    """Built-in traits that are not the study's own, the control trait first."""
    names = sorted(path.stem for path in TRAITS.glob("*.yaml"))
    rest = [load_trait(name) for name in names]
    kept = {study.control_trait.name: study.control_trait}
    kept |= {t.name: t for t in rest if t.name != study.trait.name and t.name not in kept}
    return list(kept.values())[:n]


def centred_by(rows: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Rows `[n, d]` minus the mean of the rows of their group."""
    _, index = np.unique(np.array(groups), return_inverse=True)
    means = np.zeros((index.max() + 1, rows.shape[1]))
    np.add.at(means, index, rows)
    return rows - (means / np.bincount(index)[:, None])[index]


def _family(name: str, at_concept: bool = True) -> Callable[[MapFits], Adapter]:
    """A registered adapter fitted on the alignment; `at_concept`: with the ridge map's λ."""

    def make(fit: MapFits) -> Adapter:
        options = {"penalty": fit.path.best_concept} if at_concept else {}
        return make_adapter(name, **options).fit(fit.x, fit.y, fit.styles)

    return make


# Every learned map of the method tables. A new one is a file in `adapters/` and a line here.
LEARNED: dict[str, Callable[[MapFits], Adapter]] = {
    "ridge_concept": lambda fit: fit.concept,
    "ridge_r2": lambda fit: Ridge(fit.path.best_r2).fit(fit.x, fit.y),
    "ridge_within": lambda fit: fit.within,
    "procrustes": _family("procrustes", at_concept=False),
    "reduced_rank": _family("reduced_rank"),
    "cca": _family("cca"),
    "residual": _family("residual"),
    "multiscale": lambda fit: fit.multiscale,
    "mlp": _family("mlp", at_concept=False),
    "effect_preserving": _family("effect_preserving"),
    "few_shot": lambda fit: fit.few_shot,
}


def _scaled(
    reference: dict[str, np.ndarray], directions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    length = np.linalg.norm(reference[ORACLE])
    return {**reference, **{name: with_length(v, length) for name, v in directions.items()}}


def cached_path(study: Study, x: np.ndarray, y: np.ndarray, styles: Sequence[str]) -> RidgePath:
    """The λ path of paired activations `[n, d_source]`, `[n, d_target]`, kept: cross-validation at width
    900 takes seconds."""
    digests = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in (x, y)]
    settings = study.settings
    key = {"version": 2, "data": digests, "styles": list(styles), "seed": settings.seed}
    key["penalties"] = settings.penalties

    def compute() -> dict:
        return asdict(ridge_path(x, y, styles, settings.penalties, seed=settings.seed))

    return RidgePath(**study.store.json("ridge_paths", key, compute))
