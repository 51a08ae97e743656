"""Control vectors: the file's format both ways, and what llama.cpp makes of it on the real model."""

import json
import platform
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch

from prefvec.blackbox.control_vectors import export_control_vector, import_control_vector
from prefvec.errors import VectorError
from prefvec.vectors import Card, SteeringVector


def vector_of(loaded, layers, seed=0, **changed):
    generator = np.random.default_rng(seed)
    directions = {i: generator.normal(size=loaded.width).astype(np.float32) for i in layers}
    fields = {
        "model": loaded.id, "fingerprint": loaded.fingerprint, "width": loaded.width, "trait": "silly",
        "trait_digest": "d", "data_hash": "h", "method": "mean", "pooling": "last", **changed,
    }  # fmt: skip
    return SteeringVector(directions, Card(**fields))


def their_file(path, directions, architecture="controlvector"):
    """A file as repeng 0.4 writes it (`ControlVector.export_gguf`)."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string(f"{architecture}.model_hint", "llama")
    writer.add_uint32(f"{architecture}.layer_count", len(directions))
    for layer, direction in directions.items():
        writer.add_tensor(f"direction.{layer}", direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_vector_survives_its_file_with_card_layers_and_dose(llama, tmp_path):
    vector = vector_of(llama, range(4))
    path = export_control_vector(vector, tmp_path / "v.gguf", llama, dose=-2.0)
    back = import_control_vector(path, llama)
    assert back.card == vector.card and sorted(back.directions) == [1, 2, 3]
    for layer in back.directions:
        assert np.array_equal(back.at(layer), -2 * vector.at(layer))
    only = import_control_vector(export_control_vector(vector, path, llama, [2]), llama)
    assert list(only.directions) == [2]


def test_the_file_has_the_fields_that_the_others_read(llama, tmp_path):
    path = export_control_vector(vector_of(llama, [1, 3]), tmp_path / "v.gguf", llama)
    reader = gguf.GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert fields["controlvector.model_hint"] == "llama"
    assert fields["controlvector.layer_count"] == 2
    assert [(t.name, t.tensor_type.name, len(t.shape)) for t in reader.tensors] == [("direction.1", "F32", 1), ("direction.3", "F32", 1)]  # fmt: skip


def test_a_file_of_theirs_is_read(llama, tmp_path):
    directions = vector_of(llama, [1, 2]).directions
    back = import_control_vector(their_file(tmp_path / "r.gguf", directions), llama, trait="happy")
    assert back.card.trait == "happy" and back.card.method == "imported"
    assert all(np.array_equal(back.at(i), directions[i]) for i in directions)


def test_what_does_not_fit_is_refused(llama, tmp_path):
    vector = vector_of(llama, [0, 1])
    with pytest.raises(VectorError, match="can't steer block 0"):
        export_control_vector(vector, tmp_path / "v.gguf", llama, [0])
    with pytest.raises(VectorError, match="belongs to"):
        export_control_vector(vector_of(llama, [1], fingerprint="x"), tmp_path / "v.gguf", llama)
    with pytest.raises(VectorError, match="mlp output"):
        export_control_vector(vector_of(llama, [1], component="mlp"), tmp_path / "v.gguf", llama)
    wide = their_file(tmp_path / "w.gguf", {1: np.ones(llama.width + 1, np.float32)})
    with pytest.raises(VectorError, match="it belongs to another model"):
        import_control_vector(wide, llama)
    other = their_file(tmp_path / "o.gguf", {1: np.ones(llama.width, np.float32)}, "llama")
    with pytest.raises(VectorError, match="holds a 'llama'"):
        import_control_vector(other, llama)
    (tmp_path / "x.gguf").write_bytes(b"nothing")
    with pytest.raises(VectorError, match="not a readable GGUF"):
        import_control_vector(tmp_path / "x.gguf", llama)
    mine = export_control_vector(vector, tmp_path / "m.gguf", llama)
    llama.fingerprint = "another"
    with pytest.raises(VectorError, match="belongs to"):
        import_control_vector(mine, llama)


READER = """
import ctypes, json, struct, sys
from xllamacpp import xllamacpp

class Vector(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("room", ctypes.c_void_p)]

class Data(ctypes.Structure):
    _fields_ = [("width", ctypes.c_int), ("values", Vector)]

