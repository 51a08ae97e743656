"""What the study set for each trait, from the manifests: for the table of the protocol."""

import pandas as pd

from prefvec.errors import TraitError
from prefvec.report.cells import Gathered
from prefvec.traits import load_trait


def settings_frame(study: Gathered) -> pd.DataFrame:
    """One row a trait: the pole steered to, the score, candidate depths and doses, questions by split
    (extraction, selection, choice, evaluation), limit of an answer in tokens. A trait whose file is gone is
    left out."""
    rows = []
    for trait in study.traits:
        found = next(
            (m["settings"] for (_, _, t), m in study.manifests.items() if t == trait), None
        )
        if found is None:
            continue
        try:
            described = load_trait(found["trait"])
        except TraitError:
            continue
        questions = (
            found.get(f"n_{k}", 0) for k in ("extraction", "selection", "choice", "evaluation")
        )
        rows.append(
            {
                "trait": trait,
                "steered to": getattr(described.poles, described.steer_to),
                "score": described.measure,
                "depths": _listed(found.get("layer_fractions", [])),
                "doses": _listed(found["doses"]),
                "questions": " / ".join(map(str, questions)),
                "limit": found.get("max_new_tokens", "--"),
            }
        )  # fmt: skip
    columns = ["trait", "steered to", "score", "depths", "doses", "questions", "limit"]
    return pd.DataFrame(rows, columns=columns)


def _listed(values: list) -> str:
    return ", ".join(f"{v:g}" for v in values)
