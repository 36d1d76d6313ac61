# SPDX-License-Identifier: MIT
"""LLM.int8(): rows and columns, outliers, the scaling of products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import libbnb
import oracle
from kinds import BF16, Kind

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
MODERATE = st.floats(-1000, 1000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20)


def clear(codes: Any, outliers: Any) -> Any:
    codes = codes.copy()
    codes[:, outliers] = 0
    return codes


@pytest.mark.parametrize("threshold", [0.0, 2.0])
@pytest.mark.parametrize("shape", [(7,), (1, 5), (10, 33), (3, 4, 17)])
def test_rows_on_every_library(kind: Kind, shape: tuple[int, ...], threshold: float, rng: np.random.Generator) -> None:
    for dtype in kind.dtypes:
        x = rng.standard_normal(shape).astype(dtype)
        q, stats, outlier_cols = libbnb.int8_vectorwise_quant(kind.make(x), threshold=threshold)
        codes, want_stats, outliers = oracle.int8_rows(x.reshape(-1, shape[-1]), threshold)
        assert kind.is_mine(q) and kind.is_mine(stats) and q.shape == shape
        np.testing.assert_array_equal(kind.host(q).reshape(codes.shape), clear(codes, outliers))
        np.testing.assert_array_equal(kind.host(stats), want_stats)
        if threshold:
            np.testing.assert_array_equal(kind.host(outlier_cols), np.flatnonzero(outliers))
        else:
            assert outlier_cols is None
        back = libbnb.int8_vectorwise_dequant(q, stats)
        assert back.shape == shape
        want = clear(codes, outliers) * want_stats[:, None] * np.float32(1 / 127)
        np.testing.assert_array_equal(kind.host(back).reshape(want.shape), want)


@given(
    x=npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=30), elements=MODERATE),
    dtype=st.sampled_from(FLOATS),
    threshold=st.sampled_from([0.0, 0.5, 6.0, 100.0]),
)
def test_any_matrix(x: Any, dtype: Any, threshold: float) -> None:
    x = x.astype(dtype)
    q, stats, outlier_cols = libbnb.int8_vectorwise_quant(x, threshold)
    codes, want_stats, outliers = oracle.int8_rows(x, threshold)
    np.testing.assert_array_equal(q, clear(codes, outliers))
    np.testing.assert_array_equal(stats, want_stats)
    if threshold:
        np.testing.assert_array_equal(outlier_cols, np.flatnonzero(outliers))
    q_row, q_col, row_stats, col_stats, again = libbnb.int8_double_quant(x, threshold=threshold)
    np.testing.assert_array_equal(q_row, q)
    np.testing.assert_array_equal(row_stats, stats)
    column_codes, want_col_stats, _ = oracle.int8_rows(
        np.where(np.abs(x.astype("f")) >= threshold, 0, x).T if threshold else x.T, 0
    )
    np.testing.assert_array_equal(q_col, column_codes.T)
    np.testing.assert_array_equal(col_stats, want_col_stats)
    if threshold:
        np.testing.assert_array_equal(again, outlier_cols)


@pytest.mark.torch
@pytest.mark.parametrize("threshold", [0.0, 2.3])
def test_rows_have_the_bits_of_bitsandbytes(threshold: float) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(8)
    A = torch.randn(65, 300)
    q, stats, cols = libbnb.int8_vectorwise_quant(A, threshold)
    their_q, their_stats, their_cols = theirs.int8_vectorwise_quant(A.clone(), threshold)
    assert torch.equal(q, their_q) and torch.equal(stats, their_stats)
    assert (cols is None and their_cols is None) or (torch.equal(cols, their_cols) and cols.dtype == their_cols.dtype)
    torch.testing.assert_close(libbnb.int8_vectorwise_dequant(q, stats), theirs.int8_vectorwise_dequant(q, stats))


@pytest.mark.parametrize("bias", [None, np.float32, np.float16])
def test_defect_14_the_scale_of_products_is_exact(kind: Kind, bias: Any, rng: np.random.Generator) -> None:
    """Defect 14: 6.200124e-05 in place of 1/(127*127) = 6.2000124e-05."""
    if bias is np.float16 and np.dtype(bias) not in kind.dtypes:
        pytest.skip("the library has no float16")
    product = rng.integers(-(2**28), 2**28, (9, 20)).astype(np.int32)
    rows, cols = rng.random(9).astype(np.float32), rng.random(20).astype(np.float32)
    b = None if bias is None else rng.standard_normal(20).astype(bias)
    with np.errstate(over="ignore"):
        want = product.astype(np.float64) * (rows[:, None] * cols).astype(np.float64) / (127 * 127)
        want += 0 if b is None else b
    out = None if kind.name in ("jax", "mlx") else kind.make(np.empty((9, 20), np.float32))
    arguments = [kind.make(x) for x in (product, rows, cols)]
    got = libbnb.int8_mm_dequant(*arguments, out=out, bias=None if b is None else kind.make(b))
    result = kind.host(got if kind.name != "dlpack" or out is None else out.array)
    scale = np.abs(want).max()
    assert np.abs(result - want).max() < scale * (2e-3 if out is None else 3e-7)
    dtype = np.float32 if kind.name == "array_api_strict" else np.float16  # the standard has no float16
    assert kind.host(libbnb.int8_mm_dequant(*arguments)).dtype == dtype


def test_halves_round_to_even() -> None:
    x = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]], np.float32)
    q, _, _ = libbnb.int8_vectorwise_quant(x)
    np.testing.assert_array_equal(q, [[127, 0, 2, 2, 0, -2, -2, 126]])


def test_special_rows() -> None:
    x = np.ones((4, 6), np.float32)
    x[1], x[2, 3], x[3, 4] = 0, np.nan, np.inf
    q, stats, _ = libbnb.int8_vectorwise_quant(x)
    np.testing.assert_array_equal(stats, [1, 0, np.nan, np.inf])
    back = libbnb.int8_vectorwise_dequant(q, stats)
    np.testing.assert_allclose(back[0], 1, rtol=1e-6)
    np.testing.assert_array_equal(back[1], 0)
    assert np.isnan(back[2]).all()
    assert not np.isfinite(back[3]).any()


def test_rows_that_are_apart_are_read_where_they_are(rng: np.random.Generator) -> None:
    wide = rng.standard_normal((8, 40)).astype(np.float32)
    for part in (wide[:, :17], wide[::2, 3:20], wide.T[:, :5], wide[:, ::3]):
        want = libbnb.int8_vectorwise_quant(part.copy())
        got = libbnb.int8_vectorwise_quant(part)
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_defect_31_double_quantization_and_outputs_exist_on_the_cpu(rng: np.random.Generator) -> None:
    """Defect 31: int8_double_quant and the variants with outputs missing on the CPU."""
    x = rng.standard_normal((6, 10)).astype(np.float16)
    want = libbnb.int8_double_quant(x)
    outputs = {
        "out_row": np.empty((6, 10), np.int8),
        "out_col": np.empty((6, 10), np.int8),
        "row_stats": np.empty(6, np.float32),
        "col_stats": np.empty(10, np.float32),
    }
    got = libbnb.int8_double_quant(x, **outputs)
    for i, name in enumerate(("out_row", "out_col", "row_stats", "col_stats")):
        assert got[i] is outputs[name]
        np.testing.assert_array_equal(got[i], want[i])
    out = np.empty((6, 10), np.float16)
    assert libbnb.int8_vectorwise_dequant(got[0], got[2], out=out) is out


def test_defect_41_the_input_is_never_written_to(rng: np.random.Generator) -> None:
    """Defect 41: zeros written into the caller's array for a while."""
    x = rng.standard_normal((50, 60)).astype(np.float32)
    x.flags.writeable = False
    before = x.copy()
    libbnb.int8_vectorwise_quant(x, threshold=1.0)
    libbnb.int8_double_quant(x, threshold=1.0)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf")])
def test_bad_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        libbnb.int8_vectorwise_quant(np.ones((2, 2), np.float32), threshold)
