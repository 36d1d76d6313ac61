# SPDX-License-Identifier: MIT
"""Ternary weights: -1, 0 or 1 times a scale, in two bits each or in GGUF's blocks TQ1_0 and TQ2_0."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb.arrays import Array, kind_of, stream_of
from libbnb.functional._checks import TERNARY, block_length, quant_type_number
from libbnb.functional._torch import compiling, traced

__all__ = ["dequantize_ternary", "quantize_ternary"]

SCALE_RULES = ("absmean", "absmax")  # by the numbers that the C library gives them
CODES_PER_BYTE = 4
BLOCK = 256  # weights of a block of a TQ type,
BLOCK_BYTES = {"tq1_0": 54, "tq2_0": 66}  # and its bytes


def rule_number(scale_rule: Any) -> int:
    """The number that the C library gives a rule."""
    if not isinstance(scale_rule, str) or scale_rule not in SCALE_RULES:
        raise InvalidArgument(f"scale_rule is {scale_rule!r}, must be 'absmean' or 'absmax'")
    return SCALE_RULES.index(scale_rule)


def scale_length(n: int, blocksize: Any) -> int:
    """Weights per scale: all of them if no blocksize is given."""
    return max(n, 1) if blocksize is None else block_length(blocksize)


def codes_shape(shape: Sequence[int], quant_type: str) -> tuple[int, ...]:
    """The shape of the codes of weights: rows of whole bytes stay rows. TQ types have no others."""
    if quant_type in BLOCK_BYTES:
        if not shape or shape[-1] % BLOCK:
            raise InvalidArgument(
                f"A has shape {list(shape)}: for {quant_type} its rows must be a multiple of {BLOCK} elements, as "
                f"blocks do not run over the ends of rows"
            )
        return (*shape[:-1], shape[-1] // BLOCK * BLOCK_BYTES[quant_type])
    if shape and shape[-1] % CODES_PER_BYTE == 0:
        return (*shape[:-1], shape[-1] // CODES_PER_BYTE)
    return (-(-prod(shape) // CODES_PER_BYTE),)


def weights_shape(codes: Sequence[int], quant_type: str) -> tuple[int, ...]:
    """The shape of the weights that fill an array of codes."""
    if not codes:
        raise InvalidArgument("A has no dimensions, must have at least 1 where no shape is given")
    if quant_type not in BLOCK_BYTES:
        return (*codes[:-1], codes[-1] * CODES_PER_BYTE)
    length = BLOCK_BYTES[quant_type]
    if codes[-1] % length:
        raise InvalidArgument(
            f"A has rows of {codes[-1]} bytes, must have a multiple of {length} (a block of {quant_type})"
        )
    return (*codes[:-1], codes[-1] // length * BLOCK)


def extents_of(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that an array can have."""
    extents = tuple(shape)
    if any(extent < 0 for extent in extents):
        raise InvalidArgument(f"shape is {list(extents)}, must not have negative numbers")
    return extents


def quantize_ternary(
    A: Array,
    blocksize: int | None = None,
    quant_type: str = "ternary",
    scale_rule: str = "absmean",
    out: Array | None = None,
    scale: Array | None = None,
) -> tuple[Array, Array | None]:
    """Quantizes weights to -1, 0 and 1 with one scale for all of them, or one per block.

    ``scale = mean |A|``; ``t = round(A / scale)``, limited to -1 .. 1: the weights of BitNet b1.58 (arXiv:2402.17764).

    Parameters
    ----------
    A
        float32, float16 or bfloat16. For the TQ types its last axis is a multiple of 256.
    blocksize
        Weights per scale, 1 or more, cut in row-major order regardless of rows; a multiple of 256 for the TQ types (256
        is what GGUF's own quantizers do). None means one scale for the whole array.
    quant_type
        "ternary": four codes a byte (0, 1, 2 for -1, 0, 1), the first in the lowest bits. "tq1_0" and "tq2_0": blocks
        of 256 weights as in GGUF files, with their scale inside as float16 (1.69 and 2.06 bits a weight).
    scale_rule
        "absmean", which rounds halves to zero, or "absmax": ``scale = max |A|`` and halves away from zero, as GGUF's
        own quantizers do it.
    out
        Where the codes go: uint8, or int8 for "ternary". A new uint8 array if None.
    scale
        Where the scales go: float32, one element per block. If None, a new array for "ternary"; for the TQ types scales
        are in the codes, and an array given here gets them as they were before they became float16.

    Returns
    -------
    out : array
        The codes, uint8. Rows of a multiple of 4 weights stay rows: (..., K // 4), or (..., K // 256 * 54) and
        (..., K // 256 * 66) for the TQ types. Others become (ceil(n / 4),), with codes of zero behind the last weight.
    scale : array or None
        float32, (nb,); None for the TQ types, unless an array was given. A block of zeros has scale 0, one with NaN has
        NaN.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().quantize_ternary(A, blocksize, quant_type, scale_rule, out, scale)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    number, rule = quant_type_number(quant_type, TERNARY), rule_number(scale_rule)
    shape = codes_shape(tuple(source.shape), quant_type)
    length = scale_length(a[0], blocksize)
    if out is None:
        out, o = kind.fresh(shape, kind.uint8, source)
    else:
        o = kind.write(out, "out")
    if scale is not None:
        s = kind.write(scale, "scale")
    elif quant_type in BLOCK_BYTES:
        s = None
    else:
        scale, s = kind.fresh((-(-a[0] // length),), kind.float32, source)
    call(lib.cquantize_ternary, stream_of(kind, source, a), a, number, rule, length, o, s)
    return out, scale


def dequantize_ternary(
    A: Array,
    scale: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "ternary",
    shape: Sequence[int] | None = None,
    dtype: Any = "float32",
    out: Array | None = None,
) -> Array:
    """The inverse of `quantize_ternary`: each weight times the scale of its block, rounded once.

    Parameters
    ----------
    A
        The codes: uint8, or int8 for "ternary". Code 3, which no quantizer writes, counts as 2.
    scale
        float32, one element per block. None for the TQ types, whose codes have it inside.
    blocksize
        Weights per scale; None means one for all of them. The TQ types do not look at it.
    quant_type
        "ternary", "tq1_0" or "tq2_0".
    shape
        Shape of a new `out`. None means as many weights as A has codes, in the rows that A has; it must be given where
        the number of weights is not a multiple of 4.
    dtype
        Dtype of a new `out`: float32, float16 or bfloat16, as a name or an object of the array library.
    out
        Where the values go: a float dtype. A new array if None.

    Returns
    -------
    array
        The values.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().dequantize_ternary(A, scale, blocksize, quant_type, shape, dtype, out)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    number = quant_type_number(quant_type, TERNARY)
    s = None
    if scale is not None:
        scale, s = kind.read(scale, "scale")
    if out is None:
        extents = weights_shape(tuple(source.shape), quant_type) if shape is None else extents_of(shape)
        out, o = kind.fresh(extents, kind.dtype(dtype, "dtype"), source)
    else:
        o = kind.write(out, "out")
    call(lib.cdequantize_ternary, stream_of(kind, source, a), a, s, number, scale_length(o[0], blocksize), o)
    return out
