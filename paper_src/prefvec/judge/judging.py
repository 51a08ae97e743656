"""Texts in, scores out: the judge sees a question and a text at a time, in an order of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.judge.budget import Budget
from prefvec.judge.endpoint import OPENAI_URL, Endpoint
from prefvec.judge.replies import Replies
from prefvec.judge.rubrics import Rubric
from prefvec.judge.scores import score_of
from prefvec.judge.server import llama_server
from prefvec.models.registry import registry
from prefvec.store import Store

API_TOP, LOCAL_TOP = (
    100,
    9,
)  # a small model's tokenizer cuts numbers into digits: one digit is one token


class Judge(NamedTuple):
    """An endpoint, and the highest number of its scale (0 … top)."""

    endpoint: Endpoint
    top: int


def is_local(model: str) -> bool:
    """Whether a judge's name means a GGUF file that is served on this machine."""
    known = registry().get(model)
    return (known is not None and known.gguf is not None) or model.endswith(".gguf")


@contextmanager
def open_judge(
    model: str,
    url: str = "",
    store: Store | None = None,
    recording: Path | None = None,
    budget: Budget | None = None,
    parallel: int = 2,
    timeout: float = 60.0,
) -> Iterator[Judge]:
    """A judge for as long as the block lasts.

    With a `url`, the model there; else, for a GGUF model of the registry or a .gguf path, a llama.cpp
    server on this machine; else OpenAI's API. The key is taken from `OPENAI_API_KEY`. With a
    `recording`, nothing is asked: what it does not hold is missing.
    """
    replies = Replies(store or Store())
    common = {"budget": budget, "parallel": parallel, "timeout": timeout}
    local = not url and is_local(model)
    top = LOCAL_TOP if local else API_TOP
    if recording is not None:
        yield Judge(Endpoint(None, model, Replies(recording=recording)), top)
    elif not local:
        yield Judge(Endpoint(url or OPENAI_URL, model, replies, **common), top)
    else:
        with llama_server(model, parallel=parallel) as server:
            endpoint = Endpoint(
                server.base_url, model, replies, server.identity, send_key=False, **common
            )
            yield Judge(endpoint, top)


def judged(
    judge: Judge, rubric: Rubric, questions: Sequence[str], texts: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """One row a text, in the order given: `score` (0–100, NaN if missing), `by`, `mass`, `reason`.

    The judge gets neither the order nor the condition of the texts: they are asked in an order drawn
    from the seed, each alone, and equal ones once.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    asks = [rubric.ask(questions[i], texts[i], judge.top) for i in order]
    replies = judge.endpoint.ask(asks, label=f"judge {rubric.name}")
    rows: list = [None] * len(texts)
    for i, reply in zip(order, replies, strict=True):
        rows[i] = score_of(reply, judge.top)
    table = pd.DataFrame(rows, columns=["value", "by", "mass", "reason"])
    return table.rename(columns={"value": "score"})


def missingness(table: pd.DataFrame, by: Sequence[str] = ("rubric",)) -> pd.DataFrame:
    """How many scores were asked for, how many are missing, and why, in groups."""
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        reasons = group.reason[group.reason != ""].value_counts().to_dict()
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "asked": len(group),
                "missing": int(group.score.isna().sum()),
                "reasons": ", ".join(f"{reason}: {n}" for reason, n in sorted(reasons.items())),
            }
        )
    return pd.DataFrame(rows)
