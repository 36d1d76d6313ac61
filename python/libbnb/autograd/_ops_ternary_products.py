# SPDX-License-Identifier: MIT
"""Operators of products with ternary weights: libbnb::gemm_ternary and linear_ternary."""

from __future__ import annotations

from collections.abc import Sequence
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
    require_float,
    torch_kind,
    wants,
)
from libbnb.autograd._ops_4bit import bias_gradient
from libbnb.autograd._ops_ternary import require_scales
from libbnb.functional._checks import TERNARY
from libbnb.functional.ternary_products import factors_shape, multiply_ternary

Tensor = torch.Tensor


def _require_weights(
    A: Tensor,
    B: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    blocksize: int | None,
    quant_type: str,
    shape: Sequence[int] | None,
) -> int:
    """The number of rows of weights that a product with A is possible for."""
    require(B.dtype in (torch.uint8, torch.int8), lambda: f"B is {B.dtype}, must be uint8 or int8")
    n, k = factors_shape(A.shape, B.shape, quant_type, shape)
    require_scales(scale, n * k, blocksize, quant_type)
    require_bias(bias, n)
    return n


def _gemm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    dtype: torch.dtype = torch.float32,
    shape: Sequence[int] | None = None,
) -> Tensor:
    return functional.gemm_ternary(A, B, row_stats, scale, blocksize, quant_type, bias, None, dtype, shape)


def _fake_gemm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    dtype: torch.dtype = torch.float32,
    shape: Sequence[int] | None = None,
) -> Tensor:
    require_dtype(A, torch.int8, "A")
    require_dtype(row_stats, torch.float32, "row_stats")
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    n = _require_weights(A, B, scale, bias, blocksize, quant_type, shape)
    return torch.empty((*A.shape[:-1], n), dtype=dtype, device=A.device)


define(
    "gemm_ternary(Tensor A, Tensor B, Tensor row_stats, Tensor? scale=None, Tensor? bias=None, int? blocksize=None, "
    f"str quant_type='{TERNARY[0]}', ScalarType dtype=float32, SymInt[]? shape=None) -> Tensor",
    _gemm,
    _fake_gemm,
)


def _linear(
    A: Tensor,
    B: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    per_tensor: bool = False,
    shape: Sequence[int] | None = None,
) -> Tensor:
    return multiply_ternary(torch_kind(A), A, B, scale, blocksize, quant_type, per_tensor, bias, None, shape)


def _fake_linear(
    A: Tensor,
    B: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    per_tensor: bool = False,
    shape: Sequence[int] | None = None,
) -> Tensor:
    require_float(A, "A")
    n = _require_weights(A, B, scale, bias, blocksize, quant_type, shape)
    return torch.empty((*A.shape[:-1], n), dtype=A.dtype, device=A.device)


define(
    "linear_ternary(Tensor A, Tensor B, Tensor? scale=None, Tensor? bias=None, int? blocksize=None, "
    f"str quant_type='{TERNARY[0]}', bool per_tensor=False, SymInt[]? shape=None) -> Tensor",
    _linear,
    _fake_linear,
)


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    A, B, scale, bias, blocksize, quant_type, _, shape = inputs
    ctx.save_for_backward(B, scale)
    ctx.blocksize, ctx.quant_type = blocksize, quant_type
    ctx.shape = factors_shape(A.shape, B.shape, quant_type, shape)
    ctx.bias_shape = None if bias is None else bias.shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of activations: straight through their rounding."""
    B, scale = ctx.saved_tensors
    grad_A = grad_bias = None
    if wants(ctx, 0):
        weights = torch.ops.libbnb.dequantize_ternary(B, scale, ctx.blocksize, ctx.quant_type, ctx.shape, grad.dtype)
        grad_A = torch.matmul(grad, weights)
    if wants(ctx, 3):
        grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype)
    return grad_A, None, None, grad_bias, None, None, None, None


linear_ternary_with_gradients = define_gradients("linear_ternary", _linear, _keep_for_gradients, _gradients)
