# SPDX-License-Identifier: MIT
"""Products of int8 matrices, and LLM.int8() (arXiv:2208.07339), which keeps outlier columns in full precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb._views import View, seen_as, vector_of
from libbnb.arrays import CPU, NUMPY, Array, ArrayKind, kind_of, stream_of
from libbnb.arrays.dtypes import WORDS, matrix_word, name_of
from libbnb.functional._products import read_factors, read_optional, result, shape_text
from libbnb.functional._torch import compiling, traced
from libbnb.functional.int8 import checked_threshold, int8_vectorwise_quant
from libbnb.matmul_state import MatmulLtState

__all__ = [
    "batched_igemm",
    "igemm",
    "int8_linear_matmul",
    "int8_mixed_scaled_mm",
    "int8_scaled_mm",
    "linear_int8",
    "matmul",
]


def int8_linear_matmul(A: Array, B: Array, out: Array | None = None, dtype: Any = "int32") -> Array:
    """The exact product of two int8 matrices: ``A @ B.T`` in int32.

    Parameters
    ----------
    A
        int8, shape (..., K). Rows of a matrix may be apart.
    B
        int8, shape (N, K).
    out
        Where the product goes: int32, shape (..., N). A new array if None.
    dtype
        int32; there is no other.

    Returns
    -------
    array
        int32, shape (..., N).

    Raises
    ------
    InvalidArgument
        Shapes do not fit, K is so large that a sum could overflow, or an argument has a wrong dtype, size or place.
        Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().int8_linear_matmul(A, B, out, dtype)
    if name_of(dtype, "dtype") != "int32":
        raise InvalidArgument(f"int8_linear_matmul: dtype is {dtype!r}, must be int32")
    kind = kind_of(A, "A")
    left, a, right, b = read_factors(kind, A, B)
    out, o = result(kind, out, left, a[0], b[0], kind.int32)
    call(lib.cgemm_int8, stream_of(kind, left, a), a, b, o)
    del right  # until here it kept the memory of its view
    return out


def int8_scaled_mm(
    A: Array,
    B: Array,
    row_stats: Array,
    col_stats: Array,
    bias: Array | None = None,
    dtype: Any = None,
    out: Array | None = None,
) -> Array:
    """The product of two int8 matrices, scaled back: ``(A @ B.T) * (row_stats * col_stats) / (127 * 127) + bias``.

    Parameters
    ----------
    A
        int8, shape (..., K): codes of `int8_vectorwise_quant`. Rows of a matrix may be apart.
    B
        int8, shape (N, K).
    row_stats
        float32, one element per row of A.
    col_stats
        float32, one element per row of B.
    bias
        float32, float16 or bfloat16, N elements; none if None.
    dtype
        Dtype of a new `out`: a float dtype, as a name or an object of the array library; float16 if None.
    out
        Where the product goes: a float dtype, shape (..., N). A new array if None.

    Returns
    -------
    array
        Shape (..., N).

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().int8_scaled_mm(A, B, row_stats, col_stats, bias, dtype, out)
    kind = kind_of(A, "A")
    left, a, right, b = read_factors(kind, A, B)
    row_stats, r = kind.read(row_stats, "row_stats")
    col_stats, c = kind.read(col_stats, "col_stats")
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, left, a[0], b[0], kind.float16 if dtype is None else kind.dtype(dtype, "dtype"))
    call(lib.cgemm_int8_scaled, stream_of(kind, left, a), a, b, r, c, added, o)
    del right  # until here it kept the memory of its view
    return out


def int8_mixed_scaled_mm(
    A: Array,
    CA: Array,
    CB: Array,
    SCA: Array,
    SCB: Array,
    outlier_cols: Array | None = None,
    bias: Array | None = None,
    out: Array | None = None,
) -> tuple[Array, Array | None]:
    """`int8_scaled_mm` plus the product of the columns of A that hold outliers, which are multiplied as they are.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K): what was quantized.
    CA, SCA
        What `int8_vectorwise_quant` made of A: int8 codes of its shape, 0 in outlier columns, and float32, one per row.
    CB, SCB
        The same of the weights: int8, shape (N, K), and float32, N elements.
    outlier_cols
        int64, in [0, K), ascending: the columns with outliers. None means there are none.
    bias
        float32, float16 or bfloat16, N elements; none if None.
    out
        Where the product goes: the dtype of A, shape (..., N). A new array if None.

    Returns
    -------
    out : array
        Shape (..., N), dtype of A.
    subA : array or None
        The outlier columns of A, as training needs them: shape (rows, number of outlier columns); None without
        `outlier_cols`.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, a column is not one of A's, or an argument has a wrong dtype, size or place. Nothing was
        written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().int8_mixed_scaled_mm(A, CA, CB, SCA, SCB, outlier_cols, bias, out)
    kind = kind_of(A, "A")
    source, a = kind.read_rows(A, "A")
    left, ca, right, cb = read_factors(kind, CA, CB, ("CA", "CB"))
    if tuple(left.shape) != tuple(source.shape):
        raise InvalidArgument(f"CA has shape {shape_text(left.shape)}, must have that of A, {shape_text(source.shape)}")
    row_stats, sa = kind.read(SCA, "SCA")
    col_stats, sb = kind.read(SCB, "SCB")
    columns, indices = (None, None) if outlier_cols is None else _read_indices(kind, outlier_cols, a)
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, source, a[0], cb[0], source.dtype)
    call(lib.cgemm_int8_mixed, stream_of(kind, source, a), a, ca, cb, sa, sb, indices, added, o)
    del left, right, row_stats, col_stats, columns  # until here they kept the memory of their views
    return out, None if outlier_cols is None else kind.columns(kind.as_rows(source), outlier_cols)


