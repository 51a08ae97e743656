"""Let transformers read a GGUF file several times faster, with the same result to the bit.

`from_pretrained(…, gguf_file=…)` parses the file three times (tokenizer, configuration, weights),
with several slices of a memory map for each of up to a million vocabulary entries, builds the table
of tensor names anew for every submodule, and dequantises 16 rows at a time. `fast_gguf` replaces
the few functions that do this. One that an installed version lacks or that works in another way
there is left alone: slower, never different.
"""

import contextlib
import functools
import struct
from collections.abc import Callable, Iterator

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, quants

STEP = (
    1 << 17
)  # weights dequantised at once: 0.5 MiB as float32, so intermediates stay in the cache


@contextlib.contextmanager
def fast_gguf() -> Iterator[None]:
    """Inside, a GGUF file is parsed once and fast. For one thread: it replaces global names."""
    from transformers import modeling_gguf_pytorch_utils as loader

    with contextlib.ExitStack() as stack:
        for owner, name, make in (
            (gguf, "GGUFReader", lambda plain: functools.cache(functools.partial(read, plain))),
            (gguf, "get_tensor_name_map", functools.cache),
            (loader, "_gguf_parse_value", lambda plain: functools.partial(value, plain)),
        ):
            stack.enter_context(_replaced(owner, name, make))
        if _same_weights():
            stack.enter_context(_replaced(quants, "_apply_over_grouped_rows", lambda _: by_rows))
        yield


def read(plain: Callable, path: str) -> GGUFReader:
    """The parsed file. One that the fast reader can't read is the plain reader's, and so its error."""
    try:
        return FastReader(path)
    except Exception:
        return plain(path)


class FastReader(GGUFReader):
    """Takes the arrays of the header (vocabulary, merges, scores) apart in one go."""

    @property
    def data(self) -> np.ndarray:
        """The file's bytes."""
        return self._bytes

    @data.setter
    def data(self, mapped: np.memmap) -> None:
        self._bytes = mapped.view(np.ndarray)  # slicing a memmap itself takes ten times as long

    def _get_field_parts(self, orig_offs, raw_type):
        plain = super()._get_field_parts
        if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
            return plain(orig_offs, raw_type)
        item, count = struct.unpack_from("=IQ", self.data, orig_offs)
        if count == 0 or item == GGUFValueType.ARRAY:
            return plain(orig_offs, raw_type)
        start = orig_offs + 12
        head = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
        if item == GGUFValueType.STRING:
            parts, end = _strings(self.data, start, count)
            data = list(range(3, 2 + len(parts), 2))
        else:
            numbers = self._get(start, self.gguf_scalar_to_np[GGUFValueType(item)], count)
            parts, end = list(numbers.reshape(count, 1)), start + numbers.nbytes
            data = list(range(2, 2 + count))
        return end - orig_offs, head + parts, data, [GGUFValueType.ARRAY, GGUFValueType(item)]


def _strings(blob: np.ndarray, start: int, count: int) -> tuple[list[np.ndarray], int]:
    """Length and bytes of each string in turn, and the offset behind the last one."""
    length, parts = struct.Struct("=Q").unpack_from, []
    for _ in range(count):
        end = start + 8 + length(blob, start)[0]
        parts += (blob[start : start + 8].view(np.uint64), blob[start + 8 : end])
        start = end
    return parts, start


def value(plain: Callable, part: np.ndarray, types: list[int]) -> object:
    """One element of an array, from its bytes; whatever else the header holds is left to `plain`."""
    if len(types) != 2 or types[0] != GGUFValueType.ARRAY or types[1] == GGUFValueType.ARRAY:
        return plain(part, types)
    return part.tobytes().decode() if types[1] == GGUFValueType.STRING else part.item()


def by_rows(func: Callable, arr: np.ndarray, otype: type, oshape: tuple[int, ...]) -> np.ndarray:
    """`func` over groups of rows, each result written where it belongs (no list to join at the end)."""
    rows = arr.reshape(-1, arr.shape[-1])
    out = np.empty(oshape, otype)
    flat = out.reshape(len(rows), -1)
    step = max(1, STEP // flat.shape[1])
    for i in range(0, len(rows), step):
        flat[i : i + step] = func(rows[i : i + step])
    return out


def _same_weights() -> bool:
    """Whether the installed package still works row by row: tried on a few blocks."""
    blocks = np.arange(40 * 34, dtype=np.uint8).reshape(20, 68) & 0x3F  # finite scales
    plain = gguf.dequantize(blocks, GGMLQuantizationType.Q8_0)
    try:
        with _replaced(quants, "_apply_over_grouped_rows", lambda _: by_rows):
            return np.array_equal(gguf.dequantize(blocks, GGMLQuantizationType.Q8_0), plain)
    except (TypeError, ValueError):
        return False


@contextlib.contextmanager
def _replaced(owner: object, name: str, make: Callable) -> Iterator[None]:
    """`owner.name` is `make(owner.name)` inside, if there is such a name."""
    if not hasattr(owner, name):
        yield
        return
    kept = getattr(owner, name)
    setattr(owner, name, make(kept))
    try:
        yield
    finally:
        setattr(owner, name, kept)
