"""Command line: run a profile, run one notebook, fetch a model."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from prefvec.errors import ConfigError, PrefvecError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="prefvec: does a preference vector found in one language model steer another?",
)  # fmt: skip


@app.command()
def run(
    quick: Annotated[bool, typer.Option("--quick", help="profile quick: one pair")] = False,
    full: Annotated[bool, typer.Option("--full", help="profile full: 7B models, GPU")] = False,
    profile: Annotated[str, typer.Option(help="a profile of config/, or a .yaml file")] = "paper",
    source_model: Annotated[
        str | None, typer.Option(help="source instead of the profile's")
    ] = None,
    target_models: Annotated[str | None, typer.Option(help="targets, separated by commas")] = None,
    trait: Annotated[str | None, typer.Option(help="a built-in trait or a trait file")] = None,
    num_pairs: Annotated[int | None, typer.Option(help="evaluation questions per cell")] = None,
    intervention_layer: Annotated[int | None, typer.Option(help="source layer")] = None,
    cores: Annotated[int, typer.Option(help="processor cores (0: all)")] = 0,
    no_pdf: Annotated[bool, typer.Option("--no-pdf", help="without LaTeX")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="what would run, and why")] = False,
) -> None:
    """Run a profile from models to PDF; finished stages are not run again."""
    from prefvec import pipeline
    from prefvec.models.registry import require_white_box, resolve
    from prefvec.traits import load_trait

    if quick and full:
        raise ConfigError("--quick and --full exclude each other")
    name = "quick" if quick else "full" if full else profile
    settings = {"n_evaluation": num_pairs, "intervention_layer": intervention_layer}
    chosen = pipeline.overridden(name, source_model, target_models, trait, settings)
    for model in chosen.models:
        require_white_box(resolve(model))
    for each in chosen.traits:
        load_trait(each)
    status = pipeline.run(chosen, cores or os.cpu_count() or 1, not no_pdf, dry_run, [])
    raise typer.Exit(1 if status else 0)


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
