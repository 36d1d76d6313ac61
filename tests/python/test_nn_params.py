# SPDX-License-Identifier: MIT
"""Quantized parameters: when they quantize, what torch functions do with them, experts, loaders that set them."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

import libbnb  # noqa: E402
from layers import codes_of, linear, make, pickled, x  # noqa: E402
from libbnb import nn  # noqa: E402

pytestmark = pytest.mark.torch


def _weights(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9)) * 0.05


def test_when_params_quantize() -> None:
    """Any move to a device that is not meta; no cast does."""
    for move in (lambda p: p.to("cpu"), lambda p: p.cpu(), lambda p: p.to(device="cpu"), lambda p: p.quantize()):
        weight = nn.Params4bit(_weights(64, 64), quant_type="nf4")
        moved = move(weight)
        assert moved is weight and weight.bnb_quantized and weight.data.dtype == torch.uint8
        assert weight.quant_state.dtype == torch.float32 and weight.quant_state.nested
    weight = nn.Params4bit(_weights(64, 64), compress_statistics=False)
    half = weight.half()
    assert not half.bnb_quantized and half.dtype == torch.float16 and type(half) is nn.Params4bit
    assert half.to("meta").is_meta and not half.to("meta").bnb_quantized
    assert half.to("cpu").quant_state.dtype == torch.float16
    integers = nn.Int8Params(_weights(64, 64), requires_grad=False)
    assert integers.CB is None and integers.cpu() is integers and integers.dtype == torch.int8
    assert integers.CB is not None and integers.SCB.shape == (64,)
    kept = nn.Int8Params(_weights(64, 64), has_fp16_weights=True).to("cpu")
    assert kept.dtype == torch.float32 and kept.SCB is None and kept.requires_grad
    floats = nn.FP8Params(_weights(64, 64), blocksize=32).to("cpu")
    assert floats.dtype == torch.float8_e4m3fn and floats.scale.shape == (64, 2)


def test_state_attributes() -> None:
    """FSDP finds the tensors of a state dict as attributes."""
    weight = nn.Params4bit(_weights(64, 64), quant_type="nf4")
    with pytest.raises(AttributeError, match="absmax"):
        _ = weight.absmax
    weight.to("cpu")
    for name in ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "code", "offset", "nested_offset"):
        assert isinstance(getattr(weight, name), torch.Tensor), name
    assert weight.nested_blocksize == 256 and weight.state2 is weight.quant_state.state2
    assert weight.nested_dtype == torch.float32
    assert weight.quant_state.bitsandbytes__nf4.dtype == torch.uint8
    plain = nn.Params4bit(_weights(64, 64), compress_statistics=False).to("cpu")
    with pytest.raises(AttributeError, match="nested_absmax"):
        _ = plain.nested_absmax


@pytest.mark.parametrize("storage", [torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("nested", [False, True])
def test_parts(nested: bool, storage: Any) -> None:
    """chunk, split and narrow give Params4bit with the state of the whole, which know which part they are."""
    weights = _weights(256, 256)
    weight = nn.Params4bit(weights, quant_type="nf4", compress_statistics=nested, quant_storage=storage).to("cpu")
    whole = weight.dequantize()
    items = weight.shape[0]
    for parts in (
        torch.chunk(weight, 4), torch.split(weight, items // 4), weight.chunk(4), weight.split(items // 4),
        tuple(torch.narrow(weight, 0, i * items // 4, items // 4) for i in range(4)),
        tuple(part for half in torch.chunk(weight, 2) for part in torch.chunk(half, 2)),
    ):  # fmt: skip
        assert len(parts) == 4
        for i, part in enumerate(parts):
            assert type(part) is nn.Params4bit and part.bnb_quantized
            assert part.quant_state is weight.quant_state
            assert torch.equal(part.dequantize(), whole[64 * i : 64 * (i + 1)])
    odd = torch.narrow(weight, 0, 3, 5)  # no whole rows, no whole blocks
    per_item = 2 * storage.itemsize
    assert torch.equal(odd.dequantize(), whole.flatten()[3 * per_item : 8 * per_item])
    assert torch.equal(weight[0].data, weight.data[0])  # an index means the codes, as for any tensor


def test_linear_function() -> None:
    """`torch.nn.functional.linear` multiplies by the codes, with gradients, and compiles."""
    weight = nn.Params4bit(_weights(96, 128), quant_type="nf4").to("cpu")
    bias = torch.randn(96)
    a = x().requires_grad_()
    y = F.linear(a, weight, bias)
    assert torch.allclose(y, a @ weight.dequantize().T + bias, rtol=1e-5, atol=1e-5)
    y.sum().backward()
    assert torch.allclose(a.grad, weight.dequantize().sum(0).expand_as(a), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(F.linear(input=a, weight=weight, bias=bias), y)


# Blocks of 64: experts of whole nested blocks, of whole blocks, and of rows that blocks do not fit into.
SHAPES = [(4, 128, 128), (3, 48, 64), (3, 6, 10)]


@pytest.mark.parametrize("storage", [torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_experts(shape: tuple[int, int, int], nested: bool, storage: Any) -> None:
    """Three dimensions are quantized as bitsandbytes does it, and used expert by expert."""
    weights = _weights(*shape)
    weight = nn.Params4bit(weights, quant_type="nf4", compress_statistics=nested, quant_storage=storage).to("cpu")
    codes, state = libbnb.quantize_4bit(weights, quant_type="nf4", compress_statistics=nested)
    assert torch.equal(codes_of_param(weight)[: codes.numel()], codes.flatten())
    whole = libbnb.dequantize_4bit(codes, state)
    assert weight.logical_shape == shape and torch.equal(weight.dequantize(), whole)
    a = torch.randn(5, shape[2], generator=torch.Generator().manual_seed(3))
    for index in (0, 1, -1, torch.tensor(2)):
        expert = weight[index]
        assert type(expert) is nn.Params4bit and expert.logical_shape == shape[1:]
        assert torch.equal(expert.dequantize(), whole[int(index)])
        assert codes_of_param(expert).data_ptr() >= weight.data_ptr()  # a view
        expected = a @ whole[int(index)].T
        assert torch.allclose(F.linear(a, expert), expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(libbnb.matmul_4bit(a, expert.data, expert.quant_state), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(IndexError):
        _ = weight[shape[0]]
    with pytest.raises(TypeError):
        _ = weight[:2]


def codes_of_param(weight: Any) -> Any:
    return weight.data.contiguous().view(torch.uint8).flatten()


class Experts(torch.nn.Module):
    """What transformers' experts look like."""

    def __init__(self) -> None:
        super().__init__()
        self.down_proj = torch.nn.Parameter(_weights(3, 64, 128))

    def forward(self, a: Any) -> Any:
        return torch.stack([F.linear(a, self.down_proj[i]) for i in range(3)])


