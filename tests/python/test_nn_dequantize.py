# SPDX-License-Identifier: MIT
"""dequantize_model and requantize: from quantized layers to plain ones, and to others of the same format."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from layers import FORMATS, linear, make, x  # noqa: E402
from libbnb import nn  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", FORMATS)
def test_plain_layers(name: str) -> None:
    """The values of the codes, the same bias, the mode and nothing quantized; a layer that is shared stays shared."""
    layer = make(name).train()
    model = torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.ModuleList([layer]))
    assert nn.dequantize_model(model) is model
    plain = model[0]
    assert type(plain) is torch.nn.Linear and plain is model[2][0] and plain.training
    assert torch.equal(plain.weight, layer.dequantized_weight()) and plain.weight.requires_grad
    assert plain.bias is layer.bias
    atol = 0.05 if "int8" in name else 1e-5  # int8 rounds x as well
    assert torch.allclose(plain.eval()(x()), layer.eval()(x()), atol=atol)


def test_one_layer() -> None:
    assert type(nn.dequantize_model(make("nf4"))) is torch.nn.Linear


@pytest.mark.parametrize("name", ["nf4", "int8", "fp8"])
def test_dtype(name: str) -> None:
    plain = nn.dequantize_model(make(name), torch.bfloat16)
    assert plain.weight.dtype == plain.bias.dtype == torch.bfloat16


def test_shared_weights() -> None:
    """Two layers with one weight."""
    first, second = make("nf4"), make("nf4")
    second.weight = first.weight
    model = nn.dequantize_model(torch.nn.Sequential(first, second))
    assert model[0] is not model[1] and model[0].weight is model[1].weight


def test_experts() -> None:
    """A parameter of several experts is plain again, and so is the state dict of its module."""
    module = torch.nn.Module()
    module.up = torch.nn.Parameter(torch.randn(3, 16, 64))
    quantized = nn.quantize_parameter_4bit(module, "up")
    values = quantized.dequantize()
    nn.dequantize_model(module)
    assert type(module.up) is torch.nn.Parameter and torch.equal(module.up, values)
    assert module.state_dict().keys() == {"up"}
    module.load_state_dict({"up": values + 1})
    assert torch.equal(module.up, values + 1)


@pytest.mark.parametrize("name", FORMATS)
def test_requantize(name: str) -> None:
    """Other weights get the codes that a new layer of the format would give them."""
    layer, source = make(name), linear(seed=5)
    layer(x())
    layer.requantize(source.weight.detach())
    layer.bias = source.bias
    expected = make(name, source)
    assert torch.equal(layer.weight.data.view(torch.uint8), expected.weight.data.view(torch.uint8))
    assert torch.equal(layer(x()), expected(x()))
    state, other = layer.state_dict(), expected.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key].view(torch.uint8), other[key].view(torch.uint8)) for key in state)


def test_requantize_keeps_dtypes() -> None:
    """bfloat16 weights stay what was bfloat16; int8 layers with float weights keep floats."""
    layer = nn.LinearNF4.from_linear(linear(dtype=torch.bfloat16))
    layer.requantize(torch.randn(96, 128))
    assert layer.weight.dequantize().dtype == torch.bfloat16
    floats = nn.Linear8bitLt.from_linear(linear(dtype=torch.bfloat16), has_fp16_weights=True)
    floats.requantize(torch.ones(96, 128))
    assert floats.weight.dtype == torch.bfloat16 and floats.weight.requires_grad
