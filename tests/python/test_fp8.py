# SPDX-License-Identifier: MIT
"""FP8: every code, rounding, scales per row and per block."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import libbnb
import oracle
from kinds import BF16, Kind
from oracle import assert_same_bits

TYPES = {"fp8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn), "fp8_e5m2": np.dtype(ml_dtypes.float8_e5m2)}
FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)


@pytest.mark.parametrize("quant_type", TYPES)
def test_rows_on_every_library(kind: Kind, quant_type: str, rng: np.random.Generator) -> None:
    for dtype in kind.dtypes:
        x = rng.standard_normal((6, 50)).astype(dtype)
        q, scale = libbnb.quantize_fp8(kind.make(x), quant_type=quant_type)
        codes, want_scale = oracle.quantize_fp8(x, 50, TYPES[quant_type])
        assert kind.is_mine(q) and q.shape == (6, 50) and scale.shape == (6, 1)
        np.testing.assert_array_equal(kind.host(q).view(np.uint8), codes.view(np.uint8).reshape(6, 50))
        np.testing.assert_array_equal(kind.host(scale).ravel(), want_scale)
        back = libbnb.dequantize_fp8(q, scale, quant_type=quant_type, dtype="float32")
        want = codes.astype(np.float32).reshape(6, 50) * want_scale[:, None]
        np.testing.assert_array_equal(kind.host(back), want)


def test_results_have_the_float8_dtype_of_the_library(kind: Kind, rng: np.random.Generator) -> None:
    q, _ = libbnb.quantize_fp8(kind.make(rng.standard_normal((2, 3)).astype(np.float32)))
    name = str(q.dtype).rsplit(".", 1)[-1]
    assert name == ("uint8" if kind.name in ("mlx", "array_api_strict") else "float8_e4m3fn")


@given(
    x=npst.arrays(
        np.float32,
        npst.array_shapes(max_dims=3, min_side=0, max_side=40),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    dtype=st.sampled_from(FLOATS),
    blocksize=st.integers(1, 200),
    quant_type=st.sampled_from(sorted(TYPES)),
)
def test_blocks_of_anything(x: Any, dtype: Any, blocksize: int, quant_type: str) -> None:
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        x = np.where(np.isfinite(x), x, np.asarray(1, dtype))
    q, scale = libbnb.quantize_fp8(x, blocksize=blocksize, quant_type=quant_type)
    codes, want_scale = oracle.quantize_fp8(x, blocksize, TYPES[quant_type])
    np.testing.assert_array_equal(scale, want_scale)
    np.testing.assert_array_equal(q.view(np.uint8).ravel(), codes.view(np.uint8))
    back = libbnb.dequantize_fp8(q, scale, blocksize=blocksize)
    want = codes.astype(np.float32) * np.repeat(want_scale, blocksize)[: codes.size]
    np.testing.assert_array_equal(back.ravel(), want)


@pytest.mark.parametrize("quant_type", TYPES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_code_decodes(quant_type: str, dtype: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    one = np.ones(1, np.float32)
    want = codes.view(TYPES[quant_type]).astype(np.float32).astype(BF16 if dtype == "bfloat16" else dtype)
    for array in (codes, codes.view(TYPES[quant_type])):  # the dtype says the format, or the argument
        got = libbnb.dequantize_fp8(array, one, quant_type=quant_type, dtype=dtype)
        assert_same_bits(got, want)


def test_the_largest_comes_back(rng: np.random.Generator) -> None:
    x = rng.standard_normal((100, 64)).astype(np.float32)
    for quant_type in TYPES:
        q, scale = libbnb.quantize_fp8(x, quant_type=quant_type)
        back = libbnb.dequantize_fp8(q, scale)
        np.testing.assert_allclose(np.abs(back).max(1), np.abs(x).max(1), rtol=2e-7)


def test_outputs_of_the_caller(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 10)).astype(np.float32)
    want, want_scale = libbnb.quantize_fp8(x)
    out, scale = np.empty((4, 10), np.uint8), np.empty(4, np.float32)
    got = libbnb.quantize_fp8(x, scale=scale, out=out)
    assert got[0] is out and got[1] is scale
    np.testing.assert_array_equal(out, want.view(np.uint8))
    np.testing.assert_array_equal(scale, want_scale.ravel())
    values = np.empty((4, 10), np.float16)
    assert libbnb.dequantize_fp8(out, scale, out=values) is values


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)])
def test_empty(shape: tuple[int, ...]) -> None:
    q, scale = libbnb.quantize_fp8(np.empty(shape, np.float32))
    assert q.shape == shape and scale.size == 0
    assert libbnb.dequantize_fp8(q, scale).shape == shape


def test_special_rows() -> None:
    x = np.ones((4, 6), np.float32)
    x[1], x[2, 3], x[3, 4] = 0, np.nan, -np.inf
    for quant_type in TYPES:
        back = libbnb.dequantize_fp8(*libbnb.quantize_fp8(x, quant_type=quant_type))
        np.testing.assert_allclose(back[0], 1, rtol=1e-6)
        np.testing.assert_array_equal(back[1], 0)
        assert np.isnan(back[2]).all()
        assert back[3, 4] == -np.inf and np.isnan(np.delete(back[3], 4)).all()


def test_a_scalar_has_no_rows() -> None:
    with pytest.raises(ValueError, match="A has no dimensions"):
        libbnb.quantize_fp8(np.float32(1.0))
    with pytest.raises(ValueError, match="quant_type"):
        libbnb.quantize_fp8(np.ones(4, np.float32), quant_type="nf4")
