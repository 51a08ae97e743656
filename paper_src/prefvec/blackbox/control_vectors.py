"""Steering vectors as GGUF control vectors, the format of llama.cpp and of repeng, both ways.

`direction.N` is added to the output of block N, counted from 0: the layer convention of this library.
llama.cpp refuses a file with `direction.0`, so block 0 can't be steered there.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefvec.errors import VectorError
from prefvec.models.load import LoadedModel
from prefvec.store import atomic_path
from prefvec.vectors import Card, SteeringVector

ARCHITECTURE = "controlvector"
CARD_FIELD = "prefvec.card"  # the card as JSON; other readers skip it
TENSOR = "direction."


def export_control_vector(
    vector: SteeringVector,
    path: Path,
    loaded: LoadedModel,
    layers: Sequence[int] | None = None,
    dose: float = 1.0,
) -> Path:
    """Write `dose` times the directions of some layers (all but 0 if None) as a GGUF control vector.

    Raises VectorError for another model's vector, a component that isn't the residual stream, or
    layer 0.
    """
    import gguf

    vector.check(loaded)
    if vector.card.component != "residual":
        raise VectorError(
            f"a control vector is added to the residual stream: this {vector.card.trait} vector "
            f"belongs to the {vector.card.component} output"
        )
    chosen = sorted(set(vector.directions) - {0}) if layers is None else sorted(set(layers))
    if not chosen or 0 in chosen:
        raise VectorError(
            "llama.cpp can't steer block 0: give layers from 1 on "
            f"(this vector has {', '.join(map(str, sorted(vector.directions)))})"
        )
    with atomic_path(Path(path)) as temporary:
        writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", loaded.model.config.model_type)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(chosen))
        writer.add_string(CARD_FIELD, json.dumps({**vector.card.__dict__, "dose": dose}))
        for layer in chosen:
            direction = np.float32(dose) * vector.at(layer)
            writer.add_tensor(f"{TENSOR}{layer}", np.ascontiguousarray(direction, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return Path(path)


def import_control_vector(
    path: Path, loaded: LoadedModel, trait: str = "imported"
) -> SteeringVector:
    """A GGUF control vector, ours or another's, as a vector of `loaded`.

    The format does not say which model it is from: width and layers are checked, and the model's
    fingerprint where the file has a card. Raises VectorError.
    """
    import gguf

    path = Path(path)
    try:
        reader = gguf.GGUFReader(path)
        kind = reader.fields["general.architecture"].contents()
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise VectorError(f"{path}: not a readable GGUF file ({error})") from error
    if kind != ARCHITECTURE:
        raise VectorError(f"{path}: holds a '{kind}', not a '{ARCHITECTURE}'")
    directions = {
        int(t.name.removeprefix(TENSOR)): np.array(t.data, np.float32).reshape(-1)
        for t in reader.tensors
        if t.name.startswith(TENSOR) and t.name.removeprefix(TENSOR).isdigit()
    }
    if not directions:
        raise VectorError(f"{path}: has no tensor `{TENSOR}N`")
    for layer, direction in directions.items():
        loaded.check_layer(layer)
        if direction.shape != (loaded.width,):
            raise VectorError(
                f"{path}: `{TENSOR}{layer}` has {direction.size} values, {loaded.id} is "
                f"{loaded.width} wide: it belongs to another model"
            )
    return SteeringVector(directions, _card(reader, loaded, trait)).check(loaded)


def _card(reader, loaded: LoadedModel, trait: str) -> Card:
    if CARD_FIELD in reader.fields:
        fields = json.loads(reader.fields[CARD_FIELD].contents())
        fields.pop("dose")
        return Card(**fields)
    return Card(
        model=loaded.id, fingerprint=loaded.fingerprint, width=loaded.width, trait=trait,
        trait_digest="imported", data_hash="imported", method="imported", pooling="unknown",
    )  # fmt: skip
