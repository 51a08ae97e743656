"""Linear layers: another order of multiplication, the same numbers."""

import pytest
import torch

from prefvec.models.linear import pays_here, transpose_few_rows


@pytest.mark.parametrize("rows", [1, 2, 7, 63, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_give_the_same_for_few_rows(rows, bias):
    layer = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias))
    x = torch.randn(1, rows, 24)
    want = layer(x)
    transpose_few_rows(layer)
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-6)
    assert layer(x).is_contiguous()


def test_whether_it_pays_is_measured():
    assert pays_here() in (True, False)
