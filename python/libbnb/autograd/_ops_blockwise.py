# SPDX-License-Identifier: MIT
"""Operators of 8-bit blockwise quantization: libbnb::quantize_blockwise and dequantize_blockwise."""

from __future__ import annotations

import torch

from libbnb import functional
from libbnb.autograd._library import FLOATS, define, require, require_dtype, require_float, require_out
from libbnb.functional._checks import block_length

Tensor = torch.Tensor


def _check_code(code: Tensor) -> None:
    require_dtype(code, torch.float32, "code")
    require(code.numel() == 256, lambda: f"code has {code.numel()} elements, must have 256")


def _quantize(A: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    codes, state = functional.quantize_blockwise(A, code, blocksize=blocksize)
    return codes, state.absmax


def _fake_quantize(A: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    require_float(A, "A")
    _check_code(code)
    blocks = -(-A.numel() // block_length(blocksize))
    codes = torch.empty(A.shape, dtype=torch.uint8, device=A.device)
    return codes, torch.empty((blocks,), dtype=torch.float32, device=A.device)


define("quantize_blockwise(Tensor A, Tensor code, int blocksize) -> (Tensor, Tensor)", _quantize, _fake_quantize)


def _dequantize_out(A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype, out: Tensor) -> None:
    require_out(out, A.shape, dtype)
    functional.dequantize_blockwise(A, None, absmax, code, out, blocksize)


def _dequantize(A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype) -> Tensor:
    out = torch.empty(A.shape, dtype=dtype, device=A.device)
    _dequantize_out(A, absmax, code, blocksize, dtype, out)
    return out


def _fake_dequantize(A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype) -> Tensor:
    require_dtype(A, torch.uint8, "A")
    require_dtype(absmax, torch.float32, "absmax")
    _check_code(code)
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    block_length(blocksize)
    return torch.empty(A.shape, dtype=dtype, device=A.device)


def _fake_dequantize_out(
    A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype, out: Tensor
) -> None:
    _fake_dequantize(A, absmax, code, blocksize, dtype)
    require_out(out, A.shape, dtype)


define(
    "dequantize_blockwise(Tensor A, Tensor absmax, Tensor code, int blocksize, ScalarType dtype) -> Tensor",
    _dequantize,
    _fake_dequantize,
)
define(
    "dequantize_blockwise.out(Tensor A, Tensor absmax, Tensor code, int blocksize, ScalarType dtype, Tensor(a!) out) "
    "-> ()",
    _dequantize_out,
    _fake_dequantize_out,
)
