# SPDX-License-Identifier: MIT
"""Products with MXFP4, MXFP8 and NVFP4 weights, which stay as `quantize_mx` wrote them."""

from __future__ import annotations

from libbnb._native import call, lib
from libbnb.arrays import Array, ArrayKind, kind_of, stream_of
from libbnb.functional._checks import MX, quant_type_number
from libbnb.functional._products import read_matrix, read_optional, result, shapes_differ
from libbnb.functional._torch import compiling
from libbnb.functional.mx import format_named, quant_type_of

__all__ = ["gemm_mx"]


def gemm_mx(
    A: Array,
    B: Array,
    scale: Array,
    tensor_scale: Array | None = None,
    quant_type: str = "mxfp4",
    bias: Array | None = None,
    out: Array | None = None,
) -> Array:
    """The product of a linear layer with MX or NVFP4 weights: ``A @ dequantize_mx(B, scale, tensor_scale).T + bias``.

    Tensors of PyTorch that require grad get gradients for A and bias; torch.compile sees one operator.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K). Rows of a matrix may be apart.
    B
        The codes that `quantize_mx` made of weights of shape (N, K): (N, K / 2) for FP4, (N, K) for FP8.
    scale
        The scales of blocks that it made with them, N * K / block elements.
    tensor_scale
        For NVFP4: the scale of the tensor, float32, one element; 1 if None.
    quant_type
        "mxfp4", "mxfp8_e4m3fn", "mxfp8_e5m2" or "nvfp4". Codes in a float8 dtype say it themselves.
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
            return multiply_mx(kind, A, B, scale, tensor_scale, quant_type, bias, out)
    from libbnb.autograd._functions import gemm_mx_by_operator

    return gemm_mx_by_operator(A, B, scale, tensor_scale, quant_type, bias, out)


def multiply_mx(
    kind: ArrayKind,
    A: Array,
    B: Array,
    scale: Array,
    tensor_scale: Array | None,
    quant_type: str,
    bias: Array | None,
    out: Array | None,
) -> Array:
    """`gemm_mx` by the C library: no gradients."""
    left, a = kind.read_rows(A, "A")
    right, b = read_matrix(kind, B, "B", strided=False)
    quant_type = quant_type_of(kind.dtype_name(right.dtype), quant_type)
    number, columns = quant_type_number(quant_type, MX), b[1] * format_named(quant_type).codes_a_byte
    if a[1] != columns:
        raise shapes_differ(
            left.shape, right.shape, f"rows of {a[1]} elements and of {columns} {quant_type} codes have no product"
        )
    scale, s = kind.read(scale, "scale")
    tensor_scale, t = read_optional(kind, tensor_scale, "tensor_scale")
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, left, a[0], b[0], left.dtype)
    call(lib.cgemm_mx, stream_of(kind, left, a), a, b, s, t, number, added, o)
    return out
