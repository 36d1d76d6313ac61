# SPDX-License-Identifier: MIT
"""Quantizing and dequantizing traced arrays. Arguments and results are those of `libbnb`'s functions of these names."""

# JAX's functions are typed in parts.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from math import prod
from typing import Any

import jax.numpy as jnp

from libbnb._errors import InvalidArgument
from libbnb.arrays import rows_and_cols
from libbnb.arrays.numpy_kind import numpy_dtype
from libbnb.functional._checks import FP8, block_length, even_block_length, quant_type_number
from libbnb.functional.blockwise import NESTED_BLOCKSIZE
from libbnb.functional.fourbit import DEFAULT_BLOCKSIZE
from libbnb.functional.fp8 import dtype_of
from libbnb.functional.int8 import checked_threshold
from libbnb.integrations.jax._call import FLOATS, JaxArray, accept, call, check_size, shaped
from libbnb.integrations.jax._state import describe
from libbnb.quant_state import QuantState

FLOAT8 = tuple(dtype_of(quant_type) for quant_type in FP8)


def quantize_4bit(
    A: JaxArray,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_type: str = "fp4",
    quant_storage: Any = "uint8",
) -> tuple[JaxArray, QuantState]:
    """`libbnb.quantize_4bit` for traced arrays.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, any shape.
    blocksize, compress_statistics, quant_type, quant_storage
        As there; they are static.

    Returns
    -------
    out : array
        The codes.
    state : QuantState
        A pytree: a jitted function may return it.

    Raises
    ------
    InvalidArgument
        A has a wrong dtype, or a static argument cannot be one.
    """
    a = accept(A, "A")
    quant_type_number(quant_type)
    blocksize = DEFAULT_BLOCKSIZE if blocksize is None else even_block_length(blocksize)
    storage = jnp.dtype(quant_storage)
    n = prod(a.shape)
    count = -(-n // blocksize)
    results = [
        shaped((-(-((n + 1) // 2) // storage.itemsize), 1), storage),
        shaped((count,), jnp.uint8 if compress_statistics else jnp.float32),
    ]
    if compress_statistics:
        results += [shaped((), jnp.float32), shaped((-(-count // NESTED_BLOCKSIZE),), jnp.float32)]
    packed, absmax, *nested = call(
        "quantize_4bit", results, [a], blocksize=blocksize, nested=bool(compress_statistics), quant_type=quant_type
    )
    if not nested:
        return packed, QuantState(absmax, a.shape, None, blocksize, quant_type, a.dtype)
    offset, nested_absmax = nested
    state2 = QuantState(nested_absmax, None, None, NESTED_BLOCKSIZE, None, jnp.dtype("float32"))
    return packed, QuantState(absmax, a.shape, None, blocksize, quant_type, a.dtype, offset, state2)


def dequantize_4bit(A: JaxArray, quant_state: QuantState, dtype: Any = None) -> JaxArray:
    """`libbnb.dequantize_4bit` for traced arrays.

    Parameters
    ----------
    A
        The packed codes, in any shape.
    quant_state
        What `quantize_4bit` returned.
    dtype
        Dtype of the values, rounded to once: float32, float16 or bfloat16; that of the state if None.

    Returns
    -------
    array
        The values, in the shape that the state says.

    Raises
    ------
    InvalidArgument
        The state has no shape or no dtype, or A has another size than the codes of its shape.
    """
    if quant_state.shape is None or (quant_state.dtype is None and dtype is None):
        raise InvalidArgument("dequantize_4bit: quant_state has no shape or no dtype")
    dtype = jnp.dtype(quant_state.dtype if dtype is None else dtype)
    if dtype.name not in FLOATS:
        raise InvalidArgument(f"dtype is {dtype.name}, must be {' or '.join(FLOATS)}")
    packed = check_packed(A, "A", quant_state)
    arrays, static = describe(quant_state)
    return call("dequantize_4bit", [shaped(quant_state.shape, dtype)], [packed, *arrays], state=static)[0]


def check_packed(packed: JaxArray, name: str, state: QuantState) -> JaxArray:
    """Packed codes that must belong to a state with a shape."""
    packed = jnp.asarray(packed)
    quant_type_number(state.quant_type)
    nbytes, size = prod(packed.shape) * packed.dtype.itemsize, (prod(state.shape) + 1) // 2
    if not 0 <= nbytes - size < packed.dtype.itemsize:
        raise InvalidArgument(f"{name} has {nbytes} bytes, must have {size}: two elements of {state.shape} in each")
    return packed


def quantize_fp8(
    A: JaxArray, blocksize: int | None = None, quant_type: str = "fp8_e4m3fn"
) -> tuple[JaxArray, JaxArray]:
    """`libbnb.quantize_fp8` for traced arrays.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, one dimension or more.
    blocksize
        Elements per block; None means one scale per row. Static.
    quant_type
        "fp8_e4m3fn" or "fp8_e5m2". Static.

    Returns
    -------
    out : array
        The codes, float8.
    scale : array
        float32, shape ``(*A.shape[:-1], 1)`` for rows, or (nb,) for blocks.

    Raises
    ------
    InvalidArgument
        A has a wrong dtype, or a static argument cannot be one.
    """
    a = accept(A, "A")
    quant_type_number(quant_type, FP8)
    cols = rows_and_cols(a.shape, "A")[1]
    if blocksize is None:
        scale_shape = (*a.shape[:-1], 1 if cols else 0)
    else:
        scale_shape = (-(-prod(a.shape) // block_length(blocksize)),)
    results = [shaped(a.shape, numpy_dtype(dtype_of(quant_type))), shaped(scale_shape, jnp.float32)]
    codes, scale = call(
        "quantize_fp8", results, [a], rows=blocksize is None, blocksize=blocksize, quant_type=quant_type
    )
    return codes, scale


def dequantize_fp8(A: JaxArray, scale: JaxArray, blocksize: int | None = None, dtype: Any = "float32") -> JaxArray:
    """`libbnb.dequantize_fp8` for traced arrays.

    Parameters
    ----------
    A
        The codes, float8: their dtype says which format it is.
    scale
        float32, one element per row or block.
    blocksize
        Elements per block; None means one scale per row. Static.
    dtype
        Dtype of the values: float32, float16 or bfloat16.

    Returns
    -------
    array
        The values, of A's shape.

    Raises
    ------
    InvalidArgument
        A is not float8, `scale` does not fit, or `dtype` cannot be one.
    """
    codes, quant_type = accept_fp8(A, scale, "A", blocksize)
    dtype = jnp.dtype(dtype)
    if dtype.name not in FLOATS:
        raise InvalidArgument(f"dtype is {dtype.name}, must be {' or '.join(FLOATS)}")
    result = shaped(codes.shape, dtype)
    return call("dequantize_fp8", [result], [codes, scale], blocksize=blocksize, quant_type=quant_type)[0]


def accept_fp8(codes: JaxArray, scale: JaxArray, name: str, blocksize: int | None) -> tuple[JaxArray, str]:
    """Codes whose scales fit, and their format."""
    codes = accept(codes, name, FLOAT8)
    rows, cols = rows_and_cols(codes.shape, name)
    length = max(cols, 1) if blocksize is None else block_length(blocksize)
    what = "one for each row" if blocksize is None else f"one for each block of {length}"
    check_size(accept(scale, "scale", ("float32",)), -(-rows * cols // length), "scale", what)
    return codes, codes.dtype.name.replace("float8", "fp8")


def int8_vectorwise_quant(A: JaxArray, threshold: float = 0.0) -> tuple[JaxArray, JaxArray, None]:
    """`libbnb.int8_vectorwise_quant` for traced arrays.

    Parameters
    ----------
    A
        float32, float16 or bfloat16; the last axis is a row.
    threshold
        Must be 0: how many outlier columns there are depends on values, which shapes of traced arrays cannot.
        `linear_int8` takes a threshold.

    Returns
    -------
    out : array
        int8, shape of A.
    row_stats : array
        float32, shape (rows,).
    outlier_cols : None

    Raises
    ------
    InvalidArgument
        A has a wrong dtype or no dimensions, or `threshold` is not 0.
    """
    a = accept(A, "A")
    if checked_threshold(threshold):
        raise InvalidArgument(f"threshold is {threshold}, must be 0 under jit; linear_int8 takes one")
    rows, _ = rows_and_cols(a.shape, "A")
    results = [shaped(a.shape, jnp.int8), shaped((rows,), jnp.float32)]
    codes, stats = call("int8_vectorwise_quant", results, [a], rows=True)
    return codes, stats, None


def int8_vectorwise_dequant(A: JaxArray, stats: JaxArray, dtype: Any = "float32") -> JaxArray:
    """`libbnb.int8_vectorwise_dequant` for traced arrays.

    Parameters
    ----------
    A
        int8; the last axis is a row.
    stats
        float32, one element per row.
    dtype
        Dtype of the values: float32, float16 or bfloat16.

    Returns
    -------
    array
        The values, of A's shape.

    Raises
    ------
    InvalidArgument
        A is not int8, `stats` does not fit, or `dtype` cannot be one.
    """
    codes = accept(A, "A", ("int8",))
    dtype = jnp.dtype(dtype)
    if dtype.name not in FLOATS:
        raise InvalidArgument(f"dtype is {dtype.name}, must be {' or '.join(FLOATS)}")
    check_size(accept(stats, "stats", ("float32",)), rows_and_cols(codes.shape, "A")[0], "stats", "one for each row")
    return call("int8_vectorwise_dequant", [shaped(codes.shape, dtype)], [codes, stats])[0]
