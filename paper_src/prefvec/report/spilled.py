"""How much the vectors of two traits move each other's scores, over the pairs that notebook 08 ran for."""

from collections.abc import Sequence
from itertools import product

from prefvec.paths import RESULTS, pair_name
from prefvec.stats import Estimate, mean_ci
from prefvec.store import read_json

STYLES = ("formality", "silly")  # traits of one kind: how an answer sounds


def between(
    profile: str, pairs: Sequence, method: str, traits: tuple[str, str] = STYLES
) -> Estimate:
    """Mean over pairs, with an interval over them, of the sum of the effects of each trait's vector on the other's score
    over the sum of those on its own, in the standard deviations of the score; NaN without any."""
    ratios = []
    for pair in pairs:
        path = RESULTS / profile / pair_name(*pair) / "results_08.json"
        effect = {
            (record["trait"], record["measured_trait"]): record["value"]
            for record in (read_json(path) if path.exists() else [])
            if record.get("analysis") == "spill" and record["method"] == method
        }
        if all(key in effect for key in product(traits, traits)):
            a, b = traits
            ratios.append((effect[a, b] + effect[b, a]) / (effect[a, a] + effect[b, b]))
    return mean_ci(ratios)


def spill_numbers(profile: str, pairs: Sequence) -> dict[str, Estimate]:
    """The same under number keys, for the target's own vectors and the mapped ones."""
    return {f"spill.styles.{m}": between(profile, pairs, m) for m in ("oracle", "ridge_concept")}
