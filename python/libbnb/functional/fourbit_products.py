# SPDX-License-Identifier: MIT
"""Products with 4-bit weights, which stay packed as `quantize_4bit` wrote them."""

from __future__ import annotations

from typing import Any

import numpy as np

from libbnb._errors import InvalidArgument
from libbnb._native import call, lib
from libbnb.arrays import Array, ArrayKind, kind_of, stream_of
from libbnb.codebooks import table_4bit
from libbnb.functional._checks import even_block_length, quant_type_number
from libbnb.functional._products import read_optional, result, shape_text, shapes_differ
from libbnb.functional._torch import compiling
from libbnb.functional.blockwise import read_nested
from libbnb.functional.fourbit import DEFAULT_BLOCKSIZE
from libbnb.quant_state import QuantState

__all__ = ["gemv_4bit", "matmul_4bit"]


def matmul_4bit(
    A: Array, B: Array, quant_state: QuantState, out: Array | None = None, bias: Array | None = None
) -> Array:
    """The product of a linear layer with 4-bit weights: ``A @ dequantize_4bit(B, quant_state).T + bias``.

    The weights are read packed and never written down in full; docs/kernels.md says how exact the product is.
    Tensors of PyTorch that require grad get gradients for A and bias; torch.compile sees one operator.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K). Rows of a matrix may be apart.
    B
        The codes that `quantize_4bit` made of weights of shape (N, K), in any shape.
    quant_state
        The state that it made with them; nested ones, and states of bitsandbytes, too.
    out
        Where the product goes: the dtype of A, shape (..., N). A new array if None.
    bias
        float32, float16 or bfloat16, N elements; none if None.

    Returns
    -------
    array
        Shape (..., N), of the kind, dtype and device of A.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, the state is none of 4-bit weights, or an argument has a wrong dtype, size or place. Nothing
        was written.
    TypeError
        Something is no array, or not of the library of A.
    """
    if quant_state is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise InvalidArgument("matmul_4bit: quant_state is None, must be the state that quantize_4bit returned")
    if not compiling():
        kind = kind_of(A, "A")
        if not kind.wants_operator(A, bias):
            return multiply_4bit(kind, A, B, quant_state, out, bias)
    return _by_operator(A, B, quant_state, out, bias)


def gemv_4bit(
    A: Array,
    B: Array,
    out: Array | None = None,
    transposed_A: bool = False,
    transposed_B: bool = False,
    state: QuantState | None = None,
) -> Array:
    """`matmul_4bit` without a bias, in the form that bitsandbytes has for one row; any number of rows will do.

    `transposed_A` and `transposed_B` have no effect, as in bitsandbytes: packed weights have one orientation.

    Raises
    ------
    InvalidArgument
        As for `matmul_4bit`, or there is no `state`.
    """
    if state is None:
        raise InvalidArgument("gemv_4bit: state is None, must be the state that quantize_4bit returned")
    return matmul_4bit(A, B, state, out)


def _by_operator(A: Array, B: Array, state: QuantState, out: Array | None, bias: Array | None) -> Array:
    from libbnb.autograd._functions import matmul_4bit_by_operator

    return matmul_4bit_by_operator(A, B, state, out, bias)


def multiply_4bit(
    kind: ArrayKind, A: Array, B: Array, state: QuantState, out: Array | None, bias: Array | None
) -> Array:
    """`matmul_4bit` by the C library: no gradients."""
    source, a = kind.read_rows(A, "A")
    n, k = weight_shape(state.shape)
    if a[1] != k:
        if a[1] == n and kind.name == "PyTorch":  # bitsandbytes still takes weights that were quantized as [K, N]
            return _by_operator(A, B, state, out, bias)
        raise shapes_differ(source.shape, (n, k), f"rows of {a[1]} and of {k} elements have no product")
    number = format_of(state)
    blocksize = DEFAULT_BLOCKSIZE if state.blocksize is None else even_block_length(state.blocksize)
    packed, b = kind.read(B, "B")
    absmax, s = kind.read(state.absmax, "absmax")
    nested = alive = None
    if state.state2 is not None:
        nested, alive = read_nested(kind, state, source, a)
    bias, added = read_optional(kind, bias, "bias")
    out, o = result(kind, out, source, a[0], n, source.dtype)
    call(lib.cgemm_4bit, stream_of(kind, source, a), a, b, s, nested, number, blocksize, added, o)
    del packed, absmax, alive  # until here they kept the memory of their views
    return out


def weight_shape(shape: Any) -> tuple[int, int]:
    """The [N, K] of a state, or InvalidArgument."""
    if shape is None or len(shape) != 2:
        text = "None" if shape is None else shape_text(shape)
        raise InvalidArgument(f"quant_state.shape is {text}, must be [N, K]: that of the weights of a linear layer")
    return shape[0], shape[1]


def format_of(state: QuantState) -> int:
    """The number of a state's format. A state with the code of another format is an error.

    A code is compared once: it has 16 values, but may be on a device, and most calls take less time than that.
    """
    number = quant_type_number(state.quant_type)
    if not getattr(state, "standard_code", False):  # states of bitsandbytes have no such attribute
        code = state.code
        if vars(state).get("_code_that_fits") is not code:
            values = np.asarray(kind_of(code, "code").to_numpy(code), np.float32).ravel()
            # Loaders may have cast the code to bfloat16 with everything else; formats are much further apart.
            if values.shape != (16,) or not np.allclose(values, table_4bit(number), rtol=0, atol=2**-8):
                raise InvalidArgument(f"quant_type is {state.quant_type!r}, but the state's code is not that of it")
            vars(state)["_code_that_fits"] = code
    return number
