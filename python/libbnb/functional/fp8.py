# SPDX-License-Identifier: MIT
"""FP8: OCP 8-bit floats with one scale per row or per block."""

from __future__ import annotations

from typing import Any

from libbnb._native import call, lib
from libbnb.arrays import Array, ArrayKind, kind_of, rows_and_cols, stream_of
from libbnb.functional._checks import FP8, block_length, quant_type_number
from libbnb.functional._torch import compiling, traced

__all__ = ["dequantize_fp8", "quantize_fp8"]


def dtype_of(quant_type: str) -> str:
    """The name of the dtype that codes of a format have."""
    return quant_type.replace("fp8", "float8")


def _row_length(shape: tuple[int, ...]) -> int:
    """One block per row; any length will do where there are no elements."""
    return max(rows_and_cols(shape, "A")[1], 1)


def format_of(kind: ArrayKind, dtype: Any, quant_type: str) -> int:
    """The format of an array of codes: what its dtype says, else what the caller says."""
    name = kind.dtype_name(dtype).replace("float8", "fp8")
    return quant_type_number(name if name in FP8 else quant_type, FP8)


def quantize_fp8(
    A: Array,
    scale: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp8_e4m3fn",
) -> tuple[Array, Array]:
    """Quantizes rows or blocks of an array to FP8, scaled so that the largest magnitude becomes the largest code.

    ``scale = absmax / largest``; ``out = A / scale`` rounded to nearest even. The formats are those of the OCP 8-bit
    floating point specification (arXiv:2209.05433).

    Parameters
    ----------
    A
        float32, float16 or bfloat16.
    scale
        Where the scales go: float32, one element per row or block. A new array if None.
    out
        Where the codes go: the matching float8 dtype or uint8, as many elements as A. A new array of A's shape if None.
    blocksize
        Elements per block, 1 or more, cut in row-major order regardless of rows. None means one scale per row, the last
        axis of A.
    quant_type
        "fp8_e4m3fn" (largest value 448) or "fp8_e5m2" (57344).

    Returns
    -------
    out : array
        The codes. A new array has the float8 dtype of A's library; for NumPy without ml_dtypes it is uint8.
    scale : array
        float32: shape ``(*A.shape[:-1], 1)`` for rows, so that ``out * scale`` broadcasts, or (nb,) for blocks.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().quantize_fp8(A, scale, out, blocksize, quant_type)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    shape = tuple(source.shape)
    number = quant_type_number(quant_type, FP8)
    if blocksize is None:
        length, scale_shape = _row_length(shape), (*shape[:-1], 1)
        if not shape[-1]:
            scale_shape = (*shape[:-1], 0)  # no elements, no blocks
    else:
        length = block_length(blocksize)
        scale_shape = None
    if out is None:
        name = dtype_of(quant_type)
        out, o = kind.fresh(shape, kind.dtype(name, "quant_type") if kind.has_dtype(name) else kind.uint8, source)
    else:
        o = kind.write(out, "out")
    if scale is None:
        scale, s = kind.fresh(scale_shape or (-(-a[0] // length),), kind.float32, source)
    else:
        s = kind.write(scale, "scale")
    call(lib.cquantize_fp8, stream_of(kind, source, a), a, number, length, o, s)
    return out, scale


def dequantize_fp8(
    A: Array,
    scale: Array,
    out: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp8_e4m3fn",
    dtype: Any = "float32",
) -> Array:
    """The inverse of `quantize_fp8`: the code's value times the scale of its row or block, rounded once.

    Parameters
    ----------
    A
        The codes: a float8 dtype, or uint8.
    scale
        float32, one element per row or block.
    out
        Where the values go: a float dtype, as many elements as A. A new array if None.
    blocksize
        Elements per block; None means one scale per row, the last axis of A.
    quant_type
        The format, for codes in uint8: "fp8_e4m3fn" or "fp8_e5m2". A float8 dtype says it itself.
    dtype
        Dtype of a new `out`: float32, float16 or bfloat16, as a name or an object of the array library.

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
        return traced().dequantize_fp8(A, scale, out, blocksize, quant_type, dtype)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    shape = tuple(source.shape)
    number = format_of(kind, source.dtype, quant_type)
    length = _row_length(shape) if blocksize is None else block_length(blocksize)
    scale, s = kind.read(scale, "scale")
    if out is None:
        out, o = kind.fresh(shape, kind.dtype(dtype, "dtype"), source)
    else:
        o = kind.write(out, "out")
    call(lib.cdequantize_fp8, stream_of(kind, source, a), a, s, number, length, o)
    return out
