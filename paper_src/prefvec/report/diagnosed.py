"""What notebooks 05a to 05c concluded, over all cells: for the paper's section on diagnostics."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from prefvec.diagnostics.factorial import FACTORS
from prefvec.metrics.trait import decimals
from prefvec.paths import cell_file
from prefvec.report.cells import arrow, pair_folder
from prefvec.report.layer_figures import FACTOR_NAMES
from prefvec.stats import UNKNOWN, Estimate, mean_ci
from prefvec.store import read_json

HYPOTHESES = {"a": "magnitude", "b": "basis", "c": "layer"}
VERDICTS = ("supported", "rejected", "undecided")
COUNTED = {
    "effect": "raw",
    "beyond_random": "beyond",
}  # fields of the factorial file, and their keys


def diagnosed(profile: str, pairs: Sequence, traits: Sequence[str]) -> list[dict]:
    """One record a cell that has a factorial file: source, target, trait, factorial (its content), the
    hypotheses' verdicts by letter, for those that ran, and what C measured of direct transfer."""
    out = []
    for pair in pairs:
        for trait in traits:
            folder = pair_folder(profile, pair, trait)
            swapped = folder / cell_file("factorial", *pair, trait)
            if not swapped.exists():
                continue
            paths = {h: folder / cell_file(f"hypothesis_{h}", *pair, trait) for h in HYPOTHESES}
            files = {h: read_json(path) for h, path in paths.items() if path.exists()}
            out.append(
                {
                    "source": pair[0], "target": pair[1], "trait": trait,
                    "factorial": read_json(swapped),
                    "verdicts": {h: found["conclusion"]["verdict"] for h, found in files.items()},
                    "direct": files["c"]["measurements"]["layers"]["direct"] if "c" in files else None,
                }
            )  # fmt: skip
    return out


def factorial_table(cells: Sequence[dict], show: Callable) -> pd.DataFrame:
    """The verdicts on the three hypotheses, and the loss of direct transfer with its shares, by cell."""
    rows = []
    for cell in cells:
        part, unit = cell["factorial"]["effect"], cell["factorial"]["unit"]
        rows.append(
            {
                "pair": arrow(cell["source"], cell["target"]),
                "trait": cell["trait"],
                **{h.upper(): cell["verdicts"].get(h, "--") for h in HYPOTHESES},
                "loss": show(Estimate.from_json(part["loss"]), decimals(unit)),
                **{
                    FACTOR_NAMES[f]: show(Estimate.from_json(part["shares"][f]), 2) for f in FACTORS
                },
            }
        )
    columns = ["pair", "trait", *(h.upper() for h in HYPOTHESES), "loss", *FACTOR_NAMES.values()]
    return pd.DataFrame(rows, columns=columns)


def numbers(cells: Sequence[dict], seed: int = 0) -> dict[str, int | Estimate]:
    """Counts of verdicts and of main factors, and mean shares with intervals over the cells in which
    they are defined, by number key. `diagnosed.layer.same`: cells with a loss whose assumed layer is the
    own vector's best; `diagnosed.main.effect`: of the zero-padded vector in the first cell, at the assumed
    and at the best layers."""
    out: dict[str, int | Estimate] = {"diagnosed.n": len(cells)}
    for letter in HYPOTHESES:
        found = [cell["verdicts"][letter] for cell in cells if letter in cell["verdicts"]]
        for verdict in VERDICTS:
            out[f"diagnosed.{letter}.{verdict}"] = found.count(verdict)
    for field, key in COUNTED.items():
        parts = [cell["factorial"][field] for cell in cells]
        known = [part for part in parts if part["main"]]
        out[f"diagnosed.{key}.defined"] = len(known)
        for factor in FACTORS:
            shares = np.array([part["shares"][factor][0] for part in known], float)
            out[f"diagnosed.{key}.main.{factor}"] = sum(part["main"] == factor for part in known)
            out[f"diagnosed.{key}.{factor}"] = mean_ci(shares, seed)
    lost = [cell["factorial"] for cell in cells if cell["factorial"]["effect"]["main"]]
    same = [swap["layers"]["assumed"][1] == swap["layers"]["best_target"] for swap in lost]
    out["diagnosed.layer.same"] = sum(same)
    for at in ("assumed", "best"):
        direct = cells[0]["direct"] if cells else None
        found = Estimate.from_json(direct[f"effect_{at}"]) if direct else UNKNOWN
        out[f"diagnosed.main.effect.{at}"] = found
    return out