def _read_indices(kind: ArrayKind, indices: Array, place: View) -> tuple[Array, View]:
    """Positions as int64. JAX has them as int32, unless it was told to use 64 bits."""
    array, view = kind.read(indices, "outlier_cols")
    if view[6] != WORDS["int32"] or view[5] != place[5]:
        return array, view
    wide = kind.to_numpy(array).astype(np.int64)
    if place[5] == CPU:
        return NUMPY.read(wide, "outlier_cols")
    halves, view = kind.read(kind.from_numpy(wide.view(np.int32), array), "outlier_cols")
    return halves, vector_of(view, wide.size, view[5], WORDS["int64"])


def linear_int8(
    A: Array,
    CB: Array,
    SCB: Array,
    threshold: float = 0.0,
    bias: Array | None = None,
    out: Array | None = None,
) -> Array:
    """LLM.int8() in one call: A is quantized row by row, multiplied by int8 weights and scaled back.

    Columns of A with an element of at least `threshold` in magnitude are not quantized: they are multiplied as they are
    by the dequantized weights. Tensors of PyTorch that require grad get gradients for A and bias; torch.compile sees
    one operator.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K). Rows of a matrix may be apart.
    CB, SCB
        Weights of shape (N, K) as `int8_vectorwise_quant` makes them: int8, and float32, N elements.
    threshold
        0 or more; 0 means there are no outliers.
    bias
        float32, float16 or bfloat16, N elements; none if None.
    out
        Where the product goes: the dtype of A, shape (..., N). A new array if None.

    Returns
    -------
    array
        Shape (..., N), of the kind, dtype and device of A.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if not compiling():
        kind = kind_of(A, "A")
        if not kind.wants_operator(A, bias):
            return multiply_int8(kind, A, CB, SCB, threshold, bias, out)
    from libbnb.autograd._functions import linear_int8_by_operator

    return linear_int8_by_operator(A, CB, SCB, threshold, bias, out)


def multiply_int8(
    kind: ArrayKind,
    A: Array,
    CB: Array,
    SCB: Array,
    threshold: float,
    bias: Array | None,
    out: Array | None,
) -> Array:
    """`linear_int8` by the C library: no gradients."""
    limit = checked_threshold(threshold)
    left, a, right, b = read_factors(kind, A, CB, ("A", "CB"))
    stats, s = kind.read(SCB, "SCB")
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, left, a[0], b[0], left.dtype)
    call(lib.clinear_int8, stream_of(kind, left, a), a, b, s, limit, added, o)
    del right, stats  # until here they kept the memory of their views
    return out


def matmul(
    A: Array,
    B: Array | None,
    out: Array | None = None,
    state: MatmulLtState | None = None,
    threshold: float = 0.0,
    bias: Array | None = None,
) -> Array:
    """LLM.int8(): the product of a linear layer, ``A @ B.T + bias``, with A and B quantized to int8 row by row.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K).
    B
        The weights: a float dtype, shape (N, K). They are quantized into `state`, where the next call finds them; not
        looked at, and may be None, if `state` has them already and ``state.has_fp16_weights`` is False.
    out
        Where the product goes: the dtype of A, shape (..., N). A new array if None.
    state
        What lives from call to call; a new one if None.
    threshold
        If above 0 it becomes ``state.threshold``: columns of A with an element of that magnitude or more are not
        quantized.
    bias
        float32, float16 or bfloat16, N elements; none if None.

    Returns
    -------
    array
        Shape (..., N), of the kind, dtype and device of A.

    Notes
    -----
    For tensors of PyTorch there are gradients of A, B and bias. Where they are wanted and ``state.is_training`` is
    True, CPUs multiply A as it is by the dequantized weights (`libbnb.autograd.MatMul8bitFp`), as in bitsandbytes.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    state = MatmulLtState() if state is None else state
    if threshold > 0.0:
        state.threshold = threshold
    if not compiling():
        kind = kind_of(A, "A")
        if not kind.wants_operator(A, B, bias):
            if weights_are_stale(state, B):
                if B is None:
                    raise InvalidArgument("matmul: B is None, and state has no quantized weights")
                state.CB, state.SCB, _ = int8_vectorwise_quant(B)
            return multiply_int8(kind, A, state.CB, state.SCB, state.threshold, bias, out)
    from libbnb.autograd._functions import matmul_8bit_with_gradients

    return matmul_8bit_with_gradients(A, B, out, bias, state)


