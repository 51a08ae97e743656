"""Command line: run a profile, plan one, run one notebook, serve the explorer; `commands/` has the rest."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from prefvec.commands import options
from prefvec.commands.evaluate import evaluate
from prefvec.commands.extract import extract
from prefvec.commands.profiles import (
    Cores,
    Dtype,
    Full,
    Layer,
    NoPdf,
    NumPairs,
    ProfileName,
    Quick,
    Source,
    Targets,
    TraitName,
    Validate,
    chosen_profile,
)
from prefvec.commands.reproduce import compare, figures, index, numbers, replay, verify
from prefvec.commands.steer import steer
from prefvec.errors import ConfigError, PrefvecError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="prefvec: does a preference vector found in one language model steer another?",
)  # fmt: skip
for command in (extract, steer, evaluate, replay, verify, figures, index, numbers, compare):
    app.command()(command)
INTERRUPTED = 130


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
    dtype: Dtype = None,
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

    chosen = chosen_profile(
        quick,
        full,
        profile,
        source_model,
        target_models,
        trait,
        num_pairs,
        intervention_layer,
        dtype,
    )
    own = (source_model, target_models, trait, num_pairs, intervention_layer, dtype)
    if any(value is not None for value in own):
        chosen = pipeline.apart(chosen)
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

    chosen = chosen_profile(
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
    output = options.writable(output)
    if output.suffix != ".ipynb":
        raise ConfigError(f"--output {output.name}: an executed notebook is a file NAME.ipynb")
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


def _given(
    path: Path, parameter: list[str] | None, profile: str | None, json_: str = "{}"
) -> dict[str, object]:
    """A notebook's parameters: the profile's, then those of `--json`, then those of `-p`."""
    from prefvec import notebooks

    try:
        given = json.loads(json_)
    except ValueError as error:
        raise ConfigError(f"--json is not a JSON object ({error})") from error
    if not isinstance(given, dict):
        raise ConfigError(f"--json is not a JSON object: {json_}")
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
