# SPDX-License-Identifier: MIT
"""Products with quantized weights in traced programs, with gradients for activations and biases.

The gradient of A is the product with the dequantized weights in A's dtype, computed by XLA; nothing that is quantized
has one.
"""

# JAX's functions are typed in parts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from libbnb._errors import InvalidArgument
from libbnb.arrays import rows_and_cols
from libbnb.functional._products import shape_text, shapes_differ
from libbnb.functional.fourbit_products import weight_shape
from libbnb.functional.int8 import checked_threshold
from libbnb.integrations.jax._call import FLOATS, JaxArray, accept, call, check_bias, check_size, shaped
from libbnb.integrations.jax._functions import (
    accept_fp8,
    check_packed,
    dequantize_4bit,
    dequantize_fp8,
    int8_vectorwise_dequant,
)
from libbnb.integrations.jax._state import describe
from libbnb.quant_state import QuantState


def matmul_4bit(A: JaxArray, B: JaxArray, quant_state: QuantState, bias: JaxArray | None = None) -> JaxArray:
    """`libbnb.matmul_4bit` for traced arrays: ``A @ dequantize_4bit(B, quant_state).T + bias``.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K).
    B, quant_state
        What `quantize_4bit`, of this module or of libbnb, made of weights of shape (N, K).
    bias
        float32, float16 or bfloat16, N elements; none if None.

    Returns
    -------
    array
        Shape (..., N), dtype of A.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype.
    """
    a = accept(A, "A")
    n, k = weight_shape(quant_state.shape)
    _check_rows(a, (n, k))
    return _matmul_4bit(a, check_packed(B, "B", quant_state), quant_state, check_bias(bias, n))


def _check_rows(A: JaxArray, weights: tuple[int, int], names: tuple[str, str] = ("A", "B")) -> None:
    if rows_and_cols(A.shape, names[0])[1] != weights[1]:
        raise shapes_differ(A.shape, weights, f"rows of {A.shape[-1]} and of {weights[1]} elements have no product")


def _with(arrays: list[Any], bias: JaxArray | None) -> list[Any]:
    return arrays if bias is None else [*arrays, bias]


def _gradients(grad: JaxArray, weights: JaxArray, bias: JaxArray | None) -> tuple[JaxArray, JaxArray | None]:
    """Those of A and of the bias; `weights` are dequantized."""
    of_a: JaxArray = grad @ weights
    if bias is None:
        return of_a, None
    return of_a, grad.reshape(-1, grad.shape[-1]).sum(0, dtype=bias.dtype).reshape(bias.shape)


@jax.custom_vjp
def _matmul_4bit(A: JaxArray, B: JaxArray, state: QuantState, bias: JaxArray | None) -> JaxArray:
    arrays, static = describe(state)
    result = shaped((*A.shape[:-1], state.shape[0]), A.dtype)
    arguments = {"state": static, "bias": bias is not None}
    return call("matmul_4bit", [result], _with([A, B, *arrays], bias), rows=True, **arguments)[0]


def _matmul_4bit_forward(A: JaxArray, B: JaxArray, state: QuantState, bias: JaxArray | None) -> Any:
    return _matmul_4bit(A, B, state, bias), (B, state, bias)


def _matmul_4bit_backward(kept: Any, grad: JaxArray) -> Any:
    B, state, bias = kept
    of_a, of_bias = _gradients(grad, dequantize_4bit(B, state, grad.dtype), bias)
    return of_a, None, None, of_bias


_matmul_4bit.defvjp(_matmul_4bit_forward, _matmul_4bit_backward)


# ---------------------------------------------------------------------------------------------------------------------
# FP8


def matmul_fp8(
    A: JaxArray, B: JaxArray, scale: JaxArray, bias: JaxArray | None = None, blocksize: int | None = None
) -> JaxArray:
    """`libbnb.matmul_fp8` for traced arrays: ``A @ dequantize_fp8(B, scale).T + bias``.

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K).
    B
        Codes of weights of shape (N, K), float8.
    scale
        float32, one element per row of B or per block.
    bias
        float32, float16 or bfloat16, N elements; none if None.
    blocksize
        Elements per block; None means one scale per row. Static.

    Returns
    -------
    array
        Shape (..., N), dtype of A.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype.
    """
    a = accept(A, "A")
    codes, _ = accept_fp8(_matrix(B, "B"), scale, "B", blocksize)
    _check_rows(a, codes.shape)
    return _matmul_fp8(blocksize, a, codes, scale, check_bias(bias, codes.shape[0]))


def _matrix(array: JaxArray, name: str) -> JaxArray:
    array = jnp.asarray(array)
    if array.ndim != 2:
        raise InvalidArgument(f"{name} has shape {shape_text(array.shape)}, must have 2 dimensions")
    return array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _matmul_fp8(blocksize: int | None, A: JaxArray, B: JaxArray, scale: JaxArray, bias: JaxArray | None) -> JaxArray:
    arguments = {
        "blocksize": blocksize,
        "quant_type": B.dtype.name.replace("float8", "fp8"),
        "bias": bias is not None,
    }
    result = shaped((*A.shape[:-1], B.shape[0]), A.dtype)
    return call("matmul_fp8", [result], _with([A, B, scale], bias), rows=True, **arguments)[0]