@pytest.mark.parametrize("nested", [False, True])
def test_quantized_parameter_of_a_module(nested: bool) -> None:
    """It is used by the module's own code; state dicts have its state, and load on the CPU and from meta."""
    module = Experts()
    before = module(x()).detach()
    weight = nn.quantize_parameter_4bit(module, "down_proj", "nf4", nested)
    with torch.no_grad():
        y = module(x())
    assert module.down_proj is weight and 0 < float((y - before).norm() / before.norm()) < 0.2
    saved = module.state_dict()
    assert {"down_proj", "down_proj.absmax", "down_proj.quant_map", "down_proj.quant_state.bitsandbytes__nf4"} <= set(
        saved
    )
    for assign in (False, True):
        with torch.device("meta"):
            other = Experts()
        nn.quantize_parameter_4bit(other, "down_proj", "nf4", nested)
        other.load_state_dict(copy.deepcopy(saved), assign=assign)
        third = copy.deepcopy(module)
        third.down_proj.data.zero_()
        third.load_state_dict(copy.deepcopy(saved), assign=assign)
        with torch.no_grad():
            assert torch.equal(other(x()), y) and torch.equal(third(x()), y)
    with torch.device("meta"):
        other = Experts()
    nn.quantize_parameter_4bit(other, "down_proj", "nf4", nested)
    other.load_state_dict(Experts().state_dict(), assign=True)  # floats are quantized: the module itself would not
    with torch.no_grad():
        assert torch.equal(other(x()), y)
    third.load_state_dict(Experts().state_dict())
    with torch.no_grad():
        assert torch.equal(third(x()), y)
        assert torch.equal(pickled(module)(x()), y)
    with pytest.raises(AttributeError, match="gate"):
        nn.quantize_parameter_4bit(module, "gate")


