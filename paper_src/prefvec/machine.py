"""Which processor this is: numbers differ in the last digits from one kind to another."""

import functools
import platform
from pathlib import Path

UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


@functools.lru_cache
def _lines() -> tuple[str, ...]:
    info = Path("/proc/cpuinfo")
    return tuple(info.read_text().splitlines()) if info.exists() else ()


def processor() -> str:
    """Name and units of the processor, as `AMD EPYC (avx2, avx512f)`."""
    return f"{name()} ({', '.join(units())})" if units() else name()


def name() -> str:
    """The processor's name; its architecture where the system does not tell."""
    names = [x.split(":", 1)[1].strip() for x in _lines() if x.startswith("model name")]
    return names[0] if names else platform.machine()


def units() -> list[str]:
    """The units among `UNITS` that the processor has."""
    flags = next((x for x in _lines() if x.lower().startswith(("flags", "features"))), "")
    return [unit for unit in UNITS if unit in flags.split()]


def identifying() -> list[str]:
    """The lines that tell one kind of processor from another; empty where the system does not tell."""
    return sorted({x for x in _lines() if x.startswith(("model name", "stepping", "flags"))})