def _matmul_fp8_forward(blocksize: int | None, A: JaxArray, B: JaxArray, scale: JaxArray, bias: JaxArray | None) -> Any:
    return _matmul_fp8(blocksize, A, B, scale, bias), (B, scale, bias)


def _matmul_fp8_backward(blocksize: int | None, kept: Any, grad: JaxArray) -> Any:
    B, scale, bias = kept
    of_a, of_bias = _gradients(grad, dequantize_fp8(B, scale, blocksize, grad.dtype), bias)
    return of_a, None, None, of_bias


_matmul_fp8.defvjp(_matmul_fp8_forward, _matmul_fp8_backward)


# ---------------------------------------------------------------------------------------------------------------------
# int8


def linear_int8(
    A: JaxArray, CB: JaxArray, SCB: JaxArray, threshold: float = 0.0, bias: JaxArray | None = None
) -> JaxArray:
    """`libbnb.linear_int8` for traced arrays: LLM.int8().

    Parameters
    ----------
    A
        float32, float16 or bfloat16, shape (..., K).
    CB, SCB
        Weights of shape (N, K) as `int8_vectorwise_quant` makes them.
    threshold
        Columns of A with an element of this magnitude or more are not quantized; 0 means all are. Static.
    bias
        float32, float16 or bfloat16, N elements; none if None.

    Returns
    -------
    array
        Shape (..., N), dtype of A. The gradient of A is that of a product with the dequantized weights.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype.
    """
    a, codes = accept(A, "A"), accept(_matrix(CB, "CB"), "CB", ("int8",))
    _check_rows(a, codes.shape, ("A", "CB"))
    check_size(accept(SCB, "SCB", ("float32",)), codes.shape[0], "SCB", "one for each row of CB")
    return _linear_int8(checked_threshold(threshold), a, codes, SCB, check_bias(bias, codes.shape[0]))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _linear_int8(threshold: float, A: JaxArray, CB: JaxArray, SCB: JaxArray, bias: JaxArray | None) -> JaxArray:
    result = shaped((*A.shape[:-1], CB.shape[0]), A.dtype)
    # Which columns have outliers is decided over all rows, so rows of other elements of a batch must not be among them.
    alike = threshold == 0.0
    arrays, arguments = _with([A, CB, SCB], bias), {"threshold": threshold, "bias": bias is not None}
    return call("linear_int8", [result], arrays, rows=alike, **arguments)[0]


def _linear_int8_forward(threshold: float, A: JaxArray, CB: JaxArray, SCB: JaxArray, bias: JaxArray | None) -> Any:
    return _linear_int8(threshold, A, CB, SCB, bias), (CB, SCB, bias)


def _linear_int8_backward(threshold: float, kept: Any, grad: JaxArray) -> Any:
    CB, SCB, bias = kept
    of_a, of_bias = _gradients(grad, int8_vectorwise_dequant(CB, SCB, grad.dtype), bias)
    return of_a, None, None, of_bias


_linear_int8.defvjp(_linear_int8_forward, _linear_int8_backward)


def int8_linear_matmul(A: JaxArray, B: JaxArray) -> JaxArray:
    """`libbnb.int8_linear_matmul` for traced arrays: the exact product ``A @ B.T`` in int32.

    Parameters
    ----------
    A
        int8, shape (..., K).
    B
        int8, shape (N, K).

    Returns
    -------
    array
        int32, shape (..., N).

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype.
    """
    a, b = accept(A, "A", ("int8",)), accept(_matrix(B, "B"), "B", ("int8",))
    _check_rows(a, b.shape)
    return call("int8_linear_matmul", [shaped((*a.shape[:-1], b.shape[0]), jnp.int32)], [a, b], rows=True)[0]


def int8_scaled_mm(
    A: JaxArray,
    B: JaxArray,
    row_stats: JaxArray,
    col_stats: JaxArray,
    bias: JaxArray | None = None,
    dtype: Any = "float16",
) -> JaxArray:
    """`libbnb.int8_scaled_mm` for traced arrays: ``(A @ B.T) * (row_stats * col_stats) / (127 * 127) + bias``.

    Parameters
    ----------
    A
        int8, shape (..., K).
    B
        int8, shape (N, K).
    row_stats, col_stats
        float32, one element per row of A, and of B.
    bias
        float32, float16 or bfloat16, N elements; none if None.
    dtype
        Dtype of the product: float32, float16 or bfloat16.

    Returns
    -------
    array
        Shape (..., N). No gradients flow through it.

    Raises
    ------
    InvalidArgument
        Shapes do not fit, or an argument has a wrong dtype.
    """
    a, b = accept(A, "A", ("int8",)), accept(_matrix(B, "B"), "B", ("int8",))
    _check_rows(A, b.shape)
    check_size(accept(row_stats, "row_stats", ("float32",)), rows_and_cols(a.shape, "A")[0], "row_stats", "rows of A")
    check_size(accept(col_stats, "col_stats", ("float32",)), b.shape[0], "col_stats", "rows of B")
    if jnp.dtype(dtype).name not in FLOATS:
        raise InvalidArgument(f"dtype is {jnp.dtype(dtype).name}, must be {' or '.join(FLOATS)}")
    result = shaped((*a.shape[:-1], b.shape[0]), jnp.dtype(dtype))
    arrays = _with([a, b, row_stats, col_stats], check_bias(bias, b.shape[0]))
    return call("int8_scaled_mm", [result], arrays, bias=bias is not None)[0]
