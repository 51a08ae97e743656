"""Commands for results that are there: draw, build, verify and compare them."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from prefvec.commands.profiles import (
    Dtype,
    NoPdf,
    ProfileName,
    Source,
    Targets,
    TraitName,
    chosen_profile,
)
from prefvec.errors import ConfigError
from prefvec.paths import FIGURES, RESULTS, ROOT, TEX

Record = Annotated[
    str | None, typer.Option(help="name under which the paper's appendix reports this run")
]


def replay(
    results: Annotated[Path, typer.Argument(help="results of a profile")] = RESULTS / "paper",
    no_pdf: NoPdf = False,
) -> None:
    """Figures, tables, numbers and the PDF again from saved results, with no model.

    Exit status 3 if a number or verdict of the paper is not the saved one.
    """
    from prefvec.replay import replay as replayed

    found = replayed(results, pdf=not no_pdf)
    kept = f", {found.kept} kept (nothing to draw them from)" if found.kept else ""
    print(
        f"{found.figures} figures drawn{kept}, {found.same} of {found.numbers} numbers exactly as saved "
        f"(in {found.folder})"
    )
    for name, saved, computed in found.verdicts:
        print(f"verdict {name}: saved {saved}, computed {computed}")
    if not no_pdf:
        print(TEX / "main.pdf")
    if found.verdicts or found.same < found.numbers:
        raise typer.Exit(3)


def verify(
    results: Annotated[Path | None, typer.Argument(help="saved results (of the profile)")] = None,
    profile: ProfileName = "paper",
    source_model: Source = None,
    target_models: Targets = None,
    trait: TraitName = None,
    dtype: Dtype = None,
    keep: Annotated[bool, typer.Option("--keep", help="go on from an interrupted one")] = False,
    record: Record = None,
) -> None:
    """Run a profile, or a part of it, afresh and hold every number against the saved results.

    Exit status 3 if a number left its declared tolerance or a verdict changed.
    """
    from prefvec.report.reproduction import check_name
    from prefvec.verify import AREA
    from prefvec.verify import verify as verified

    chosen = chosen_profile(
        False, False, profile, source_model, target_models, trait, None, None, dtype
    )
    saved = results or RESULTS / chosen.name
    if record is not None:  # before the run
        check_name(record)
    given = {"source-model": source_model, "target-models": target_models, "trait": trait, "dtype": dtype}  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in given.items() if value]
    found = verified(saved, profile, arguments, keep)
    print(found.text())
    print(f"report: {AREA / 'report.md'}")
    _keep(found, saved, AREA / "results" / chosen.name, record)
    _exit_if_changed(found)


def figures(
    results: Annotated[Path, typer.Argument(help="results of a profile, as data/results/paper")],
) -> None:
    """Draw the figures of saved results again, into `figures/<name of the folder>`."""
    from prefvec.replay import redraw

    drawn = redraw(results)
    print(f"{len(drawn)} figures in {FIGURES / results.absolute().name}")


def index(
    results: Annotated[Path, typer.Argument(help="results of a profile")] = RESULTS / "paper",
    committed: Annotated[
        bool, typer.Option("--committed", help="link to no file that git ignores")
    ] = False,
) -> None:
    """Write a profile's index.html again, and pages of executed notebooks that have none."""
    from prefvec.notebooks import write_missing_pages
    from prefvec.report.index import write_index

    if not committed:
        print(f"{len(write_missing_pages(results))} pages written")
    print(write_index(results, FIGURES / results.absolute().name, committed))


def numbers(
    files: Annotated[list[Path] | None, typer.Argument(help="Markdown files [README.md]")] = None,
    profile: ProfileName = "paper",
) -> None:
    """Write a profile's numbers into Markdown, wherever `<!--=key-->…<!--/-->` names one."""
    from prefvec.profile import load_profile
    from prefvec.report.prose import fill, numbers_of

    found = numbers_of(load_profile(profile))
    for path in files or [ROOT / "README.md"]:
        print(f"{path}: {fill(path, found)} numbers of profile {profile}")


def compare(
    before: Annotated[Path, typer.Argument(help="results of a profile, as data/results/paper")],
    after: Annotated[Path, typer.Argument(help="results of another run of it")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    record: Record = None,
    into: Annotated[
        Path | None, typer.Option(help="results that the record is kept beside (default: BEFORE)")
    ] = None,
) -> None:
    """Compare two runs of a profile: which numbers, answers and verdicts are reproduced.

    Exit status 3 if a number left its interval or a verdict changed.
    """
    from prefvec.report.compare import compare as compared
    from prefvec.report.reproduction import check_name

    if record is not None:
        check_name(record)
    if into is not None and not into.is_dir():
        raise ConfigError(f"--into {into}: no such folder; give results, as data/results/paper")
    found = compared(before, after)
    print(json.dumps(found.as_record(), indent=1) if as_json else found.text())
    _keep(found, before, after, record, into)
    _exit_if_changed(found)


def _keep(found, saved: Path, again: Path, name: str | None, into: Path | None = None) -> None:
    """Put a comparison on record if it was given a name."""
    from prefvec.report.reproduction import record

    if name is not None:
        kept = record(found, saved, again, name, into)
        print(f"on record: {kept}", file=sys.stderr)  # stdout may be JSON


def _exit_if_changed(found) -> None:
    """Exit status 3 if a number is outside its tolerance or a verdict changed."""
    from prefvec.report.compare import OUTSIDE

    if found.changed or (found.numbers.status == OUTSIDE).any():
        raise typer.Exit(3)
