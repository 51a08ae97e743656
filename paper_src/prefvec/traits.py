"""Traits, prompts and styles: what is read from `data/`, and the splits that must not overlap."""

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prefvec.errors import TraitError
from prefvec.models.prompt import Example
from prefvec.models.registry import first_problem
from prefvec.paths import DATA, shadows
from prefvec.store import canonical_hash

TRAITS = DATA / "traits"
QUESTIONS_FILE = DATA / "prompts" / "questions.yaml"
STYLES_FILE = DATA / "prompts" / "styles.yaml"
MIN_PROMPTS = 4  # test prompts that a trait brings: half to select on, half to report
SPLITS = ("extraction", "alignment", "selection", "evaluation")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Frozen):
    """Two system messages that differ in the trait alone."""

    positive: str = Field(min_length=1)
    negative: str = Field(min_length=1)

    @model_validator(mode="after")
    def _differ(self) -> "Pair":
        if not (self.positive.strip() and self.negative.strip()):
            raise ValueError("`positive` and `negative` must hold more than spaces")
        if self.positive.strip() == self.negative.strip():
            raise ValueError(
                "`positive` and `negative` are the same: nothing tells the poles apart"
            )
        return self


class ExamplePair(Pair):
    """One question answered in both ways; teaches the trait to a base model in context."""

    question: str = Field(min_length=1)


class Poles(_Frozen):
    """What the two ends are called; +v points to `positive`."""

    positive: str = "positive"
    negative: str = "negative"


class Trait(_Frozen):
    """A preference: either instruction pairs, or texts of both kinds with test prompts.

    `score` names the automatic measure of the trait: `length` (tokens, censored), `classifier`
    (logistic regression on sentence embeddings of texts written under the opposite instructions) or
    `likelihood` (log-likelihood ratio of the answer under them, by another model), which need
    `instructions`, or `embedding` (nearness to `positive_texts`). `steer_to` is the pole that the
    study steers towards.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    description: str = ""
    poles: Poles = Poles()
    instructions: tuple[Pair, ...] = ()
    examples: tuple[ExamplePair, ...] = ()
    positive_texts: tuple[str, ...] = ()
    negative_texts: tuple[str, ...] = ()
    test_prompts: tuple[str, ...] = ()
    score: Literal["length", "classifier", "likelihood", "embedding"] | None = None
    steer_to: Literal["positive", "negative"] = "positive"

    @model_validator(mode="after")
    def _has_contrast(self) -> "Trait":
        if self.score in ("classifier", "likelihood") and not self.instructions:
            raise ValueError(f"score `{self.score}` needs `instructions`")
        if self.score == "embedding" and not self.positive_texts:
            raise ValueError("score `embedding` needs `positive_texts` and `negative_texts`")
        texts = (*self.positive_texts, *self.negative_texts)
        if not all(text.strip() for text in texts):
            raise ValueError("`positive_texts` and `negative_texts` must hold more than spaces")
        if self.examples and not self.instructions and not texts and self.score != "length":
            raise ValueError(
                "`examples` alone leave nothing to score by: give `instructions`, `positive_texts` and "
                "`negative_texts`, or `score: length`"
            )
        if self.test_prompts and len(self.test_prompts) < MIN_PROMPTS:
            raise ValueError(f"`test_prompts` must be {MIN_PROMPTS} or more")
        if self.instructions or self.examples:
            return self
        if not (self.positive_texts and self.negative_texts):
            raise ValueError(
                "give `instructions` (positive/negative pairs), or `positive_texts` and "
                "`negative_texts`"
            )
        if len(self.positive_texts) != len(self.negative_texts):
            raise ValueError("`positive_texts` and `negative_texts` must be equally many")
        if not self.test_prompts:
            raise ValueError("`positive_texts` and `negative_texts` also need `test_prompts`")
        return self

    @property
    def measure(self) -> str:
        """The score in use: the one given, else the one that the trait's data allow."""
        return self.score or ("classifier" if self.instructions else "embedding")

    @property
    def sign(self) -> int:
        """+1 if the study steers towards the positive pole, −1 towards the negative one."""
        return 1 if self.steer_to == "positive" else -1

    @property
    def digest(self) -> str:
        """Hash of everything in the trait (16 hex digits)."""
        return canonical_hash(self.model_dump(mode="json"))[:16]


class Style(_Frozen):
    """One style of the alignment bank: an instruction, and the bank's questions answered in it."""

    id: str
    instruction: str
    related: tuple[str, ...] = ()
    examples: tuple[str, ...]


class Styled(NamedTuple):
    """A style ready to prompt with."""

    id: str
    instruction: str
    examples: tuple[Example, ...]


