# SPDX-License-Identifier: MIT
"""Operations on tensors of PyTorch that take themselves for tensors on a Mac's GPU, beside the same ones on the CPU.
Run by test_device_arrays.py in a process whose library has an emulated Metal device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import emulated_mps
import libbnb
import libbnb.nn
import libbnb.optim
from device_functions import FUNCTIONS, TOLERANCE, is_product


@pytest.fixture
def x(rng: np.random.Generator) -> Any:
    return rng.standard_normal((37, 64)).astype(np.float32)


@pytest.fixture(params=["stream", "queue"])
def mps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """From where it is called on, tensors are on the GPU."""
    return lambda: emulated_mps.pretend(monkeypatch, request.param)


def view_of(array: Any) -> torch.Tensor:
    """A tensor that begins inside of another one's memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    memory = torch.full((tensor.numel() + 13,), 9, dtype=tensor.dtype)
    memory[5:-8] = tensor.flatten()
    return memory[5:-8].view(tensor.shape)


def same(found: Any, want: Any) -> None:
    if want is None:
        assert found is None
        return
    want = torch.as_tensor(want)
    assert found.dtype == want.dtype and found.shape == want.shape
    assert torch.equal(found.flatten().view(torch.uint8), want.flatten().view(torch.uint8))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(x: Any, mps: Any, name: str) -> None:
    want = FUNCTIONS[name](torch.from_numpy, x)
    mps()
    found = FUNCTIONS[name](view_of, x)
    assert len(found) == len(want)
    for a, b in zip(found, want, strict=True):
        if b is not None and is_product(name):
            torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE)
        else:
            same(a, b)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_ways_are_the_same(x: Any, name: str) -> None:
    found: list[Any] = []
    for way in ("stream", "queue"):
        with pytest.MonkeyPatch.context() as patch:
            emulated_mps.pretend(patch, way)
            found.append(FUNCTIONS[name](view_of, x))
    for a, b in zip(*found, strict=True):
        same(a, b)


@pytest.mark.parametrize(
    ("way", "first", "second"),
    [("stream", ["compiler"], []), ("queue", ["torch", "libbnb"], ["torch", "libbnb"])],
)
def test_who_waits_for_whom(
    x: Any, monkeypatch: pytest.MonkeyPatch, way: str, first: list[str], second: list[str]
) -> None:
    waits = emulated_mps.pretend(monkeypatch, way)
    codes, state = libbnb.quantize_4bit(view_of(x))
    assert waits == first
    libbnb.dequantize_4bit(codes, state)
    assert waits == first + second
    waits.clear()
    with pytest.raises(libbnb.InvalidArgument, match="A is int64, must be float32"):
        libbnb.quantize_4bit(torch.zeros(8, dtype=torch.int64))
    waits.clear()
    libbnb.quantize_4bit(view_of(x))  # and nothing that the call before it left
    assert waits == second


