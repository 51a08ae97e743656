"""Turn any model source into a local folder that transformers loads in under a second.

Reading a GGUF file takes 8–20 s (dequantisation, tokenizer conversion). It is done once: the
result is written as safetensors into a temporary folder that is renamed when it is complete, under
a lock, so a killed or doubled run never leaves a half-written model behind.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from prefvec.errors import FetchError, ModelError
from prefvec.models.fetch import check_space, gguf_file
from prefvec.models.registry import ModelSpec, require_white_box
from prefvec.paths import cache_dir, slug
from prefvec.store import canonical_hash, file_sha256, full_disk_error, read_json, write_json

CARD = "prefvec.json"
FORMAT = 1  # raise when what is written here changes


def materialise(spec: ModelSpec) -> Path:
    """Local folder with `config.json`, tokenizer, safetensors and a card with the fingerprint.

    Raises FetchError (no source answers, wrong sha256) or ModelError (not a causal model).
    """
    require_white_box(spec)
    if spec.hub is not None:
        return _hub_folder(spec)
    if spec.path is not None and not spec.path.endswith(".gguf"):
        return Path(spec.path)
    folder = cache_dir() / "models" / _folder_name(spec)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not is_complete(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _convert(spec, gguf_file(spec), folder)
    return folder


def is_complete(folder: Path) -> bool:
    """True if every file that the card lists is there with the size it had when written."""
    try:
        sizes = read_json(folder / CARD)["sizes"]
    except Exception:
        return False
    return all(
        (folder / name).exists() and (folder / name).stat().st_size == size
        for name, size in sizes.items()
    )


def fingerprint(folder: Path) -> str:
    """Short id of the weights, configuration and tokenizer in a model folder (16 hex digits).

    A folder written here knows the sha256 of its GGUF file. Any other folder is identified by its
    small files and by size, header and evenly spaced samples of its weights.
    """
    if (folder / CARD).exists():
        return read_json(folder / CARD)["fingerprint"]
    files = sorted(p for p in folder.iterdir() if p.suffix in {".json", ".jinja", ".model"})
    parts = {p.name: file_sha256(p) for p in files}
    for weights in sorted(folder.glob("*.safetensors")):
        parts[weights.name] = canonical_hash(_samples(weights))
    return canonical_hash(parts)[:16]


def _samples(path: Path, count: int = 64, width: int = 1 << 16) -> list[str]:
    size = path.stat().st_size
    with open(path, "rb") as handle:
        digests = [str(size)]
        for i in range(count):
            handle.seek(max(0, (size - width) * i // (count - 1)))
            digests.append(hashlib.sha256(handle.read(width)).hexdigest())
    return digests


def _folder_name(spec: ModelSpec) -> str:
    if spec.path is not None:
        return f"{slug(Path(spec.path).stem)}-{file_sha256(Path(spec.path))[:12]}"
    return slug(spec.id)


def _convert(spec: ModelSpec, gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefvec.models.gguf_fast import fast_gguf

    source_sha = spec.gguf.sha256 if spec.gguf and spec.gguf.sha256 else file_sha256(gguf)
    check_space(folder.parent, 8 * gguf.stat().st_size, f"materialising {spec.id}")
    print(f"materialising {spec.id} from GGUF (once, some 20 seconds) …", flush=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        try:
            with fast_gguf():
                tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
                model = AutoModelForCausalLM.from_pretrained(
                    gguf.parent, gguf_file=gguf.name, dtype=torch.float32
                )
        except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            raise ModelError(
                f"{gguf}: transformers can't read this GGUF file ({str(error).splitlines()[0]})"
            ) from error
        _forget_quantisation(model)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_json(
            temporary / CARD,
            {
                "model": spec.id,
                "format": FORMAT,
                "gguf_sha256": source_sha,
                "fingerprint": canonical_hash([source_sha, FORMAT])[:16],
                "sizes": {p.name: p.stat().st_size for p in sorted(temporary.iterdir())},
            },
        )
        os.replace(temporary, folder)
    except OSError as error:
        raise full_disk_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _forget_quantisation(model) -> None:
    """`save_pretrained` refuses a GGUF-loaded model although its weights are dense float32."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _hub_folder(spec: ModelSpec) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja"]
    try:
        return Path(
            snapshot_download(spec.hub.repo, revision=spec.hub.revision, allow_patterns=patterns)
        )
    except Exception as error:  # hub errors share no base class with requests' and OS errors
        reason = str(error).splitlines()[0][:160]
        raise FetchError(
            f"model '{spec.id}' ({spec.hub.repo}) is not in the hub cache and could not be fetched "
            f"({reason}): check the id, the network, and HF_TOKEN for gated models"
        ) from error