def load_trait(name: str | Path) -> Trait:
    """A built-in trait by name, or a trait file (.yaml, .yml, .json) by path.

    Raises TraitError naming the file and field, or the known names.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml", ".json"):
        path = TRAITS / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in TRAITS.glob("*.yaml"))
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise TraitError(
            f"unknown trait '{name}': {hint}Use a built-in one ({', '.join(known)}) or the path of a trait "
            "file (.yaml, .yml, .json)"
        )
    return _trait(path, _text(path))


@lru_cache(maxsize=64)
def _trait(path: Path, text: str) -> Trait:
    """A trait from the text of its file; parsing is slow, and a study asks for the same few again."""
    raw = _parsed(path, text)
    if not isinstance(raw, dict):
        raise TraitError(f"trait file {path}: it must be a mapping with `name`, `instructions`, …")
    try:
        trait = Trait(**raw)
    except (ValidationError, TypeError) as error:
        raise TraitError(f"trait file {path}: {first_problem(error)}") from error
    if shadows(path, TRAITS / f"{trait.name}.yaml"):
        raise TraitError(
            f"trait file {path}: name: '{trait.name}' is a built-in trait, whose results it would replace: "
            "choose another"
        )
    return trait


def load_questions(split: str, limit: int | None = None) -> list[str]:
    """The first `limit` questions of a split (all if None). Raises TraitError if it has fewer."""
    questions = _questions()[split]
    if limit is not None and limit > len(questions):
        raise TraitError(
            f"{QUESTIONS_FILE.name}: split '{split}' has {len(questions)} questions, "
            f"{limit} were asked for: lower the number in the profile or add questions"
        )
    return list(questions[:limit])


def load_styles(excluding_trait: str | None = None, limit: int | None = None) -> list[Styled]:
    """Alignment styles, without those tagged as close to a trait."""
    raw = _bank()
    try:
        questions = raw["questions"]
        styles = [Style(**entry) for entry in raw["styles"]]
    except (ValidationError, TypeError, KeyError) as error:
        raise TraitError(f"{STYLES_FILE}: {first_problem(error)}") from error
    kept = [style for style in styles if excluding_trait not in style.related]
    if limit is not None and limit < len(kept):  # spread over the bank, whose neighbours are alike
        kept = [kept[i * len(kept) // limit] for i in range(limit)]
    short = [style.id for style in kept if len(style.examples) != len(questions)]
    if short:
        raise TraitError(
            f"{STYLES_FILE}: style '{short[0]}' must answer each of the bank's questions"
        )
    return [
        Styled(
            s.id,
            s.instruction,
            tuple(Example(q, a) for q, a in zip(questions, s.examples, strict=True)),
        )
        for s in kept
    ]


@lru_cache
def neutral_examples() -> tuple[Example, ...]:
    """Plain question/answer examples after which a base model is asked neutrally."""
    raw = _bank()
    try:
        return tuple(Example(q, a) for q, a in zip(raw["questions"], raw["neutral"], strict=True))
    except (TypeError, KeyError, ValueError) as error:
        raise TraitError(f"{STYLES_FILE}: `neutral` must answer each of `questions`") from error


@lru_cache
def _bank() -> object:
    return read_yaml(STYLES_FILE)


@lru_cache
def _questions() -> dict[str, tuple[str, ...]]:
    raw = read_yaml(QUESTIONS_FILE)
    if not isinstance(raw, dict) or set(raw) != set(SPLITS):
        raise TraitError(f"{QUESTIONS_FILE}: it must have exactly the splits {', '.join(SPLITS)}")
    check_disjoint(raw)
    return {split: tuple(questions) for split, questions in raw.items()}


def check_disjoint(splits: dict[str, list[str]]) -> dict[str, str]:
    """Refuse splits that share a prompt; a hash for each split otherwise.

    Prompts are compared without case, punctuation and spacing. Raises TraitError with the prompt.
    """
    seen: dict[str, str] = {}
    for split, prompts in splits.items():
        for prompt in prompts:
            plain = "".join(c for c in prompt.lower() if c.isalnum())
            if plain in seen:
                where = "twice in" if seen[plain] == split else f"in '{seen[plain]}' and in"
                raise TraitError(
                    f"overlapping splits: '{prompt}' is {where} '{split}': "
                    "remove one, the reported numbers must not see it twice"
                )
            seen[plain] = split
    return {split: canonical_hash(sorted(prompts))[:16] for split, prompts in splits.items()}


def read_yaml(path: Path) -> object:
    """What a YAML file holds. Raises TraitError naming the file."""
    return _parsed(path, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _parsed(path: Path, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TraitError:
    return TraitError(f"{path} can't be read: {' '.join(str(error).split())[:200]}")
