"""What a profile's run of notebook 04 found for a pair and trait, as the explorer shows it."""

from typing import NamedTuple

import pandas as pd

from prefvec.paths import RESULTS, pair_name
from prefvec.stats import Estimate
from prefvec.store import read_json
from prefvec.traits import Trait

INTERVAL = ("value", "ci_low", "ci_high")  # of a record


class Saved(NamedTuple):
    """Site of the run, its scores by dose (`method`, `dose`, `score`: an `Estimate`), the cosine to the
    target's own vector by method, and how many questions the scores are of."""

    layer_source: int
    layer_target: int
    dose: float
    scores: pd.DataFrame
    cosines: dict[str, float]
    n: int


def saved_cell(profile: str, source: str, target: str, trait: Trait) -> Saved | None:
    """Read it; None if the cell has not run, or ran with another trait of the same name."""
    folder = RESULTS / profile / pair_name(source, target) / trait.name
    if not (folder / "manifest_04.json").exists():  # it is written last
        return None
    manifest = read_json(folder / "manifest_04.json")
    if manifest["trait_digest"] != trait.digest:
        return None
    rows = [r for r in read_json(folder / "results_04.json") if r["metric"] == "score"]
    scores = pd.DataFrame(
        [(r["method"], r["dose"], Estimate.from_json(r[k] for k in INTERVAL)) for r in rows],
        columns=["method", "dose", "score"],
    )
    cosines = {m: found["cosine_to_own"] for m, found in manifest["maps"].items()}
    return Saved(**manifest["site"], scores=scores, cosines=cosines, n=rows[0]["n"])
