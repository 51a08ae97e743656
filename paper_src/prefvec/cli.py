"""Command line: run a profile, plan one, run one notebook, fetch a model; `commands/` has the rest."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from prefvec.commands.evaluate import evaluate
from prefvec.commands.extract import extract
from prefvec.commands.steer import steer
from prefvec.errors import ConfigError, PrefvecError
from prefvec.paths import FIGURES, RESULTS, TEX
from prefvec.profile import Profile

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="prefvec: does a preference vector found in one language model steer another?",
)  # fmt: skip
for command in (extract, steer, evaluate):
    app.command()(command)
INTERRUPTED = 130

Quick = Annotated[bool, typer.Option("--quick", help="profile quick: one pair")]
Full = Annotated[bool, typer.Option("--full", help="profile full: 7B models, GPU")]
ProfileName = Annotated[str, typer.Option(help="a profile of config/, or a .yaml file")]
Source = Annotated[str | None, typer.Option(help="source instead of the profile's")]
Targets = Annotated[str | None, typer.Option(help="targets, separated by commas")]
TraitName = Annotated[str | None, typer.Option(help="a built-in trait or a trait file")]
NumPairs = Annotated[int | None, typer.Option(help="evaluation prompts per cell (n_evaluation)")]
Layer = Annotated[int | None, typer.Option(help="source layer")]
Cores = Annotated[int, typer.Option(help="processor cores (0: all; of one job on a cluster)")]
NoPdf = Annotated[bool, typer.Option("--no-pdf", help="without LaTeX")]
Validate = Annotated[bool, typer.Option("--validate", help="notebooks 01 and 02 of sources alone")]


@app.command()
def run(
    quick: Quick = False,
    full: Full = False,
    profile: ProfileName = "paper",
    source_model: Source = None,
    target_models: Targets = None,
    trait: TraitName = None,
    num_pairs: NumPairs = None,
    intervention_layer: Layer = None,
    cores: Cores = 0,
    no_pdf: NoPdf = False,
    validate: Validate = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="what would run, and why")] = False,
    executor: Annotated[str, typer.Option(help="local, slurm, cluster-generic, …")] = "local",
    jobs: Annotated[int, typer.Option(help="jobs at once on a cluster (0: 10)")] = 0,
    snakemake: Annotated[
        list[str] | None, typer.Argument(help="after --: options for Snakemake")
    ] = None,
) -> None:
    """Run a profile from models to PDF; finished stages are not run again."""
    from prefvec import pipeline

    chosen = _chosen(
        quick, full, profile, source_model, target_models, trait, num_pairs, intervention_layer
    )
    extra = snakemake or []
    if extra and not extra[0].startswith("-"):
        raise ConfigError(f"unexpected '{extra[0]}': options for Snakemake come after --")
    status = pipeline.run(
        chosen, cores or os.cpu_count() or 1, not no_pdf, dry_run, extra, executor, jobs,
        "validated" if validate else "all",
    )  # fmt: skip
    if validate and not status and not dry_run:
        from prefvec.commands.validated import as_text

        print(as_text(chosen))
    raise typer.Exit(1 if status else 0)


@app.command()
def plan(
    quick: Quick = False,
    full: Full = False,
    profile: ProfileName = "paper",
    source_model: Source = None,
    target_models: Targets = None,
    trait: TraitName = None,
    num_pairs: NumPairs = None,
    intervention_layer: Layer = None,
    cores: Cores = 0,
    no_pdf: NoPdf = False,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to plan `full` for, beside one")] = 4,
    gpu: Annotated[str | None, typer.Option(help="a device of data/plan.yaml")] = None,
    json_: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Time, memory and disk of a profile here, and of `full` on one GPU and on several."""
    from prefvec.plan import report
    from prefvec.plan.text import as_text

    chosen = _chosen(
        quick, full, profile, source_model, target_models, trait, num_pairs, intervention_layer
    )
    record = report.plan(chosen, cores or os.cpu_count() or 1, gpus, gpu, not no_pdf)
    print(json.dumps(record, indent=1, ensure_ascii=False) if json_ else as_text(record))


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="path, name or number of a notebook")],
    output: Annotated[Path, typer.Option("--output", "-o", help="executed notebook to write")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", help="name=value; JSON values")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="take the profile's settings")] = None,
    json_: Annotated[str, typer.Option("--json", help="parameters as one JSON object")] = "{}",
) -> None:
    """Execute one notebook; unknown names and wrong types are refused before a kernel starts."""
    from prefvec import notebooks

    try:
        given = json.loads(json_)
    except ValueError as error:
        raise ConfigError(f"--json is not a JSON object ({error})") from error
    for item in parameter or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"-p {item}: write it as name=value")
        given[key] = _value(value)
    given = notebooks.found_files(given)
    path = notebooks.find_notebook(name)
    if profile:
        given = notebooks.profile_parameters(path, profile, given)
    print(notebooks.execute(path, given, output))


@app.command()
def fetch(
    models: Annotated[list[str], typer.Argument(help="registry ids, hub ids, paths")],
) -> None:
    """Fetch and materialise models, so that later runs need no network."""
    from prefvec.models.materialise import fingerprint, materialise
    from prefvec.models.registry import require_white_box, resolve

    specs = [require_white_box(resolve(name)) for name in models]
    for spec in specs:
        folder = materialise(spec)
        print(f"{spec.id}\t{fingerprint(folder)}\t{folder}")


