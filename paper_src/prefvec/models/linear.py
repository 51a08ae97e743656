"""Linear layers with packed weights on a CPU.

Every call of a float32 product first copies the weight into the layout its kernel reads. With the
few rows of a decoding step that copy costs as much as the product. Weights that are packed once
spare it, in float32 on two cores of either kind, GFLOP/s of 576 → 1536 (16 rows, 64 rows):
37, 192 → 203, 269 with MKL's layout on an Intel processor; 116, 166 → 197, 221 with oneDNN's on an
AMD one, where MKL's gains nothing. Which of them is fastest is measured. `_mkl_linear` and
`_linear_pointwise` are the operators that torch.compile's CPU backend uses for this.
"""

import functools
import time
import types
from contextlib import suppress
from typing import Literal

import torch
from torch import nn

Packing = Literal["none", "mkl", "onednn"]
ROWS_HINT = 64  # asked for when a weight is packed; any number of rows can be multiplied after
PAYS = 1.1  # a packing costs a second copy of the weights, so it has to be this much faster
DTYPES = {"mkl": (torch.float32,), "onednn": (torch.float32, torch.bfloat16)}


def pack_linear_layers(model: nn.Module, packing: Packing) -> None:
    """Let the linear layers of a model multiply by weights that are packed at the first call.

    packing: whose layout and kernels (`fastest_packing`). The same numbers up to rounding (1e-6
    relative in float32), for a second copy of the weights. Other devices and types, and gradients
    take the usual path, as does one row with MKL; a weight that is replaced or changed in place is
    packed again.
    """
    if packing == "none":
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.packed_weight = PackedWeight(packing)
            module.forward = types.MethodType(_forward, module)


class PackedWeight:
    """The packed copy of a weight `[out, in]` and which state of the weight it was made from."""

    def __init__(self, packing: Packing):
        self.packing = packing
        self._tensor, self._made_from = None, None

    def serves(self, x: torch.Tensor, weight: torch.Tensor) -> bool:
        """Whether a product can go by the packed copy."""
        rows = x.numel() // max(x.shape[-1], 1)
        fewest = 2 if self.packing == "mkl" else 1
        return rows >= fewest and x.dtype == weight.dtype and all(map(self._packable, (x, weight)))

    def times(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The product `[…, out]` of inputs `[…, in]`."""
        packed = self._of(weight)
        if self.packing == "mkl":
            rows = x.numel() // x.shape[-1]
            return torch.ops.mkl._mkl_linear(x, packed, weight, bias, rows)
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

    def _of(self, weight: torch.Tensor) -> torch.Tensor:
        """The packed copy, made anew if the weight is another one or was changed."""
        state = (weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version)
        if state != self._made_from:
            self._tensor = _REORDER[self.packing](weight.detach(), ROWS_HINT)
            self._made_from = state
        return self._tensor

    def _packable(self, x: torch.Tensor) -> bool:
        return x.dtype in DTYPES[self.packing] and x.device.type == "cpu" and not x.requires_grad

    def __deepcopy__(self, memo) -> "PackedWeight":
        return PackedWeight(self.packing)


_REORDER = {
    "mkl": lambda weight, rows: torch.ops.mkl._mkl_reorder_linear_weight(weight, rows),
    "onednn": lambda weight, rows: torch.ops.mkldnn._reorder_linear_weight(weight, rows),
}


def _forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    if self.packed_weight.serves(x, self.weight):
        return self.packed_weight.times(x, self.weight, self.bias)
    return nn.functional.linear(x, self.weight, self.bias)


@functools.lru_cache
def available_packings(dtype: torch.dtype) -> tuple[Packing, ...]:
    """The packings that this build of torch has for a type."""
    there = {
        "mkl": torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear"),
        "onednn": torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"),
    }
    return tuple(name for name, types in DTYPES.items() if there[name] and dtype in types)


def fastest_packing(dtype: torch.dtype, width: int = 2048) -> Packing:
    """The packing that is clearly faster than none on this CPU, by the time of a product of 8 rows and
    one of 64, measured in some milliseconds each; else `none`."""
    seconds = {}
    for packing in ("none", *available_packings(dtype)):
        with suppress(RuntimeError):  # a type that this build or processor can't multiply so
            seconds[packing] = sum(product_seconds(dtype, packing, n, width) for n in (8, 64))
    best = min(seconds, key=seconds.get)
    return best if seconds["none"] > PAYS * seconds[best] else "none"


def product_seconds(dtype: torch.dtype, packing: Packing, rows: int, width: int) -> float:
    """Seconds of a product `[rows, width]` × `[width, width]`, the best of eight."""
    layer = nn.Sequential(nn.Linear(width, width, bias=False, dtype=dtype)).requires_grad_(False)
    pack_linear_layers(layer, packing)
    x = torch.randn(rows, width).to(dtype)
    layer(x)
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        layer(x)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
