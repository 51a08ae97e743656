"""Linear layers with packed weights on a CPU.

Every call of MKL's float32 product first copies the weight into the layout its kernel reads. With
the few rows of a decoding step that copy costs as much as the product: on one AVX-512 machine 16
rows of 576 → 1536 run at 37 GFLOP/s, 64 rows at 192, and with a weight packed once at 203 and 269.
`_mkl_linear` is the operator that torch.compile's CPU backend uses for this.
"""

import copy
import time
import types

import torch
from torch import nn

ROWS_HINT = 64  # MKL asks for how many rows to pack; any number of rows can be multiplied after


def pack_linear_layers(model: nn.Module) -> None:
    """Let the linear layers of a model multiply by weights that are packed at the first call.

    The same numbers up to rounding (1e-6 relative), for a second copy of the weights. One row, other
    devices and types, and gradients take the usual path; a weight that is replaced or changed in
    place is packed again.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.packed_weight = PackedWeight()
            module.forward = types.MethodType(_forward, module)


class PackedWeight:
    """The packed copy of a weight `[out, in]` and which state of the weight it was made from."""

    def __init__(self):
        self._tensor, self._made_from = None, None

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """The packed copy, made anew if the weight is another one or was changed."""
        state = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        if state != self._made_from:
            self._tensor = torch.ops.mkl._mkl_reorder_linear_weight(weight.detach(), ROWS_HINT)
            self._made_from = state
        return self._tensor

    def __deepcopy__(self, memo) -> "PackedWeight":
        return PackedWeight()


def _forward(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    weight, bias = self.weight, self.bias
    rows = x.numel() // max(x.shape[-1], 1)
    if rows < 2 or not _packable(x) or not _packable(weight):
        return nn.functional.linear(x, weight, bias)
    return torch.ops.mkl._mkl_linear(x, self.packed_weight.of(weight), weight, bias, rows)


def packing_pays(rows: int = 32, width: int = 1024) -> bool:
    """Whether packed weights are clearly faster on this CPU, measured in a few milliseconds."""
    if not (torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear")):
        return False
    layer = nn.Linear(width, width, bias=False).requires_grad_(False)
    packed = copy.deepcopy(layer)
    pack_linear_layers(packed)
    x = torch.randn(rows, width)

    def best(product) -> float:
        seconds = []
        for _ in range(8):
            started = time.perf_counter()
            product(x)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return best(layer) > 1.1 * best(packed)


def _packable(x: torch.Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad
