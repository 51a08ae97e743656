"""llama.cpp in this process, with a control vector: what its server here has no argument for.

The C interface of the library inside xllamacpp is called through ctypes. Its parameter structs are
passed on as they are, in buffers larger than any of them, so that their fields need not be known.
"""

import ctypes
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from prefvec.errors import EndpointError, VectorError

MARGIN = 1024  # bytes; more than any of the structs passed by value
TOKENS = 512  # llama.cpp's default context


class _Struct(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * MARGIN)]


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _silent(level, text, data):
    pass


@lru_cache
def _library() -> ctypes.CDLL:
    from xllamacpp import xllamacpp

    library = ctypes.CDLL(xllamacpp.__file__)
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    signatures = {
        "llama_backend_init": ([], None),
        "llama_log_set": ([pointer, pointer], None),
        "llama_model_default_params": ([], _Struct),
        "llama_context_default_params": ([], _Struct),
        "llama_model_load_from_file": ([ctypes.c_char_p, _Struct], pointer),
        "llama_init_from_model": ([pointer, _Struct], pointer),
        "llama_model_n_embd": ([pointer], number),
        "llama_model_n_layer": ([pointer], number),
        "llama_model_get_vocab": ([pointer], pointer),
        "llama_vocab_n_tokens": ([pointer], number),
        "llama_set_n_threads": ([pointer, number, number], None),
        "llama_set_adapter_cvec": ([pointer, pointer, ctypes.c_size_t, number, number, number], number),
        "llama_get_memory": ([pointer], pointer),
        "llama_memory_clear": ([pointer, ctypes.c_bool], None),
        "llama_batch_get_one": ([pointer, number], _Struct),
        "llama_decode": ([pointer, _Struct], number),
        "llama_get_logits_ith": ([pointer, number], ctypes.POINTER(ctypes.c_float)),
        "llama_free": ([pointer], None),
        "llama_model_free": ([pointer], None),
    }  # fmt: skip
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    library.llama_log_set(ctypes.cast(_silent, pointer), None)
    library.llama_backend_init()
    return library


class LlamaCpp:
    """A GGUF model in llama.cpp that takes token ids and control vectors. Use as a context manager."""

    def __init__(self, path: Path, threads: int | None = None):
        self._c = _library()
        threads = threads or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        self._model = self._c.llama_model_load_from_file(
            os.fsencode(path), self._c.llama_model_default_params()
        )
        if not self._model:
            raise EndpointError(f"llama.cpp can't load {path}: check that it is a GGUF model")
        self._context = self._c.llama_init_from_model(
            self._model, self._c.llama_context_default_params()
        )
        self._c.llama_set_n_threads(self._context, threads, threads)
        self.width = self._c.llama_model_n_embd(self._model)
        self.n_layers = self._c.llama_model_n_layer(self._model)
        vocabulary = self._c.llama_model_get_vocab(self._model)
        self.n_tokens = self._c.llama_vocab_n_tokens(vocabulary)

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(self, *_) -> None:
        self._c.llama_free(self._context)
        self._c.llama_model_free(self._model)

    def steer(self, directions: Mapping[int, np.ndarray]) -> None:
        """Add directions `[width]` to the outputs of their blocks (1 … n − 1) from now on; empty: none.

        Raises VectorError for a block or width that the model does not have.
        """
        data = np.zeros((self.n_layers - 1, self.width), np.float32)  # from block 1 on
        for layer, direction in directions.items():
            if not 1 <= layer < self.n_layers or direction.shape != (self.width,):
                raise VectorError(
                    f"layer {layer}, width {direction.size}: this model takes layers "
                    f"1 … {self.n_layers - 1} of width {self.width}"
                )
            data[layer - 1] = direction
        done = self._c.llama_set_adapter_cvec(
            self._context, data.ctypes.data, data.size, self.width, 1, self.n_layers - 1
        )
        if done != 0:
            raise VectorError("llama.cpp refused the control vector")

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        """Log-probabilities of the next token after a prompt, `[vocabulary]`, in nats."""
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        logits = self._step(ids).astype(np.float64)
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    def greedy(self, ids: Sequence[int], limit: int, stop: Sequence[int] = ()) -> list[int]:
        """The most likely continuation, up to `limit` tokens, without the stop token."""
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        out: list[int] = []
        following = int(self._step(ids).argmax())
        while following not in stop:
            out.append(following)
            if len(out) == limit:
                break
            following = int(self._step([following]).argmax())
        return out

    def _step(self, ids: Sequence[int]) -> np.ndarray:
        if len(ids) > TOKENS:
            raise VectorError(f"a prompt of {len(ids)} tokens does not fit into {TOKENS}")
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        batch = self._c.llama_batch_get_one(tokens, len(ids))
        if self._c.llama_decode(self._context, batch) != 0:
            raise EndpointError(f"llama.cpp could not take {len(ids)} tokens: the context is full")
        logits = self._c.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, (self.n_tokens,)).copy()
