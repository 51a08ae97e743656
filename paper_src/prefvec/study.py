"""One cell of the study: source, target, trait. Everything expensive is computed once and kept.

A notebook asks for what it needs; what another notebook (or an interrupted run) has computed
already comes from the content-addressed store.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from prefvec.activations import Prompt, capture
from prefvec.errors import ConfigError
from prefvec.generation import Request, generate
from prefvec.metrics.classifier import FOLDS, TraitClassifier, fit_classifier
from prefvec.metrics.trait import trait_scores
from prefvec.models.architecture import matching_layer
from prefvec.models.load import LoadedModel, ModelPool
from prefvec.models.materialise import fingerprint, materialise
from prefvec.models.prompt import Example
from prefvec.models.registry import require_white_box, resolve
from prefvec.profile import Settings
from prefvec.store import Store
from prefvec.tasks import load_task
from prefvec.traits import (
    Trait,
    check_disjoint,
    load_questions,
    load_styles,
    load_trait,
    neutral_examples,
)
from prefvec.vectors import SteeringVector, contrast_prompts, extract

JUDGES = ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct")
CLASSIFIER_PAIRS = 2  # instruction pairs whose texts train the classifier
CLASSIFIER_TOKENS = 40  # tokens of such a text
RESPONSE_PAIRS = 1  # of them, whose texts mean-response pooling reads


def plain_prompt(loaded: LoadedModel, question: str) -> tuple[int, ...]:
    """Token ids of a question asked neutrally (a base model: after plain examples)."""
    shown = neutral_examples() if loaded.prompt.kind == "examples" else ()
    return tuple(loaded.prompt.encode(loaded.prompt.render(question, examples=shown)))


class Alignment(NamedTuple):
    """Paired activations by layer, `[n, d_source]` and `[n, d_target]`; style and question of each row."""

    source: dict[int, np.ndarray]
    target: dict[int, np.ndarray]
    styles: tuple[str, ...]
    questions: tuple[str, ...]


class Study:
    """What the notebooks share. All input is checked on construction, before any model loads."""

    def __init__(
        self, settings: Settings, pool: ModelPool | None = None, store: Store | None = None
    ):
        self.settings = settings
        for name in (settings.source, settings.target):
            require_white_box(resolve(name))
        self.trait = load_trait(settings.trait)
        self.control_trait = load_trait(settings.control_trait)
        if self.control_trait.name == self.trait.name:
            other = "silly" if self.trait.name == "formality" else "formality"
            self.control_trait = load_trait(other)
        if self.trait.measure == "classifier" and settings.n_extraction < FOLDS:
            raise ConfigError(
                f"trait '{self.trait.name}' is scored by a classifier, which needs {FOLDS} prompts of "
                f"the extraction split: n_extraction is {settings.n_extraction}, set it to {FOLDS}"
            )
        self.task = load_task(settings.task)
        chosen = self.task.prompts("selection", settings.n_selection + settings.n_choice)
        self.splits = {
            "extraction": self.task.prompts("extraction", settings.n_extraction),
            "alignment": load_questions("alignment", settings.n_alignment),
            "selection": chosen[: settings.n_selection],
            "choice": chosen[settings.n_selection :],
            "evaluation": self.task.prompts("evaluation", settings.n_evaluation),
        }
        if self.trait.test_prompts:
            if self.task.name != "answer":
                raise ConfigError(
                    f"trait '{self.trait.name}' brings its own `test_prompts`: use task answer"
                )
            tests = list(self.trait.test_prompts)
            half = len(tests) // 2
            self.splits |= {"selection": tests[:half], "choice": [], "evaluation": tests[half:]}
        # In-context questions are prompts too: none may be one that the numbers are read from.
        self.split_hashes = check_disjoint({**self.splits, "in-context": self._shown_questions()})
        self.store = store or Store()
        self.pool = pool or ModelPool(settings.device, settings.dtype)
        self._judges: dict[str, str] = {}

    @property
    def source(self) -> LoadedModel:
        """The model the vector is found in."""
        return self.pool.get(self.settings.source)

    @property
    def target(self) -> LoadedModel:
        """The model it is carried to."""
        return self.pool.get(self.settings.target)

    def judge_of(self, loaded: LoadedModel) -> LoadedModel:
        """A chat model to mark another's texts: the pair's other one, or an embedded one of another
        family. A base model does not take the instructions under which texts are compared."""
        if loaded.id not in self._judges:
            pair = self.settings.source, self.settings.target
            names = [name for name in dict.fromkeys((*pair, *JUDGES)) if name != loaded.id]
            known = (name for name in names if self.pool.get(name).prompt.kind == "chat")
            self._judges[loaded.id] = next(known)
        return self.pool.get(self._judges[loaded.id])

    def candidate_layers(self, loaded: LoadedModel) -> list[int]:
        """Layers to choose among: the profile's fractions of the depth, or the one layer given."""
        if self.settings.intervention_layer >= 0:
            return [loaded.check_layer(self.settings.intervention_layer)]
        return sorted({loaded.layer_at(f) for f in self.settings.layer_fractions})

    def vector(self, loaded: LoadedModel, trait: Trait | None = None) -> SteeringVector:
        """The study's trait in a model at every layer (another trait: at the candidate layers),
        from the extraction split."""
        every = range(loaded.n_layers) if trait is None else self.layers_of(loaded)
        return extract(
            loaded,
            trait or self.trait,
            self.splits["extraction"],
            list(every),
            n_instructions=self.settings.n_instructions,
            store=self.store,
        )

    def answered(self, loaded: LoadedModel) -> tuple[list[Prompt], list[Prompt]]:
        """Paired contrast prompts of the first instruction pair, each with the model's own answer (the
        texts of a custom trait as they are). Pairs with an empty answer are left out."""
        questions = self.splits["extraction"]
        poles = contrast_prompts(loaded, self.trait, questions, RESPONSE_PAIRS)
        if self.trait.positive_texts:
            return poles
        prompts = [prompt.ids for pole in poles for prompt in pole]
        written = generate(
            loaded, [Request(ids) for ids in prompts], CLASSIFIER_TOKENS, store=self.store, label="answers"
        )  # fmt: skip
        texts = [loaded.tokenizer(a.text, add_special_tokens=False)["input_ids"] for a in written]
        rows = [Prompt((*p, *t), len(p)) for p, t in zip(prompts, texts, strict=True)]
        n = len(poles[0])
        kept = [i for i in range(n) if texts[i] and texts[n + i]]
        return [rows[i] for i in kept], [rows[n + i] for i in kept]

    def layer_pairs(self) -> list[tuple[int, int]]:
        """Candidate (source, target) layers: the target's at the same proportional depth."""
        depths = self.source.n_layers, self.target.n_layers
        pairs = {matching_layer(i, *depths): i for i in self.candidate_layers(self.source)}
        return [(source, target) for target, source in pairs.items()]  # each target layer once

    def layers_of(self, loaded: LoadedModel) -> list[int]:
        """The candidate layers of one of the pair's models."""
        side = 0 if loaded.id == self.settings.source else 1
        return sorted({pair[side] for pair in self.layer_pairs()})

    @cached_property
    def styles(self):
        """Alignment styles without those close to the trait."""
        return load_styles(self.trait.name, self.settings.n_styles)

    def alignment_prompts(self, loaded: LoadedModel) -> list[tuple[int, ...]]:
        """Token ids of every alignment question in every style, style by style.

        Styles are given as instructions; as in-context examples when a model of the pair is a base
        model, which ignores instructions.
        """
        in_context = "examples" in (self.source.prompt.kind, self.target.prompt.kind)
        shown = [
            {"examples": style.examples} if in_context else {"system": style.instruction}
            for style in self.styles
        ]
        render, encode = loaded.prompt.render, loaded.prompt.encode
        return [tuple(encode(render(q, **how))) for how in shown for q in self.splits["alignment"]]

    @cached_property
    def alignment(self) -> Alignment:
        """Activations of the same ordinary styled prompts in both models, at the candidate layers
        (last token), in the order of `alignment_prompts`."""

        def activations(loaded: LoadedModel) -> dict[int, np.ndarray]:
            prompts = [Prompt(ids) for ids in self.alignment_prompts(loaded)]
            layers = self.layers_of(loaded)
            return capture(loaded, prompts, layers, store=self.store, label="alignment")

        rows = [(style, q) for style in self.styles for q in self.splits["alignment"]]
        return Alignment(
            activations(self.source),
            activations(self.target),
            tuple(style.id for style, _ in rows),
            tuple(q for _, q in rows),
        )

    @cached_property
    def classifier(self) -> TraitClassifier:
        """The trait's classifier, trained on what the embedded chat models write under its opposite
        instructions, on the extraction prompts. It depends on the trait and the task, not on the pair."""
        pairs = self.trait.instructions[:CLASSIFIER_PAIRS]
        questions = self.splits["extraction"]

        def written(pole: str) -> tuple[list[str], list[str]]:
            asked = [(q, getattr(pair, pole)) for pair in pairs for q in questions]
            texts = []
            for name in JUDGES:
                loaded = self.pool.get(name)
                requests = [
                    Request(tuple(loaded.prompt.encode(loaded.prompt.render(q, system=told))))
                    for q, told in asked
                ]
                answers = generate(
                    loaded, requests, CLASSIFIER_TOKENS, store=self.store, label=f"{pole} texts"
                )
                texts += [answer.text for answer in answers]
            return texts, [q for q, _ in asked] * len(JUDGES)

        key = {
            "version": 1,
            "trait": self.trait.digest,
            "questions": questions,
            "models": [fingerprint(materialise(resolve(name))) for name in JUDGES],
            "seed": self.settings.seed,
        }

        def compute() -> dict:
            (positive, groups), (negative, _) = written("positive"), written("negative")
            fitted = fit_classifier(positive, negative, groups, self.settings.seed)
            return {**fitted._asdict(), "weights": fitted.weights.tolist()}

        found = self.store.json("classifiers", key, compute)
        return TraitClassifier(**{**found, "weights": np.array(found["weights"])})

    def score(
        self,
        loaded: LoadedModel,
        questions: Sequence[str],
        texts: Sequence[str],
        n_tokens: Sequence[int],
        limit: int,
    ) -> np.ndarray:
        """The trait's score `[n]` of texts that a model wrote under a limit of tokens, as `trait_scores`.
        A likelihood comes from another model than the writer: none marks its own work."""
        measure = self.trait.measure
        return trait_scores(
            self.trait, list(questions), list(texts), list(n_tokens), limit,
            judge=self.judge_of(loaded) if measure == "likelihood" else None, store=self.store,
            classifier=self.classifier if measure == "classifier" else None,
        )  # fmt: skip

    def plain_prompt(self, loaded: LoadedModel, question: str) -> tuple[int, ...]:
        """As the function of that name."""
        return plain_prompt(loaded, question)

    def instructed_prompt(self, loaded: LoadedModel, question: str) -> tuple[int, ...]:
        """Token ids of a question with the trait simply asked for: the strong baseline."""
        pole = self.trait.steer_to
        if loaded.prompt.kind == "chat" and self.trait.instructions:
            text = loaded.prompt.render(question, system=getattr(self.trait.instructions[0], pole))
        else:
            shown = [Example(e.question, getattr(e, pole)) for e in self.trait.examples]
            text = loaded.prompt.render(question, examples=shown)
        return tuple(loaded.prompt.encode(text))

    def _shown_questions(self) -> list[str]:
        traits = {t.name: t for t in (self.trait, self.control_trait)}
        shown = [e.question for t in traits.values() for e in t.examples]
        return shown + [e.question for e in load_styles(limit=1)[0].examples]
