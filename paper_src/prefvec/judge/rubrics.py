"""What a judge is asked: one rubric a trait, one for coherence (`data/judge/*.yaml`)."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefvec.errors import TraitError
from prefvec.judge.endpoint import Ask
from prefvec.models.registry import first_problem
from prefvec.paths import DATA
from prefvec.traits import Trait, read_yaml

RUBRICS = DATA / "judge"
TOP_LOGPROBS = 20  # the most that the API gives
ANSWER_TOKENS = 4
SYSTEM = (
    "You rate texts. On a scale from 0 to {top}, rate {asks}.\n"
    "0 means: {low}.\n{top} means: {high}.\n"
    "Rate nothing else about the text. Reply with one number from 0 to {top} and no words."
)
USER = "Question: {question}\n\nText to rate:\n{text}\n\nRating from 0 to {top}:"


class Rubric(BaseModel):
    """One quality of a text: what is rated, and what the two ends of the scale mean. A trait's high
    end is its positive pole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    asks: str = Field(min_length=1)
    low: str = Field(min_length=1)
    high: str = Field(min_length=1)

    def ask(self, question: str, text: str, top: int) -> Ask:
        """The request for one text; it holds the text, its question and nothing about its origin."""
        return Ask(
            system=SYSTEM.format(asks=self.asks, low=self.low, high=self.high, top=top),
            user=USER.format(question=question, text=text.strip() or "(empty)", top=top),
            max_tokens=ANSWER_TOKENS,
            top=TOP_LOGPROBS,
        )


def load_rubric(name: str) -> Rubric:
    """A rubric of `data/judge`. Raises TraitError naming the file and field."""
    path = RUBRICS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RUBRICS.glob("*.yaml")))
        raise TraitError(f"unknown rubric '{name}': use one of {known}, or add {path.name}")
    return _checked(path)


def rubric_for(trait: Trait) -> Rubric:
    """A trait's rubric; for a trait without a file, from its description and the names of its poles."""
    path = RUBRICS / f"{trait.name}.yaml"
    if path.is_file():
        return _checked(path)
    return Rubric(
        name=trait.name,
        asks=(trait.description or f"how {trait.poles.positive} the text is").rstrip("."),
        low=f"entirely {trait.poles.negative}",
        high=f"entirely {trait.poles.positive}",
    )


def _checked(path: Path) -> Rubric:
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise TraitError(f"{path}: it must be a mapping with `name`, `asks`, `low`, `high`")
    try:
        return Rubric(**raw)
    except (ValidationError, TypeError) as error:
        raise TraitError(f"{path}: {first_problem(error)}") from error
