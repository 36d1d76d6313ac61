# SPDX-License-Identifier: MIT
"""8-bit blockwise quantization (arXiv:2110.02861) and its nested form."""

from __future__ import annotations

from typing import Any

import numpy as np

from libbnb import _native
from libbnb._errors import InvalidArgument
from libbnb._native import Nested, call, lib
from libbnb._views import View
from libbnb.arrays import CPU, NUMPY, Array, ArrayKind, kind_of, stream_of
from libbnb.arrays.dtypes import WORDS
from libbnb.functional._checks import block_length
from libbnb.functional._torch import compiling, traced
from libbnb.quant_state import QuantState

__all__ = ["dequantize_blockwise", "quantize_blockwise"]

NESTED_BLOCKSIZE = 256  # of the absmax of 4-bit formats, in bitsandbytes' checkpoints

# The signed dynamic map, its view and what keeps its memory: by device of an array library, once for all host memory.
_standard_codes: dict[Any, tuple[View, Any]] = {}


def standard_code(kind: ArrayKind, like: Array, view: View) -> View:
    """The signed dynamic map where the view's memory is. The caller must not hand it out: it is shared."""
    device = view[5]
    key = CPU if device == CPU else (kind, device)
    found = _standard_codes.get(key)
    if found is None:
        memory = _native.dynamic_map(signed=True)
        if device == CPU:
            address = int(_native.ffi.cast("uintptr_t", memory))
            found = ((256, 0, 1, 1, address, CPU, WORDS["float32"]), memory)
        else:
            table = np.frombuffer(_native.ffi.buffer(memory), np.float32)
            kept, code = kind.read(kind.from_numpy(table, like), "code")
            found = (code, kept)
        _standard_codes[key] = found
    return found[0]


def read_code(kind: ArrayKind, state: QuantState, like: Array, place: View) -> tuple[Array, View]:
    """The code of a state where its tensor is; an array of NumPy may be in a state of any kind."""
    if getattr(state, "standard_code", False):  # states of bitsandbytes have no such attribute
        return None, standard_code(kind, like, place)
    code = state.code
    if kind is not NUMPY and kind_of(code, "code") is NUMPY:
        code = kind.from_numpy(NUMPY.to_numpy(code), like)
    return kind.read(code, "code")


