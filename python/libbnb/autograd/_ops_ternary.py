# SPDX-License-Identifier: MIT
"""Operators of ternary weights: libbnb::quantize_ternary and dequantize_ternary.

No blocksize means one scale for all weights. The quantizer returns scales for the TQ types, too: those that their
blocks have as float16.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from libbnb import functional
from libbnb.autograd._library import FLOATS, define, require, require_dtype, require_float
from libbnb.functional._checks import TERNARY, quant_type_number
from libbnb.functional.ternary import (
    SCALE_RULES,
    codes_shape,
    extents_of,
    rule_number,
    scale_length,
    weights_shape,
)

Tensor = torch.Tensor


def require_scales(scale: Tensor | None, n: int, blocksize: int | None, quant_type: str) -> None:
    if quant_type != TERNARY[0]:
        require(scale is None, lambda: f"scale is a tensor, must be None for {quant_type}, whose blocks have it inside")
        return
    if scale is None:
        require(False, lambda: "scale is None, must be float32")
        return
    require_dtype(scale, torch.float32, "scale")
    want = -(-n // scale_length(n, blocksize))
    require(scale.numel() == want, lambda: f"scale has {scale.numel()} elements, must have {want} (one per block)")


def _quantize(
    A: Tensor, blocksize: int | None = None, quant_type: str = TERNARY[0], scale_rule: str = SCALE_RULES[0]
) -> tuple[Tensor, Tensor]:
    scale = torch.empty(-(-A.numel() // scale_length(A.numel(), blocksize)), dtype=torch.float32, device=A.device)
    codes, _ = functional.quantize_ternary(A, blocksize, quant_type, scale_rule, scale=scale)
    return codes, scale


def _fake_quantize(
    A: Tensor, blocksize: int | None = None, quant_type: str = TERNARY[0], scale_rule: str = SCALE_RULES[0]
) -> tuple[Tensor, Tensor]:
    require_float(A, "A")
    quant_type_number(quant_type, TERNARY)
    rule_number(scale_rule)
    codes = torch.empty(codes_shape(A.shape, quant_type), dtype=torch.uint8, device=A.device)
    n = A.numel()
    return codes, torch.empty((-(-n // scale_length(n, blocksize)),), dtype=torch.float32, device=A.device)


define(
    f"quantize_ternary(Tensor A, int? blocksize=None, str quant_type='{TERNARY[0]}', "
    f"str scale_rule='{SCALE_RULES[0]}') -> (Tensor, Tensor)",
    _quantize,
    _fake_quantize,
)


def _dequantize(
    A: Tensor,
    scale: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    return functional.dequantize_ternary(A, scale, blocksize, quant_type, shape, dtype)


def _fake_dequantize(
    A: Tensor,
    scale: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    quant_type_number(quant_type, TERNARY)
    require(A.dtype in (torch.uint8, torch.int8), lambda: f"A is {A.dtype}, must be uint8 or int8")
    extents = weights_shape(A.shape, quant_type) if shape is None else extents_of(shape)
    want = prod(codes_shape(extents, quant_type))
    require(A.numel() == want, lambda: f"A has {A.numel()} elements, must have {want}")
    require_scales(scale, prod(extents), blocksize, quant_type)
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    return torch.empty(extents, dtype=dtype, device=A.device)


define(
    f"dequantize_ternary(Tensor A, Tensor? scale=None, int? blocksize=None, str quant_type='{TERNARY[0]}', "
    "SymInt[]? shape=None, ScalarType dtype=float32) -> Tensor",
    _dequantize,
    _fake_dequantize,
)
