"""What the explorer computes: directions between any two layers, and answers as they are written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prefvec.errors import ConfigError
from prefvec.explore.saved import Saved, saved_cell
from prefvec.generation import Generation, Request, generate
from prefvec.models.architecture import matching_layer
from prefvec.models.load import LoadedModel, ModelPool
from prefvec.models.materialise import materialise
from prefvec.models.registry import registry, resolve
from prefvec.paths import ROOT
from prefvec.profile import Settings
from prefvec.steering import Steer
from prefvec.store import Store
from prefvec.study import Study
from prefvec.tasks import load_task
from prefvec.traits import TRAITS, Trait, load_trait
from prefvec.transfer.methods import (
    DIRECT,
    LEARNED,
    MapFits,
    direct_map,
    reference_directions,
    with_length,
)
from prefvec.transfer.sweep import ORACLE
from prefvec.vectors import SteeringVector

RANDOM = "random_0"
SHUFFLED = "shuffled_pairing"
METHODS = (ORACLE, *LEARNED, *DIRECT, SHUFFLED, RANDOM)
DEPTH = 0.48  # where a pair that has not run begins, from 0 (first block) to 1 (last)
DOSE = 1.5
MODELS = 3  # in memory: the pair, and one that a trait's classifier learns from
N_EXAMPLES = 8  # questions in the menu
PANES = ("target_plain", "target_steered", "source_plain", "source_steered")


@dataclass(frozen=True)
class Choice:
    """What the reader has chosen. `dose` is signed, in lengths of the model's own vector; +: towards the
    trait's positive pole. `limit`: of an answer, in tokens."""

    source: str
    target: str
    trait: str
    method: str
    layer_source: int
    layer_target: int
    dose: float
    question: str
    limit: int


class Start(NamedTuple):
    """Where the controls stand for a pair and trait: blocks of both models, width of the target's residual
    stream, layers, signed dose."""

    n_source: int
    n_target: int
    width: int
    layer_source: int
    layer_target: int
    dose: float


class EveryLayer(Study):
    """A study that reads every layer, so that any two are tried without reading prompts again."""

    def candidate_layers(self, loaded: LoadedModel) -> list[int]:
        """All of them."""
        return list(range(loaded.n_layers))

    layers_of = candidate_layers

    def vector(self, loaded: LoadedModel, trait: Trait | None = None) -> SteeringVector:
        """A trait in a model, kept: it is asked for at every layer and method."""
        key = loaded.id, (trait or self.trait).digest
        if key not in self._vectors:
            self._vectors[key] = super().vector(loaded, trait)
        return self._vectors[key]

    @cached_property
    def _vectors(self) -> dict[tuple[str, str], SteeringVector]:
        return {}


