# SPDX-License-Identifier: MIT
"""bitsandbytes' C symbols for int8 and sparse products: column-major as in BLAS, and coordinate form."""

from __future__ import annotations

import ctypes
from itertools import product

import numpy as np
import pytest

import c_symbols as c
from c_symbols import pointer


@pytest.fixture(scope="module")
def ours() -> ctypes.CDLL:
    return c.load_ours()


def codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-128, 128, shape, dtype=np.int8)


class ColumnMajor:
    """A rows x cols matrix in column-major memory with a leading dimension, cut out of a buffer of known bytes."""

    def __init__(self, values: np.ndarray, ld: int) -> None:
        self.rows, self.cols = values.shape
        self.ld = ld
        self.memory = np.full(max(ld * self.cols, 1), 77, values.dtype)
        self.view()[:] = values

    def view(self) -> np.ndarray:
        return self.memory[: self.ld * self.cols].reshape(self.cols, self.ld).T[: self.rows]

    def rest(self) -> np.ndarray:
        return self.memory[: self.ld * self.cols].reshape(self.cols, self.ld)[:, self.rows :]


SIZES = [(1, 1, 1), (5, 3, 7), (17, 9, 64), (40, 33, 130), (6, 4, 0), (0, 3, 5), (3, 1, 70)]


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
@pytest.mark.parametrize(("transpose_a", "transpose_b", "gap"), list(product([False, True], [False, True], [0, 3])))
def test_igemm(ours: ctypes.CDLL, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, gap: int) -> None:
    a, b = codes(m, k), codes(k, n)
    stored_a, stored_b = (a.T if transpose_a else a), (b.T if transpose_b else b)
    left = ColumnMajor(stored_a, max(stored_a.shape[0], 1) + gap)
    right = ColumnMajor(stored_b, max(stored_b.shape[0], 1) + gap)
    out = ColumnMajor(np.zeros((m, n), np.int32), max(m, 1) + gap)
    arrays = [pointer(x.memory) for x in (left, right, out)]
    status = ours.cigemm(ours.get_context(), transpose_a, transpose_b, m, n, k, *arrays, left.ld, right.ld, out.ld)
    assert status == c.OK, c.last_error(ours)
    assert (out.view() == a.astype(np.int32) @ b.astype(np.int32)).all()
    assert (out.rest() == 77).all()


@pytest.mark.parametrize(("transpose_a", "transpose_b"), list(product([False, True], [False, True])))
def test_batched_igemm(ours: ctypes.CDLL, transpose_a: bool, transpose_b: bool) -> None:
    m, n, k, count = 6, 5, 19, 4
    a, b = codes(count, m, k), codes(1, k, n)  # one B for all: its stride is 0
    left = np.ascontiguousarray(a if transpose_a else a.transpose(0, 2, 1))
    right = np.ascontiguousarray(b if transpose_b else b.transpose(0, 2, 1))
    out = np.zeros((count, n, m + 2), np.int32)
    arrays = [pointer(x) for x in (left, right, out)]
    lda, ldb = (k if transpose_a else m), (n if transpose_b else k)
    strides = (m * k, 0, n * (m + 2))
    call = ours.cbatched_igemm
    assert call(None, transpose_a, transpose_b, m, n, k, *arrays, lda, ldb, m + 2, *strides, count) == c.OK
    assert (out[:, :, :m].transpose(0, 2, 1) == a.astype(np.int32) @ b.astype(np.int32)).all()
    assert (out[:, :, m:] == 0).all()
    overlapping = (m * k, 0, n)
    assert call(None, transpose_a, transpose_b, m, n, k, *arrays, lda, ldb, m + 2, *overlapping, count) != c.OK
    assert "overlap" in c.last_error(ours)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((-1, 2, 3, 4, 4, 4), "negative"),
        ((3, 2, 3, 1, 3, 3), "leading dimension of A"),
        ((3, 2, 3, 3, 3, 2), "leading dimension of C"),
    ],
)
def test_igemm_refuses(ours: ctypes.CDLL, arguments: tuple[int, ...], word: str) -> None:
    m, n, k, lda, ldb, ldc = arguments
    a, out = codes(64), np.full(64, 5, np.int32)
    assert ours.cigemm(None, False, False, m, n, k, pointer(a), pointer(a), pointer(out), lda, ldb, ldc) != c.OK
    assert word in c.last_error(ours)
    assert "cigemm" in c.last_error(ours)
    assert (out == 5).all()


