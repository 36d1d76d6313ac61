# SPDX-License-Identifier: MIT
"""spmm_coo: against float64, in any order of places, for float and int8 values and matrices; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
from kinds import BF16, Kind
from products import ROUNDING

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
COO = libbnb.COOSparseTensor


def matrix(m: int, k: int, nnz: int, dtype: Any, seed: int = 1) -> Any:
    """Values at random places, some of them twice."""
    rng = np.random.default_rng(seed)
    rowidx, colidx = rng.integers(0, m, nnz).astype(np.int32), rng.integers(0, k, nnz).astype(np.int32)
    values = rng.integers(-127, 128, nnz) if np.dtype(dtype) == np.int8 else rng.standard_normal(nnz)
    return COO(m, k, nnz, rowidx, colidx, values.astype(dtype))


def dense(A: Any, scale: float = 1.0) -> tuple[Any, Any]:
    """The matrix in full, in float64, and the same of the magnitudes."""
    full, magnitudes = np.zeros((A.rows, A.cols)), np.zeros((A.rows, A.cols))
    values = A.values.astype(np.float64) * scale
    np.add.at(full, (A.rowidx, A.colidx), values)
    np.add.at(magnitudes, (A.rowidx, A.colidx), np.abs(values))
    return full, magnitudes


def assert_product(out: Any, A: Any, b: Any, scale: float = 1.0) -> None:
    full, magnitudes = dense(A, scale)
    want, total = full @ b.astype(np.float64), magnitudes @ np.abs(b.astype(np.float64))
    unit, _ = ROUNDING[out.dtype]
    got = out.astype(np.float64)
    assert got.shape == want.shape
    bound = unit * np.abs(got) + (A.nnz + 8) * 2.0**-24 * total + 2.0**-24 * (out.dtype == np.float16) + 2.0**-120
    assert (np.abs(got - want) <= bound).all()


@given(
    m=st.integers(1, 40),
    k=st.integers(1, 40),
    n=st.integers(0, 70),
    nnz=st.integers(0, 200),
    values=st.sampled_from(FLOATS),
    dtype=st.sampled_from(FLOATS),
)
def test_any_shape(m: int, k: int, n: int, nnz: int, values: Any, dtype: Any) -> None:
    A = matrix(m, k, nnz, values)
    b = np.random.default_rng(2).standard_normal((k, n)).astype(dtype)
    out = libbnb.spmm_coo(A, b)
    assert out.dtype == dtype
    assert_product(out, A, b)


def test_every_library(kind: Kind) -> None:
    for dtype in kind.dtypes:
        A = matrix(9, 12, 40, dtype)
        b = np.random.default_rng(2).standard_normal((12, 20)).astype(dtype)
        made = COO(9, 12, 40, *(kind.make(x) for x in (A.rowidx, A.colidx, A.values)))
        for function in (libbnb.spmm_coo, libbnb.spmm_coo_very_sparse):
            out = function(made, kind.make(b))
            assert kind.is_mine(out)
            assert_product(kind.host(out), A, b)
            if kind.name not in ("jax", "mlx"):
                buffer = kind.make(np.full((9, 20), 9, np.float32))
                assert function(made, kind.make(b), out=buffer) is buffer
                assert_product(buffer.array if kind.name == "dlpack" else kind.host(buffer), A, b)


def test_transposed_and_strided_matrices_are_read_where_they_are() -> None:
    A = matrix(9, 12, 40, np.float32)
    b = np.random.default_rng(2).standard_normal((20, 12)).astype(np.float32)
    want = libbnb.spmm_coo(A, np.ascontiguousarray(b.T))
    np.testing.assert_array_equal(libbnb.spmm_coo(A, b.T), want)
    wide = np.zeros((12, 50), np.float32)
    wide[:, 3:23] = b.T
    np.testing.assert_array_equal(libbnb.spmm_coo(A, wide[:, 3:23]), want)


def test_int8_values_and_matrices() -> None:
    A = matrix(9, 12, 40, np.int8)
    b = np.random.default_rng(2).standard_normal((12, 20)).astype(np.float32)
    for scale in (0.25, np.array([0.25], np.float32)):
        out = libbnb.spmm_coo(A, b, values_scale=scale)
        assert out.dtype == np.float32
        assert_product(out, A, b, 0.25)
    codes, stats, _ = libbnb.int8_vectorwise_quant(np.ascontiguousarray(b.T))
    b8 = np.ascontiguousarray(codes.T)
    back = b8.astype(np.float32) * stats * np.float32(1 / 127)
    for values in (np.float16, np.float32):
        A = matrix(9, 12, 40, values)
        for out in (
            libbnb.spmm_coo_very_sparse(A, b8, dequant_stats=stats),
            libbnb.spmm_coo(A, b8, col_stats=stats),
            libbnb.spmm_coo(A, codes.T, col_stats=stats),
        ):
            assert out.dtype == values
            assert_product(out, A, back)


def test_indices_of_other_integer_dtypes() -> None:
    A = matrix(9, 12, 40, np.float32)
    b = np.random.default_rng(2).standard_normal((12, 20)).astype(np.float32)
    want = libbnb.spmm_coo(A, b)
    for dtype in (np.int64, np.int16, np.uint8, np.uint64):
        wide = COO(9, 12, 40, A.rowidx.astype(dtype), A.colidx.astype(dtype), A.values)
        np.testing.assert_array_equal(libbnb.spmm_coo(wide, b), want)
    wide.rowidx = A.rowidx + np.int64(2**32)
    with pytest.raises(libbnb.InvalidArgument, match=r"rowidx has values from 4294967296"):
        libbnb.spmm_coo(wide, b)
    wide.rowidx = A.rowidx.astype(np.float32)
    with pytest.raises(libbnb.InvalidArgument, match="rowidx has dtype float32"):
        libbnb.spmm_coo(wide, b)


@pytest.mark.torch
def test_sparse_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    full = torch.randn(9, 12) * (torch.rand(9, 12) < 0.3)
    b = torch.randn(12, 20)
    out = libbnb.spmm_coo(full.to_sparse(), b)
    torch.testing.assert_close(out, full @ b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(libbnb.spmm_coo(full.to_sparse(), torch.randn(20, 12).t()).shape, out.shape)
    half = libbnb.spmm_coo(full.to_sparse().bfloat16(), b.bfloat16())
    torch.testing.assert_close(half, full.bfloat16() @ b.bfloat16(), rtol=2e-2, atol=2e-2)


@pytest.mark.torch
@pytest.mark.parametrize("function", [libbnb.spmm_coo, libbnb.spmm_coo_very_sparse])
def test_the_gradient_of_the_dense_matrix(function: Any) -> None:
    torch = pytest.importorskip("torch")
    full = torch.randn(9, 12) * (torch.rand(9, 12) < 0.3)
    b = torch.randn(12, 20, requires_grad=True)
    grad = torch.randn(9, 20)
    function(full.to_sparse(), b).backward(grad)
    torch.testing.assert_close(b.grad, full.t() @ grad, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert not function(full.to_sparse(), b).requires_grad
    scaled = libbnb.spmm_coo(full.to_sparse(), b, values_scale=0.5)
    b.grad = None
    scaled.backward(grad)
    torch.testing.assert_close(b.grad, full.t() @ grad / 2, rtol=1e-5, atol=1e-5)


def test_sparse_arrays_of_scipy() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    A = matrix(9, 12, 40, np.float32)
    b = np.random.default_rng(2).standard_normal((12, 20)).astype(np.float32)
    theirs = sparse.coo_matrix((A.values, (A.rowidx, A.colidx)), shape=(9, 12))
    np.testing.assert_array_equal(libbnb.spmm_coo(theirs, b), libbnb.spmm_coo(A, b))


def test_coo_zeros() -> None:
    A = libbnb.coo_zeros(3, 4, 5)
    assert (A.rows, A.cols, A.nnz) == (3, 4, 5)
    assert A.rowidx.dtype == A.colidx.dtype == np.int32 and A.values.dtype == np.float16
    np.testing.assert_array_equal(libbnb.spmm_coo(A, np.ones((4, 2), np.float32)), np.zeros((3, 2)))


@pytest.mark.torch
def test_coo_zeros_on_a_device_of_torch() -> None:
    torch = pytest.importorskip("torch")
    A = libbnb.coo_zeros(3, 4, 5, "cpu", torch.bfloat16)
    assert A.rowidx.dtype == torch.int32 and A.values.dtype == torch.bfloat16
    assert not libbnb.spmm_coo(A, torch.ones(4, 2)).any()


def test_what_is_refused() -> None:
    A, b = matrix(9, 12, 40, np.float32), np.ones((12, 20), np.float32)
    with pytest.raises(libbnb.InvalidArgument, match=r"A has shape \[9, 12\] and B \[13, 20\]: A @ B does not exist"):
        libbnb.spmm_coo(A, np.ones((13, 20), np.float32))
    with pytest.raises(libbnb.InvalidArgument, match=r"out has shape \[20, 9\], must have shape \[9, 20\]"):
        libbnb.spmm_coo(A, b, np.empty((20, 9), np.float32))
    with pytest.raises(libbnb.InvalidArgument, match=r"rowidx has shape \[40\], must have nnz = 41 elements"):
        COO(9, 12, 41, A.rowidx, A.colidx, A.values)
    with pytest.raises(libbnb.InvalidArgument, match="colidx"):
        libbnb.spmm_coo(COO(9, 12, 40, A.rowidx, A.colidx + np.int32(1), A.values), b)
    with pytest.raises(libbnb.InvalidArgument, match="rowidx"):
        libbnb.spmm_coo(COO(9, 12, 40, A.rowidx - np.int32(1), A.colidx, A.values), b)
    with pytest.raises(libbnb.InvalidArgument, match="col_stats"):
        libbnb.spmm_coo(A, b.astype(np.int8), col_stats=np.ones(19, np.float32))
    with pytest.raises(TypeError, match="A is a ndarray, must be a COOSparseTensor"):
        libbnb.spmm_coo(b, b)
    memory = np.ones((40, 20), np.float32)
    with pytest.raises(libbnb.InvalidArgument, match="out overlaps B"):
        libbnb.spmm_coo(A, memory[:12], memory[5:14])


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_from_dense(kind: Kind, threshold: float) -> None:
    for dtype in kind.dtypes:
        full = np.random.default_rng(3).standard_normal((9, 12)).astype(dtype)
        full[full < -1.5], full[2] = 0, 0
        full[0, :2] = [1, -1]
        A = COO.from_dense(kind.make(full), threshold)
        expected = np.nonzero((full != 0) & (np.abs(full) >= threshold))
        assert kind.is_mine(A.values) and (A.rows, A.cols, A.nnz) == (9, 12, len(expected[0]))
        assert [kind.host(indices).dtype for indices in (A.rowidx, A.colidx)] == [np.int32, np.int32]
        np.testing.assert_array_equal([kind.host(A.rowidx), kind.host(A.colidx)], expected)
        np.testing.assert_array_equal(kind.host(A.values), full[expected])
        b = np.ones((12, 3), dtype)
        assert_product(kind.host(libbnb.spmm_coo(A, kind.make(b))), COO(9, 12, A.nnz, *expected, full[expected]), b)


def test_from_dense_of_int8() -> None:
    A = COO.from_dense(np.array([[-128, 5], [6, 0]], np.int8), 6)
    np.testing.assert_array_equal(A.values, np.array([-128, 6], np.int8))


def test_from_dense_of_what_is_no_matrix() -> None:
    for array, threshold, message in (
        (np.ones(3), 0, "2 dimensions"),
        (np.ones((1, 1, 1)), 0, "2 dimensions"),
        (np.ones((2, 2)), -1, "threshold is -1"),
        (np.ones((2, 2)), float("nan"), "threshold is nan"),
    ):
        with pytest.raises(libbnb.InvalidArgument, match=message):
            COO.from_dense(array, threshold)
    with pytest.raises(TypeError, match="A is a list"):
        COO.from_dense([[1.0]])
