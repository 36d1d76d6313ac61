# SPDX-License-Identifier: MIT
"""matmul_fp8: against float64, on every array library, with scales per row and per block; and what is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
from kinds import BF16, Kind
from products import assert_product

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
FORMATS = ("fp8_e4m3fn", "fp8_e5m2")


def rows(shape: Any, dtype: Any, seed: int = 3) -> Any:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def quantized(n: int, k: int, quant_type: str, blocksize: int | None = None) -> tuple[Any, Any, Any, float]:
    """Codes, scales, what they are dequantized, and the largest magnitude that they could stand for."""
    w = rows((n, k), np.float32, n * 1000 + k)
    codes, scale = libbnb.quantize_fp8(w, blocksize=blocksize, quant_type=quant_type)
    largest = float(ml_dtypes.finfo(codes.dtype).max) * float(scale.max())
    return codes, scale, libbnb.dequantize_fp8(codes, scale, blocksize=blocksize), largest


@pytest.mark.parametrize("quant_type", FORMATS)
@pytest.mark.parametrize("shape", [(96,), (1, 96), (5, 96), (2, 3, 96), (0, 96), (40, 96)])
def test_every_library(kind: Kind, shape: tuple[int, ...], quant_type: str) -> None:
    codes, scale, weights, largest = quantized(30, 96, quant_type)
    for dtype in kind.dtypes:
        a, bias = rows(shape, dtype), rows(30, dtype, 4)
        for b in (None, bias):
            out = libbnb.matmul_fp8(
                kind.make(a),
                kind.make(codes.view(np.uint8)),
                kind.make(scale),
                bias=None if b is None else kind.make(b),
                quant_type=quant_type,
            )
            assert kind.is_mine(out) and tuple(out.shape) == (*shape[:-1], 30)
            assert kind.host(out).dtype == dtype
            assert_product(kind.host(out), a, weights, b, largest)


@given(
    m=st.integers(0, 40),
    n=st.integers(1, 40),
    k=st.integers(1, 200),
    blocksize=st.none() | st.integers(1, 300),
    dtype=st.sampled_from(FLOATS),
    quant_type=st.sampled_from(FORMATS),
    bias=st.booleans(),
)
def test_any_shape(m: int, n: int, k: int, blocksize: Any, dtype: Any, quant_type: str, bias: bool) -> None:
    codes, scale, weights, largest = quantized(n, k, quant_type, blocksize)
    a = rows((m, k), dtype)
    b = rows(n, dtype, 5) if bias else None
    out = libbnb.matmul_fp8(a, codes, scale, bias=b, blocksize=blocksize)
    assert out.shape == (m, n) and out.dtype == dtype
    assert_product(out, a, weights, b, largest)


def test_a_float8_dtype_says_the_format_itself() -> None:
    codes, scale, _, _ = quantized(30, 96, "fp8_e5m2")
    a = rows((4, 96), np.float32)
    want = libbnb.matmul_fp8(a, codes.view(np.uint8), scale, quant_type="fp8_e5m2")
    np.testing.assert_array_equal(libbnb.matmul_fp8(a, codes, scale), want)


def test_other_strides() -> None:
    codes, scale, _, _ = quantized(30, 96, "fp8_e4m3fn")
    wide = rows((12, 200), np.float32)
    for part in (wide[:, :96], wide[::2, 7:103], wide[:, ::2][:, :96], wide[::-1, :96]):
        want = libbnb.matmul_fp8(np.ascontiguousarray(part), codes, scale)
        np.testing.assert_array_equal(libbnb.matmul_fp8(part, np.asfortranarray(codes), scale), want)


def arguments(**changes: Any) -> dict[str, Any]:
    codes, scale, _, _ = quantized(20, 64, "fp8_e4m3fn")
    return {
        "A": rows((3, 64), np.float32),
        "B": codes,
        "scale": scale,
        "out": np.full((3, 20), -7, np.float32),
        "bias": rows(20, np.float32),
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": np.ones((3, 65), np.float32)}, r"A has shape \[3, 65\] and B \[20, 64\]"),
        ({"A": np.ones((3, 64), np.int32)}, "A is int32"),
        ({"B": np.ones((20, 64), np.int8)}, "B is int8"),
        ({"B": np.ones(1280, np.uint8)}, r"B has shape \[1280\], must have 2 dimensions"),
        ({"scale": np.ones(19, np.float32)}, "scale has 19 elements, must have 20"),
        ({"blocksize": 32}, "scale has 20 elements, must have 40"),
        ({"blocksize": 0}, "blocksize is 0"),
        ({"B": np.ones((20, 64), np.uint8), "quant_type": "nf4"}, "quant_type is 'nf4'"),
        ({"bias": np.ones(21, np.float32)}, "bias has 21 elements, must have 20"),
        ({"out": np.full((3, 21), -7, np.float32)}, r"out has shape \[3, 21\], must have shape \[3, 20\]"),
        ({"out": np.full((3, 20), -7, np.float16)}, "out is float16, must be float32"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    given = arguments(**changes)
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.matmul_fp8(**given)
    assert (given["out"] == -7).all()


def test_the_right_arguments_are_right() -> None:
    given = arguments()
    assert libbnb.matmul_fp8(**given) is given["out"]
