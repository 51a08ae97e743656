"""Linear layers with packed weights: the same numbers, whatever happens to the weight."""

import copy

import pytest
import torch

from prefvec.models import linear
from prefvec.models.linear import available_packings, fastest_packing, pack_linear_layers

PACKINGS = available_packings(torch.float32)
each_packing = pytest.mark.parametrize("packing", PACKINGS)


def packed(packing: str, inputs: int, outputs: int, bias: bool = True) -> torch.nn.Sequential:
    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=bias)).requires_grad_(False)
    pack_linear_layers(model, packing)
    return model


def plain(model: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, model[0].weight, model[0].bias)


@each_packing
@pytest.mark.parametrize("rows", [1, 2, 7, 63, 64, 65, 200, 513])
@pytest.mark.parametrize("shape", [(24, 40), (576, 193), (7, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_give_the_same_for_any_number_of_rows(packing, rows, shape, bias):
    model = packed(packing, *shape, bias=bias)
    for x in (torch.randn(1, rows, shape[0]), torch.randn(rows, 1, shape[0])):
        torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)
        assert model(x).shape == (*x.shape[:-1], shape[1])


@each_packing
def test_strided_input_and_inference_mode(packing):
    model = packed(packing, 24, 40)
    x = torch.randn(24, 9).t()
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)


@each_packing
def test_a_weight_that_changes_is_packed_again(packing):
    model, x = packed(packing, 24, 40), torch.randn(5, 24)
    before = model(x)
    model[0].weight.mul_(2)
    torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(x), before)
    model[0].weight = torch.nn.Parameter(torch.randn(40, 24), requires_grad=False)
    torch.testing.assert_close(model(x), plain(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packing", ["mkl", "onednn"])
def test_gradients_and_other_types_take_the_usual_path(packing):
    model = packed(packing, 24, 40)
    x = torch.randn(5, 24, requires_grad=True)
    model(x).sum().backward()
    torch.testing.assert_close(x.grad[0], model[0].weight.sum(0))
    model.double()
    assert model(torch.randn(5, 24).double()).dtype == torch.float64


def test_only_plain_linear_layers_are_packed():
    class Other(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Other(4, 4))
    pack_linear_layers(model, "onednn")  # nothing is packed before the first call
    assert hasattr(model[0], "packed_weight")
    assert not hasattr(model[1], "packed_weight")


@each_packing
def test_a_copied_model_uses_its_own_weights(packing):
    model, x = packed(packing, 24, 40), torch.randn(5, 24)
    before = model(x)
    twin = copy.deepcopy(model)
    twin[0].weight.zero_()
    torch.testing.assert_close(twin(x), twin[0].bias.expand(5, -1))
    torch.testing.assert_close(model(x), before)


def test_bfloat16_is_packed_for_onednn_alone():
    assert "mkl" not in available_packings(torch.bfloat16)
    if "onednn" not in available_packings(torch.bfloat16):
        pytest.skip("torch without oneDNN")
    model = packed("onednn", 24, 40).bfloat16()
    x = torch.randn(5, 24).bfloat16()
    torch.testing.assert_close(model(x), plain(model, x), rtol=2e-2, atol=2e-2)
    assert model(x).dtype == torch.bfloat16
    assert model(x.float().bfloat16().requires_grad_()).requires_grad  # the usual path


def test_a_mixture_of_types_is_refused_as_without_packing():
    model = packed("onednn", 24, 40)
    with pytest.raises(RuntimeError):
        model(torch.randn(5, 24).bfloat16())


def test_the_fastest_is_chosen_and_none_where_nothing_is_clearly_faster(monkeypatch):
    seconds = {"none": 1.0, "mkl": 0.95, "onednn": 0.94}
    monkeypatch.setattr(linear, "available_packings", lambda dtype: ("mkl", "onednn"))
    monkeypatch.setattr(linear, "product_seconds", lambda dtype, packing, *_: seconds[packing])
    assert fastest_packing(torch.float32) == "none"
    seconds["mkl"] = 0.7
    assert fastest_packing(torch.float32) == "mkl"
    seconds["onednn"] = 0.5
    assert fastest_packing(torch.float32) == "onednn"


def test_a_packing_that_fails_here_is_not_chosen(monkeypatch):
    def product_seconds(dtype, packing, *_):
        if packing == "onednn":
            raise RuntimeError("no such kernel")
        return 1.0

    monkeypatch.setattr(linear, "available_packings", lambda dtype: ("onednn",))
    monkeypatch.setattr(linear, "product_seconds", product_seconds)
    assert fastest_packing(torch.bfloat16) == "none"


def test_what_is_measured_is_a_packing_of_this_machine():
    assert fastest_packing(torch.float32, width=64) in ("none", *PACKINGS)