class Session:
    """The models and vectors of one reader. `results`: profile whose saved results are shown beside what
    is computed here; `traits_folder`: where the reader's own traits are, relative to the repository."""

    def __init__(
        self,
        settings: Settings,
        traits_folder: str | Path = "my_traits",
        results: str = "paper",
        pool: ModelPool | None = None,
        store: Store | None = None,
    ):
        self.settings, self.results = settings, results
        self.folder = ROOT / Path(traits_folder).expanduser()
        self.pool = pool or ModelPool(settings.device, settings.dtype, size=MODELS)
        self.store = store or Store()
        self._study: tuple[tuple, EveryLayer] | None = None
        self._fits: dict[tuple[int, int], MapFits] = {}
        self._directions: dict[tuple[str, int, int], np.ndarray] = {}

    def models(self) -> list[str]:
        """Ids to choose among: the pair's own, the embedded models, then the rest of the registry."""
        specs = [spec for spec in registry().values() if not spec.black_box]
        embedded = [spec.id for spec in specs if spec.gguf and spec.gguf.wheels]
        given = [self.settings.source, self.settings.target]
        return list(dict.fromkeys([*given, *embedded, *(spec.id for spec in specs)]))

    def traits(self) -> dict[str, str]:
        """Names to choose among, with what `load_trait` takes: built-in ones, the reader's own."""
        found = {path.stem: path.stem for path in sorted(TRAITS.glob("*.yaml"))}
        if self.settings.trait not in found:
            found[f"{load_trait(self.settings.trait).name} (given)"] = self.settings.trait
        own = sorted(self.folder.glob("*.yaml"))
        return found | {f"{path.stem} (yours)": str(path) for path in own}

    def questions(self, trait: str) -> list[str]:
        """Example questions: those that layers and doses are chosen on, never the evaluation split."""
        chosen = load_trait(trait).test_prompts
        return list(chosen or load_task(self.settings.task).prompts("selection", N_EXAMPLES))

    def study(self, source: str, target: str, trait: str) -> EveryLayer:
        """The study of a pair and trait. Raises ConfigError or TraitError for what does not fit."""
        key = source, target, trait, load_trait(trait).digest
        if self._study is None or self._study[0] != key:
            chosen = {"source": source, "target": target, "trait": trait}
            settings = self.settings.model_copy(update=chosen)
            self._study = key, EveryLayer(settings, self.pool, self.store)
            self._fits, self._directions = {}, {}
        return self._study[1]

    def shape(self, name: str) -> tuple[int, int]:
        """Number of blocks and width of a model, from its configuration (fetched if need be)."""
        from transformers import AutoConfig

        for loaded in self.pool.loaded():
            if loaded.id == name:
                return loaded.n_layers, loaded.width
        config = AutoConfig.from_pretrained(materialise(resolve(name)), trust_remote_code=False)
        config = config.get_text_config()
        return config.num_hidden_layers, config.hidden_size

    def start(self, source: str, target: str, trait: str) -> Start:
        """Layers and dose to begin with: those of the saved run, else a middle depth."""
        (n_source, _), (n_target, width) = self.shape(source), self.shape(target)
        sign, saved = load_trait(trait).sign, self.saved(source, target, trait)
        if saved:
            site = saved.layer_source, saved.layer_target, sign * saved.dose
        else:
            layer = round(DEPTH * (n_source - 1))
            site = layer, matching_layer(layer, n_source, n_target), sign * DOSE
        return Start(n_source, n_target, width, *site)

    def saved(self, source: str, target: str, trait: str) -> Saved | None:
        """What the profile `results` found for the pair and trait; None if it has not run."""
        return saved_cell(self.results, source, target, load_trait(trait))

    def fits(self, choice: Choice, layers: tuple[int, int]) -> MapFits:
        """Paired activations between two layers and the maps made from them, kept for the pair."""
        study = self.study(choice.source, choice.target, choice.trait)
        if layers not in self._fits:
            self._fits[layers] = MapFits(study, layers)
        return self._fits[layers]

    def direction(
        self, choice: Choice, method: str | None = None, layers: tuple[int, int] | None = None
    ) -> np.ndarray:
        """A method's vector `[d_target]` at the chosen (or other) source and target layers, at the length
        of the target's own vector. Raises ConfigError for an unknown method or layer."""
        method, layers = (
            method or choice.method,
            layers or (choice.layer_source, choice.layer_target),
        )
        if method not in METHODS:
            raise ConfigError(f"method '{method}' is unknown: use one of {', '.join(METHODS)}")
        study = self.study(choice.source, choice.target, choice.trait)
        study.source.check_layer(layers[0])
        study.target.check_layer(layers[1])
        key = method, *layers
        if key not in self._directions:
            self._directions[key] = self._computed(study, choice, method, layers)
        return self._directions[key]

    def _computed(
        self, study: EveryLayer, choice: Choice, method: str, layers: tuple[int, int]
    ) -> np.ndarray:
        references = reference_directions(study, layers[1])
        if method in references:
            return references[method]
        vector, fit = study.vector(study.source).at(layers[0]), self.fits(choice, layers)
        if method in DIRECT:
            mapped = direct_map(study, method, fit.x, fit.y).map(vector)
        else:
            mapped = (fit.shuffled if method == SHUFFLED else LEARNED[method](fit)).map(vector)
        return with_length(mapped, np.linalg.norm(references[ORACLE]))

    def check(self, choice: Choice) -> None:
        """Refuse a choice before any model is loaded. Raises ConfigError or TraitError."""
        if not choice.question.strip():
            raise ConfigError("the question is empty: write one, or pick an example")
        self.study(choice.source, choice.target, choice.trait)

    def compare(
        self, choice: Choice, show: Callable[[str, str], None]
    ) -> Iterator[tuple[str, Generation]]:
        """Answers to the question by pane (`PANES`): the target without and with the chosen vector, then the
        source without and with its own, each at the dose in lengths of the model's own vector.

        `show(pane, text)` is called as they grow; an error that it raises stops. Raises as `check` does.
        """
        self.check(choice)
        study = self.study(choice.source, choice.target, choice.trait)
        mapped = self.direction(choice)
        own = study.vector(study.source).at(choice.layer_source)
        for side, loaded, vector, layer in (
            ("target", study.target, mapped, choice.layer_target),
            ("source", study.source, own, choice.layer_source),
        ):
            ids = study.plain_prompt(loaded, choice.question.strip())
            steer = Steer(np.float32(vector), layer, choice.dose)
            panes = f"{side}_plain", f"{side}_steered"
            answers = generate(
                loaded, [Request(ids), Request(ids, (steer,))], choice.limit, store=self.store,
                label="write", on_text=lambda i, text, panes=panes: show(panes[i], text),
            )  # fmt: skip
            yield from zip(panes, answers, strict=True)
