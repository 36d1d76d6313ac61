# SPDX-License-Identifier: MIT
"""Operators of LLM.int8(): quantization by rows and columns, products of int8 matrices, and libbnb::linear_int8.

Arguments are those of bitsandbytes' operators of the same names.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from libbnb import functional
from libbnb.autograd._library import (
    FLOATS,
    define,
    define_gradients,
    require,
    require_bias,
    require_dtype,
    require_factors,
    require_float,
    require_out,
    torch_kind,
    unknown_length,
    wants,
)
from libbnb.autograd._ops_4bit import bias_gradient
from libbnb.functional.int8_products import multiply_int8

Tensor = torch.Tensor


def _outlier_cols(A: Tensor) -> Tensor:
    """Column indices of which nobody knows the number before."""
    return torch.empty((unknown_length(),), dtype=torch.int64, device=A.device)


def _rows(A: Tensor) -> int:
    return prod(A.shape[:-1])


def _floats(count: int, like: Tensor) -> Tensor:
    return torch.empty((count,), dtype=torch.float32, device=like.device)


def _codes(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=torch.int8, device=like.device)


# ---------------------------------------------------------------------------------------------------------------------
# Quantization


def _vectorwise_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    return functional.int8_vectorwise_quant(A, threshold)


def _fake_vectorwise_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    require_float(A, "A")
    return _codes(A), _floats(_rows(A), A), _outlier_cols(A) if threshold > 0.0 else None


define(
    "int8_vectorwise_quant(Tensor A, float threshold=0.0) -> (Tensor, Tensor, Tensor?)",
    _vectorwise_quant,
    _fake_vectorwise_quant,
)


def _vectorwise_dequant(A: Tensor, stats: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    out = torch.empty(A.shape, dtype=dtype or torch.float32, device=A.device)
    return functional.int8_vectorwise_dequant(A, stats, out)


def _fake_vectorwise_dequant(A: Tensor, stats: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    require_dtype(A, torch.int8, "A")
    require_dtype(stats, torch.float32, "stats")
    return torch.empty(A.shape, dtype=dtype or torch.float32, device=A.device)


define(
    "int8_vectorwise_dequant(Tensor A, Tensor stats, ScalarType? dtype=None) -> Tensor",
    _vectorwise_dequant,
    _fake_vectorwise_dequant,
)


def _double_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    return functional.int8_double_quant(A, threshold=threshold)


def _fake_double_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    require_float(A, "A")
    columns = _outlier_cols(A) if threshold > 0.0 else None
    return _codes(A), _codes(A), _floats(_rows(A), A), _floats(A.shape[-1], A), columns


define(
    "int8_double_quant(Tensor A, float threshold=0.0) -> (Tensor, Tensor, Tensor, Tensor, Tensor?)",
    _double_quant,
    _fake_double_quant,
)


def _mm_dequant(
    A: Tensor, row_stats: Tensor, col_stats: Tensor, dtype: torch.dtype | None = None, bias: Tensor | None = None
) -> Tensor:
    out = torch.empty(A.shape, dtype=dtype or torch.float16, device=A.device)
    return functional.int8_mm_dequant(A, row_stats, col_stats, out, bias)


def _fake_mm_dequant(
    A: Tensor, row_stats: Tensor, col_stats: Tensor, dtype: torch.dtype | None = None, bias: Tensor | None = None
) -> Tensor:
    require_dtype(A, torch.int32, "A")
    require_bias(bias, A.shape[-1])
    return torch.empty(A.shape, dtype=dtype or torch.float16, device=A.device)


define(
    "int8_mm_dequant(Tensor A, Tensor row_stats, Tensor col_stats, ScalarType? dtype=None, Tensor? bias=None) "
    "-> Tensor",
    _mm_dequant,
    _fake_mm_dequant,
)

# ---------------------------------------------------------------------------------------------------------------------
# Products


def _linear_matmul(A: Tensor, B: Tensor) -> Tensor:
    return functional.int8_linear_matmul(A, B)


def _fake_linear_matmul(A: Tensor, B: Tensor) -> Tensor:
    require_dtype(A, torch.int8, "A")
    require_dtype(B, torch.int8, "B")
    require_factors(A, B.shape)
    return torch.empty((*A.shape[:-1], B.shape[0]), dtype=torch.int32, device=A.device)


define("int8_linear_matmul(Tensor A, Tensor B) -> Tensor", _linear_matmul, _fake_linear_matmul)


def _linear_matmul_out(A: Tensor, B: Tensor, out: Tensor) -> None:
    functional.int8_linear_matmul(A, B, out)


def _fake_linear_matmul_out(A: Tensor, B: Tensor, out: Tensor) -> None:
    result = _fake_linear_matmul(A, B)
    require_out(out, result.shape, result.dtype)


define("int8_linear_matmul.out(Tensor A, Tensor B, Tensor(a!) out) -> ()", _linear_matmul_out, _fake_linear_matmul_out)


def _scaled_mm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    return functional.int8_scaled_mm(A, B, row_stats, col_stats, bias, dtype)


def _fake_scaled_mm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    dtype = dtype or torch.float16
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    product = _fake_linear_matmul(A, B)
    require_bias(bias, B.shape[0])
    return torch.empty(product.shape, dtype=dtype, device=A.device)


define(
    "int8_scaled_mm(Tensor A, Tensor B, Tensor row_stats, Tensor col_stats, Tensor? bias=None, ScalarType? dtype=None) "
    "-> Tensor",
    _scaled_mm,
    _fake_scaled_mm,
)


def _mixed_scaled_mm(
    A: Tensor,
    CA: Tensor,
    CB: Tensor,
    SCA: Tensor,
    SCB: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    return functional.int8_mixed_scaled_mm(A, CA, CB, SCA, SCB, outlier_cols, bias)


def _fake_mixed_scaled_mm(
    A: Tensor,
    CA: Tensor,
    CB: Tensor,
    SCA: Tensor,
    SCB: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    require_float(A, "A")
    out = _fake_scaled_mm(CA, CB, SCA, SCB, bias, A.dtype)
    if outlier_cols is None:
        return out, None
    return out, torch.empty((_rows(A), outlier_cols.shape[0]), dtype=A.dtype, device=A.device)


define(
    "int8_mixed_scaled_mm(Tensor A, Tensor CA, Tensor CB, Tensor SCA, Tensor SCB, Tensor? outlier_cols=None, "
    "Tensor? bias=None) -> (Tensor, Tensor?)",
    _mixed_scaled_mm,
    _fake_mixed_scaled_mm,
)

# ---------------------------------------------------------------------------------------------------------------------
# The linear layer


def _linear(A: Tensor, CB: Tensor, SCB: Tensor, threshold: float = 0.0, bias: Tensor | None = None) -> Tensor:
    return multiply_int8(torch_kind(A), A, CB, SCB, threshold, bias, None)


def _fake_linear(A: Tensor, CB: Tensor, SCB: Tensor, threshold: float = 0.0, bias: Tensor | None = None) -> Tensor:
    require_float(A, "A")
    require_dtype(CB, torch.int8, "CB")
    require_factors(A, CB.shape, "CB")
    require(SCB.numel() == CB.shape[0], lambda: f"SCB has {SCB.numel()} elements, must have {CB.shape[0]}")
    require_bias(bias, CB.shape[0])
    return torch.empty((*A.shape[:-1], CB.shape[0]), dtype=A.dtype, device=A.device)


define(
    "linear_int8(Tensor A, Tensor CB, Tensor SCB, float threshold=0.0, Tensor? bias=None) -> Tensor",
    _linear,
    _fake_linear,
)


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, CB, SCB, _, bias = inputs
    ctx.save_for_backward(CB, SCB)
    ctx.bias_shape = None if bias is None else bias.shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    CB, SCB = ctx.saved_tensors
    grad_A = input_gradient_int8(grad, CB, SCB) if wants(ctx, 0) else None
    grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype) if wants(ctx, 4) else None
    return grad_A, None, None, None, grad_bias


def input_gradient_int8(grad: Tensor, CB: Tensor, SCB: Tensor) -> Tensor:
    """The gradient of what int8 weights were multiplied by, as if its quantization had not been there."""
    return torch.matmul(grad, torch.ops.libbnb.int8_vectorwise_dequant(CB, SCB, grad.dtype))


linear_int8_with_gradients = define_gradients("linear_int8", _linear, _keep_for_gradients, _gradients)
