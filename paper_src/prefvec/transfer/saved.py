"""What notebook 04 left for a pair and a trait: its settings, its site and its answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from prefvec.errors import ReportError
from prefvec.models.load import ModelPool
from prefvec.paths import RESULTS, pair_name
from prefvec.profile import Settings
from prefvec.store import Store, read_json, read_rows
from prefvec.study import Study
from prefvec.transfer.sweep import UNSTEERED, Site


class Cell(NamedTuple):
    """A pair and a trait as 04 ran them: the study with 04's settings, the chosen site, one row an
    answer on the evaluation split."""

    study: Study
    site: Site
    answers: pd.DataFrame

    @property
    def dose(self) -> float:
        """The chosen dose, signed towards the pole that the study steers to."""
        return self.study.trait.sign * self.site.dose

    def at(self, method: str) -> pd.DataFrame:
        """A method's answers at the chosen dose (unsteered: at 0), in the order of the evaluation
        split. Raises ReportError for a method or question that the file does not have."""
        dose = 0.0 if method == UNSTEERED else self.dose
        chosen = self.answers[
            (self.answers.method == method)
            & np.isclose(self.answers.dose.astype(float), dose, rtol=0, atol=1e-9)
        ].set_index("question")
        questions = self.study.splits["evaluation"]
        if len(chosen) != len(questions) or not set(questions) <= set(chosen.index):
            s = self.study.settings
            raise ReportError(
                f"generations_04.jsonl of {s.source} → {s.target}, {self.study.trait.name}, lacks "
                f"answers of '{method}' at dose {dose:g}: run notebook 04 again"
            )
        return chosen.loc[questions].reset_index()


def load_cell(
    profile: str,
    source: str,
    target: str,
    trait: str,
    pool: ModelPool | None = None,
    store: Store | None = None,
) -> Cell:
    """Read what 04 saved under `data/results/<profile>/<pair>/<trait>/`.

    Raises ReportError naming the missing file and the notebook to run first.
    """
    path = _saved(profile, source, target, trait, "manifest_04.json")
    manifest = read_json(path)
    study = Study(Settings.as_run(manifest), pool, store)
    if study.trait.digest != manifest["trait_digest"]:
        raise ReportError(f"trait '{trait}' has changed since {path}: run notebook 04 again")
    rows = read_rows(_saved(profile, source, target, trait, "generations_04.jsonl"))
    return Cell(study, Site(**manifest["site"]), pd.DataFrame(rows))


def load_cells(profile: str, source: str, target: str, traits: Sequence[str]) -> dict[str, Cell]:
    """The cells of a pair by trait; their models are loaded once."""
    cells: dict[str, Cell] = {}
    for trait in traits:
        pool = next(iter(cells.values())).study.pool if cells else None
        cells[trait] = load_cell(profile, source, target, trait, pool)
    return cells


def saved_records(profile: str, source: str, target: str, trait: str) -> list[dict] | None:
    """The records of `results_04.json` at the chosen dose, or None if 04 has not run for this pair and
    trait."""
    folder = RESULTS / profile / pair_name(source, target) / trait
    if not (folder / "manifest_04.json").exists():  # it is written last
        return None
    dose = read_json(folder / "manifest_04.json")["site"]["dose"]
    return [r for r in read_json(folder / "results_04.json") if np.isclose(abs(r["dose"]), dose)]


def _saved(profile: str, source: str, target: str, trait: str, name: str):
    path = RESULTS / profile / pair_name(source, target) / trait / name
    if not path.exists():
        raise ReportError(
            f"{path} is missing: run notebook 04 for {source} → {target}, trait {trait}, first"
        )
    return path