@pytest.mark.parametrize(("inner", "tokens", "outputs"), [(64, 5, 7), (33, 1, 40), (130, 20, 17), (4, 0, 3)])
def test_igemmlt(ours: ctypes.CDLL, inner: int, tokens: int, outputs: int) -> None:
    weights, rows = codes(outputs, inner), codes(tokens, inner)
    want = rows.astype(np.int32) @ weights.astype(np.int32).T
    sizes, strides = (inner, tokens, outputs), (inner, inner, outputs)

    def call(name: str, out: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        arrays = [weights, rows, out, scale]
        assert getattr(ours, name)(None, *sizes, *map(pointer, arrays), *strides, None) == 0, c.last_error(ours)
        return out

    assert (call("cigemmlt_32", np.zeros((tokens, outputs), np.int32), None) == want).all()
    saturated = np.clip(want, -128, 127)
    assert (call("cigemmlt_8", np.zeros((tokens, outputs), np.int8), None) == saturated).all()
    scale = np.linspace(1e-4, 2e-3, outputs, dtype=np.float32)
    scaled = np.clip(np.rint(want.astype(np.float32) * scale), -128, 127)
    assert (call("cigemmlt_8_rowscale", np.zeros((tokens, outputs), np.int8), scale) == scaled).all()
    if tokens:
        out = np.zeros((tokens, outputs), np.int8)
        arrays = [weights, rows, out, None]
        assert ours.cigemmlt_8_rowscale(None, *sizes, *map(pointer, arrays), *strides, None) == 1
        assert "row_scale" in c.last_error(ours)


@pytest.mark.torch
def test_igemmlt_is_what_torch_computes(ours: ctypes.CDLL) -> None:
    torch = pytest.importorskip("torch")
    weights, rows = codes(96, 320), codes(33, 320)
    out = np.zeros((33, 96), np.int32)
    arrays = [weights, rows, out, None]
    assert ours.cigemmlt_32(None, 320, 33, 96, *map(pointer, arrays), 320, 320, 96, None) == 0
    assert torch.equal(torch.from_numpy(out), torch._int_mm(torch.from_numpy(rows), torch.from_numpy(weights).t()))


def sparse(rows: int, cols: int, nnz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(nnz)
    places = np.sort(rng.choice(rows * cols, nnz, replace=False))
    values = rng.standard_normal(nnz).astype(np.float16)
    dense = np.zeros((rows, cols))
    dense[places // cols, places % cols] = values
    return (places // cols).astype(np.int32), (places % cols).astype(np.int32), values, dense


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("rows", "inner", "cols", "nnz"), [(5, 7, 9, 12), (1, 30, 70, 4), (40, 20, 33, 100), (3, 4, 5, 0)]
)
def test_spmm_coo(ours: ctypes.CDLL, transposed: bool, rows: int, inner: int, cols: int, nnz: int) -> None:
    rowidx, colidx, values, a = sparse(rows, inner, nnz)
    b = np.random.default_rng(1).standard_normal((inner, cols)).astype(np.float16)
    wide = np.zeros((cols, inner + 2) if transposed else (inner, cols + 2), np.float16)
    wide[:, :-2] = b.T if transposed else b
    out = np.full((rows, cols + 3), 7, np.float16)
    arrays = [pointer(x) for x in (rowidx, colidx, values)]
    matrices = (wide.shape[1], pointer(wide), cols + 3, pointer(out))
    status = ours.cspmm_coo(ours.get_cusparse(), *arrays, nnz, rows, inner, cols, *matrices, transposed)
    assert status == c.OK, c.last_error(ours)
    want = a @ b.astype(np.float64)
    bound = np.abs(a) @ np.abs(b.astype(np.float64)) * 2e-6 + np.abs(want) * 2**-11 + 1e-7
    assert (np.abs(out[:, :cols] - want) <= bound).all()
    assert (out[:, cols:] == 7).all()


@pytest.mark.parametrize("kind", ["fp16", "int8", "int8 as it is"])
def test_spmm_coo_very_sparse(ours: ctypes.CDLL, kind: str) -> None:
    rows, inner, cols, nnz = 12, 30, 50, 40
    rowidx, colidx, values, a = sparse(rows, inner, nnz)
    _, counts = np.unique(rowidx, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = [counts[order].astype(np.int32), order.astype(np.int32), counts.cumsum().astype(np.int32)]
    stats = np.random.default_rng(3).uniform(0.1, 2.0, cols).astype(np.float32)
    floats = np.random.default_rng(2).standard_normal((inner, cols)).astype(np.float16)
    b = floats if kind == "fp16" else codes(inner, cols)
    dense = b.astype(np.float64) * (stats / 127.0 if kind == "int8" else 1.0)
    before = np.random.default_rng(4).standard_normal((rows, cols)).astype(np.float16)
    out = before.copy()
    arrays = [*shares, rowidx, colidx, values, b, out, None if kind == "int8 as it is" else stats]
    call = getattr(ours, f"cspmm_coo_very_sparse_naive_{'fp16' if kind == 'fp16' else 'int8'}")
    assert call(*map(pointer, arrays), len(counts), nnz, rows, inner, cols) == c.OK, c.last_error(ours)
    want = before.astype(np.float64) + a @ dense
    bound = (np.abs(a) @ np.abs(dense) + np.abs(before)) * 2e-6 + np.abs(want) * 2**-11 + 1e-7
    assert (np.abs(out - want) <= bound).all()


def test_indices_outside_are_errors(ours: ctypes.CDLL) -> None:
    rowidx, colidx, values = np.array([0, 3], np.int32), np.array([1, 1], np.int32), np.ones(2, np.float16)
    b, out = np.ones((2, 4), np.float16), np.full((3, 4), 7, np.float16)
    arrays = [pointer(x) for x in (rowidx, colidx, values)]
    assert ours.cspmm_coo(None, *arrays, 2, 3, 2, 4, 4, pointer(b), 4, pointer(out), False) == c.INVALID_ARGUMENT
    assert "cspmm_coo: rowidx[1] is 3" in c.last_error(ours)
    assert (out == 7).all()
