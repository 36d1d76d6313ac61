# SPDX-License-Identifier: MIT
"""Operators of 8-bit blockwise quantization: libbnb::quantize_blockwise, dequantize_blockwise, quantize_nested and
dynamic_map."""

from __future__ import annotations

import torch

from libbnb import functional
from libbnb.autograd._library import FLOATS, define, require, require_dtype, require_float, require_out, torch_kind
from libbnb.codebooks import create_dynamic_map
from libbnb.functional._checks import block_length
from libbnb.functional.blockwise import NESTED_BLOCKSIZE, quantize_nested

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


def _quantize_nested(absmax: Tensor, blocksize: int = NESTED_BLOCKSIZE) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch_kind(absmax)
    scales, view = kind.read(absmax, "absmax")
    codes, offset, state2 = quantize_nested(kind, scales, view, block_length(blocksize), None)
    return codes, state2.absmax, offset


def _fake_quantize_nested(absmax: Tensor, blocksize: int = NESTED_BLOCKSIZE) -> tuple[Tensor, Tensor, Tensor]:
    require_dtype(absmax, torch.float32, "absmax")
    count, device = absmax.numel(), absmax.device
    blocks = -(-count // block_length(blocksize))
    codes = torch.empty((count,), dtype=torch.uint8, device=device)
    nested_absmax = torch.empty((blocks,), dtype=torch.float32, device=device)
    return codes, nested_absmax, torch.empty((), dtype=torch.float32, device=device)


define(
    f"quantize_nested(Tensor absmax, int blocksize={NESTED_BLOCKSIZE}) -> (Tensor, Tensor, Tensor)",
    _quantize_nested,
    _fake_quantize_nested,
)


def _dynamic_map(like: Tensor, signed: bool = True) -> Tensor:
    return torch.tensor(create_dynamic_map(signed), device=like.device)


def _fake_dynamic_map(like: Tensor, signed: bool = True) -> Tensor:
    return torch.empty((256,), dtype=torch.float32, device=like.device)


# The standard code on the device of a tensor, for graphs: they cannot hold what a call of the C library makes.
define("dynamic_map(Tensor like, bool signed=True) -> Tensor", _dynamic_map, _fake_dynamic_map)
