# SPDX-License-Identifier: MIT
"""MXFP4, MXFP8 and NVFP4: floats of 4 and 8 bits in short blocks along the last axis, with scales of 8 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb._views import View
from libbnb.arrays import Array, ArrayKind, as_matrix, kind_of, rows_and_cols, stream_of
from libbnb.functional._checks import MX, quant_type_number
from libbnb.functional._torch import compiling, traced

__all__ = ["dequantize_mx", "quantize_mx"]

# Rules by the numbers that bnb_mx_scale gives them.
RULES = ("floor", "ceil", "even", "rceil")


class Format(NamedTuple):
    """What arrays of codes and scales look like."""

    blocksize: int
    codes_a_byte: int
    code_dtype: str  # beside uint8
    scale_dtype: str  # beside uint8


FORMATS = {
    "mxfp4": Format(32, 2, "float4_e2m1fn_x2", "float8_e8m0fnu"),
    "mxfp8_e4m3fn": Format(32, 1, "float8_e4m3fn", "float8_e8m0fnu"),
    "mxfp8_e5m2": Format(32, 1, "float8_e5m2", "float8_e8m0fnu"),
    "nvfp4": Format(16, 2, "float4_e2m1fn_x2", "float8_e4m3fn"),
}


def format_named(quant_type: Any) -> Format:
    """The format of a name, or InvalidArgument."""
    quant_type_number(quant_type, MX)
    return FORMATS[quant_type]


def rule_number(scale_rule: Any) -> int:
    """The number that the C library gives a rule."""
    if scale_rule not in RULES:
        raise InvalidArgument(f"scale_rule is {scale_rule!r}, must be {', '.join(map(repr, RULES))}")
    return RULES.index(scale_rule)


def quant_type_of(dtype_name: str, quant_type: str) -> str:
    """The format of an array of codes: what its dtype says if it is a float8, else what the caller says."""
    of_dtype = dtype_name.replace("float8", "mxfp8")
    return of_dtype if of_dtype in MX else quant_type


def require_whole_blocks(cols: int, format: Format, name: str = "A") -> None:
    """That rows of so many elements can be cut into blocks."""
    if cols % format.blocksize:
        raise InvalidArgument(
            f"{name} has rows of {cols} elements, must have a multiple of {format.blocksize}, the block of the format"
        )


def code_dtype(kind: ArrayKind, format: Format) -> Any:
    """The dtype of new arrays of codes. Two of 4 bits are a byte: PyTorch's dtype for those can do next to nothing."""
    named = format.codes_a_byte == 1 and kind.has_dtype(format.code_dtype)
    return kind.dtype(format.code_dtype, "quant_type") if named else kind.uint8


def scale_dtype(kind: ArrayKind, format: Format) -> Any:
    """The dtype of new arrays of scales."""
    return kind.dtype(format.scale_dtype, "quant_type") if kind.has_dtype(format.scale_dtype) else kind.uint8


def _output(
    kind: ArrayKind, out: Array | None, name: str, shape: tuple[int, ...], dtype: Any, like: Array
) -> tuple[Array, View]:
    return kind.fresh(shape, dtype, like) if out is None else (out, kind.write(out, name))


