"""Atomic writes and a content-addressed store for expensive intermediates.

A value is stored under the sha256 of everything that determines it. Each file carries its own
checksum, so that a truncated or damaged one is noticed, dropped and computed again.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from prefvec.errors import PrefvecError
from prefvec.paths import cache_dir


def canonical_hash(value: object) -> str:
    """sha256 (hex) of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; it replaces `path` only if the block succeeds.

    Raises PrefvecError naming the disk when it is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise full_disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def full_disk_error(error: OSError, path: Path) -> Exception:
    """Turn "no space left" into a readable error; give any other error back as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    free = shutil.disk_usage(path.parent).free / 2**20
    return PrefvecError(
        f"disk full while writing {path} ({free:.0f} MiB free): free some space, or set "
        "PREFVEC_CACHE to a folder on a larger disk; what was finished is kept"
    )


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: object) -> Path:
    """Write JSON atomically, keys in the order given, with a closing newline."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> object:
    """Read JSON, with an error that names the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrefvecError(f"{path} can't be read ({error}): delete it and run again") from error


def read_rows(path: Path) -> list:
    """Read JSON lines as they are: pandas' reader takes an answer like "1969" for a number."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class Store:
    """Content-addressed values under `<cache>/<kind>/`.

    `arrays` keeps named float arrays (safetensors), `json` keeps plain values. Both return
    the stored value when the key is known and intact, else call `compute` and store it.
    """

    def __init__(self, root: Path | None = None):
        self.root = root or cache_dir()

    def arrays(
        self, kind: str, key: dict, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Arrays by name, computed at most once for a key."""
        found = self.peek_arrays(kind, key)
        return self.put_arrays(kind, key, compute()) if found is None else found

    def peek_arrays(self, kind: str, key: dict) -> dict[str, np.ndarray] | None:
        """The arrays stored under the key, or None if there are none or they are damaged."""
        from safetensors.numpy import load_file

        path = self._path(kind, key, ".safetensors")
        return load_file(path) if self._intact(path) else None

    def put_arrays(self, kind: str, key: dict, values: dict[str, np.ndarray]) -> dict:
        """Store named arrays and give them back."""
        from safetensors.numpy import save_file

        path = self._path(kind, key, ".safetensors")
        values = {name: np.ascontiguousarray(array) for name, array in values.items()}
        with atomic_path(path) as temporary:
            save_file(values, temporary)
            digest = file_sha256(temporary)
        write_text(_checksum_path(path), digest)
        return values

    def json(self, kind: str, key: dict, compute: Callable[[], object]) -> object:
        """A JSON value, computed at most once for a key."""
        found, value = self.peek(kind, key)
        return value if found else self.put(kind, key, compute())

    def peek(self, kind: str, key: dict) -> tuple[bool, object]:
        """(True, value) if an intact JSON value is stored under the key, else (False, None)."""
        path = self._path(kind, key, ".json")
        if not path.exists():
            return False, None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["sha256"] == canonical_hash(record["value"]):
                return True, record["value"]
        except (ValueError, KeyError, TypeError, OSError):
            pass
        path.unlink(missing_ok=True)
        return False, None

    def put(self, kind: str, key: dict, value: object) -> object:
        """Store a JSON value and give it back."""
        write_json(
            self._path(kind, key, ".json"),
            {"key": key, "sha256": canonical_hash(value), "value": value},
        )
        return value

    def _path(self, kind: str, key: dict, suffix: str) -> Path:
        digest = canonical_hash(key)
        return self.root / kind / digest[:2] / f"{digest[2:]}{suffix}"

    def _intact(self, path: Path) -> bool:
        checksum = _checksum_path(path)
        if not (path.exists() and checksum.exists()):
            return False
        if file_sha256(path) == checksum.read_text().strip():
            return True
        path.unlink(missing_ok=True)
        checksum.unlink(missing_ok=True)
        return False


def _checksum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")
