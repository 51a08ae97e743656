"""Serve the explorer's notebook with Voilà on the loopback interface."""

import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from pathlib import Path

from prefvec.errors import ConfigError, PrefvecError
from prefvec.models.registry import resolve
from prefvec.notebooks import checked_parameters, find_notebook
from prefvec.store import write_json

PORT = 8866
HOST = "127.0.0.1"
STARTS_WITHIN = 120  # seconds
ENDS_WITHIN = 15
# Extensions of JupyterLab that the environment has and the page does without.
NOT_NEEDED = [
    "@jupyter-notebook/lab-extension", "@voila-dashboards/jupyterlab-preview", "jupyterlab-jupytext",
    "jupyterlab_pygments",
]  # fmt: skip
CULL = 120  # seconds after which the kernel of a closed page ends
# The page asks nobody but this server: Voilà's icon fonts, on another host, stay out.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws://{host}:{port}; frame-ancestors 'self'"
)


def serve(given: dict[str, object], port: int = 0, browser: bool = True) -> None:
    """Serve the page until Ctrl-C, and print its address. port 0: 8866, or another free one.

    Raises ConfigError or TraitError for a bad parameter or a port in use, PrefvecError if the server
    does not start.
    """
    import papermill

    path = find_notebook("explore")
    checked_parameters(path, given)
    # The kernel works in another folder: a model given as a path is that path from here.
    found = {name: resolve(str(given[name])).path for name in ("source", "target") if name in given}
    given = given | {name: place for name, place in found.items() if place}
    port = _free(port)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "explore.ipynb"
        papermill.execute_notebook(
            str(path), str(page), parameters=given, prepare_only=True, progress_bar=False
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        write_json(page.with_name("voila.json"), _configuration(port))
        command = [sys.executable, "-m", "voila", str(page)]
        log = page.with_suffix(".log")
        with open(log, "w") as out:
            server = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            _wait(server, port, log)
            address = f"http://{HOST}:{port}/"
            print(f"explorer: {address}   (Ctrl-C stops it)", flush=True)
            if browser:
                webbrowser.open(address)
            if server.wait():
                raise PrefvecError(f"the explorer's server has ended: {_last_line(log)}")
        except KeyboardInterrupt:
            print("\nexplorer: stopped", flush=True)
        finally:
            _end(server)


def _configuration(port: int) -> dict:
    """Voilà's own settings, read from `voila.json` in its working folder."""
    headers = {"Content-Security-Policy": POLICY.format(host=HOST, port=port)}
    return {
        "Voila": {
            "ip": HOST, "port": port, "port_retries": 0, "open_browser": False, "log_level": "ERROR",
            "tornado_settings": {"headers": headers},
        },
        "VoilaConfiguration": {"theme": "light", "extension_denylist": NOT_NEEDED},
        "MappingKernelManager": {"cull_interval": 30, "cull_idle_timeout": CULL},
    }  # fmt: skip


def _free(port: int) -> int:
    """The port if nothing listens there; 0: the usual one, or any that is free."""
    for wanted in (port,) if port else (PORT, 0):
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind((HOST, wanted))
                return found.getsockname()[1]
            except (OSError, OverflowError):
                continue
    raise ConfigError(f"--port {port}: it is in use or not allowed: give another, or leave it out")


def _wait(server: subprocess.Popen, port: int, log: Path) -> None:
    """Until the server answers."""
    until = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise PrefvecError(f"the explorer's server did not start on port {port}: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def _end(server: subprocess.Popen) -> None:
    """Ask the server to end its kernels and itself; kill it if it does not."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        server.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _interrupt(_number, _frame) -> None:
    raise KeyboardInterrupt
