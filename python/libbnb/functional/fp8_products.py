# SPDX-License-Identifier: MIT
"""Products with FP8 weights, which stay as `quantize_fp8` wrote them."""

from __future__ import annotations

from libbnb._native import call, lib
from libbnb.arrays import Array, ArrayKind, kind_of, stream_of
from libbnb.functional._checks import block_length
from libbnb.functional._products import read_factors, read_optional, result
from libbnb.functional._torch import compiling
from libbnb.functional.fp8 import format_of

__all__ = ["matmul_fp8"]


def matmul_fp8(
    A: Array,
    B: Array,
    scale: Array,
    out: Array | None = None,
    bias: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp8_e4m3fn",
) -> Array:
    """The product of a linear layer with FP8 weights: ``A @ dequantize_fp8(B, scale).T + bias``.

    Tensors of PyTorch that require grad get gradients for A and bias; torch.compile sees one operator.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K). Rows of a matrix may be apart.
    B
        The codes that `quantize_fp8` made of weights of shape (N, K): a float8 dtype, or uint8.
    scale
        The scales that it made with them: float32, one element per row of B or per block.
    out
        Where the product goes: the dtype of A, shape (..., N). A new array if None.
    bias
        float32, float16 or bfloat16, N elements; none if None.
    blocksize
        Elements per block; None means one scale per row of B.
    quant_type
        The format, for codes in uint8: "fp8_e4m3fn" or "fp8_e5m2". A float8 dtype says it itself.

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
            return multiply_fp8(kind, A, B, scale, out, bias, blocksize, quant_type)
    from libbnb.autograd._functions import matmul_fp8_by_operator

    return matmul_fp8_by_operator(A, B, scale, out, bias, blocksize, quant_type)


def multiply_fp8(
    kind: ArrayKind,
    A: Array,
    B: Array,
    scale: Array,
    out: Array | None,
    bias: Array | None,
    blocksize: int | None,
    quant_type: str,
) -> Array:
    """`matmul_fp8` by the C library: no gradients."""
    left, a, right, b = read_factors(kind, A, B, strided=False)
    number = format_of(kind, right.dtype, quant_type)
    length = max(b[1], 1) if blocksize is None else block_length(blocksize)
    scale, s = kind.read(scale, "scale")
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, left, a[0], b[0], left.dtype)
    call(lib.cgemm_fp8, stream_of(kind, left, a), a, b, s, number, length, added, o)
    return out
