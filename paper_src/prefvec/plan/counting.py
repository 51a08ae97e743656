"""Pieces of work, counted from the prompts that a `Study` over outlines gives."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from prefvec.batching import shared_beginnings
from prefvec.plan.shapes import Outline
from prefvec.study import Study
from prefvec.traits import Trait
from prefvec.vectors import contrast_prompts

JUDGED_TOKENS = 48  # tokens of an answer that a likelihood score reads


class Work(NamedTuple):
    """One piece of work. `tokens` go through `depth` of the model's blocks before the first new
    token; `logits` of them are read at the output head; `new_tokens` is the limit of an answer.
    `ridge`: so many fits (`rows`) of `tokens` prompts to a width of `target_width`."""

    kind: Literal["capture", "generate", "score", "ridge"]
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


def contrast_ids(study: Study, model: Outline, trait: Trait) -> list[tuple]:
    """Token ids of a trait's contrast prompts, both poles."""
    questions, count = study.splits["extraction"], study.settings.n_instructions
    positive, negative = contrast_prompts(model, trait, questions, count)
    return [prompt.ids for prompt in positive + negative]


def captured(study: Study, model: Outline, label: str, prompts: list, layers) -> Work:
    """Activations of prompts at some layers (None: all); equal labels and layers are the same work."""
    chosen = list(range(model.n_layers)) if layers is None else layers
    kept = len(prompts) * len(chosen) * model.width * 4
    key = ("capture", model.id, label, *chosen)
    depth = (max(chosen) + 1) / model.n_layers
    tokens = computed_tokens(prompts)
    return Work("capture", key, model.id, len(prompts), tokens, depth=depth, kept=kept)


def plain_prompts(study: Study, model: Outline, split: str) -> list[tuple]:
    """Token ids of a split's questions, asked neutrally."""
    return [study.plain_prompt(model, question) for question in study.splits[split]]


def alignment_prompts(study: Study, model: Outline) -> list[tuple]:
    """The prompts of `Study.alignment`."""
    base = "examples" in (study.source.prompt.kind, study.target.prompt.kind)
    shown = [
        {"examples": style.examples} if base else {"system": style.instruction}
        for style in study.styles
    ]
    render, encode = model.prompt.render, model.prompt.encode
    return [tuple(encode(render(q, **how))) for how in shown for q in study.splits["alignment"]]


def computed_tokens(prompts: Sequence[tuple]) -> int:
    """Tokens that pass through the model for a list of prompts: a shared beginning counts once."""
    distinct = sorted(set(map(tuple, prompts)))
    groups = shared_beginnings(distinct)
    return sum(g.shared + sum(len(distinct[i]) - g.shared for i in g.members) for g in groups)


def judged(study: Study, model: Outline, split: str, conditions: Sequence[tuple]) -> Work:
    """Answers of a model on a split, read by another under the trait's two instructions."""
    questions, judge = study.splits[split], study.judge_of(model)
    rows = len(conditions) * len(questions)
    prompts = [
        tuple(judge.prompt.encode(judge.prompt.render(q, system=side)))
        for side in (study.trait.instructions[0].positive, study.trait.instructions[0].negative)
        for q in questions
    ]
    read = min(study.settings.max_new_tokens, JUDGED_TOKENS)
    tokens = len(conditions) * sum(map(len, prompts)) + 2 * rows * read
    key = ("score", study.trait.name, split, *conditions, model.id, judge.id)
    return Work("score", key, judge.id, 2 * rows, tokens, logits=2 * rows * read)