load = ctypes.CDLL(xllamacpp.__file__)._Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE
load.restype = Data
name = ctypes.create_string_buffer(sys.argv[1].encode())
strength = struct.unpack("I", struct.pack("f", 0.5))[0]
# {float strength; std::string name}; in the wheel's C++ library a string is one pointer
info = (ctypes.c_uint64 * 2)(strength, ctypes.addressof(name))
start = ctypes.addressof(info)
found = load(ctypes.byref(Vector(start, start + 16, start + 16)))
count = (found.values.end - found.values.begin) // 4
print(json.dumps([found.width, list((ctypes.c_float * count).from_address(found.values.begin))]))
"""


@pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() == "x86_64"),
    reason="calls a C++ function by the x86-64 Linux convention",
)
def test_llama_cpp_s_own_reader_takes_the_file(llama, tmp_path):
    vector = vector_of(llama, [1, 3])
    path = export_control_vector(vector, tmp_path / "v.gguf", llama)
    done = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    width, values = json.loads(done.stdout)
    assert width == llama.width
    rows = np.array(values).reshape(-1, width)  # row i is block i + 1
    assert np.allclose(rows[0], 0.5 * vector.at(1)) and np.allclose(rows[2], 0.5 * vector.at(3))
    assert not rows[1].any()


@pytest.mark.real
def test_it_does_in_llama_cpp_what_it_does_here(tmp_path):
    """llama.cpp quantises activations to 8 bits and steers the first token too: close, not equal."""
    from prefvec.blackbox.llama import LlamaCpp
    from prefvec.generation import Request, generate
    from prefvec.models.fetch import gguf_file
    from prefvec.models.load import load_model
    from prefvec.models.registry import resolve
    from prefvec.steering import RowSteering, Steer
    from prefvec.traits import load_questions, load_trait
    from prefvec.vectors import extract

    name, layer, dose = "smollm2-135m-instruct", 15, -2.0
    loaded = load_model(name, device="cpu", dtype="float32")
    questions = load_questions("extraction", 6)
    vector = extract(loaded, load_trait("verbosity"), questions, [layer], n_instructions=2)
    path = export_control_vector(vector, tmp_path / "v.gguf", loaded, dose=dose)
    steer = Steer(vector.at(layer), layer, dose)

    def here(ids, steers):
        tokens = torch.tensor([ids])
        with torch.inference_mode(), RowSteering(loaded, [steers]) as steering:
            steering.begin_prompt(torch.ones_like(tokens))
            logits = loaded.model(tokens).logits[0, -1]
        return torch.log_softmax(logits.float(), -1).numpy()

    ids = [loaded.prompt.encode(loaded.prompt.render(q)) for q in load_questions("selection", 4)]
    limit, stop = 24, loaded.stop_ids
    with LlamaCpp(gguf_file(resolve(name))) as there:
        plain = [there.log_probabilities(i) for i in ids]
        length_plain = [len(there.greedy(i, limit, stop)) for i in ids]
        there.steer(import_control_vector(path, loaded).directions)
        steered = [there.log_probabilities(i) for i in ids]
        length_steered = [len(there.greedy(i, limit, stop)) for i in ids]
        there.steer({})
        assert np.array_equal(there.log_probabilities(ids[0]), plain[0])
        with pytest.raises(VectorError, match="this model takes layers 1 … 29"):
            there.steer({0: vector.at(layer)})
    for i, before, after in zip(ids, plain, steered, strict=True):
        likely = np.argsort(before)[-2000:]
        mine = (here(i, (steer,)) - here(i, ()))[likely]
        assert np.corrcoef(mine, (after - before)[likely])[0, 1] > 0.95
    answers = generate(loaded, [Request(tuple(i), (steer,)) for i in ids], limit)
    assert np.mean(length_steered) < 0.7 * np.mean(length_plain)
    assert np.mean([a.n_tokens for a in answers]) < 0.7 * np.mean(length_plain)


REPENG = (
    "repeng==0.4.0 --hash=sha256:9192ac3118cff53f78ab18a899975e719a09e9cb8d44e90aae757655152cd3ce"
)


@pytest.fixture(scope="module")
def repeng(tmp_path_factory):
    """repeng, beside the environment: it asks for NumPy below 2, of which it needs one old name."""
    folder = tmp_path_factory.mktemp("repeng")
    (folder / "requirements.txt").write_text(REPENG)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--target", str(folder), "-r", str(folder / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"repeng can't be fetched: {done.stderr.strip().splitlines()[-1]}")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        patched.setattr(np, "float_", np.float64, raising=False)
        import repeng as module

        yield module


@pytest.mark.real
def test_repeng_writes_the_same_greedy_texts_with_the_file(repeng, tmp_path):
    """The same weights and the exported file, steered by repeng and here: the same tokens; and the
    file that repeng writes comes back as the same vector."""
    from prefvec.generation import Request, generate
    from prefvec.models.load import load_model
    from prefvec.steering import Steer
    from prefvec.traits import load_questions, load_trait
    from prefvec.vectors import extract

    layer, dose, limit = 15, -2.0, 24
    loaded = load_model("smollm2-135m-instruct", device="cpu", dtype="float32")
    questions = load_questions("extraction", 6)
    vector = extract(loaded, load_trait("verbosity"), questions, [layer], n_instructions=2)
    path = export_control_vector(vector, tmp_path / "v.gguf", loaded)
    ids = [loaded.prompt.encode(loaded.prompt.render(q)) for q in load_questions("selection", 4)]
    steer = Steer(vector.at(layer), layer, dose)
    plain = [a.text for a in generate(loaded, [Request(tuple(i)) for i in ids], limit)]
    mine = [a.text for a in generate(loaded, [Request(tuple(i), (steer,)) for i in ids], limit)]

    theirs_read = repeng.ControlVector.import_gguf(str(path))
    wrapped = repeng.ControlModel(loaded.model, [layer])
    try:
        wrapped.set_control(theirs_read, dose)
        theirs = []
        for i in ids:
            tokens = torch.tensor([i])
            out = wrapped.generate(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=limit,
                do_sample=False, eos_token_id=list(loaded.stop_ids), pad_token_id=0,
            )[0, len(i) :]  # fmt: skip
            theirs.append(loaded.tokenizer.decode(out, skip_special_tokens=True).strip())
    finally:
        wrapped.unwrap()
    assert mine == theirs and mine != plain
    theirs_read.export_gguf(str(tmp_path / "theirs.gguf"))
    back = import_control_vector(tmp_path / "theirs.gguf", loaded)
    assert np.array_equal(back.at(layer), vector.at(layer))
