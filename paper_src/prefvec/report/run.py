"""One notebook run: where its figures, tables, numbers, records and manifest go."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from prefvec.paths import FIGURES, cell_file, pair_name, run_dir
from prefvec.report import figures
from prefvec.report.figure_data import write_figure_data
from prefvec.report.manifest import write_manifest
from prefvec.report.numbers import Numbers, number_key
from prefvec.report.records import record
from prefvec.report.tables import write_table
from prefvec.report.views import plain_value
from prefvec.store import write_json, write_text
from prefvec.study import Study
from prefvec.transfer import Site


class Run:
    """The outputs of one stage, under `data/results/<profile>/<parts…>/` and
    `figures/<profile>/<parts…>/`."""

    def __init__(self, stage: str, profile: str, *parts: str):
        self.stage = stage
        self.parts = parts
        self.folder = run_dir(profile, *parts)
        self.figures = FIGURES.joinpath(profile, *parts)
        self.figures.mkdir(parents=True, exist_ok=True)
        self.numbers = Numbers(f"notebooks/{stage}")
        figures.use_style()

    @classmethod
    def of_pair(cls, stage: str, study: Study) -> "Run":
        """A stage that belongs to a directed pair and a trait."""
        s = study.settings
        return cls(stage, s.profile, pair_name(s.source, s.target), study.trait.name)

    @property
    def number_of_stage(self) -> str:
        """What stands before the stage's name, and names its files: `04`, `05a`."""
        return self.stage.partition("_")[0]

    def key(self, name: str) -> str:
        """A number key that says which run it is from: `<parts…>.<name>`."""
        return number_key(*self.parts, name)

    def number(self, name: str, value, unit: str = "", digits: int = 2) -> None:
        """Record a number of this run for the paper."""
        self.numbers.add(self.key(name), value, unit, digits)

    def figure(self, name: str, draw: Callable[..., plt.Figure], *arguments) -> plt.Figure:
        """Draw a figure with a function of `prefvec.report`, save it as PDF and PNG, and what it was
        drawn from as `figures/<name>.json` (replay draws it again); give it back for display."""
        write_figure_data(self.folder, name, f"notebooks/{self.stage}", draw, arguments)
        figure = draw(*arguments)
        figures.save(figure, self.figures, name)
        plt.close(figure)  # or the notebook would show it a second time
        return figure

    def table(self, frame: pd.DataFrame, name: str, align: str | None = None) -> pd.DataFrame:
        """Save a table for LaTeX; give it back for display."""
        write_table(frame, self.folder / "tables" / f"{name}.tex", align)
        return frame

    def answers(self, table: pd.DataFrame) -> Path:
        """Save the generations, so that every score can be computed again."""
        path = self.folder / f"generations_{self.number_of_stage}.jsonl"
        return write_text(path, table.to_json(orient="records", lines=True, force_ascii=False))

    def hypothesis(self, letter: str, study: Study, found: dict) -> Path:
        """Save a diagnostic as `hypothesis_<letter>_<source>_to_<target>_<trait>.json`: the pair, the
        splits, and what was found (data frames as records, estimates as [value, low, high])."""
        s = study.settings
        name = cell_file(f"hypothesis_{letter}", s.source, s.target, study.trait.name)
        record = {
            "hypothesis": letter.upper(), "source": s.source, "target": s.target,
            "trait": study.trait.name, "task": study.task.name, "split_hashes": study.split_hashes,
        }  # fmt: skip
        return write_json(self.folder / name, record | plain_value(found))

    def close(self, study: Study | None = None, records: list[dict] | None = None, **extra) -> None:
        """Write numbers, records and, last, the manifest: with it the stage is complete."""
        number = self.number_of_stage
        self.numbers.save(self.folder / f"numbers_{number}.json")
        if records is not None:
            write_json(self.folder / f"results_{number}.json", records)
        write_manifest(self.folder / f"manifest_{number}.json", self.stage, study, extra)


def result_records(
    study: Study, site: Site, summary: pd.DataFrame, metrics: list[str]
) -> list[dict]:
    """One record a (method, dose, metric), in the layout of `experiment_results.json`."""
    return [
        record(
            study, site, row["method"], row.get("dose"), metric, row[metric],
            row.get("n", len(study.splits["evaluation"])),
            row.get("te") if metric == "effect" else None,
        )
        for row in summary.to_dict("records")
        for metric in metrics
    ]  # fmt: skip
