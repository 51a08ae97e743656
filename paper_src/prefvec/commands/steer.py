"""`prefvec steer`: a model's answers with saved vectors added, beside its plain answers."""

import json
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from prefvec.commands import options
from prefvec.errors import ConfigError, VectorError


def steer(
    model: options.Model,
    vectors: Annotated[
        list[Path], typer.Option(help="file of `extract` or a .gguf; several are added up")
    ],
    prompt: Annotated[list[str] | None, typer.Option(help="a question; may be repeated")] = None,
    prompts_file: Annotated[Path | None, typer.Option(help="questions, one a line")] = None,
    coefficient: Annotated[
        str, typer.Option(help="lengths of the vector, below 0 for the other pole; several: 1,2")
    ] = "1",
    layer: Annotated[
        int | None,
        typer.Option(help="one of the files' layers (default: nearest to the middle)"),
    ] = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="the plain answer too")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="limit of an answer, tokens")] = 64,
    output: Annotated[Path | None, typer.Option(help="write the answers here too, .jsonl")] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    json_: options.AsJson = False,
) -> None:
    """Answer questions with vectors added to the model (greedy decoding).

    A coefficient of 1 adds the vector at its own length to every token; the
    study's doses lie between 0.5 and 2. A vector of another model is refused.

    Example: prefvec steer --model smollm2-135m-instruct --baseline
    --vectors formality.safetensors --coefficient 1,-1
    --prompt "How do I boil an egg?"
    """
    prompts = options.asked(prompt or [], prompts_file)
    coefficients = options.numbers(coefficient, "--coefficient")
    if baseline:
        coefficients = [0.0, *(c for c in coefficients if c)]
    if max_new_tokens < 1:
        raise ConfigError(f"--max-new-tokens {max_new_tokens}: it must be at least 1")
    if layer is not None and layer < 0:
        raise ConfigError(f"--layer {layer} is below 0: the first block is layer 0")
    path = None if output is None else options.writable(output)
    for file in vectors:
        if file.suffix not in (".safetensors", ".gguf") or not file.is_file():
            raise ConfigError(
                f"--vectors {file}: no .safetensors or .gguf file there: write one with prefvec extract"
            )
    options.check_model(model, device, dtype, [] if layer is None else [layer])
    with options.only_results():
        loaded, found, layer = _loaded(model, vectors, layer, device, dtype)
        answers = _answers(loaded, found, layer, prompts, coefficients, max_new_tokens)
    rows = [
        {"model": loaded.id, "vectors": [str(f) for f in vectors], "layer": layer, **answer}
        for answer in answers
    ]
    if path:
        from prefvec.store import write_text

        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if json_:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print(_as_text(rows, "+".join(vector.card.trait for vector in found)))


def _loaded(model: str, files: list[Path], layer: int | None, device: str, dtype: str):
    """The model, the vectors and the layer. What a file says of itself is checked before the model is
    loaded; a GGUF file can't be read without it."""
    from prefvec.blackbox.control_vectors import import_control_vector
    from prefvec.models.load import load_model
    from prefvec.models.materialise import fingerprint, materialise
    from prefvec.models.registry import resolve
    from prefvec.vectors import SteeringVector

    saved = {f: SteeringVector.load(f) for f in files if f.suffix == ".safetensors"}
    if saved:
        owner = fingerprint(materialise(resolve(model)))
    for vector in saved.values():
        vector.check_owner(model, owner)
        if layer is not None:
            vector.at(layer)
    loaded = load_model(model, device, dtype)
    found = [saved[f] if f in saved else import_control_vector(f, loaded) for f in files]
    shared = set.intersection(*(set(vector.directions) for vector in found))
    if not shared:
        raise VectorError(
            "--vectors: these files have no layer in common: extract them at the same"
        )
    if layer is None:
        layer = min(sorted(shared), key=lambda i: abs(i - (loaded.n_layers - 1) / 2))
    for vector in found:
        vector.at(layer)
    return loaded, found, layer


def _answers(loaded, vectors, layer, prompts, coefficients, limit: int) -> list[dict]:
    """One row a question and coefficient; at 0 nothing is added."""
    from prefvec.generation import Request, generate
    from prefvec.steering import Steer
    from prefvec.store import Store
    from prefvec.study import plain_prompt

    asked = [(question, c) for question in prompts for c in coefficients]
    requests = [
        Request(
            plain_prompt(loaded, question),
            tuple(Steer(v.at(layer), layer, c, component=v.card.component) for v in vectors if c),
        )
        for question, c in asked
    ]
    answers = generate(loaded, requests, limit, store=Store(), label="steer")
    return [
        {"prompt": question, "coefficient": c, **answer._asdict()}
        for (question, c), answer in zip(asked, answers, strict=True)
    ]


def _as_text(rows: list[dict], traits: str) -> str:
    """Question by question, one answer below the other."""
    lines, question = [], None
    for row in rows:
        if row["prompt"] != question:
            question = row["prompt"]
            lines += ["", question] if lines else [question]
        strength = row["coefficient"]
        how = f"{strength:+g} {traits}, layer {row['layer']}" if strength else "unsteered"
        cut = ", cut" if row["finish"] == "length" else ""
        lines.append(f"  [{how}; {row['n_tokens']} tokens{cut}]")
        lines.append(indent(row["text"] or "(empty)", "  "))
    return "\n".join(lines)
