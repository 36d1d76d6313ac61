# SPDX-License-Identifier: MIT
"""Operators of MX and NVFP4: libbnb::quantize_mx, dequantize_mx, gemm_mx. No tensor scale is one without elements."""

from __future__ import annotations

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
from libbnb.functional._checks import MX
from libbnb.functional.mx import Format, format_named, quant_type_of, require_whole_blocks, rule_number
from libbnb.functional.mx_products import multiply_mx

Tensor = torch.Tensor
_DEFAULT = MX[0]


def _dtype(name: str) -> torch.dtype:
    return getattr(torch, name)


def _format_of(codes: Tensor, quant_type: str) -> Format:
    format = format_named(quant_type_of(str(codes.dtype).removeprefix("torch."), quant_type))
    known = (torch.uint8, _dtype(format.code_dtype))
    require(codes.dtype in known, lambda: f"codes are {codes.dtype}, must be {' or '.join(map(str, known))}")
    return format


def _require_scales(scale: Tensor, tensor_scale: Tensor | None, format: Format, codes: Tensor) -> None:
    known = (torch.uint8, _dtype(format.scale_dtype))
    require(scale.dtype in known, lambda: f"scale is {scale.dtype}, must be {' or '.join(map(str, known))}")
    want = codes.numel() * format.codes_a_byte // format.blocksize
    require(scale.numel() == want, lambda: f"scale has {scale.numel()} elements, must have {want} (one per block)")
    if tensor_scale is not None:
        require_dtype(tensor_scale, torch.float32, "tensor_scale")
        require(tensor_scale.numel() == 1, lambda: f"tensor_scale has {tensor_scale.numel()} elements, must have 1")


def _quantize(
    A: Tensor, quant_type: str = _DEFAULT, scale_rule: str = "floor", tensor_scale: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    codes, scale, of_tensor = functional.quantize_mx(A, quant_type, scale_rule, tensor_scale=tensor_scale)
    return codes, scale, A.new_empty(0, dtype=torch.float32) if of_tensor is None else of_tensor


def _fake_quantize(
    A: Tensor, quant_type: str = _DEFAULT, scale_rule: str = "floor", tensor_scale: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    require_float(A, "A")
    rule_number(scale_rule)
    format = format_named(quant_type)
    require(A.dim() > 0, lambda: "A has no dimensions, must have at least 1")
    require_whole_blocks(A.shape[-1], format)
    lead, cols = A.shape[:-1], A.shape[-1]
    dtype = torch.uint8 if format.codes_a_byte == 2 else _dtype(format.code_dtype)
    return (
        A.new_empty((*lead, cols // format.codes_a_byte), dtype=dtype),
        A.new_empty((*lead, cols // format.blocksize), dtype=_dtype(format.scale_dtype)),
        A.new_empty(1 if quant_type == "nvfp4" and tensor_scale else 0, dtype=torch.float32),
    )


define(
    f"quantize_mx(Tensor A, str quant_type='{_DEFAULT}', str scale_rule='floor', bool tensor_scale=True) "
    "-> (Tensor, Tensor, Tensor)",
    _quantize,
    _fake_quantize,
)


def _dequantize(
    A: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    quant_type: str = _DEFAULT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return functional.dequantize_mx(A, scale, tensor_scale, quant_type, dtype)


def _fake_dequantize(
    A: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    quant_type: str = _DEFAULT,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    format = _format_of(A, quant_type)
    require(A.dim() > 0, lambda: "A has no dimensions, must have at least 1")
    _require_scales(scale, tensor_scale, format, A)
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    return torch.empty((*A.shape[:-1], A.shape[-1] * format.codes_a_byte), dtype=dtype, device=A.device)


define(
    f"dequantize_mx(Tensor A, Tensor scale, Tensor? tensor_scale=None, str quant_type='{_DEFAULT}', "
    "ScalarType dtype=float32) -> Tensor",
    _dequantize,
    _fake_dequantize,
)


def _gemm(
    A: Tensor,
    B: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    quant_type: str = _DEFAULT,
    bias: Tensor | None = None,
) -> Tensor:
    return multiply_mx(torch_kind(A), A, B, scale, tensor_scale, quant_type, bias, None)


def _fake_gemm(
    A: Tensor,
    B: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    quant_type: str = _DEFAULT,
    bias: Tensor | None = None,
) -> Tensor:
    require_float(A, "A")
    format = _format_of(B, quant_type)
    require(B.dim() == 2, lambda: f"B has shape {list(B.shape)}, must have 2 dimensions")
    require_factors(A, (B.shape[0], B.shape[1] * format.codes_a_byte))
    require_whole_blocks(A.shape[-1], format)
    _require_scales(scale, tensor_scale, format, B)
    require_bias(bias, B.shape[0])
    return torch.empty((*A.shape[:-1], B.shape[0]), dtype=A.dtype, device=A.device)


define(
    f"gemm_mx(Tensor A, Tensor B, Tensor scale, Tensor? tensor_scale=None, str quant_type='{_DEFAULT}', "
    "Tensor? bias=None) -> Tensor",
    _gemm,
    _fake_gemm,
)


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, B, scale, tensor_scale, quant_type, bias = inputs
    ctx.save_for_backward(B, scale, tensor_scale)
    ctx.quant_type = quant_type
    ctx.bias_shape = None if bias is None else bias.shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    B, scale, tensor_scale = ctx.saved_tensors
    grad_A = grad_bias = None
    if wants(ctx, 0):
        weights = torch.ops.libbnb.dequantize_mx(B, scale, tensor_scale, ctx.quant_type, grad.dtype)
        grad_A = torch.matmul(grad, weights)
    if wants(ctx, 5):
        grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype)
    return grad_A, None, None, None, None, grad_bias


gemm_mx_with_gradients = define_gradients("gemm_mx", _gemm, _keep_for_gradients, _gradients)
