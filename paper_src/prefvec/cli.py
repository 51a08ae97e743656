"""Command line: run a profile, plan one, run one notebook, serve the explorer, fetch a model."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from prefvec.errors import ConfigError, PrefvecError
from prefvec.profile import Profile

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="prefvec: does a preference vector found in one language model steer another?",
)  # fmt: skip


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
        chosen, cores or os.cpu_count() or 1, not no_pdf, dry_run, extra, executor, jobs
    )
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

    path = notebooks.find_notebook(name)
    print(notebooks.execute(path, _given(path, parameter, profile, json_), output))


@app.command()
def explore(
    port: Annotated[int, typer.Option(help="port (0: 8866, or another free one)")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="only print the address")
    ] = False,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", help="name=value of notebooks/explore.ipynb")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="take the profile's settings")] = None,
) -> None:
    """Steer two models side by side in a browser, on this machine alone, until Ctrl-C."""
    from prefvec.explore.serve import serve
    from prefvec.notebooks import find_notebook

    serve(_given(find_notebook("explore"), parameter, profile), port, not no_browser)


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
def compare(
    before: Annotated[Path, typer.Argument(help="results of a profile, as data/results/paper")],
    after: Annotated[Path, typer.Argument(help="results of another run of it")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Compare two runs of a profile: which numbers, answers and verdicts are reproduced.

    Exit status 3 if a number left its interval or a verdict changed.
    """
    from prefvec.report.compare import OUTSIDE
    from prefvec.report.compare import compare as compared

    found = compared(before, after)
    print(json.dumps(found.as_record(), indent=1) if as_json else found.text())
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


def _given(
    path: Path, parameter: list[str] | None, profile: str | None, json_: str = "{}"
) -> dict[str, object]:
    """A notebook's parameters: the profile's, then those of `--json`, then those of `-p`."""
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
    return notebooks.profile_parameters(path, profile, given) if profile else given


def _value(text: str) -> object:
    """JSON if it is JSON, else the text itself: `-p trait=verbosity` needs no quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Entry point: an error of ours is one line and an exit status, not a traceback."""
    try:
        app()
    except PrefvecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(
            "interrupted: what was finished is kept; the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
