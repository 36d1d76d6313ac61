# SPDX-License-Identifier: MIT
"""What holds for quantized linear layers of every format: products, gradients, graphs, copies, moves, state dicts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import layers  # noqa: E402
from layers import FORMATS, codes_of, empty, linear, make, x  # noqa: E402
from libbnb import nn  # noqa: E402

pytestmark = pytest.mark.torch

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def _expected(layer: Any, a: Any) -> Any:
    """The product with the dequantized weights, in float64."""
    bias = 0 if layer.bias is None else layer.bias.double()
    return a.double() @ layer.dequantized_weight().double().T + bias


def _tolerance(name: str, dtype: Any) -> float:
    """Relative to the largest output. int8 quantizes activations as well: half a step of 1/127 of a row's maximum."""
    if name.startswith("int8"):
        return 0.02
    return {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}[dtype]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMATS)
def test_product(name: str, dtype: Any, bias: bool) -> None:
    """Every dtype and number of dimensions of activations; the result has theirs."""
    layer = make(name, linear(bias=bias))
    for shape in ((128,), (1, 128), (3, 7, 128), (0, 128)):
        a = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)
        with torch.no_grad():
            y, expected = layer(a), _expected(layer, a)
        assert y.dtype == dtype and y.shape == (*shape[:-1], 96)
        if y.numel():
            limit = _tolerance(name, dtype) * float(expected.abs().max())
            assert float((y.double() - expected).abs().max()) <= limit


@pytest.mark.parametrize("name", FORMATS)
def test_from_linear(name: str) -> None:
    """The source stays as it is, the bias is shared, and the weights are close to it."""
    source = linear()
    before = source.weight.detach().clone()
    layer = make(name, source)
    assert torch.equal(source.weight, before) and layer.bias is source.bias
    assert (layer.in_features, layer.out_features) == (128, 96)
    error = (layer.dequantized_weight().float() - before).norm() / before.norm()
    assert float(error) < (0.15 if "4" in name else 0.05)
    assert not layer.training and not layer.weight.requires_grad


@pytest.mark.parametrize("name", FORMATS)
def test_gradients(name: str) -> None:
    """Of activations and bias: those of the product with the dequantized weights."""
    layer = make(name).train()
    a = x(4).requires_grad_()
    weight = torch.randn(4, 96, generator=torch.Generator().manual_seed(3))
    (layer(a) * weight).sum().backward()
    assert torch.allclose(a.grad, weight @ layer.dequantized_weight().float(), rtol=1e-4, atol=1e-5)
    assert torch.allclose(layer.bias.grad, weight.sum(0), rtol=1e-5)
    assert layer.weight.grad is None


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_compile(name: str, grad: bool) -> None:
    """The whole layer is one graph, with and without gradients, and computes the same bits."""
    torch._dynamo.reset()
    layer = make(name)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    a = x(4)
    with torch.set_grad_enabled(grad):
        expected, y = layer(a), compiled(a)
        assert torch.equal(y, expected)
        if grad:
            b, c = a.clone().requires_grad_(), a.clone().requires_grad_()
            layer(b).sum().backward()
            compiled(c).sum().backward()
            assert torch.equal(b.grad, c.grad)


def test_compile_needs_quantized_weights() -> None:
    """What cannot be done inside a graph is said."""
    torch._dynamo.reset()
    layer = nn.LinearNF4(64, 32)
    with pytest.raises(Exception, match=r"before torch\.compile"):
        torch.compile(layer, fullgraph=True, backend="eager")(x(2, 64))


@pytest.mark.parametrize("name", FORMATS)
def test_copies(name: str) -> None:
    """Deep copies, pickles and torch.save give layers of the same class that share nothing and compute the same."""
    layer = make(name)
    a = x()
    with torch.no_grad():
        expected = layer(a)
    for copied in (copy.deepcopy(layer), layers.pickled(layer), layers.save_and_load(layer, False)):
        assert type(copied) is type(layer) and type(copied.weight) is type(layer.weight)
        assert copied.weight.holds_codes
        assert copied.weight.data_ptr() != layer.weight.data_ptr()
        with torch.no_grad():
            assert torch.equal(copied(a), expected)
        if hasattr(copied.weight, "quant_state"):
            assert copied.weight.module is copied and copied.quant_state is copied.weight.quant_state
            assert copied.quant_state is not layer.quant_state
            assert copied.quant_state.absmax.data_ptr() != layer.quant_state.absmax.data_ptr()


@pytest.mark.parametrize("name", FORMATS)
def test_copies_of_weights(name: str) -> None:
    """The parameter alone is copied, pickled and saved as what it is."""
    weight = make(name).weight
    for copied in (
        copy.copy(weight),
        copy.deepcopy(weight),
        layers.pickled(weight),
        layers.save_and_load(weight, True),
    ):
        assert type(copied) is type(weight) and isinstance(copied, torch.nn.Parameter)
        assert torch.equal(copied.dequantize(), weight.dequantize())


