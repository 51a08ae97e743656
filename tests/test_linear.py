"""Linear layers with packed weights: the same numbers, whatever happens to the weight."""

import copy

import pytest
import torch

from prefvec.models.linear import pack_linear_layers, packing_pays

needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch without MKL")


def packed(inputs: int, outputs: int, bias: bool = True) -> torch.nn.Sequential:
    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=bias)).requires_grad_(False)
    pack_linear_layers(model)
    return model


def plain(model: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, model[0].weight, model[0].bias)


@needs_mkl
@pytest.mark.parametrize("rows", [1, 2, 7, 63, 64, 65, 200, 513])
@pytest.mark.parametrize("shape", [(24, 40), (576, 193), (7, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_give_the_same_for_any_number_of_rows(rows, shape, bias):
    model = packed(*shape, bias=bias)
    for x in (torch.randn(1, rows, shape[0]), torch.randn(rows, 1, shape[0])):
        torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)
        assert model(x).shape == (*x.shape[:-1], shape[1])


@needs_mkl
def test_strided_input_and_inference_mode():
    model = packed(24, 40)
    x = torch.randn(24, 9).t()
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)


@needs_mkl
def test_a_weight_that_changes_is_packed_again():
    model, x = packed(24, 40), torch.randn(5, 24)
    before = model(x)
    model[0].weight.mul_(2)
    torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(x), before)
    model[0].weight = torch.nn.Parameter(torch.randn(40, 24), requires_grad=False)
    torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)


def test_gradients_and_other_types_take_the_usual_path():
    model = packed(24, 40)
    x = torch.randn(5, 24, requires_grad=True)
    model(x).sum().backward()
    torch.testing.assert_close(x.grad[0], model[0].weight.sum(0))
    model.double()
    assert model(torch.randn(5, 24).double()).dtype == torch.float64


def test_only_plain_linear_layers_are_packed():
    class Other(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Other(4, 4))
    pack_linear_layers(model)
    assert hasattr(model[0], "packed_weight")
    assert not hasattr(model[1], "packed_weight")


@needs_mkl
def test_a_copied_model_uses_its_own_weights():
    model, x = packed(24, 40), torch.randn(5, 24)
    before = model(x)
    twin = copy.deepcopy(model)
    twin[0].weight.zero_()
    torch.testing.assert_close(twin(x), twin[0].bias.expand(5, -1))
    torch.testing.assert_close(model(x), before)


def test_whether_it_pays_is_measured():
    assert packing_pays() in (True, False)
