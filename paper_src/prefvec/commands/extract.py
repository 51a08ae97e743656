"""`prefvec extract`: find a trait's vector in a model and write it to a file."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from prefvec.commands import options
from prefvec.errors import ConfigError

SUFFIXES = (".safetensors", ".gguf")


def extract(
    model: options.Model,
    trait: options.Trait,
    output: Annotated[
        Path,
        typer.Option(help=".safetensors (its card beside it, .json), or .gguf: a control vector"),
    ],
    layer: Annotated[
        str | None,
        typer.Option(help="layers, separated by commas (default: the profile's candidates)"),
    ] = None,
    method: Annotated[
        str, typer.Option(help="mean (difference in means), pca or actadd (the first pair alone)")
    ] = "mean",
    seed: Annotated[
        int, typer.Option(help="draws the questions asked (0: the notebooks', others at random)")
    ] = 0,
    profile: Annotated[
        str, typer.Option(help="how many questions and which candidate layers")
    ] = "quick",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    json_: options.AsJson = False,
) -> None:
    """Find a trait's vector in a model and write it.

    Prints each layer with the vector's length and split-half cosine (near 1:
    the direction does not depend on which questions were asked). The file fits
    this model alone: `prefvec steer` adds it.

    Example: prefvec extract --model smollm2-135m-instruct --trait formality
    --output formality.safetensors
    """
    layers = [] if layer is None else options.whole_numbers(layer, "--layer")
    if output.suffix not in SUFFIXES:
        raise ConfigError(f"--output {output}: it must end in {' or '.join(SUFFIXES)}")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: it must be 0 or more")
    path = options.writable(output)
    as_gguf = path.suffix == ".gguf"
    if as_gguf and 0 in layers:
        raise ConfigError("--layer 0: llama.cpp can't steer block 0: give layers from 1 on")

    from prefvec.profile import Settings, load_profile, suggest
    from prefvec.vectors import AGGREGATORS

    if method not in AGGREGATORS:
        raise ConfigError(f"--method '{method}' is unknown{suggest(method, AGGREGATORS)}")
    settings = load_profile(profile).settings_of(trait)
    given = {"source": model, "target": model, "trait": trait, "device": device, "dtype": dtype}
    settings = Settings.checked({**settings, **given, "seed": seed})
    options.check_model(model, device, dtype, layers)
    with options.only_results():
        record = _extracted(settings, layers, method, path)
    print(json.dumps(record, indent=1, ensure_ascii=False) if json_ else _as_text(record))


def _extracted(settings, layers: list[int], method: str, path: Path) -> dict:
    """Extract and write; what was written, as plain values."""
    from prefvec import vectors
    from prefvec.blackbox.control_vectors import export_control_vector
    from prefvec.store import file_sha256
    from prefvec.study import Study

    study = Study(settings)
    questions = _questions(study, settings)
    loaded = study.source
    layers = [loaded.check_layer(i) for i in layers] or study.candidate_layers(loaded)
    count = settings.n_instructions
    vector = vectors.extract(
        loaded, study.trait, questions, layers, count, method, store=study.store
    )
    halves = vectors.split_half_cosine(
        loaded, study.trait, questions, layers, count, study.store, method
    )
    if path.suffix == ".gguf":
        export_control_vector(vector, path, loaded)
    else:
        vector.save(path)
    card = vector.card
    return {
        "file": str(path), "sha256": file_sha256(path), "model": card.model, "fingerprint": card.fingerprint,
        "trait": card.trait, "poles": study.trait.poles.model_dump(), "method": method, "n": card.n_pairs,
        "data_hash": card.data_hash,
        "layers": [
            {"layer": i, "norm": vector.norm(i), "split_half_cosine": _defined(halves[i])}
            for i in vector.directions
        ],
    }  # fmt: skip


def _questions(study, settings) -> list[str]:
    """The questions of the extraction split: the first ones, or as many drawn with a seed."""
    import numpy as np

    first = study.splits["extraction"]
    if settings.seed == 0:
        return first
    every = study.task.prompts("extraction", None)
    drawn = np.random.default_rng(settings.seed).permutation(len(every))[: len(first)]
    return [every[i] for i in sorted(drawn)]


def _as_text(record: dict) -> str:
    poles = record["poles"]
    lines = [
        f"{record['file']}  sha256 {record['sha256'][:16]}…",
        f"{record['trait']} in {record['model']}, {record['method']} of {record['n']} pairs; "
        f"+ leads to '{poles['positive']}', - to '{poles['negative']}'",
        f"{'layer':>5}  {'length':>8}  split-half cosine",
    ]
    for row in record["layers"]:
        half = row["split_half_cosine"]
        shown = "a single pair has no halves" if half is None else f"{half:.2f}"
        lines.append(f"{row['layer']:>5}  {row['norm']:>8.2f}  {shown}")
    return "\n".join(lines)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