@pytest.mark.parametrize("name", FORMATS)
def test_casts_leave_codes_alone(name: str) -> None:
    """Converting a model changes its bias, and neither codes nor scales."""
    for convert in (
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.float(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.to("cpu", torch.float16),
    ):
        layer = make(name)
        codes, weights = codes_of(layer).clone(), layer.dequantized_weight()
        converted = convert(layer)
        assert torch.equal(codes_of(converted), codes)
        assert torch.equal(converted.dequantized_weight(), weights)
        a = x(dtype=converted.bias.dtype)
        with torch.no_grad():
            assert converted(a).dtype == a.dtype


@pytest.mark.parametrize("name", FORMATS)
def test_state_dict_round_trip(name: str) -> None:
    """Into a layer on the CPU and into one on the meta device, copied and assigned."""
    layer = make(name)
    a = x()
    with torch.no_grad():
        expected = layer(a)
    for device in ("cpu", "meta"):
        for assign in (False, True):
            saved = layers.save_and_load(layer.state_dict(), True)
            other = empty(name, layer, device)
            if device == "meta" and not assign:
                other.bias = torch.nn.Parameter(torch.empty(96))
            assert not any(other.load_state_dict(saved, assign=assign))
            assert torch.equal(codes_of(other), codes_of(layer))
            with torch.no_grad():
                assert torch.equal(other(a), expected)
            assert (codes_of(other).data_ptr() == saved["weight"].data_ptr()) is assign
            assert list(other.state_dict()) == list(saved)


@pytest.mark.parametrize("name", FORMATS)
def test_loads_float_weights(name: str) -> None:
    """Before it is quantized and afterwards."""
    first, second = linear(), linear(seed=5)
    layer = make(name, first)
    layer.load_state_dict(second.state_dict())
    assert layer.weight.holds_codes and torch.equal(codes_of(layer), codes_of(make(name, second)))
    fresh = empty(name, layer)
    fresh.load_state_dict(second.state_dict())
    assert not fresh.weight.holds_codes
    fresh.to("cpu")
    assert fresh.weight.holds_codes and torch.equal(codes_of(fresh), codes_of(layer))
    meta = empty(name, layer, "meta")
    meta.load_state_dict(second.state_dict(), assign=True)
    assert type(meta.weight) is type(layer.weight) and not meta.weight.holds_codes
    assert torch.equal(codes_of(meta.to("cpu")), codes_of(layer))
    lazy = empty(name, layer)
    lazy.load_state_dict(second.state_dict())
    with torch.no_grad():
        assert torch.equal(lazy(x()), layer(x()))
    assert lazy.weight.holds_codes


@pytest.mark.parametrize("name", FORMATS)
def test_bad_state_dicts(name: str) -> None:
    """Wrong sizes, missing scales and unknown entries are errors that name the entry; the layer is not changed."""
    layer = make(name)
    before = codes_of(layer).clone()
    other_size = make(name, linear(64, 32)).state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for weight|weight"):
        layer.load_state_dict(other_size)
    saved = layer.state_dict()
    with pytest.raises(RuntimeError, match="extra"):
        layer.load_state_dict(saved | {"extra": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="weight"):
        layer.load_state_dict({key: value for key, value in saved.items() if key != "weight"})
    scales = next(key for key in saved if key in ("SCB", "weight_scale", "weight.absmax"))
    with pytest.raises(RuntimeError, match=scales.rpartition(".")[2]):
        layer.load_state_dict({key: value for key, value in saved.items() if key != scales})
    assert torch.equal(codes_of(layer), before)


@pytest.mark.parametrize("name", FORMATS)
def test_in_a_model(name: str) -> None:
    """State dicts of models with prefixes, strict or not."""
    model = torch.nn.Sequential(make(name), torch.nn.ReLU(), make(name, linear(96, 64)))
    saved = model.state_dict()
    other = torch.nn.Sequential(empty(name, model[0]), torch.nn.ReLU(), empty(name, model[2]))
    other.load_state_dict(saved)
    a = x()
    with torch.no_grad():
        assert torch.equal(other(a), model(a))
    partial = {key: value for key, value in saved.items() if key.startswith("2.")}
    missing, unexpected = other.load_state_dict(partial, strict=False)
    assert not unexpected and set(missing) == {"0.weight", "0.bias"}


def test_meta_weights_are_not_quantized() -> None:
    layer = nn.LinearNF4(64, 32, device="meta")
    assert layer.to("meta").weight.is_meta and not layer.weight.holds_codes
    with pytest.raises(RuntimeError, match="meta"):
        layer(x(1, 64))


@pytest.mark.parametrize("name", FORMATS)
def test_tied(name: str) -> None:
    """One parameter in two layers is quantized once."""
    first = make(name)
    second = empty(name, first)
    second.weight = first.weight
    model = torch.nn.ModuleList([first, second]).to("cpu")
    assert model[0].weight is model[1].weight
    with torch.no_grad():
        a = x()
        second.bias = first.bias
        assert torch.equal(model[0](a), model[1](a))
        for source in (make(name, linear(seed=7)), linear(seed=8)):  # codes, and floats
            saved = {f"{i}.{key}": value for i in range(2) for key, value in source.state_dict().items()}
            model.load_state_dict(saved)
            assert model[0].weight is model[1].weight
            expected = (source if isinstance(source, type(first)) else make(name, source))(a)
            assert torch.equal(model[0](a), expected) and torch.equal(model[1](a), expected)
