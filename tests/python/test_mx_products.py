# SPDX-License-Identifier: MIT
"""gemm_mx: against float64, on every array library; gradients; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
from kinds import BF16, Kind
from products import assert_product

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
FORMATS = ("mxfp4", "mxfp8_e4m3fn", "mxfp8_e5m2", "nvfp4")
LARGEST = {"mxfp4": 6.0, "mxfp8_e4m3fn": 448.0, "mxfp8_e5m2": 57344.0, "nvfp4": 6.0}


def rows(shape: Any, dtype: Any, seed: int = 3) -> Any:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def quantized(n: int, k: int, quant_type: str, two_level: bool = True) -> tuple[tuple[Any, Any, Any], Any, float]:
    """Codes and scales, what they are dequantized, and the largest magnitude that they could stand for."""
    codes, scale, tensor = libbnb.quantize_mx(
        rows((n, k), np.float32, n * 1000 + k), quant_type, tensor_scale=two_level
    )
    largest = (
        LARGEST[quant_type] * float(scale.astype(np.float32).max(initial=0)) * float(1 if tensor is None else tensor[0])
    )
    return (codes, scale, tensor), libbnb.dequantize_mx(codes, scale, tensor, quant_type), largest


@pytest.mark.parametrize("quant_type", FORMATS)
@pytest.mark.parametrize("shape", [(96,), (1, 96), (5, 96), (2, 3, 96), (0, 96), (40, 96)])
def test_every_library(kind: Kind, shape: tuple[int, ...], quant_type: str) -> None:
    (codes, scale, tensor), weights, largest = quantized(30, 96, quant_type)
    factors = (
        kind.make(codes.view(np.uint8)),
        kind.make(scale.view(np.uint8)),
        None if tensor is None else kind.make(tensor),
    )
    for dtype in kind.dtypes:
        a, bias = rows(shape, dtype), rows(30, dtype, 4)
        for b in (None, bias):
            out = libbnb.gemm_mx(kind.make(a), *factors, quant_type, None if b is None else kind.make(b))
            assert kind.is_mine(out) and tuple(out.shape) == (*shape[:-1], 30)
            assert kind.host(out).dtype == dtype
            assert_product(kind.host(out), a, weights, b, largest, weights_are_exact=True)


@given(
    m=st.integers(0, 40),
    n=st.integers(1, 40),
    blocks=st.integers(1, 12),
    dtype=st.sampled_from(FLOATS),
    quant_type=st.sampled_from(FORMATS),
    two_level=st.booleans(),
    bias=st.booleans(),
)
def test_any_shape(m: int, n: int, blocks: int, dtype: Any, quant_type: str, two_level: bool, bias: bool) -> None:
    k = blocks * (16 if quant_type == "nvfp4" else 32)
    factors, weights, largest = quantized(n, k, quant_type, two_level)
    a = rows((m, k), dtype)
    b = rows(n, dtype, 5) if bias else None
    out = libbnb.gemm_mx(a, *factors, quant_type, b)
    assert out.shape == (m, n) and out.dtype == dtype
    assert_product(out, a, weights, b, largest, weights_are_exact=True)


def test_rows_without_elements() -> None:
    factors, _, _ = quantized(7, 0, "nvfp4")
    bias = rows(7, np.float32)
    out = libbnb.gemm_mx(np.ones((3, 0), np.float32), *factors, "nvfp4", bias)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, (3, 7)))


def test_a_float8_dtype_says_the_format_itself() -> None:
    (codes, scale, _), _, _ = quantized(30, 96, "mxfp8_e5m2")
    a = rows((4, 96), np.float32)
    want = libbnb.gemm_mx(a, codes.view(np.uint8), scale, quant_type="mxfp8_e5m2")
    np.testing.assert_array_equal(libbnb.gemm_mx(a, codes, scale), want)


def test_other_strides() -> None:
    (codes, scale, tensor), _, _ = quantized(30, 96, "nvfp4")
    wide = rows((12, 200), np.float32)
    for part in (wide[:, :96], wide[::2, 7:103], wide[:, ::2][:, :96], wide[::-1, :96]):
        want = libbnb.gemm_mx(np.ascontiguousarray(part), codes, scale, tensor, "nvfp4")
        got = libbnb.gemm_mx(part, np.asfortranarray(codes), np.asfortranarray(scale), tensor, "nvfp4")
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("quant_type", FORMATS)
def test_gradients_and_compiled_functions(quant_type: str) -> None:
    torch = pytest.importorskip("torch")
    weights = torch.from_numpy(rows((20, 64), np.float32))
    a = torch.from_numpy(rows((2, 3, 64), np.float32, 4)).requires_grad_()
    bias = torch.from_numpy(rows(20, np.float32, 5)).requires_grad_()
    q = libbnb.quantize_mx(weights, quant_type)
    dense = libbnb.dequantize_mx(*q, quant_type)

    def layer(a: Any, bias: Any) -> Any:
        return libbnb.gemm_mx(a, *q, quant_type, bias)

    def both_ways(w: Any, a: Any) -> Any:
        codes, scale, tensor = libbnb.quantize_mx(w, quant_type, "rceil")
        return libbnb.dequantize_mx(codes, scale, tensor, quant_type, a.dtype), libbnb.gemm_mx(
            a, codes, scale, tensor, quant_type
        )

    want = torch.autograd.grad(torch.nn.functional.linear(a, dense, bias).square().sum(), (a, bias))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for function in (layer, compiled):
        got = torch.autograd.grad(function(a, bias).square().sum(), (a, bias))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        for got, expected in zip(
            torch.compile(both_ways, fullgraph=True, backend="aot_eager")(weights, a),
            both_ways(weights, a),
            strict=True,
        ):
            assert torch.equal(got, expected)


def arguments(**changes: Any) -> dict[str, Any]:
    (codes, scale, tensor), _, _ = quantized(20, 64, "nvfp4")
    return {
        "A": rows((3, 64), np.float32),
        "B": codes,
        "scale": scale,
        "tensor_scale": tensor,
        "quant_type": "nvfp4",
        "bias": rows(20, np.float32),
        "out": np.full((3, 20), -7, np.float32),
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"A": np.ones((3, 80), np.float32)},
            r"A has shape \[3, 80\] and B \[20, 32\]: rows of 80 elements and of 64 nvfp4 codes",
        ),
        ({"A": np.ones((3, 64), np.int32)}, "A is int32"),
        (
            {"A": np.ones((3, 40), np.float32), "B": np.ones((20, 20), np.uint8)},
            "A has rows of 40 elements, must have a multiple of 16",
        ),
        ({"B": np.ones((20, 32), np.int8)}, "B is int8"),
        ({"B": np.ones(640, np.uint8)}, r"B has shape \[640\], must have 2 dimensions"),
        ({"scale": np.ones(79, np.uint8)}, "scale has 79 elements, must have 80"),
        ({"scale": np.ones(80, np.float32)}, "scale is float32, must be uint8 or float8_e4m3fn"),
        ({"tensor_scale": np.ones(2, np.float32)}, "tensor_scale has 2 elements, must have 1"),
        ({"quant_type": "mxfp4", "tensor_scale": None}, "scale is float8_e4m3fn, must be"),
        ({"quant_type": "fp8_e4m3fn"}, "quant_type is 'fp8_e4m3fn'"),
        ({"bias": np.ones(21, np.float32)}, "bias has 21 elements, must have 20"),
        ({"out": np.full((3, 21), -7, np.float32)}, r"out has shape \[3, 21\], must have shape \[3, 20\]"),
        ({"out": np.full((3, 20), -7, np.float16)}, "out is float16, must be float32"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    given = arguments(**changes)
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.gemm_mx(**given)
    assert (given["out"] == -7).all()


def test_the_right_arguments_are_right() -> None:
    given = arguments()
    assert libbnb.gemm_mx(**given) is given["out"]