@pytest.mark.parametrize(
    ("version", "fast_math", "way"),
    [
        ("2.13.0", "0", "stream"),
        ("2.7.1+mps", "0", "stream"),
        ("2.6.0", "0", "queue"),
        ("2.13.0", "1", "queue"),
        ("2.13.0", "", "queue"),
    ],
)
def test_the_way_that_this_torch_allows(
    monkeypatch: pytest.MonkeyPatch, version: str, fast_math: str, way: str
) -> None:
    waits = emulated_mps.pretend(monkeypatch, "stream")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setenv("PYTORCH_MPS_FAST_MATH", fast_math)
    libbnb.quantize_4bit(torch.ones(64))
    assert waits == (["compiler"] if way == "stream" else ["torch", "libbnb"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_four_bits(x: Any, mps: Any, dtype: Any, nested: bool) -> None:
    here = torch.from_numpy(x).to(dtype)
    codes, state = libbnb.quantize_4bit(here, quant_type="nf4", compress_statistics=nested)
    want = [codes, state.absmax, libbnb.dequantize_4bit(codes, state)]
    moved = torch.cat([torch.ones(11, dtype=dtype), here.flatten()])[11:].view(here.shape)
    mps()
    codes, state = libbnb.quantize_4bit(moved, quant_type="nf4", compress_statistics=nested)
    for found, expected in zip([codes, state.absmax, libbnb.dequantize_4bit(codes, state)], want, strict=True):
        same(found, expected)


def test_outputs_that_are_views(x: Any, mps: Any) -> None:
    want, want_state = libbnb.quantize_4bit(torch.from_numpy(x))
    mps()
    memory = torch.full((4000,), 9, dtype=torch.uint8)
    out, absmax = memory[1001 : 1001 + x.size // 2].view(-1, 1), memory[2188 : 2188 + 37 * 4].view(torch.float32)
    codes, state = libbnb.quantize_4bit(torch.from_numpy(x), absmax, out)
    assert codes is out
    same(out.flatten(), want.flatten())
    same(state.absmax, want_state.absmax)
    assert (memory[:1001] == 9).all() and (memory[2185:2188] == 9).all() and (memory[2188 + 37 * 4 :] == 9).all()


def test_rows_that_are_apart(x: Any, mps: Any) -> None:
    wide = torch.from_numpy(x)
    want, stats, _ = libbnb.int8_vectorwise_quant(wide[3:, 16:48].contiguous())
    mps()
    found, found_stats, _ = libbnb.int8_vectorwise_quant(wide[3:, 16:48])
    same(found, want)
    same(found_stats, stats)


LAYERS = {
    "4 bits": lambda: libbnb.nn.Linear4bit(64, 32, quant_type="nf4"),
    "4 bits, not nested": lambda: libbnb.nn.Linear4bit(64, 32, compress_statistics=False),
    "int8": lambda: libbnb.nn.Linear8bitLt(64, 32, has_fp16_weights=False),
    "int8 with outliers": lambda: libbnb.nn.Linear8bitLt(64, 32, has_fp16_weights=False, threshold=1.5),
    "fp8": lambda: libbnb.nn.LinearFP8(64, 32),
    "switchback": lambda: libbnb.nn.SwitchBackLinear(64, 32),
    "ternary": lambda: libbnb.nn.BitLinear(64, 32),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_their_gradients(mps: Any, name: str) -> None:
    torch.manual_seed(5)
    layer, x = LAYERS[name]().to("cpu"), torch.randn(3, 64)  # quantized by the move

    def forward_and_back() -> list[torch.Tensor]:
        a = x.clone().requires_grad_()
        y = layer(a)
        y.square().sum().backward()
        assert a.grad is not None
        return [y.detach(), a.grad]

    want = forward_and_back()
    mps()
    for found, expected in zip(forward_and_back(), want, strict=True):
        torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("layer", [libbnb.nn.Embedding4bit, libbnb.nn.Embedding8bit])
def test_embeddings(mps: Any, layer: Any) -> None:
    torch.manual_seed(5)
    table, rows = layer(50, 64).to("cpu"), torch.tensor([1, 4, 49])
    want = table(rows)
    mps()
    same(table(rows), want)


@pytest.mark.parametrize("name", ["Adam", "Adam8bit", "Lion8bit", "SGD"])
def test_optimizers(rng: np.random.Generator, mps: Any, name: str) -> None:
    values = [rng.standard_normal(size).astype(np.float32) for size in (5000, 40, 4097)]
    steps = [[rng.standard_normal(v.size).astype(np.float32) for v in values] for _ in range(3)]
    options = {"momentum": 0.9} if name == "SGD" else {}

    def train(place: Any, offsets: list[int]) -> list[torch.Tensor]:
        params = [torch.nn.Parameter(place(v, 3)) for v in values]
        optimizer = getattr(libbnb.optim, name)(params, lr=1e-2, **options)
        for step, offset in zip(steps, offsets, strict=True):
            for p, g in zip(params, step, strict=True):
                p.grad = place(g, offset)
            optimizer.step()
        return [p.detach() for p in params]

    def inside(array: Any, offset: int) -> torch.Tensor:
        return torch.cat([torch.ones(offset), torch.from_numpy(array)])[offset:]

    want = train(lambda array, _: torch.from_numpy(array.copy()), [0, 0, 0])
    mps()
    for found, expected in zip(train(inside, [0, 7, 2]), want, strict=True):
        same(found, expected)


def test_norms(x: Any, mps: Any) -> None:
    want = libbnb.gradient_norm([torch.from_numpy(x), torch.from_numpy(x[0])])
    mps()
    same(libbnb.gradient_norm([view_of(x), view_of(x[0])]), want)