def test_parametrize() -> None:
    """bitsandbytes' way: the parameter reads as floats, and is saved in 4 bits."""
    module = Experts()
    weights = module.down_proj.detach().clone()
    expected, state = libbnb.quantize_4bit(weights, quant_type="nf4")
    nn.parametrize.replace_parameter_4bit(module, "down_proj")
    assert torch.equal(module.down_proj, libbnb.dequantize_4bit(expected, state))
    module(x())
    saved = module.state_dict()
    assert torch.equal(saved["down_proj"], expected) and "down_proj.absmax" in saved
    assert torch.nn.utils.parametrize._cache_enabled == 0
    other = Experts()
    other.down_proj = torch.nn.Parameter(saved["down_proj"], requires_grad=False)
    parts = {key: value for key, value in saved.items() if key != "down_proj"}
    nn.parametrize.replace_parameter_4bit_prequantized(other, "down_proj", parts, "cpu")
    assert torch.equal(other.down_proj, module.down_proj)
    with pytest.raises(AttributeError):
        nn.parametrize.replace_parameter_4bit(module, "missing")
    with pytest.raises(TypeError):
        nn.parametrize.replace_parameter_4bit(module, "forward")


def test_from_prequantized() -> None:
    layer = make("nf4-nested")
    stats = {k.removeprefix("weight."): v for k, v in layer.state_dict().items() if k.startswith("weight.")}
    other = nn.LinearNF4(128, 96, device="meta")
    weight = nn.Params4bit.from_prequantized(layer.weight.data, stats, device="cpu", module=other)
    assert weight.bnb_quantized and weight.compress_statistics and weight.quant_type == "nf4"
    assert other.quant_state is weight.quant_state
    other.weight, other.bias = weight, layer.bias
    with torch.no_grad():
        assert torch.equal(other(x()), layer(x()))


def test_lost_state_is_found() -> None:
    """FSDP puts ordinary parameters in the place of weights; the layer still has the state."""
    layer = make("nf4")
    with torch.no_grad():
        expected = layer(x())
    layer.weight = torch.nn.Parameter(layer.weight.data, requires_grad=False)
    with torch.no_grad():
        assert torch.equal(layer(x()), expected)
    assert type(layer.weight) is nn.Params4bit
    fresh = nn.LinearNF4(128, 96)
    fresh.weight = torch.nn.Parameter(layer.weight.data, requires_grad=False)
    with pytest.raises(RuntimeError, match="without a quantization state"):
        fresh(x())


def test_accelerate_loads() -> None:
    """`set_module_tensor_to_device` puts float weights into a layer on the meta device, and they are quantized."""
    utils = pytest.importorskip("accelerate.utils")
    source = linear()
    for layer in (
        nn.LinearNF4(128, 96, device="meta"),
        nn.Linear8bitLt(128, 96, has_fp16_weights=False, device="meta"),
    ):
        for name in ("weight", "bias"):
            utils.set_module_tensor_to_device(layer, name, torch.device("cpu"), value=getattr(source, name).detach())
        assert layer.weight.holds_codes and not layer.bias.is_meta
        with torch.no_grad():
            assert float(((layer(x()) - source(x())).norm() / source(x()).norm()).detach()) < 0.15


def test_tied_heads_share_codes() -> None:
    """get_memory_footprint counts shared memory once, and scales of codes with them."""
    layer = nn.LinearNF4.from_linear(linear(bias=False), compress_statistics=False)
    assert nn.get_memory_footprint(layer) == 128 * 96 // 2 + 4 * 128 * 96 // 64
    model = torch.nn.ModuleList([layer, nn.LinearNF4.from_linear(linear(bias=False), compress_statistics=False)])
    model[1].weight = layer.weight
    assert nn.get_memory_footprint(model) == nn.get_memory_footprint(layer)
    assert codes_of(model[1]).data_ptr() == codes_of(layer).data_ptr()


def test_states_of_8_bit_codes_are_refused() -> None:
    codes, state = libbnb.quantize_blockwise(_weights(64, 64))
    with pytest.raises(ValueError, match="8-bit"):
        nn.Params4bit.from_state(codes, state)


def test_without_torch(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = python("import sys; sys.modules['torch'] = None\nimport libbnb\nimport libbnb.nn")
    assert "libbnb.nn needs PyTorch: pip install libbnb[torch]" in result.stderr
