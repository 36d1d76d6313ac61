# SPDX-License-Identifier: MIT
"""gemm_ternary and linear_ternary: the bits of their definition where they are exact, within their bound elsewhere, on
every array library; and what is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
from kinds import BF16, Kind

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
# Half an ulp of 1: what a result loses when it is rounded to its dtype.
ROUNDING = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float16): 2.0**-11, BF16: 2.0**-8}
TQ = {"tq1_0": 256, "tq2_0": 256}


def rows(shape: Any, dtype: Any = np.float32, seed: int = 3) -> Any:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def activations(shape: tuple[int, ...], per_tensor: bool = False, seed: int = 3) -> tuple[Any, Any]:
    """int8 codes and their statistics."""
    x = rows(shape, seed=seed)
    codes, stats, _ = libbnb.int8_vectorwise_quant(x.reshape(1, -1) if per_tensor else x)
    return codes.reshape(shape), stats


def weights(n: int, k: int, blocksize: int | None, quant_type: str = "ternary") -> tuple[Any, Any, Any, Any]:
    """Codes, scales, the ternary numbers, and the scale of each of them."""
    w = rows((n, k), seed=1000 * n + k)
    codes, scale = libbnb.quantize_ternary(w, blocksize, quant_type)
    values = libbnb.dequantize_ternary(codes, scale, blocksize, quant_type, (n, k))
    if scale is None:  # blocks of 256 have theirs inside
        scales = np.abs(values).reshape(-1, 256).max(1).repeat(256).reshape(n, k)
    else:
        scales = np.repeat(scale, blocksize or n * k)[: n * k].reshape(n, k)
    return codes, scale, np.sign(values).astype(np.int64), scales


def as_defined(a: Any, stats: Any, trits: Any, scales: Any, bias: Any, dtype: Any) -> Any:
    """One scale for a row of weights or more: fp32 operations in the order that bnb.h gives."""
    sums = (a.astype(np.int64) @ trits.T).astype(np.float32)
    out = sums * (stats.reshape(-1, 1) * scales[:, 0]) * np.float32(1 / 127)
    if bias is not None:
        out = out + bias.astype(np.float32)
    return out.astype(np.float32).astype(dtype)


def assert_within(out: Any, a: Any, stats: Any, trits: Any, scales: Any, bias: Any, blocks: int) -> None:
    """The bound of bnb.h for several blocks in a row."""
    x = a.astype(np.float64) * stats.reshape(-1, 1).astype(np.float64) / 127
    w = trits * scales.astype(np.float64)
    exact, size = x @ w.T, np.abs(x) @ np.abs(w).T
    if bias is not None:
        exact, size = exact + bias.astype(np.float64), size + np.abs(bias.astype(np.float64))
    error = np.abs(out.astype(np.float64) - exact)
    bound = ROUNDING[out.dtype] * np.abs(exact) * (1 + 2.0**-8) + (blocks + 8) * 2.0**-24 * size + 2.0**-25
    assert (error <= bound).all(), float((error - bound).max())


@pytest.mark.parametrize("blocksize", [None, 96, 192, 32])
@pytest.mark.parametrize("shape", [(96,), (1, 96), (5, 96), (2, 3, 96), (0, 96), (40, 96)])
def test_every_library(kind: Kind, shape: tuple[int, ...], blocksize: int | None) -> None:
    codes, scale, trits, scales = weights(30, 96, blocksize)
    a, stats = activations(shape)
    flat = a.reshape(-1, 96)
    for dtype in kind.dtypes:
        bias = rows(30, dtype, 4)
        for b in (None, bias):
            out = libbnb.gemm_ternary(
                *(kind.make(array) for array in (a, codes, stats, scale)),
                blocksize,
                bias=None if b is None else kind.make(b),
                dtype=dtype.name,
            )
            assert kind.is_mine(out) and tuple(out.shape) == (*shape[:-1], 30) and kind.host(out).dtype == dtype
            found = kind.host(out).reshape(-1, 30)
            if blocksize == 32:
                assert_within(found, flat, stats, trits, scales, b, 3)
            else:
                np.testing.assert_array_equal(found, as_defined(flat, stats, trits, scales, b, dtype))


@given(
    m=st.integers(0, 40),
    n=st.integers(1, 40),
    blocks=st.integers(1, 6),
    block=st.sampled_from((1, 3, 4, 32, 64, 100)),
    whole=st.none() | st.integers(1, 3),
    per_tensor=st.booleans(),
    dtype=st.sampled_from(FLOATS),
    bias=st.booleans(),
)
def test_any_shape(
    m: int, n: int, blocks: int, block: int, whole: int | None, per_tensor: bool, dtype: Any, bias: bool
) -> None:
    """Blocks that are parts of rows, or rows that share a scale; rows of any length."""
    k = blocks * block
    blocksize = block if whole is None else whole * k
    codes, scale, trits, scales = weights(n, k, blocksize)
    a, stats = activations((m, k), per_tensor)
    b = rows(n, dtype, 5) if bias else None
    out = libbnb.gemm_ternary(a, codes, stats, scale, blocksize, bias=b, dtype=dtype.name, shape=(n, k))
    assert out.shape == (m, n) and out.dtype == dtype
    if whole is None and blocks > 1:
        assert_within(out, a, stats, trits, scales, b, blocks)
    else:
        np.testing.assert_array_equal(out, as_defined(a, stats, trits, scales, b, dtype))


@pytest.mark.parametrize("quant_type", TQ)
@pytest.mark.parametrize("m", [1, 3, 20, 70])
def test_gguf_blocks(quant_type: str, m: int) -> None:
    codes, scale, trits, scales = weights(21, 768, None, quant_type)
    a, stats = activations((m, 768))
    for dtype in FLOATS:
        b = rows(21, dtype, 6)
        out = libbnb.gemm_ternary(a, codes, stats, scale, quant_type=quant_type, bias=b, dtype=dtype.name)
        assert_within(out, a, stats, trits, scales, b, 3)


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize(
    ("quant_type", "blocksize"), [("ternary", None), ("ternary", 64), ("tq1_0", None), ("tq2_0", 256)]
)
def test_layer_in_one_call(kind: Kind, quant_type: str, blocksize: int | None, per_tensor: bool) -> None:
    """The bits of quantizing activations and multiplying."""
    codes, scale, _, _ = weights(24, 512, blocksize, quant_type)
    for dtype in kind.dtypes:
        x, b = rows((2, 3, 512), dtype, 7), rows(24, np.float32, 8)
        q, stats, _ = libbnb.int8_vectorwise_quant(x.reshape(1, -1) if per_tensor else x)
        want = libbnb.gemm_ternary(
            q.reshape(x.shape), codes, stats, scale, blocksize, quant_type, b, dtype=np.dtype(dtype).name
        )
        scale_ = None if scale is None else kind.make(scale)
        out = libbnb.linear_ternary(
            kind.make(x), kind.make(codes), scale_, blocksize, quant_type, per_tensor, kind.make(b)
        )
        assert kind.is_mine(out)
        np.testing.assert_array_equal(kind.host(out), want)


def test_other_strides() -> None:
    codes, scale, _, _ = weights(30, 96, None)
    wide = activations((12, 200))[0]
    stats = np.abs(rows(12)) + 1
    for part in (wide[:, :96], wide[::2, 7:103], wide[::-1, :96]):
        want = libbnb.gemm_ternary(np.ascontiguousarray(part), codes, stats[: len(part)], scale)
        np.testing.assert_array_equal(libbnb.gemm_ternary(part, codes, stats[: len(part)], scale), want)
    floats = rows((12, 200))
    want = libbnb.linear_ternary(np.ascontiguousarray(floats[::2, 7:103]), codes, scale)
    np.testing.assert_array_equal(libbnb.linear_ternary(floats[::2, 7:103], codes, scale), want)


def test_extremes() -> None:
    """-128 among the activations, all weights alike: sums as large as they can be."""
    k = 4096
    for sign in (1.0, -1.0):
        codes, scale = libbnb.quantize_ternary(np.full((3, k), sign, np.float32))
        for value in (-128, 127):
            out = libbnb.gemm_ternary(np.full((2, k), value, np.int8), codes, np.full(2, 127, np.float32), scale)
            np.testing.assert_array_equal(out, np.full((2, 3), value * k * sign, np.float32))


def test_nan_and_zero_scales() -> None:
    codes, _, _, _ = weights(8, 64, 64)
    a, stats = activations((2, 64))
    scale = np.ones(8, np.float32)
    scale[2], scale[3], scale[4] = np.nan, 0, np.inf
    out = libbnb.gemm_ternary(a, codes, stats, scale, 64)
    assert np.isnan(out[:, 2]).all() and (out[:, 3] == 0).all() and not np.isfinite(out[:, 4]).any()
    assert np.isfinite(np.delete(out, [2, 4], 1)).all()
    stats[1] = np.nan
    out = libbnb.gemm_ternary(a, codes, stats, np.ones(8, np.float32), 64)
    assert np.isfinite(out[0]).all() and np.isnan(out[1]).all()


def arguments(**changes: Any) -> dict[str, Any]:
    codes, scale, _, _ = weights(20, 64, 32)
    a, stats = activations((3, 64))
    return {
        "A": a,
        "B": codes,
        "row_stats": stats,
        "scale": scale,
        "blocksize": 32,
        "out": np.full((3, 20), -7, np.float32),
        "bias": rows(20),
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": np.ones((3, 65), np.int8)}, r"A has shape \[3, 65\] and B \[20, 64\]"),
        ({"A": np.ones((3, 64), np.float32)}, "A is float32"),
        ({"A": np.ones((), np.int8)}, "A has no dimensions"),
        ({"B": np.ones((20, 16), np.float32)}, "B is float32"),
        ({"B": np.ones(320, np.uint8)}, "B has 1 dimensions, must have 2"),
        ({"B": np.ones(320, np.uint8), "shape": (21, 64)}, "B has 320 bytes, must have 336"),
        ({"shape": (20, 65)}, "rows of 64 and of 65"),
        ({"shape": (-20, 64)}, "shape is"),
        ({"row_stats": np.ones(2, np.float32)}, "row_stats has 2 elements, must have 3"),
        ({"row_stats": np.ones(3)}, "row_stats is float64"),
        ({"scale": np.ones(39, np.float32)}, "scale has 39 elements, must have 40"),
        ({"scale": None}, "scale is NULL"),
        ({"blocksize": 48}, "blocksize is 48, must divide the 64 columns"),
        ({"blocksize": 96}, "blocksize is 96"),
        ({"blocksize": 0}, "blocksize is 0"),
        ({"quant_type": "nf4"}, "quant_type is 'nf4'"),
        ({"quant_type": "tq2_0", "shape": (20, 64)}, "256"),
        ({"bias": np.ones(21, np.float32)}, "bias has 21 elements, must have 20"),
        ({"out": np.full((3, 21), -7, np.float32)}, r"out has shape \[3, 21\], must have shape \[3, 20\]"),
        ({"out": np.full((3, 20), -7, np.int32)}, "out is int32"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    given = arguments(**changes)
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.gemm_ternary(**given)
    assert (given["out"] == -7).all()
    if "row_stats" not in changes and changes.get("A", rows(3)).dtype != np.float32:
        del given["row_stats"]
        given["A"] = given["A"].astype(np.float32)
        with pytest.raises(libbnb.InvalidArgument, match=message):
            libbnb.linear_ternary(**given)


def test_scales_of_gguf_blocks_are_inside() -> None:
    codes, _, _, _ = weights(4, 256, None, "tq2_0")
    a, stats = activations((2, 256))
    with pytest.raises(libbnb.InvalidArgument, match="scale is not NULL"):
        libbnb.gemm_ternary(a, codes, stats, np.ones(4, np.float32), quant_type="tq2_0")


def test_the_right_arguments_are_right() -> None:
    given = arguments()
    assert libbnb.gemm_ternary(**given) is given["out"]
