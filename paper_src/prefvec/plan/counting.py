"""Pieces of work, counted from the prompts that a `Study` over outlines gives."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from prefvec.batching import shared_beginnings
from prefvec.metrics.trait import JUDGED_TOKENS
from prefvec.plan.shapes import Outline
from prefvec.study import CLASSIFIER_PAIRS, CLASSIFIER_TOKENS, JUDGES, Study
from prefvec.traits import Trait
from prefvec.vectors import contrast_prompts

# Tokens that a judge computes, of those it reads, once answers that begin alike are merged: 0.38 to 0.68
# over cells of the paper profile.
DISTINCT = 0.6


class Work(NamedTuple):
    """One piece of work. `tokens` go through `depth` of the model's blocks before the first new
    token; `logits` of them are read at the output head; `new_tokens` is the limit of an answer.
    `ridge`: so many fits (`rows`) of `tokens` prompts to a width of `target_width`. `ask`: requests to a
    llama.cpp server."""

    kind: Literal["capture", "generate", "score", "ridge", "ask"]
    key: tuple
    model: str
    rows: int
    tokens: int = 0
    new_tokens: int = 0
    depth: float = 1.0
    logits: int = 0
    target_width: int = 0
    kept: int = 0  # bytes that stay in the cache


class Stage(NamedTuple):
    """One job of the pipeline: a rule with its wildcards (`name`), what it needs and computes."""

    rule: str
    name: str
    notebook: str
    models: tuple[str, ...]
    work: tuple[Work, ...]
    needs: tuple[str, ...]
    whole: bool = False  # takes all cores (else half of them)
    answers: int = 0  # rows of its generations file

    @property
    def id(self) -> str:
        """Rule and wildcards, as one string."""
        return f"{self.rule} {self.name}".strip()


def task_key(study: Study) -> tuple[str, ...]:
    """What the key of work on a task's prompts ends with: traits of a profile may differ in task."""
    return () if study.task.name == "answer" else (study.task.name,)


def plain_prompts(study: Study, model: Outline, split: str) -> list[tuple]:
    """Token ids of a split's questions, asked neutrally."""
    return [study.plain_prompt(model, question) for question in study.splits[split]]


def contrast_ids(study: Study, model: Outline, trait: Trait) -> list[tuple]:
    """Token ids of a trait's contrast prompts, both poles."""
    questions, count = study.splits["extraction"], study.settings.n_instructions
    positive, negative = contrast_prompts(model, trait, questions, count)
    return [prompt.ids for prompt in positive + negative]


def computed_tokens(prompts: Sequence[tuple]) -> int:
    """Tokens that pass through the model for a list of prompts: a shared beginning counts once."""
    distinct = sorted(set(map(tuple, prompts)))
    groups = shared_beginnings(distinct)
    return sum(g.shared + sum(len(distinct[i]) - g.shared for i in g.members) for g in groups)


def captured(
    study: Study, model: Outline, label: str, prompts: Callable[[], Sequence[tuple]], layers
) -> Work:
    """Activations of prompts at some layers (None: all); equal labels and layers are the same work, and
    the prompts of a label are made once."""
    chosen = list(range(model.n_layers)) if layers is None else layers
    task = () if label.startswith("alignment") else task_key(study)
    s = study.settings
    made = (model.id, label, *task, s.n_styles, s.n_alignment, s.n_extraction, s.n_instructions)
    if made not in study.pool.read:
        ids = prompts()
        study.pool.read[made] = len(ids), computed_tokens(ids)
    rows, tokens = study.pool.read[made]
    kept = rows * len(chosen) * model.width * 4
    key = ("capture", model.id, label, *chosen, *task)
    depth = (max(chosen) + 1) / model.n_layers
    return Work("capture", key, model.id, rows, tokens, depth=depth, kept=kept)


def vector(study: Study, model: Outline, trait: Trait | None = None) -> Work:
    """The captures of `Study.vector`."""
    layers = None if trait is None else study.layers_of(model)
    trait = trait or study.trait
    return captured(
        study, model, f"extract {trait.name}", lambda: contrast_ids(study, model, trait), layers
    )


def swept(
    study: Study,
    model: Outline,
    conditions: Sequence[tuple[tuple, int | None]],
    split: str,
    instruction: bool = False,
) -> list[Work]:
    """Answers by condition (its key, and the layer that is steered or None), and their scores where
    models give them."""
    questions, limit = study.splits[split], study.settings.max_new_tokens
    plain = computed_tokens(plain_prompts(study, model, split))
    asked = [(condition, layer, plain) for condition, layer in conditions]
    if instruction:
        told = [study.instructed_prompt(model, q) for q in questions]
        asked.append((("instruction",), None, computed_tokens(told)))
    work = []
    for condition, layer, tokens in asked:
        # Blocks up to the first steered one see a prompt once, whatever the conditions.
        depth = 1.0 if layer is None else 1 - layer / model.n_layers
        trait = () if condition == ("unsteered",) else (study.trait.name,)
        key = ("generate", model.id, split, limit, *trait, *condition, *task_key(study))
        work.append(Work("generate", key, model.id, len(questions), tokens, limit, depth))
    return work + scored(study, model, questions, (split, *(c for c, _, _ in asked)), len(asked))


def scored(
    study: Study, model: Outline, questions: Sequence[str], key: tuple, times: int
) -> list[Work]:
    """The trait's scores of `times` answers of a model to each question, where models are needed for
    them: texts that train a classifier, or another model that reads the answers."""
    if study.trait.measure == "classifier":
        return [work for name in JUDGES for work in classifier_texts(study, name)]
    if study.trait.measure != "likelihood":
        return []
    judge, rows = study.judge_of(model), times * len(questions)
    told = study.trait.instructions[0]
    prompts = [
        judge.prompt.encode(judge.prompt.render(q, system=side))
        for side in (told.positive, told.negative)
        for q in questions
    ]
    read = min(study.settings.max_new_tokens, JUDGED_TOKENS)
    logits = round(2 * rows * read * DISTINCT)
    tokens = sum(map(len, prompts)) + logits  # a prompt is read once, whatever the answers
    key = ("score", study.trait.name, *key, *task_key(study), model.id, judge.id)
    return [Work("score", key, judge.id, 2 * rows, tokens, logits=logits)]


def texts_key(study: Study, model: str, pair: int) -> tuple:
    """What a model writes under an instruction pair: for the classifier, and for pooling over it."""
    return ("texts", study.trait.name, model, pair, *task_key(study))


def classifier_texts(study: Study, name: str) -> list[Work]:
    """What a chat model writes under opposite instructions, to train the trait's classifier: one piece
    an instruction pair (the first is read for mean-response pooling too)."""
    model, work = study.pool.get(name), []
    for i, pair in enumerate(study.trait.instructions[:CLASSIFIER_PAIRS]):
        prompts = [
            tuple(model.prompt.encode(model.prompt.render(q, system=told)))
            for told in (pair.positive, pair.negative)
            for q in study.splits["extraction"]
        ]
        key, tokens = texts_key(study, name, i), computed_tokens(prompts)
        work.append(Work("generate", key, name, len(prompts), tokens, CLASSIFIER_TOKENS))
    return work
