# SPDX-License-Identifier: MIT
"""Products of sparse matrices in coordinate form with dense ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb._views import View
from libbnb.arrays import CPU, NUMPY, Array, ArrayKind, as_matrix, kind_of, stream_of
from libbnb.arrays.dtypes import WORDS
from libbnb.functional._products import read_matrix, read_optional, shape_text, write_matrix

__all__ = ["COOSparseTensor", "coo_zeros", "spmm_coo", "spmm_coo_very_sparse"]

_INT32_MAX = 2**31 - 1


@dataclass(eq=False)
class COOSparseTensor:
    """A sparse matrix: ``values[i]`` stands at ``[rowidx[i], colidx[i]]``; values of the same place add up.

    Attributes
    ----------
    rows, cols
        Its shape.
    nnz
        Number of values.
    rowidx, colidx
        int32, nnz elements, in any order.
    values
        A float dtype or int8, nnz elements.
    """

    rows: int
    cols: int
    nnz: int
    rowidx: Array
    colidx: Array
    values: Array

    def __post_init__(self) -> None:
        for name in ("rowidx", "colidx", "values"):
            shape = getattr(getattr(self, name), "shape", None)  # an object that only shows its memory has none
            if shape is not None and prod(shape) != self.nnz:
                raise InvalidArgument(f"{name} has shape {shape_text(shape)}, must have nnz = {self.nnz} elements")

    @classmethod
    def from_dense(cls, A: Array, threshold: float = 0.0) -> COOSparseTensor:
        """The elements of a matrix that are not 0, or of a magnitude of `threshold` or more, row by row.

        Parameters
        ----------
        A
            A float dtype or int8, shape (rows, cols).
        threshold
            0 or more. 0 keeps all elements but zeros.

        Returns
        -------
        COOSparseTensor
            With arrays of the kind and on the device of A. (How many there are is known once the device is done.)

        Raises
        ------
        InvalidArgument
            A is no matrix, or `threshold` is negative.
        TypeError
            A is no array.
        """
        kind = kind_of(A, "A")
        dense = kind.accept(A, "A")
        if len(dense.shape) != 2:
            raise InvalidArgument(f"A has shape {shape_text(dense.shape)}, must have 2 dimensions")
        if not threshold >= 0:
            raise InvalidArgument(f"threshold is {threshold}, must be 0 or more")
        rows, cols = dense.shape
        try:
            rowidx, colidx, values = _large_elements(dense, threshold)
        except TypeError:  # MLX has no array API namespace
            rowidx, colidx, values = (
                kind.from_numpy(x, dense) for x in _large_elements(kind.to_numpy(dense), threshold)
            )
        return cls(rows, cols, values.shape[0], rowidx, colidx, values)


def _large_elements(A: Array, threshold: float) -> tuple[Array, Array, Array]:
    """int32 rows and columns, and values, of the elements that `COOSparseTensor.from_dense` keeps."""
    import array_api_compat

    xp: Any = array_api_compat.array_namespace(A)
    rowidx, colidx = xp.nonzero(A != 0 if threshold == 0 else (A >= threshold) | (A <= -threshold))
    return xp.astype(rowidx, xp.int32), xp.astype(colidx, xp.int32), A[rowidx, colidx]


def coo_zeros(rows: int, cols: int, nnz: int, device: Any = None, dtype: Any = "float16") -> COOSparseTensor:
    """A `COOSparseTensor` with room for `nnz` values, all of them 0 at [0, 0].

    Parameters
    ----------
    rows, cols, nnz
        Its shape and number of values.
    device
        None for NumPy arrays, else a device of PyTorch.
    dtype
        Of the values: a name or a dtype object.

    Returns
    -------
    COOSparseTensor
    """
    if device is None:
        places = (np.zeros(nnz, np.int32), np.zeros(nnz, np.int32))
        return COOSparseTensor(rows, cols, nnz, places[0], places[1], np.zeros(nnz, NUMPY.dtype(dtype, "dtype")))
    import torch

    values = torch.zeros(nnz, device=device)
    values = values.to(kind_of(values, "values").dtype(dtype, "dtype"))
    rowidx, colidx = (torch.zeros(nnz, dtype=torch.int32, device=device) for _ in range(2))
    return COOSparseTensor(rows, cols, nnz, rowidx, colidx, values)


def spmm_coo(
    cooA: COOSparseTensor | Any,
    B: Array,
    out: Array | None = None,
    values_scale: Array | float | None = None,
    col_stats: Array | None = None,
) -> Array:
    """The product of a sparse and a dense matrix: ``A @ B``. Tensors of PyTorch that require grad get one for B.

    Parameters
    ----------
    cooA
        Shape (M, K): a `COOSparseTensor`, a sparse COO tensor of PyTorch or a COO array of SciPy.
    B
        A float dtype or int8, shape (K, N). Transposed views and rows that are apart are read where they are.
    out
        Where the product goes: a float dtype, shape (M, N). A new array if None: of the dtype of B; if that is int8, of
        the values' dtype; if that is int8, too, float32.
    values_scale
        float32, one element, or a number: what values are multiplied by (for int8 values their absmax / 127).
    col_stats
        For int8 B: float32, N elements: B counts as ``B * col_stats / 127``.

    Returns
    -------
    array
        Shape (M, N), of the kind and on the device of B.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, an index is out of range, or an argument has a wrong dtype, size or place. Nothing was
        written.
    TypeError
        Something is no array, or not of the library of B.
    """
    return _dispatch(_as_coo(cooA), B, out, values_scale, col_stats, like_values=False)


def spmm_coo_very_sparse(
    cooA: COOSparseTensor | Any, B: Array, dequant_stats: Array | None = None, out: Array | None = None
) -> Array:
    """`spmm_coo` with the arguments that bitsandbytes has for very sparse matrices: `dequant_stats` are `col_stats`.

    A new `out` has the dtype of the values, or of B if they are int8.
    """
    return _dispatch(_as_coo(cooA), B, out, None, dequant_stats, like_values=True)


def _dispatch(
    A: COOSparseTensor, B: Array, out: Array | None, values_scale: Any, col_stats: Array | None, like_values: bool
) -> Array:
    kind = kind_of(B, "B")
    if kind.wants_operator(B):
        from libbnb.autograd._sparse import multiply_with_gradients

        return multiply_with_gradients(A, B, out, values_scale, col_stats, like_values)
    return multiply_sparse(kind, A, B, out, values_scale, col_stats, like_values)


def multiply_sparse(
    kind: ArrayKind,
    A: COOSparseTensor,
    B: Array,
    out: Array | None,
    values_scale: Any,
    col_stats: Array | None,
    like_values: bool,
) -> Array:
    """`spmm_coo` by the C library: no gradients. A new result has the dtype of the values or of B."""
    dense = kind.accept(B, "B")
    transposed = kind.is_transposed(dense)
    dense, b = read_matrix(kind, kind.swapped(dense) if transposed else dense, "B", strided=True)
    k, n = (b[1], b[0]) if transposed else (b[0], b[1])
    if A.cols != k:
        raise InvalidArgument(f"A has shape [{A.rows}, {A.cols}] and B [{k}, {n}]: A @ B does not exist")
    rowidx, r = _read_indices(kind, A.rowidx, "rowidx", b)
    colidx, c = _read_indices(kind, A.colidx, "colidx", b)
    values, v = kind.read(A.values, "values")
    scale, s = _read_scale(kind, values_scale, dense, b)
    col_stats, stats = read_optional(kind, col_stats, "col_stats")
    if out is None:
        dtypes = (values.dtype, dense.dtype) if like_values else (dense.dtype, values.dtype)
        floats = [dtype for dtype in dtypes if kind.dtype_name(dtype) != "int8"]
        out, o = kind.fresh((A.rows, n), floats[0] if floats else kind.float32, dense)
        o = as_matrix(o, A.rows, n)
    else:
        o = write_matrix(kind, out, (A.rows, n), A.rows, n)
    call(lib.cgemm_coo, stream_of(kind, dense, b), r, c, v, s, b, stats, int(transposed), o)
    del rowidx, colidx, scale  # until here they kept the memory of their views
    return out


def _as_coo(A: Any) -> COOSparseTensor:
    if isinstance(A, COOSparseTensor):
        return A
    if getattr(A, "is_sparse", False):  # PyTorch
        if A.dim() != 2 or A.sparse_dim() != 2:
            raise InvalidArgument(f"A has shape {shape_text(A.shape)}, must have 2 dimensions, both sparse")
        indices, values = A._indices(), A._values()
        return COOSparseTensor(A.shape[0], A.shape[1], values.shape[0], indices[0], indices[1], values)
    if all(hasattr(A, name) for name in ("row", "col", "data", "shape")):  # SciPy
        return COOSparseTensor(A.shape[0], A.shape[1], len(A.data), A.row, A.col, A.data)
    raise TypeError(
        f"A is a {type(A).__name__}, must be a COOSparseTensor, a sparse COO tensor or a COO array of SciPy"
    )


def _read_indices(kind: ArrayKind, indices: Array, name: str, place: View) -> tuple[Array, View]:
    """Positions as int32, whatever integers they were."""
    array, view = kind.read(indices, name)
    if view[6] == WORDS["int32"]:
        return array, view
    host = kind.to_numpy(indices)
    if host.dtype.kind not in "iu":
        raise InvalidArgument(f"{name} has dtype {host.dtype}, must be an integer one")
    if host.size and not (0 <= host.min() and host.max() <= _INT32_MAX):
        raise InvalidArgument(f"{name} has values from {host.min()} to {host.max()}, must be in 0 .. {_INT32_MAX}")
    narrow = np.ascontiguousarray(host, np.int32)
    return NUMPY.read(narrow, name) if place[5] == CPU else kind.read(kind.from_numpy(narrow, array), name)


def _read_scale(kind: ArrayKind, scale: Any, like: Array, place: View) -> tuple[Any, View | None]:
    if not isinstance(scale, (int, float)):
        return read_optional(kind, scale, "values_scale")
    one = np.array([scale], np.float32)
    return NUMPY.read(one, "values_scale") if place[5] == CPU else kind.read(kind.from_numpy(one, like), "values_scale")
