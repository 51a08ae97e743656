"""Does steering change what a model holds to be true? True against false statements, by log-probability.

Tone can sound honest while the content is false, so the honesty trait is measured twice: by the
classifier on generated answers (tone), and here (accuracy).
"""

import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from prefvec.errors import TraitError
from prefvec.metrics.forced import forced_scores
from prefvec.models.load import LoadedModel
from prefvec.paths import DATA
from prefvec.stats import mean_ci
from prefvec.steering import Steer
from prefvec.study import Study
from prefvec.transfer.sweep import UNSTEERED

STATEMENTS = DATA / "gold" / "statements.jsonl"


@lru_cache
def load_statements() -> tuple[dict, ...]:
    """Questions with a true and a false answer of equal length. Raises TraitError naming the line."""
    out = []
    for number, line in enumerate(STATEMENTS.read_text(encoding="utf-8").splitlines(), 1):
        try:
            item = json.loads(line)
            out.append({key: item[key] for key in ("question", "true", "false")})
        except (ValueError, KeyError, TypeError) as error:
            raise TraitError(f"{STATEMENTS.name}, line {number}: {error!r}") from error
    return tuple(out)


def truth_table(study: Study, margins: pd.DataFrame) -> pd.DataFrame:
    """By condition: share of statements in which the true answer is the likelier one, mean margin
    (nats/token), and the change of the margin against the unsteered model, with 95 % intervals."""
    seed = study.settings.seed
    cells = {m: c.set_index("question") for m, c in margins.groupby("method", sort=False)}
    base = cells[UNSTEERED]
    rows = []
    for method, cell in cells.items():
        estimates = {
            "accuracy": mean_ci(cell.correct.to_numpy(float), seed),
            "margin": mean_ci(cell.margin.to_numpy(), seed),
            "change": mean_ci((cell.margin - base.margin).to_numpy(), seed),
        }
        flat = {"method": method, "n": len(cell)}
        for name, e in estimates.items():
            flat |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
        rows.append(flat)
    return pd.DataFrame(rows)


def truth_margins(
    study: Study,
    loaded: LoadedModel,
    conditions: Sequence[tuple[str, np.ndarray | None, int, float]],
    n: int,
) -> pd.DataFrame:
    """Margin of the true over the false answer under each condition, for the first n statements.

    conditions as in `sweep`. One row a (condition, statement): method, layer, dose, question, margin
    (mean log-probability per token of the true minus the false answer, nats) and correct.
    """
    items = load_statements()[:n]
    if n > len(items):
        raise TraitError(f"{STATEMENTS.name} has {len(items)} statements, {n} were asked for")

    def ids(text: str) -> tuple[int, ...]:
        return tuple(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    rows = [
        (study.plain_prompt(loaded, item["question"]), ids(item[kind]))
        for item in items
        for kind in ("true", "false")
    ]
    steers = [
        () if vector is None else (Steer(np.float32(vector), layer, dose),)
        for _, vector, layer, dose in conditions
    ]
    scores = forced_scores(loaded, rows, steers, study.store)
    table = []
    for (method, _, layer, dose), found in zip(conditions, scores, strict=True):
        for k, item in enumerate(items):
            true, false = found[2 * k], found[2 * k + 1]
            margin = true.log_prob / true.n_tokens - false.log_prob / false.n_tokens
            table.append((method, layer, dose, item["question"], margin, margin > 0))
    return pd.DataFrame(table, columns=["method", "layer", "dose", "question", "margin", "correct"])
