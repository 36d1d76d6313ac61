# SPDX-License-Identifier: MIT
"""Ternary weights and int8 activations with gradients that pass straight through rounding.

The forward pass of training is the product that packed weights have: the same codes, the same bits. So a model writes
the same text packed as it did while it learned.
"""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from libbnb._errors import InvalidArgument
from libbnb.functional import (
    dequantize_ternary,
    gemm_ternary,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
    linear_ternary,
    quantize_ternary,
)
from libbnb.nn.bitnet_config import BitNetConfig

_INT8_LARGEST = 127  # what `row_stats` of the library's int8 products stand for


def check_group(columns: int, group_size: int | None) -> None:
    """Groups do not reach over the end of a row."""
    if group_size is not None and (group_size < 1 or columns % group_size):
        raise InvalidArgument(f"group_size is {group_size}, must divide rows of {columns} weights")


def quantize_activations(x: Tensor, config: BitNetConfig) -> tuple[Tensor, Tensor]:
    """int8 activations of shape (rows, columns), and float32 statistics: what the code 127 would stand for, of each row
    or of all of them.
    """
    rows = x.reshape(-1, x.shape[-1])
    matrix = rows if config.per_token else rows.reshape(1, -1)
    if config.activation_bits == 8:
        codes, stats, _ = int8_vectorwise_quant(matrix)
    else:
        codes, stats = _quantize_coarsely(matrix, config.largest_activation)
    return codes.reshape(rows.shape), stats


def _quantize_coarsely(matrix: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Fewer than 8 bits, for experiments: in PyTorch's own operations, and in bytes as 8 bits are."""
    values = matrix.float()
    absmax = values.abs().amax(-1) if values.numel() else values.new_zeros(len(values))
    scale = torch.where(absmax > 0, largest / absmax, 0.0)
    codes = (values * scale[:, None]).round().clamp(-largest, largest).nan_to_num(0.0)
    return codes.to(torch.int8), absmax * (_INT8_LARGEST / largest)


def dequantize_activations(codes: Tensor, stats: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers that int8 activations stand for, shape (rows, columns)."""
    matrix = codes if stats.numel() == codes.shape[0] else codes.reshape(1, -1)
    out = torch.empty(matrix.shape, dtype=dtype, device=codes.device)
    return int8_vectorwise_dequant(matrix, stats, out=out).reshape(codes.shape)


class _TernarySTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, group_size: int | None) -> Tensor:
        codes, scale = quantize_ternary(weight, blocksize=group_size)
        return dequantize_ternary(codes, scale, blocksize=group_size, shape=weight.shape, dtype=weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def ternary_ste(weight: Tensor, group_size: int | None = None) -> Tensor:
    """Weights as the ternary numbers times scales that they are quantized to, with the gradient of the identity.

    Parameters
    ----------
    weight
        float32, float16 or bfloat16; the last axis is a row.
    group_size
        Weights of a row that share a scale, a divisor of the row's length. None: one scale for all.

    Returns
    -------
    Tensor
        Like `weight`: ``clamp(round(weight / scale), -1, 1) * scale`` with ``scale = mean(|weight|)`` (AbsMean,
        arXiv:2402.17764).
    """
    check_group(weight.shape[-1], group_size)
    return _TernarySTE.apply(weight, group_size)  # pyright: ignore[reportReturnType]


class _Int8STE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, config: BitNetConfig) -> Tensor:
        return dequantize_activations(*quantize_activations(x, config), x.dtype).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def int8_ste(x: Tensor, per_token: bool = True, activation_bits: int = 8) -> Tensor:
    """Activations as the whole numbers times scales that they are quantized to, with the gradient of the identity.

    Parameters
    ----------
    x
        float32, float16 or bfloat16; the last axis is a token.
    per_token
        Whether each token has a scale of its own, or all share one.
    activation_bits
        2 to 8.

    Returns
    -------
    Tensor
        Like `x`: ``round(x * q / absmax) * absmax / q`` with ``q = 2^(activation_bits - 1) - 1``.
    """
    config = BitNetConfig(per_token=per_token, activation_bits=activation_bits)
    return _Int8STE.apply(x, config)  # pyright: ignore[reportReturnType]


class _BitLinear(torch.autograd.Function):
    """x @ W^T + bias with both quantized. What the backward pass needs is kept as codes, a byte an activation and two
    bits a weight.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, config: BitNetConfig
    ) -> Tensor:
        """weight: floats, and no scale; or packed codes of (rows, columns / 4) bytes with their scales."""
        activations, stats = quantize_activations(x, config)
        packed, scales = (weight, scale) if scale is not None else quantize_ternary(weight, blocksize=config.group_size)
        rows = weight.shape[0]
        y = gemm_ternary(activations, packed, stats, scales, blocksize=config.group_size, bias=bias, dtype=x.dtype)
        ctx.save_for_backward(activations, stats, packed, scales)
        ctx.config, ctx.rows, ctx.dtypes = (
            config,
            rows,
            (x.dtype, weight.dtype, bias.dtype if bias is not None else None),
        )
        return y.reshape(*x.shape[:-1], rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        activations, stats, packed, scales = ctx.saved_tensors
        x_dtype, weight_dtype, bias_dtype = ctx.dtypes
        gradient = gradients[0]
        rows = gradient.reshape(-1, gradient.shape[-1])
        for_x = for_weight = for_bias = None
        if ctx.needs_input_grad[0] and ctx.config.use_ste:
            shape = (ctx.rows, activations.shape[1])
            weight = dequantize_ternary(
                packed, scales, blocksize=ctx.config.group_size, shape=shape, dtype=gradient.dtype
            )
            for_x = (rows @ weight).reshape(*gradient.shape[:-1], shape[1]).to(x_dtype)
        if ctx.needs_input_grad[1] and ctx.config.use_ste:
            x = dequantize_activations(activations, stats, gradient.dtype)
            for_weight = (rows.t() @ x).to(weight_dtype)
        if ctx.needs_input_grad[3]:
            for_bias = rows.sum(0).to(bias_dtype)
        return for_x, for_weight, None, for_bias, None


def bit_linear(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None, config: BitNetConfig) -> Tensor:
    """The product of a BitLinear layer, without its normalisation.

    Parameters
    ----------
    x
        float32, float16 or bfloat16, shape (..., K).
    weight
        Floats of shape (N, K), which are quantized in passing; or packed codes, uint8 of shape (N, K / 4).
    scale
        None for floats; float32, the scales of packed codes.
    bias
        A float dtype, shape (N,), or None.
    config
        How both are quantized.
    """
    wants_gradients = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)
    )
    if scale is not None and not wants_gradients and config.activation_bits == 8:
        return linear_ternary(x, weight, scale, blocksize=config.group_size, per_tensor=not config.per_token, bias=bias)
    return _BitLinear.apply(x, weight, scale, bias, config)  # pyright: ignore[reportReturnType]
