"""A llama.cpp server on this machine alone, for as long as a `with` block lasts."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from prefvec.errors import EndpointError
from prefvec.models.fetch import gguf_file
from prefvec.models.registry import resolve
from prefvec.store import file_sha256

WORKER = Path(__file__).with_name("worker.py")
QUIET_SECONDS = 9.0  # without an answer or any work done: it hangs
LONGEST_START = 600.0


class LocalServer(NamedTuple):
    """Where a server listens, and what its answers depend on besides the request."""

    base_url: str
    model: str
    identity: dict


def local_identity(name: str, file: Path) -> dict:
    """What a local server's answers depend on: the file and llama.cpp, not the port."""
    import xllamacpp

    spec = resolve(name)
    digest = (spec.gguf.sha256 if spec.gguf else None) or file_sha256(file)
    return {"gguf_sha256": digest, "xllamacpp": xllamacpp.__version__}


@contextmanager
def llama_server(
    name: str,
    context: int = 2048,
    parallel: int = 2,
    threads: int | None = None,
    quiet_seconds: float = QUIET_SECONDS,
) -> Iterator[LocalServer]:
    """Serve a model's GGUF file on a free port of the loopback interface; stopped on leaving.

    name: an id of data/models.yaml with a GGUF source, or the path of a .gguf file; context: tokens
    a request; parallel: requests at once; quiet_seconds: how long it may neither answer nor work.
    Raises EndpointError with llama.cpp's last words if it does not start.
    """
    file = gguf_file(resolve(name))
    if not file.is_file():
        raise EndpointError(f"GGUF file {file} does not exist: check the path of model '{name}'")
    given = {
        "path": str(file),
        "context": context,
        "parallel": parallel,
        "threads": threads or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
    }
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), json.dumps(given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment,
        )  # fmt: skip
        try:
            address = _address(process, quiet_seconds)
            if address is None:
                raise EndpointError(
                    f"llama.cpp did not start with {file.name}{_last_words(log)}: check that the "
                    "file is a GGUF model that the memory can hold"
                )
            yield LocalServer(f"{address}/v1", name, local_identity(name, file))
        finally:
            _stop(process)


def _address(process: subprocess.Popen, quiet: float) -> str | None:
    """The line that the worker prints once it serves; None if it ends before, or hangs: on a busy
    machine a large file takes long, but the worker's processor time grows."""
    lines: list[str] = []

    def read() -> None:
        for raw in process.stdout:
            line = raw.decode(errors="replace").strip()
            if line.startswith("http://"):
                lines.append(line)
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    started = moved = time.monotonic()
    worked = 0.0
    while reader.is_alive() and time.monotonic() - started < LONGEST_START:
        reader.join(0.05)
        with suppress(psutil.Error):
            spent = sum(psutil.Process(process.pid).cpu_times()[:2])
            if spent > worked:
                worked, moved = spent, time.monotonic()
        if time.monotonic() - moved > quiet:
            break
    return lines[0] if lines else None


def _last_words(log) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    said = [line for line in lines if line]
    return f" ({said[-1][:200]})" if said else ""


def _stop(process: subprocess.Popen) -> None:
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
