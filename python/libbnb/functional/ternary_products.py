# SPDX-License-Identifier: MIT
"""Products of int8 activations with ternary weights, which stay as `quantize_ternary` wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb.arrays import Array, ArrayKind, kind_of, stream_of
from libbnb.functional._checks import TERNARY, quant_type_number
from libbnb.functional._products import read_optional, result, shape_text, shapes_differ
from libbnb.functional._torch import compiling, traced
from libbnb.functional.ternary import codes_shape, extents_of, scale_length, weights_shape

__all__ = ["gemm_ternary", "linear_ternary"]


def factors_shape(a: Sequence[int], b: Sequence[int], quant_type: str, shape: Sequence[int] | None) -> tuple[int, int]:
    """The [N, K] of weights with codes of shape `b`, which have a product with rows of activations of shape `a`."""
    if not a:
        raise InvalidArgument("A has no dimensions, must have at least 1")
    quant_type_number(quant_type, TERNARY)
    weights = weights_shape(b, quant_type) if shape is None else extents_of(shape)
    if len(weights) != 2:
        where = "B" if shape is None else "shape"
        raise InvalidArgument(
            f"{where} has {len(weights)} dimensions, must have 2: codes of rows, or any codes with shape=(N, K)"
        )
    n, k = weights
    if a[-1] != k:
        raise shapes_differ(a, weights, f"rows of {a[-1]} and of {k} elements have no product")
    want = prod(codes_shape(weights, quant_type))
    if prod(b) != want:
        raise InvalidArgument(
            f"B has {prod(b)} bytes, must have {want} for {quant_type} weights of {shape_text(weights)}"
        )
    return n, k


def gemm_ternary(
    A: Array,
    B: Array,
    row_stats: Array,
    scale: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "ternary",
    bias: Array | None = None,
    out: Array | None = None,
    dtype: Any = "float32",
    shape: Sequence[int] | None = None,
) -> Array:
    """The product of quantized activations with ternary weights: ``(A * row_stats / 127) @ dequantize(B).T + bias``.

    Whole numbers are summed exactly. With one scale for a row of weights or more, the result is the same on every
    device; docs/kernels.md has the bound for smaller blocks.

    Parameters
    ----------
    A
        int8, shape (..., K), at most 8388607 columns: what `int8_vectorwise_quant` gives. Rows of a matrix may be
        apart.
    B
        The codes that `quantize_ternary` made of weights of shape (N, K).
    row_stats
        float32: the largest magnitude of each row of activations, or one number for all of them.
    scale
        float32: the scales that `quantize_ternary` made; None for the TQ types.
    blocksize
        Weights per scale: a divisor of K, or a multiple of it. None means one scale for all. Not looked at for the TQ
        types.
    quant_type
        "ternary", "tq1_0" or "tq2_0".
    bias
        float32, float16 or bfloat16, N elements; none if None.
    out
        Where the product goes: a float dtype, shape (..., N). A new array if None.
    dtype
        Dtype of a new `out`: float32, float16 or bfloat16, as a name or an object of the array library.
    shape
        (N, K), where the codes do not show it: rows that are no multiple of 4 weights.

    Returns
    -------
    array
        Shape (..., N), of the kind and on the device of A.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().gemm_ternary(A, B, row_stats, scale, blocksize, quant_type, bias, out, dtype, shape)
    kind = kind_of(A, "A")
    left, a = kind.read_rows(A, "A")
    codes, b = kind.read(B, "B")
    n, k = factors_shape(tuple(left.shape), tuple(codes.shape), quant_type, shape)
    stats, r = kind.read(row_stats, "row_stats")
    scale, s = read_optional(kind, scale, "scale")
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, left, a[0], n, kind.dtype(dtype, "dtype"))
    number, length = quant_type_number(quant_type, TERNARY), scale_length(n * k, blocksize)
    call(lib.cgemm_ternary, stream_of(kind, left, a), a, b, r, s, number, length, added, o)
    del stats  # until here it kept the memory of its view
    return out


def linear_ternary(
    A: Array,
    B: Array,
    scale: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "ternary",
    per_tensor: bool = False,
    bias: Array | None = None,
    out: Array | None = None,
    shape: Sequence[int] | None = None,
) -> Array:
    """The linear layer of BitNet b1.58 (arXiv:2402.17764): activations become int8, then their product with ternary
    weights.

    The same bits as `int8_vectorwise_quant` and `gemm_ternary`, in one call. Tensors of PyTorch that require grad get
    gradients for A, as if its rounding were not there, and for the bias; torch.compile sees one operator.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K). Rows of a matrix may be apart.
    B, scale, blocksize, quant_type, shape
        The weights, as for `gemm_ternary`.
    per_tensor
        Whether all of A shares one scale, or each row has its own.
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
            return multiply_ternary(kind, A, B, scale, blocksize, quant_type, per_tensor, bias, out, shape)
    from libbnb.autograd._functions import linear_ternary_by_operator

    return linear_ternary_by_operator(A, B, scale, blocksize, quant_type, per_tensor, bias, out, shape)


def multiply_ternary(
    kind: ArrayKind,
    A: Array,
    B: Array,
    scale: Array | None,
    blocksize: int | None,
    quant_type: str,
    per_tensor: bool,
    bias: Array | None,
    out: Array | None,
    shape: Sequence[int] | None,
) -> Array:
    """`linear_ternary` by the C library: no gradients."""
    left, a = kind.read_rows(A, "A")
    codes, b = kind.read(B, "B")
    n, k = factors_shape(tuple(left.shape), tuple(codes.shape), quant_type, shape)
    scale, s = read_optional(kind, scale, "scale")
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, left, a[0], n, left.dtype)
    number, length = quant_type_number(quant_type, TERNARY), scale_length(n * k, blocksize)
    call(lib.clinear_ternary, stream_of(kind, left, a), a, b, s, number, length, int(bool(per_tensor)), added, o)
    return out
