# SPDX-License-Identifier: MIT
"""LLM.int8() (arXiv:2208.07339): rows, and columns, of a matrix scaled to -127 .. 127."""

from __future__ import annotations

import math
from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb._views import View
from libbnb.arrays import Array, ArrayKind, as_matrix, kind_of, rows_and_cols, stream_of
from libbnb.functional._torch import compiling, traced

__all__ = ["int8_double_quant", "int8_mm_dequant", "int8_vectorwise_dequant", "int8_vectorwise_quant"]


def checked_threshold(threshold: Any) -> float:
    """A threshold as a float of 0 or more, 0 being none."""
    value = float(threshold)
    if not value >= 0.0 or math.isinf(value):
        raise InvalidArgument(f"threshold is {threshold}, must be 0 or more and finite")
    return value


def _output(
    kind: ArrayKind, array: Array | None, shape: tuple[int, ...], dtype: Any, like: Array, name: str
) -> tuple[Array, View]:
    if array is None:
        return kind.fresh(shape, dtype, like)
    return array, kind.write(array, name)


def int8_vectorwise_quant(A: Array, threshold: float = 0.0) -> tuple[Array, Array, Array | None]:
    """Quantizes each row of a matrix to int8: ``round(A * 127 / row_stats)``, halves to even.

    Parameters
    ----------
    A
        float32, float16 or bfloat16; the last axis is a row. A is never written to.
    threshold
        Elements of this magnitude or more are outliers: the columns they are in become 0, and they do not count for the
        statistics of their rows. 0 means none are.

    Returns
    -------
    out : array
        int8, shape of A.
    row_stats : array
        float32, shape (rows,): the largest magnitude of each row.
    outlier_cols : array or None
        int64: the columns with outliers, ascending; None if `threshold` is 0.

    Raises
    ------
    InvalidArgument
        A has a wrong dtype or no dimensions, or `threshold` is negative.
    TypeError
        A is no array.
    """
    if compiling():
        return traced().int8_vectorwise_quant(A, threshold)
    kind = kind_of(A, "A")
    limit = checked_threshold(threshold)
    source, a = kind.read_rows(A, "A")
    shape = tuple(source.shape)
    rows, cols = a[0], a[1]
    out, o = kind.fresh(shape, kind.int8, source)
    row_stats, r = kind.fresh((rows,), kind.float32, source)
    mask, m = kind.fresh((cols,), kind.uint8, source) if limit > 0.0 else (None, None)
    call(lib.cquantize_int8_vectorwise, stream_of(kind, source, a), a, limit, as_matrix(o, rows, cols), r, m)
    return out, row_stats, None if mask is None else kind.indices(mask)


def int8_vectorwise_dequant(A: Array, stats: Array, out: Array | None = None) -> Array:
    """The inverse of `int8_vectorwise_quant`: ``A * stats / 127``.

    Parameters
    ----------
    A
        int8; the last axis is a row.
    stats
        float32, one element per row.
    out
        Where the values go: a float dtype, as many elements as A. A new float32 array if None.

    Returns
    -------
    array
        The values, of A's shape.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().int8_vectorwise_dequant(A, stats, out)
    kind = kind_of(A, "A")
    source, a = kind.read_rows(A, "A")
    shape = tuple(source.shape)
    stats, s = kind.read(stats, "stats")
    out, o = _output(kind, out, shape, kind.float32, source, "out")
    call(lib.cdequantize_int8_vectorwise, stream_of(kind, source, a), a, s, _same_rows(o, a, "out"))
    return out


def int8_double_quant(
    A: Array,
    col_stats: Array | None = None,
    row_stats: Array | None = None,
    out_col: Array | None = None,
    out_row: Array | None = None,
    threshold: float = 0.0,
) -> tuple[Array, Array, Array, Array, Array | None]:
    """Quantizes a matrix to int8 twice: with one scale per row, and with one scale per column.

    Parameters
    ----------
    A
        float32, float16 or bfloat16; the last axis is a row. A is never written to.
    col_stats, row_stats
        Where the largest magnitudes of columns and rows go: float32, shapes (cols,) and (rows,). New arrays if None.
    out_col, out_row
        Where the codes go: int8, shape of A. New arrays if None.
    threshold
        Elements of this magnitude or more are outliers: 0 in both outputs, whole columns of them in `out_row`, and not
        counted in statistics. 0 means none are.

    Returns
    -------
    out_row, out_col, row_stats, col_stats : array
    outlier_cols : array or None
        int64: the columns with outliers, ascending; None if `threshold` is 0.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().int8_double_quant(A, col_stats, row_stats, out_col, out_row, threshold)
    kind = kind_of(A, "A")
    limit = checked_threshold(threshold)
    source, a = kind.read_rows(A, "A")
    shape = tuple(source.shape)
    rows, cols = a[0], a[1]
    out_row, o_row = _output(kind, out_row, shape, kind.int8, source, "out_row")
    out_col, o_col = _output(kind, out_col, shape, kind.int8, source, "out_col")
    row_stats, s_row = _output(kind, row_stats, (rows,), kind.float32, source, "row_stats")
    col_stats, s_col = _output(kind, col_stats, (cols,), kind.float32, source, "col_stats")
    mask, m = kind.fresh((cols,), kind.uint8, source) if limit > 0.0 else (None, None)
    call(
        lib.cquantize_int8_double,
        stream_of(kind, source, a),
        a,
        limit,
        _same_rows(o_row, a, "out_row"),
        _same_rows(o_col, a, "out_col"),
        s_row,
        s_col,
        m,
    )
    return out_row, out_col, row_stats, col_stats, None if mask is None else kind.indices(mask)


def int8_mm_dequant(
    A: Array, row_stats: Array, col_stats: Array, out: Array | None = None, bias: Array | None = None
) -> Array:
    """Scales the int32 product of two int8 matrices back: ``A * (row_stats * col_stats) / (127 * 127) + bias``.

    Parameters
    ----------
    A
        int32; the last axis is a row.
    row_stats
        float32, one element per row of A.
    col_stats
        float32, one element per column of A.
    out
        Where the values go: a float dtype, as many elements as A. A new float16 array if None.
    bias
        A float dtype, one element per column; none if None.

    Returns
    -------
    array
        The values, of A's shape.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().int8_mm_dequant(A, row_stats, col_stats, out, bias)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    shape = tuple(source.shape)
    rows, cols = rows_and_cols(shape, "A")
    row_stats, r = kind.read(row_stats, "row_stats")
    col_stats, c = kind.read(col_stats, "col_stats")
    b = None
    if bias is not None:
        bias, b = kind.read(bias, "bias")
    out, o = _output(kind, out, shape, kind.float16, source, "out")
    matrix = as_matrix(a, rows, cols)
    call(lib.cdequantize_int8_mm, stream_of(kind, source, a), matrix, r, c, b, _same_rows(o, matrix, "out"))
    return out


def _same_rows(out: View, a: View, name: str) -> View:
    """A flat output as a matrix with the rows of another one."""
    rows, cols = a[0], a[1]
    if out[0] != rows * cols:
        raise InvalidArgument(f"{name} has {out[0]} elements, must have {rows * cols} (one per element of A)")
    return as_matrix(out, rows, cols)