def quantize_nested(
    kind: ArrayKind, absmax: Array, scales: View, blocksize: int, out: Array | None
) -> tuple[Array, Array, QuantState]:
    """Quantizes an absmax: the codes, the offset, and the state of the codes."""
    count = scales[0]
    if out is None:
        out, o = kind.fresh((count,), kind.uint8, absmax)
    else:
        o = kind.write(out, "absmax")
    nested_absmax, n = kind.fresh((-(-count // blocksize),), kind.float32, absmax)
    offset, mean = kind.fresh((), kind.float32, absmax)
    code = standard_code(kind, absmax, scales)
    call(lib.cquantize_nested, stream_of(kind, absmax, scales), scales, code, blocksize, o, n, mean)
    state2 = QuantState(nested_absmax, None, None, blocksize, None, kind.float32)
    return out, offset, state2


def read_nested(kind: ArrayKind, state: QuantState, like: Array, place: View) -> tuple[Nested, Any]:
    """What the C library needs to read a compressed absmax, and the arrays that must live as long."""
    state2 = state.state2
    assert state2 is not None
    code, c = read_code(kind, state2, like, place)
    absmax, a = kind.read(state2.absmax, "state2.absmax")
    offset, o = kind.read(state.offset, "offset")
    return Nested(c, a, o, block_length(state2.blocksize, "state2.blocksize")), (code, absmax, offset)


def quantize_blockwise(
    A: Array,
    code: Array | None = None,
    absmax: Array | None = None,
    out: Array | None = None,
    blocksize: int = 4096,
    nested: bool = False,
) -> tuple[Array, QuantState]:
    """Quantizes blocks of an array to 8 bits (arXiv:2110.02861).

    Each block is divided by its absmax; each element becomes the index of the nearest of 256 values.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, any shape. Blocks are cut in row-major order, regardless of rows.
    code
        The 256 values, ascending and finite, float32; the signed dynamic map if None.
    absmax
        Where the scales go: float32, nb = ceil(n / blocksize) elements; uint8 if `nested`. A new array if None.
    out
        Where the codes go: uint8, n elements. A new array of A's shape if None.
    blocksize
        Elements per block, 1 or more.
    nested
        Whether the scales are themselves quantized, in blocks of the same size.

    Returns
    -------
    out : array
        uint8, of the kind and on the device of A.
    state : QuantState
        What `dequantize_blockwise` needs.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size or place; outputs are read-only or not compact. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().quantize_blockwise(A, code, absmax, out, blocksize, nested)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    shape, dtype = source.shape, source.dtype
    if type(blocksize) is not int or not 0 < blocksize < 2**63:
        blocksize = block_length(blocksize)
    if code is None:
        c, kept = standard_code(kind, source, a), None
    else:
        # The state gets a copy: what the caller does to the code later must not change what the codes mean.
        kept = kind.from_numpy(kind_of(code, "code").to_numpy(code), source)
        code, c = kind.read(kept, "code")
    if out is None:
        out, o = kind.fresh(shape, kind.uint8, source)
    else:
        o = kind.write(out, "out")
    if absmax is None or nested:
        scales, s = kind.fresh((-(-a[0] // blocksize),), kind.float32, source)
    else:
        scales, s = absmax, kind.write(absmax, "absmax")
    call(lib.cquantize_blockwise, stream_of(kind, source, a), a, c, blocksize, o, s)
    if not nested:
        return out, QuantState(scales, None, kept, blocksize, None, dtype)
    codes, offset, state2 = quantize_nested(kind, scales, s, blocksize, absmax)
    return out, QuantState(codes, None, kept, blocksize, None, dtype, offset, state2)


def dequantize_blockwise(
    A: Array,
    quant_state: QuantState | None = None,
    absmax: Array | None = None,
    code: Array | None = None,
    out: Array | None = None,
    blocksize: int = 4096,
    nested: bool = False,
) -> Array:
    """The inverse of `quantize_blockwise`: ``code[A] * absmax`` of the element's block, rounded once.

    Parameters
    ----------
    A
        uint8, any shape.
    quant_state
        What `quantize_blockwise` returned. It brings its own absmax, code and blocksize.
    absmax
        Without a state: float32, nb elements.
    code
        Without a state: 256 values, float32; the signed dynamic map if None.
    out
        Where the values go: a float dtype, n elements. If None a new array of A's shape and the dtype of the state,
        float32 without one.
    blocksize
        Without a state: elements per block.
    nested
        Unused; whether absmax is quantized is a matter of the state. It is here because bitsandbytes has it.

    Returns
    -------
    array
        Of the kind and on the device of A.

    Raises
    ------
    InvalidArgument
        There is neither state nor absmax; or an argument has a wrong dtype, size or place. Nothing was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if compiling():
        return traced().dequantize_blockwise(A, quant_state, absmax, code, out, blocksize, nested)
    kind = kind_of(A, "A")
    source, a = kind.read(A, "A")
    if quant_state is None:
        if absmax is None:
            raise InvalidArgument("dequantize_blockwise: quant_state or absmax must be given")
        quant_state = QuantState(absmax, None, code, blocksize, None, kind.float32)
    scales, s = kind.read(quant_state.absmax, "absmax")
    if quant_state.state2 is not None:
        scales, s = _expand_absmax(kind, quant_state, s, source, a)
    blocksize = block_length(quant_state.blocksize)
    code, c = read_code(kind, quant_state, source, a)
    if out is None:
        out, o = kind.fresh(source.shape, quant_state.dtype or kind.float32, source)
    else:
        o = kind.write(out, "out")
    call(lib.cdequantize_blockwise, stream_of(kind, source, a), a, s, c, blocksize, o)
    del scales, code  # until here they kept the memory of s and c
    return out


def _expand_absmax(kind: ArrayKind, state: QuantState, codes: View, like: Array, place: View) -> tuple[Array, View]:
    nested, alive = read_nested(kind, state, like, place)
    absmax, s = kind.fresh((codes[0],), kind.float32, like)
    call(lib.cdequantize_nested, stream_of(kind, like, place), codes, nested, s)
    del alive
    return absmax, s
