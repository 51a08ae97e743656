"""The peers' environments: small ones that borrow torch and the rest from the project's own."""

import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = "project"


def python_of(name: str) -> str:
    """The interpreter of an environment, built on first use.

    Raises RuntimeError with pip's last line if it can't be built.
    """
    if name == PROJECT:
        return sys.executable
    folder, wanted = HERE / ".envs" / name, HERE / f"peers-{name}.txt"
    python = folder / "bin" / "python"
    stamp = folder / ".stamp"
    digest = hashlib.sha256(wanted.read_bytes() + sys.executable.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return str(python)
    print(f"building the environment {name} (once) …", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    packages = Path(sysconfig.get_paths(vars={"base": str(folder)})["purelib"])
    # What is installed here comes first; torch and the rest come from the project's environment.
    (packages / "zz_project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "-r", wanted], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"environment {name}: {done.stderr.strip().splitlines()[-1]}")
    stamp.write_text(digest)
    return str(python)
