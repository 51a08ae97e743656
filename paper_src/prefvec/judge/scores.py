"""From a judge's reply to a score from 0 to 100, or to a reason why there is none."""

import math
import re
from typing import NamedTuple

from prefvec.judge.endpoint import Loss
from prefvec.judge.replies import Reply

MIN_MASS = 0.25  # probability that must lie on numbers of the scale (Chen et al. 2025 use the same)
NUMBER = re.compile(
    r"[^\w-]*(?:(?:rating|score|answer)\W+(?:is\W+)?)?(-?\d+(?:\.\d+)?)", re.IGNORECASE
)
REFUSAL = re.compile(r"\b(sorry|can(?:no|')t|unable|refuse|as an ai|not able)\b", re.IGNORECASE)


class Score(NamedTuple):
    """A judge's score. value: 0–100, NaN if missing; by: `logprobs`, `text` or `none`; mass:
    probability of the first token that lay on the scale's numbers (NaN without log-probabilities);
    reason: why it is missing, else empty."""

    value: float
    by: str
    mass: float
    reason: str = ""


def missing(reason: str, mass: float = math.nan) -> Score:
    """A score that is not there."""
    return Score(math.nan, "none", mass, reason)


def score_of(reply: Reply | Loss, top: int) -> Score:
    """The score of a reply on a scale 0 … `top`, as 0–100.

    The expectation over the numbers among the first answer token's log-probabilities, normalised by
    their mass, where the server gives them and the number is one token; else the number in the text.
    """
    if isinstance(reply, Loss):
        return missing(reply.reason)
    if reply.refusal:
        return missing("refused")
    if reply.top and not _number_is_split(reply):
        found = [(int(t), math.exp(p)) for t, p in reply.top if re.fullmatch(r"\s*\d{1,3}\s*", t)]
        found = [(number, p) for number, p in found if number <= top]
        mass = sum(p for _, p in found)
        if mass >= MIN_MASS:
            return Score(100 * sum(n * p for n, p in found) / mass / top, "logprobs", mass)
        if REFUSAL.search(reply.text):
            return missing("refused", mass)
        return missing("too little numeric mass", mass)
    return _from_text(reply.text, top)


def _number_is_split(reply: Reply) -> bool:
    """Whether the answer's number has more than one token: the first one alone is not a score."""
    first, second = (*reply.tokens[:2], "", "")[:2]
    return first.strip()[-1:].isdigit() and second[:1].isdigit()


def _from_text(text: str, top: int) -> Score:
    match = NUMBER.match(text)
    if match is None:
        return missing("refused" if REFUSAL.search(text) else "unparsable")
    number = float(match[1])
    if not 0 <= number <= top:
        return missing("out of range")
    return Score(100 * number / top, "text", math.nan)


def five_point(score: float) -> float:
    """A score 0–100 on the 1–5 scale of the success criteria: 1 + 4 · score / 100."""
    return 1 + 4 * score / 100
