# SPDX-License-Identifier: MIT
"""4-bit quantization: NF4 (arXiv:2305.14314) and FP4."""

from __future__ import annotations

from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._native import QUANT_TYPES, call, lib
from libbnb.arrays import Array, kind_of, stream_of
from libbnb.arrays.dtypes import itemsize
from libbnb.functional._checks import even_block_length, quant_type_number
from libbnb.functional._torch import compiling, traced
from libbnb.functional.blockwise import NESTED_BLOCKSIZE, quantize_nested, read_nested
from libbnb.quant_state import QuantState

__all__ = [
    "dequantize_4bit",
    "dequantize_fp4",
    "dequantize_nf4",
    "quantize_4bit",
    "quantize_fp4",
    "quantize_nf4",
]

DEFAULT_BLOCKSIZE = 64


def quantize_4bit(
    A: Array,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_type: str = "fp4",
    quant_storage: Any = "uint8",
) -> tuple[Array, QuantState]:
    """Quantizes blocks of an array to 4 bits, two codes a byte, the first one in the high half.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, any shape. Blocks are cut in row-major order, regardless of rows.
    absmax
        Where the scales go: float32, nb = ceil(n / blocksize) elements; uint8 with `compress_statistics`. A new array
        if None.
    out
        Where the codes go: any dtype of 1, 2, 4 or 8 bytes, ceil(n / 2) bytes rounded up to whole items. A new array of
        shape (items, 1) and dtype `quant_storage` if None.
    blocksize
        Elements per block, even, 2 or more; 64 if None.
    compress_statistics
        Whether the scales are themselves quantized to 8 bits in blocks of 256, after their mean was taken off
        (arXiv:2305.14314, section 3).
    quant_type
        "nf4" or "fp4".
    quant_storage
        Dtype of a new `out`: an object of the array library or a name.

    Returns
    -------
    out : array
        The codes, of the kind and on the device of A.
    state : QuantState
        What `dequantize_4bit` needs.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place; outputs are read-only or not compact. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().quantize_4bit(A, absmax, out, blocksize, compress_statistics, quant_type, quant_storage)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    shape, dtype = source.shape, source.dtype
    n = a[0]
    blocksize = DEFAULT_BLOCKSIZE if blocksize is None else even_block_length(blocksize)
    number = quant_type_number(quant_type)
    if out is not None:
        o = kind.write(out, "out")
    elif quant_storage == "uint8" or quant_storage is kind.uint8:
        out, o = kind.fresh(((n + 1) // 2, 1), kind.uint8, source)
    else:
        storage = kind.dtype(quant_storage, "quant_storage")
        out, o = kind.fresh((-(-((n + 1) // 2) // itemsize(kind.dtype_name(storage))), 1), storage, source)
    if absmax is None or compress_statistics:
        scales, s = kind.fresh((-(-n // blocksize),), kind.float32, source)
    else:
        scales, s = absmax, kind.write(absmax, "absmax")
    call(lib.cquantize_4bit, stream_of(kind, source, a), a, number, blocksize, o, s)
    if not compress_statistics:
        return out, QuantState(scales, shape, None, blocksize, quant_type, dtype)
    codes, offset, state2 = quantize_nested(kind, scales, s, NESTED_BLOCKSIZE, absmax)
    return out, QuantState(codes, shape, None, blocksize, quant_type, dtype, offset, state2)


def dequantize_4bit(
    A: Array,
    quant_state: QuantState | None = None,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp4",
) -> Array:
    """The inverse of `quantize_4bit`: the code's value times the absmax of its block, rounded once.

    Parameters
    ----------
    A
        The packed codes, in any shape.
    quant_state
        What `quantize_4bit` returned. It brings its own absmax, blocksize and quant_type.
    absmax
        Without a state: float32, nb elements.
    out
        Where the values go: a float dtype, n elements. If None a new array of the state's shape and dtype; without a
        state it must be given.
    blocksize
        Without a state: elements per block; 64 if None.
    quant_type
        Without a state: "nf4" or "fp4".

    Returns
    -------
    array
        Of the shape that the state says, whatever the shape of A (bitsandbytes transposes the result if A has one row).

    Raises
    ------
    InvalidArgument
        There is neither a state nor absmax and out; or an argument has a wrong dtype, size or place. Nothing was
        written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().dequantize_4bit(A, quant_state, absmax, out, blocksize, quant_type)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    nested = alive = None
    if quant_state is not None:
        absmax, blocksize, quant_type = quant_state.absmax, quant_state.blocksize, quant_state.quant_type or "None"
        if quant_state.state2 is not None:
            nested, alive = read_nested(kind, quant_state, source, a)
    elif absmax is None or out is None:
        raise InvalidArgument("dequantize_4bit: without a quant_state, absmax and out must be given")
    number = QUANT_TYPES.get(quant_type) or quant_type_number(quant_type)
    blocksize = DEFAULT_BLOCKSIZE if blocksize is None else even_block_length(blocksize)
    absmax, s = kind.read(absmax, "absmax")
    if out is not None:
        o = kind.write(out, "out")
    else:
        assert quant_state is not None
        if quant_state.shape is None or quant_state.dtype is None:
            raise InvalidArgument("dequantize_4bit: quant_state has no shape or no dtype, so out must be given")
        out, o = kind.fresh(quant_state.shape, quant_state.dtype, source)
    call(lib.cdequantize_4bit, stream_of(kind, source, a), a, s, nested, number, blocksize, o)
    del alive  # until here it kept the memory of nested
    return out


def quantize_fp4(
    A: Array,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_storage: Any = "uint8",
) -> tuple[Array, QuantState]:
    """`quantize_4bit` to FP4."""
    return quantize_4bit(A, absmax, out, blocksize, compress_statistics, "fp4", quant_storage)


def quantize_nf4(
    A: Array,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_storage: Any = "uint8",
) -> tuple[Array, QuantState]:
    """`quantize_4bit` to NF4."""
    return quantize_4bit(A, absmax, out, blocksize, compress_statistics, "nf4", quant_storage)


def dequantize_fp4(
    A: Array,
    quant_state: QuantState | None = None,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
) -> Array:
    """`dequantize_4bit` from FP4."""
    return dequantize_4bit(A, quant_state, absmax, out, blocksize, "fp4")


def dequantize_nf4(
    A: Array,
    quant_state: QuantState | None = None,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int | None = None,
) -> Array:
    """`dequantize_4bit` from NF4."""
    return dequantize_4bit(A, quant_state, absmax, out, blocksize, "nf4")
