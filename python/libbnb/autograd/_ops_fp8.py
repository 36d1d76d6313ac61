# SPDX-License-Identifier: MIT
"""Operators of FP8 weights: libbnb::quantize_fp8, dequantize_fp8 and gemm_fp8. No blocksize means one scale per row."""

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
    torch_kind,
    wants,
)
from libbnb.autograd._ops_4bit import bias_gradient
from libbnb.functional._checks import FP8, block_length, quant_type_number
from libbnb.functional.fp8 import dtype_of
from libbnb.functional.fp8_products import multiply_fp8

Tensor = torch.Tensor


def _scale_shape(A: Tensor, blocksize: int | None) -> tuple[int, ...]:
    if blocksize is not None:
        return (-(-A.numel() // block_length(blocksize)),)
    return (*A.shape[:-1], 1 if A.shape[-1] else 0)


def _require_codes(A: Tensor) -> None:
    known = (torch.uint8, *(getattr(torch, dtype_of(name)) for name in FP8))
    require(A.dtype in known, lambda: f"codes are {A.dtype}, must be {', '.join(map(str, known))}")


def _require_scales(scale: Tensor, codes: Tensor, blocksize: int | None) -> None:
    require_dtype(scale, torch.float32, "scale")
    want = prod(_scale_shape(codes, blocksize))
    require(scale.numel() == want, lambda: f"scale has {scale.numel()} elements, must have {want} (one per block)")


def _quantize(A: Tensor, blocksize: int | None = None, quant_type: str = FP8[0]) -> tuple[Tensor, Tensor]:
    return functional.quantize_fp8(A, blocksize=blocksize, quant_type=quant_type)


def _fake_quantize(A: Tensor, blocksize: int | None = None, quant_type: str = FP8[0]) -> tuple[Tensor, Tensor]:
    require_float(A, "A")
    quant_type_number(quant_type, FP8)
    codes = torch.empty(A.shape, dtype=getattr(torch, dtype_of(quant_type)), device=A.device)
    return codes, torch.empty(_scale_shape(A, blocksize), dtype=torch.float32, device=A.device)


define(
    f"quantize_fp8(Tensor A, int? blocksize=None, str quant_type='{FP8[0]}') -> (Tensor, Tensor)",
    _quantize,
    _fake_quantize,
)


def _dequantize(
    A: Tensor,
    scale: Tensor,
    blocksize: int | None = None,
    quant_type: str = FP8[0],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return functional.dequantize_fp8(A, scale, None, blocksize, quant_type, dtype)


def _fake_dequantize(
    A: Tensor,
    scale: Tensor,
    blocksize: int | None = None,
    quant_type: str = FP8[0],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    _require_codes(A)
    _require_scales(scale, A, blocksize)
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    return torch.empty(A.shape, dtype=dtype, device=A.device)


define(
    f"dequantize_fp8(Tensor A, Tensor scale, int? blocksize=None, str quant_type='{FP8[0]}', "
    "ScalarType dtype=float32) -> Tensor",
    _dequantize,
    _fake_dequantize,
)


def _gemm(
    A: Tensor,
    B: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = FP8[0],
) -> Tensor:
    return multiply_fp8(torch_kind(A), A, B, scale, None, bias, blocksize, quant_type)


def _fake_gemm(
    A: Tensor,
    B: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = FP8[0],
) -> Tensor:
    require_float(A, "A")
    _require_codes(B)
    require_factors(A, B.shape)
    _require_scales(scale, B, blocksize)
    require_bias(bias, B.shape[0])
    return torch.empty((*A.shape[:-1], B.shape[0]), dtype=A.dtype, device=A.device)


define(
    "gemm_fp8(Tensor A, Tensor B, Tensor scale, Tensor? bias=None, int? blocksize=None, "
    f"str quant_type='{FP8[0]}') -> Tensor",
    _gemm,
    _fake_gemm,
)


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, B, scale, bias, blocksize, quant_type = inputs
    ctx.save_for_backward(B, scale)
    ctx.blocksize, ctx.quant_type = blocksize, quant_type
    ctx.bias_shape = None if bias is None else bias.shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    B, scale = ctx.saved_tensors
    grad_A = grad_bias = None
    if wants(ctx, 0):
        weights = torch.ops.libbnb.dequantize_fp8(B, scale, ctx.blocksize, ctx.quant_type, grad.dtype)
        grad_A = torch.matmul(grad, weights)
    if wants(ctx, 3):
        grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype)
    return grad_A, None, None, grad_bias, None, None


gemm_fp8_with_gradients = define_gradients("gemm_fp8", _gemm, _keep_for_gradients, _gradients)
