"""What notebook 02 found of every model's own vectors: the score held against labelled texts, and H1."""

import numpy as np
import pandas as pd

from prefvec.metrics.trait import decimals
from prefvec.report.cells import Gathered, own_vector, short, trait_unit
from prefvec.report.judged import listed
from prefvec.report.verdicts import H1_DIRECTION
from prefvec.stats import UNKNOWN, Estimate
from prefvec.traits import TRAITS

COLUMNS = ("trait", "model", "unit", "auc", "fit", "direction", "effect", "passed")


def own_vectors(study: Gathered) -> pd.DataFrame:
    """One row a (trait, source): unit of the score, its area under the curve on labelled texts (NaN where
    there are none) and whether it may be used, direction score and effect of the own vector on the
    selection questions, and whether H1 holds. Models for which 02 has not run are left out."""
    rows = []
    for trait in study.traits:
        for model in dict.fromkeys(source for source, _ in study.pairs):
            found = own_vector(study.profile, model, trait)
            if not found:
                continue
            score = next((s for s in found.get("scores", []) if s["own"]), None)
            direction = Estimate.from_json(found["h1_direction"])
            rows.append((
                trait, model, trait_unit(study, trait),
                Estimate.from_json(score["auc"]) if score else UNKNOWN, bool(score and score["fit"]),
                direction, Estimate.from_json(found["h1_effect"]), direction.value > H1_DIRECTION,
            ))  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def own_table(rows: pd.DataFrame, show) -> pd.DataFrame:
    """The same as text. show: `interval_text` for LaTeX, `views.plain` for the notebook."""
    return pd.DataFrame(
        {
            "trait": rows.trait,
            "model": [short(m) for m in rows.model],
            "AUC of the score": [show(e) for e in rows.auc],
            "moved as steered": [show(e) for e in rows.direction],
            "effect": [show(r.effect, decimals(r.unit)) for r in rows.itertuples()],
            "unit": rows.unit,
        }
    )


def own_numbers(rows: pd.DataFrame) -> dict[str, tuple]:
    """Key → (value, unit, digits): of each trait the score's lowest area over the models (undefined for
    built-in traits that were not studied); which scores are unfit, and for which models and traits H1
    fails, in words."""
    out = {f"scores.auc.{path.stem}": (UNKNOWN, "", 2) for path in TRAITS.glob("*.yaml")}
    for trait, part in rows.groupby("trait", sort=False):
        known = [e for e in part.auc if np.isfinite(e.value)]
        out[f"scores.auc.{trait}"] = (min(known) if known else UNKNOWN, "", 2)
    unfit = list(dict.fromkeys(rows.trait[~rows.fit.astype(bool)]))
    failed = rows[~rows.passed.astype(bool)]
    cells = [f"{row.trait} in {short(row.model)}" for row in failed.itertuples()]
    out["scores.unfit"] = (listed(unfit), "", 0)
    out["verdict.h1.failed"] = (listed(cells), "", 0)
    out["verdict.h1.passed"] = (int(rows.passed.sum()), "", 0)
    return out