def quantize_mx(
    A: Array,
    quant_type: str = "mxfp4",
    scale_rule: str = "floor",
    out: Array | None = None,
    scale: Array | None = None,
    tensor_scale: Array | bool = True,
) -> tuple[Array, Array, Array | None]:
    """Quantizes an array to one of the OCP microscaling formats or to NVFP4, in blocks along its last axis.

    MX (specification 1.0; arXiv:2310.10537): blocks of 32 share a power of two, the E8M0 scale ``2**e``, and elements
    are ``A * 2**-e`` rounded to nearest even, saturating. NVFP4: blocks of 16 share a float8_e4m3fn scale, and the
    tensor a float32 one, ``absmax / (448 * 6)``. Every instruction set gives the same bits.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K); K is a multiple of the block.
    quant_type
        "mxfp4", "mxfp8_e4m3fn", "mxfp8_e5m2" or "nvfp4".
    scale_rule
        How e follows from the largest magnitude of a block, for MX: "floor" (the specification's), "ceil", "even" or
        "rceil" (the least one that cuts nothing off). NVFP4 has one rule and ignores this.
    out
        Where the codes go. FP4: uint8 or float4_e2m1fn_x2, two codes a byte, the first in the low half; FP8: uint8 or
        the matching float8 dtype. A new array if None.
    scale
        Where the scales go: uint8 or float8_e8m0fnu, for NVFP4 uint8 or float8_e4m3fn, one element per block. A new
        array if None.
    tensor_scale
        For NVFP4: where the scale of the tensor goes, float32, one element; True for a new array, False for a scale of
        1. MX has none.

    Returns
    -------
    out : array
        The codes, shape (..., K / 2) for FP4 and (..., K) for FP8. A new array of FP8 has the float8 dtype of A's
        library, else uint8.
    scale : array
        Shape (..., K / block). A new array has the dtype of A's library for such scales, else uint8.
    tensor_scale : array or None
        float32, shape (1,); None where there is none.

    Raises
    ------
    InvalidArgument
        K is not a multiple of the block, or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().quantize_mx(A, quant_type, scale_rule, out, scale, tensor_scale)
    number, rule, format = quant_type_number(quant_type, MX), rule_number(scale_rule), format_named(quant_type)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    shape = tuple(source.shape)
    rows, cols = rows_and_cols(shape, "A")
    require_whole_blocks(cols, format)
    out, o = _output(kind, out, "out", (*shape[:-1], cols // format.codes_a_byte), code_dtype(kind, format), source)
    scale, s = _output(kind, scale, "scale", (*shape[:-1], cols // format.blocksize), scale_dtype(kind, format), source)
    of_tensor: Array | None = None
    t = None
    if tensor_scale is True:
        if quant_type == "nvfp4":
            of_tensor, t = kind.fresh((1,), kind.float32, source)
    elif tensor_scale is not False and tensor_scale is not None:
        of_tensor, t = tensor_scale, kind.write(tensor_scale, "tensor_scale")
    call(lib.cquantize_mx, stream_of(kind, source, a), as_matrix(a, rows, cols), number, rule, o, s, t)
    return out, scale, of_tensor


def dequantize_mx(
    A: Array,
    scale: Array,
    tensor_scale: Array | None = None,
    quant_type: str = "mxfp4",
    dtype: Any = "float32",
    out: Array | None = None,
) -> Array:
    """The inverse of `quantize_mx`: the code's value times the scale of its block, rounded once.

    Parameters
    ----------
    A
        The codes, shape (..., K / 2) for FP4 and (..., K) for FP8: uint8, or the dtype that they are.
    scale
        One element per block: uint8, float8_e8m0fnu, or for NVFP4 uint8 or float8_e4m3fn.
    tensor_scale
        For NVFP4: float32, one element, which scales of blocks are multiplied with first; 1 if None.
    quant_type
        "mxfp4", "mxfp8_e4m3fn", "mxfp8_e5m2" or "nvfp4". Codes in a float8 dtype say it themselves.
    dtype
        Dtype of a new `out`: float32, float16 or bfloat16, as a name or an object of the array library.
    out
        Where the values go: a float dtype, as many elements as A has codes. A new array if None.

    Returns
    -------
    array
        The values, shape (..., K).

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().dequantize_mx(A, scale, tensor_scale, quant_type, dtype, out)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    quant_type = quant_type_of(kind.dtype_name(source.dtype), quant_type)
    number, format = quant_type_number(quant_type, MX), format_named(quant_type)
    shape = tuple(source.shape)
    _, packed = rows_and_cols(shape, "A")
    scale, s = kind.read(scale, "scale")
    t = None
    if tensor_scale is not None:
        tensor_scale, t = kind.read(tensor_scale, "tensor_scale")
    if out is None:
        out, o = kind.fresh((*shape[:-1], packed * format.codes_a_byte), kind.dtype(dtype, "dtype"), source)
    else:
        o = kind.write(out, "out")
    call(lib.cdequantize_mx, stream_of(kind, source, a), a, s, t, number, o)
    return out