@app.command()
def pdf() -> None:
    """Build paper_src/tex/main.pdf from what notebook 09 generated."""
    from prefvec import pipeline

    print(pipeline.build_pdf())


@app.command()
def replay(
    results: Annotated[Path, typer.Argument(help="results of a profile")] = RESULTS / "paper",
    no_pdf: NoPdf = False,
) -> None:
    """Figures, tables, numbers and the PDF again from saved results, with no model.

    Exit status 3 if a number or verdict of the paper is not the saved one.
    """
    from prefvec.replay import replay as replayed

    found = replayed(results, pdf=not no_pdf)
    print(
        f"{found.figures} figures drawn, {found.same} of {found.numbers} numbers exactly as saved "
        f"(in {found.folder})"
    )
    for name, saved, computed in found.verdicts:
        print(f"verdict {name}: saved {saved}, computed {computed}")
    if not no_pdf:
        print(TEX / "main.pdf")
    if found.verdicts or found.same < found.numbers:
        raise typer.Exit(3)


@app.command()
def verify(
    results: Annotated[Path | None, typer.Argument(help="saved results (of the profile)")] = None,
    profile: ProfileName = "paper",
    source_model: Source = None,
    target_models: Targets = None,
    trait: TraitName = None,
    keep: Annotated[bool, typer.Option("--keep", help="go on from an interrupted one")] = False,
) -> None:
    """Run a profile, or a part of it, afresh and hold every number against the saved results.

    Exit status 3 if a number left its declared tolerance or a verdict changed.
    """
    from prefvec.verify import AREA
    from prefvec.verify import verify as verified

    chosen = _chosen(False, False, profile, source_model, target_models, trait, None, None)
    given = {"source-model": source_model, "target-models": target_models, "trait": trait}
    arguments = [f"--{name}={value}" for name, value in given.items() if value]
    found = verified(results or RESULTS / chosen.name, profile, arguments, keep)
    print(found.text())
    print(f"report: {AREA / 'report.md'}")
    _exit_if_changed(found)


@app.command()
def figures(
    results: Annotated[Path, typer.Argument(help="results of a profile, as data/results/paper")],
) -> None:
    """Draw the figures of saved results again, into `figures/<name of the folder>`."""
    from prefvec.replay import redraw

    drawn = redraw(results)
    print(f"{len(drawn)} figures in {FIGURES / results.absolute().name}")


@app.command()
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


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="results of a profile, as data/results/paper")],
    after: Annotated[Path, typer.Argument(help="results of another run of it")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Compare two runs of a profile: which numbers, answers and verdicts are reproduced.

    Exit status 3 if a number left its interval or a verdict changed.
    """
    from prefvec.report.compare import compare as compared

    found = compared(before, after)
    print(json.dumps(found.as_record(), indent=1) if as_json else found.text())
    _exit_if_changed(found)


def _exit_if_changed(found) -> None:
    """Exit status 3 if a number is outside its tolerance or a verdict changed."""
    from prefvec.report.compare import OUTSIDE

    changed = [name for name, a, b in found.verdicts if a != b]
    if changed or (found.numbers.status == OUTSIDE).any():
        raise typer.Exit(3)


def _chosen(
    quick: bool, full: bool, profile: str, source: str | None, targets: str | None,
    trait: str | None, num_pairs: int | None, layer: int | None,
) -> Profile:  # fmt: skip
    """The profile with the reader's overrides; models and traits checked before anything starts."""
    from prefvec import pipeline
    from prefvec.models.registry import require_white_box, resolve
    from prefvec.tasks import load_task
    from prefvec.traits import load_trait

    if quick and full:
        raise ConfigError("--quick and --full exclude each other")
    name = "quick" if quick else "full" if full else profile
    settings = {"n_evaluation": num_pairs, "intervention_layer": layer}
    chosen = pipeline.overridden(name, source, targets, trait, settings)
    for model in chosen.models:
        require_white_box(resolve(model))
    for each in chosen.traits:
        load_trait(each)
        load_task(chosen.settings_for(*chosen.pairs[0], each).task)
    return chosen


def _value(text: str) -> object:
    """JSON if it is JSON, else the text itself: `-p trait=verbosity` needs no quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Entry point: an error of ours is one line and an exit status, not a traceback."""
    status = 0
    try:
        status = app(prog_name="prefvec", standalone_mode=False) or 0
    except PrefvecError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.exit_code
    except typer.TyperException as error:  # an option that is missing, misspelt or of another type
        if message := " ".join(error.format_message().split()):  # empty: the help was printed
            command = getattr(getattr(error, "ctx", None), "command_path", "prefvec")
            print(f"error: {message.rstrip('.')}: see {command} --help", file=sys.stderr)
        status = 2
    if status == INTERRUPTED:
        print(
            "interrupted: what was finished is kept; the same command goes on from there",
            file=sys.stderr,
        )
    sys.exit(status)


if __name__ == "__main__":
    main()
