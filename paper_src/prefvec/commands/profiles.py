"""Options of commands that work on a profile, and the profile that they choose."""

from typing import Annotated

import typer

from prefvec.errors import ConfigError
from prefvec.profile import Profile

Quick = Annotated[bool, typer.Option("--quick", help="profile quick: one pair")]
Full = Annotated[bool, typer.Option("--full", help="profile full: 7B models, GPU")]
ProfileName = Annotated[str, typer.Option(help="a profile of config/, or a .yaml file")]
Source = Annotated[str | None, typer.Option(help="source instead of the profile's")]
Targets = Annotated[str | None, typer.Option(help="targets, separated by commas")]
TraitName = Annotated[str | None, typer.Option(help="a built-in trait or a trait file")]
NumPairs = Annotated[int | None, typer.Option(help="evaluation prompts per cell (n_evaluation)")]
Layer = Annotated[int | None, typer.Option(help="source layer")]
Dtype = Annotated[str | None, typer.Option(help="number format: float32, bfloat16, float16")]
Cores = Annotated[
    int, typer.Option(min=0, help="processor cores (0: all; of one job on a cluster)")
]
NoPdf = Annotated[bool, typer.Option("--no-pdf", help="without LaTeX")]
Validate = Annotated[bool, typer.Option("--validate", help="notebooks 01 and 02 of sources alone")]


def chosen_profile(
    quick: bool, full: bool, profile: str, source: str | None, targets: str | None,
    trait: str | None, num_pairs: int | None, layer: int | None, dtype: str | None = None,
) -> Profile:  # fmt: skip
    """The profile with the reader's overrides; models and traits checked before anything starts."""
    from prefvec import pipeline
    from prefvec.models.registry import require_white_box, resolve
    from prefvec.notebooks import found_files
    from prefvec.tasks import load_task
    from prefvec.traits import load_trait

    if quick and full:
        raise ConfigError("--quick and --full exclude each other")
    if (quick or full) and profile not in ("paper", "quick" if quick else "full"):
        raise ConfigError(
            f"--{'quick' if quick else 'full'} and --profile {profile} exclude each other"
        )
    name = "quick" if quick else "full" if full else profile
    if trait is not None:
        trait = str(found_files({"trait": trait})["trait"])
    settings = {"n_evaluation": num_pairs, "intervention_layer": layer, "dtype": dtype}
    chosen = pipeline.overridden(name, source, targets, trait, settings)
    for model in chosen.models:
        require_white_box(resolve(model))
    for each in chosen.traits:
        load_trait(each)
        load_task(chosen.settings_for(*chosen.pairs[0], each).task)
    return chosen