def weights_are_stale(state: MatmulLtState, B: Array | None) -> bool:
    """Whether weights have to be quantized into a state: it has none, or they may have changed since.

    Weights in full precision change from step to step of training; while gradients are accumulated they do not.
    """
    if state.CB is None or state.SCB is None:
        return True
    return state.has_fp16_weights and state.is_training and getattr(B, "grad", None) is None


# ---------------------------------------------------------------------------------------------------------------------
# Products that are not of linear layers


def igemm(
    A: Array,
    B: Array,
    out: Array | None = None,
    transposed_A: bool = False,
    transposed_B: bool = False,
) -> Array:
    """The exact product of int8 matrices in int32: ``A @ B``.

    Parameters
    ----------
    A
        int8: (M, K), or (batch, M, K).
    B
        int8: (K, N), or (batch, K, N) for `batched_igemm`. For A of shape (batch, M, I) and B of shape (batch, M, O) it
        is ``einsum("bmi,bmo->io")``, the gradient of a linear layer.
    out
        Where the product goes: int32. A new array if None.
    transposed_A, transposed_B
        Whether the last two axes of A or B are to be exchanged first.

    Returns
    -------
    array
        int32: (M, N), (batch, M, N), or (I, O).

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    kind = kind_of(A, "A")
    left, right = _oriented(kind, A, "A", transposed_A), _oriented(kind, B, "B", transposed_B)
    a_shape, b_shape = tuple(left.shape), tuple(right.shape)
    if len(a_shape) == 3 and len(b_shape) == 3:
        if a_shape[0] == b_shape[0] and a_shape[2] == b_shape[1]:
            return batched_igemm(left, right, out)
        if a_shape[:2] == b_shape[:2]:
            left, right = kind.swapped(kind.as_rows(left)), kind.as_rows(right)
        else:
            raise _no_product(a_shape, b_shape)
    elif len(b_shape) != 2 or len(a_shape) not in (2, 3) or a_shape[-1] != b_shape[0]:
        raise _no_product(a_shape, b_shape)
    return int8_linear_matmul(left, kind.swapped(right), out)


def batched_igemm(
    A: Array,
    B: Array,
    out: Array | None = None,
    transposed_A: bool = False,
    transposed_B: bool = False,
) -> Array:
    """The exact products of two batches of int8 matrices in int32: ``A @ B``, matrix by matrix.

    Parameters
    ----------
    A
        int8, shape (batch, M, K).
    B
        int8, shape (batch, K, N).
    out
        Where the products go: int32, shape (batch, M, N). A new array if None.
    transposed_A, transposed_B
        Whether the last two axes of A or B are to be exchanged first.

    Returns
    -------
    array
        int32, shape (batch, M, N).

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype, size or place.
    TypeError
        Something is no array, or not of the library of A.
    """
    kind = kind_of(A, "A")
    left, right = _oriented(kind, A, "A", transposed_A), _oriented(kind, B, "B", transposed_B)
    a_shape, b_shape = tuple(left.shape), tuple(right.shape)
    if len(a_shape) != 3 or len(b_shape) != 3 or a_shape[0] != b_shape[0] or a_shape[2] != b_shape[1]:
        raise _no_product(a_shape, b_shape)
    batch, m, k = a_shape
    n = b_shape[2]
    left, a = kind.read(left, "A")
    right, b = kind.read(kind.swapped(right), "B")
    out, o = result(kind, out, left, batch * m, n, kind.int32)
    stream = stream_of(kind, left, a)
    for i in range(batch):
        one_a = seen_as(a, m, k, k, matrix_word(a[6]), skip=i * m * k)
        one_b = seen_as(b, n, k, k, matrix_word(b[6]), skip=i * n * k)
        one_out = seen_as(o, m, n, n, o[6], skip=4 * i * m * n)
        call(lib.cgemm_int8, stream, one_a, one_b, one_out)
    return out


def _oriented(kind: ArrayKind, array: Array, name: str, transposed: bool) -> Array:
    array = kind.accept(array, name)
    return kind.swapped(array) if transposed else array


def _no_product(a: tuple[int, ...], b: tuple[int, ...]) -> InvalidArgument:
    return InvalidArgument(f"A has shape {shape_text(a)} and B {shape_text(b)}: A @ B does not exist")
