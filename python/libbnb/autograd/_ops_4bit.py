# SPDX-License-Identifier: MIT
"""Operators of 4-bit weights: libbnb::quantize_4bit, dequantize_4bit, gemm_4bit and gemv_4bit.

Arguments are those of bitsandbytes' operators of the same names. For a nested absmax, `absmax` is that of the state
of the absmax, `absmax_8bit` has its codes, and no `absmax_code` means the signed dynamic map; `nested_blocksize` is
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from libbnb import functional
from libbnb._errors import InvalidArgument
from libbnb._native import QUANT_TYPES
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
    wants,
)
from libbnb.codebooks import table_4bit
from libbnb.functional._checks import FOUR_BIT, even_block_length, quant_type_number
from libbnb.functional.blockwise import NESTED_BLOCKSIZE
from libbnb.functional.fourbit_products import multiply_4bit
from libbnb.quant_state import QuantState

Tensor = torch.Tensor
_NESTED = (
    "Tensor? absmax_8bit=None, Tensor? absmax_code=None, Tensor? absmax_offset=None, "
    f"int nested_blocksize={NESTED_BLOCKSIZE}"
)


def _state(
    absmax: Tensor,
    shape: Sequence[int],
    blocksize: int,
    quant_type: str,
    dtype: torch.dtype,
    absmax_8bit: Tensor | None,
    absmax_code: Tensor | None,
    absmax_offset: Tensor | None,
    nested_blocksize: int,
) -> QuantState:
    """The state that an operator's arguments describe."""
    if absmax_8bit is None:
        return QuantState(absmax, shape, None, blocksize, quant_type, dtype)
    require(absmax_offset is not None, lambda: "absmax_offset is None, must be given with absmax_8bit")
    state2 = QuantState(absmax, None, absmax_code, nested_blocksize, None, torch.float32)
    return QuantState(absmax_8bit, shape, None, blocksize, quant_type, dtype, absmax_offset, state2)


def _check_scales(absmax: Tensor, absmax_8bit: Tensor | None, absmax_offset: Tensor | None, n: int, block: int) -> None:
    require_dtype(absmax, torch.float32, "absmax")
    count, name = absmax.numel(), "absmax"
    if absmax_8bit is not None:
        require_dtype(absmax_8bit, torch.uint8, "absmax_8bit")
        require(absmax_offset is not None, lambda: "absmax_offset is None, must be given with absmax_8bit")
        count, name = absmax_8bit.numel(), "absmax_8bit"
    want = -(-n // block)
    require(count == want, lambda: f"{name} has {count} elements, must have {want} (one per block of {block})")


# ---------------------------------------------------------------------------------------------------------------------


def _quantize(A: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype) -> tuple[Tensor, Tensor]:
    packed, state = functional.quantize_4bit(A, blocksize=blocksize, quant_type=quant_type, quant_storage=quant_storage)
    return packed, state.absmax


def _fake_quantize(A: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype) -> tuple[Tensor, Tensor]:
    require_float(A, "A")
    quant_type_number(quant_type)
    blocksize = even_block_length(blocksize)
    n = A.numel()
    items = -(-((n + 1) // 2) // quant_storage.itemsize)
    packed = torch.empty((items, 1), dtype=quant_storage, device=A.device)
    return packed, torch.empty((-(-n // blocksize),), dtype=torch.float32, device=A.device)


define(
    "quantize_4bit(Tensor A, int blocksize, str quant_type, ScalarType quant_storage) -> (Tensor, Tensor)",
    _quantize,
    _fake_quantize,
)

# ---------------------------------------------------------------------------------------------------------------------


def _dequantize(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
    nested_blocksize: int = NESTED_BLOCKSIZE,
) -> Tensor:
    nested = (absmax_8bit, absmax_code, absmax_offset, nested_blocksize)
    return functional.dequantize_4bit(A, _state(absmax, shape, blocksize, quant_type, dtype, *nested))


def _fake_dequantize(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
    nested_blocksize: int = NESTED_BLOCKSIZE,
) -> Tensor:
    quant_type_number(quant_type)
    require(dtype in FLOATS, lambda: f"dtype is {dtype}, must be float32, float16 or bfloat16")
    _check_scales(absmax, absmax_8bit, absmax_offset, prod(shape), even_block_length(blocksize))
    return torch.empty(tuple(shape), dtype=dtype, device=A.device)


define(
    "dequantize_4bit(Tensor A, Tensor absmax, int blocksize, str quant_type, int[] shape, ScalarType dtype, "
    f"{_NESTED}) -> Tensor",
    _dequantize,
    _fake_dequantize,
)


def _dequantize_out(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    out: Tensor,
) -> None:
    require_out(out, shape, dtype)
    functional.dequantize_4bit(A, None, absmax, out, blocksize, quant_type)


def _fake_dequantize_out(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    out: Tensor,
) -> None:
    _fake_dequantize(A, absmax, blocksize, quant_type, shape, dtype)
    require_out(out, shape, dtype)


define(
    "dequantize_4bit.out(Tensor A, Tensor absmax, int blocksize, str quant_type, int[] shape, ScalarType dtype, "
    "Tensor(a!) out) -> ()",
    _dequantize_out,
    _fake_dequantize_out,
)

# ---------------------------------------------------------------------------------------------------------------------


def _gemm(
    A: Tensor,
    B: Tensor,
    shapeB: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
    nested_blocksize: int = NESTED_BLOCKSIZE,
) -> Tensor:
    require_factors(A, shapeB)
    nested = (absmax_8bit, absmax_code, absmax_offset, nested_blocksize)
    state = _state(absmax, shapeB, blocksize, quant_type, A.dtype, *nested)
    return multiply_4bit(torch_kind(A), A, B, state, None, bias)


def _fake_gemm(
    A: Tensor,
    B: Tensor,
    shapeB: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
    nested_blocksize: int = NESTED_BLOCKSIZE,
) -> Tensor:
    require_factors(A, shapeB)
    require_float(A, "A")
    quant_type_number(quant_type)
    _check_scales(absmax, absmax_8bit, absmax_offset, prod(shapeB), even_block_length(blocksize))
    require_bias(bias, shapeB[0])
    return torch.empty((*A.shape[:-1], shapeB[0]), dtype=A.dtype, device=A.device)


define(
    "gemm_4bit(Tensor A, Tensor B, int[] shapeB, Tensor absmax, int blocksize, str quant_type, Tensor? bias=None, "
    f"{_NESTED}) -> Tensor",
    _gemm,
    _fake_gemm,
)


def _keep_for_gradients(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, B, shape, absmax, blocksize, quant_type, bias, absmax_8bit, code, offset, nested_blocksize = inputs
    ctx.save_for_backward(B, absmax, absmax_8bit, code, offset)
    ctx.shape, ctx.blocksize, ctx.quant_type, ctx.nested_blocksize = shape, blocksize, quant_type, nested_blocksize
    ctx.bias_shape = None if bias is None else bias.shape
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    B, absmax, absmax_8bit, code, offset = ctx.saved_tensors
    grad_A = grad_bias = None
    if wants(ctx, 0):
        weights = torch.ops.libbnb.dequantize_4bit(
            B,
            absmax,
            ctx.blocksize,
            ctx.quant_type,
            ctx.shape,
            grad.dtype,
            absmax_8bit,
            code,
            offset,
            ctx.nested_blocksize,
        )
        grad_A = torch.matmul(grad, weights)
    if wants(ctx, 6):
        grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype)
    return grad_A, None, None, None, None, None, grad_bias, None, None, None, None


def bias_gradient(grad: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The gradient of a bias: the sum over rows, in its dtype."""
    return grad.reshape(-1, grad.shape[-1]).sum(0, dtype=dtype).reshape(shape)


gemm_4bit_with_gradients = define_gradients("gemm_4bit", _gemm, _keep_for_gradients, _gradients)

# ---------------------------------------------------------------------------------------------------------------------


def _format_of_code(code: Tensor) -> str:
    """The format that a table of 16 values belongs to."""
    values = torch_kind(code).to_numpy(code)
    for name in FOUR_BIT:
        if np.array_equal(values, table_4bit(QUANT_TYPES[name])):
            return name
    raise InvalidArgument(f"code is the table of none of {', '.join(FOUR_BIT)}")


def _gemv(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int) -> Tensor:
    return _gemm(A, B, shapeB, absmax, blocksize, _format_of_code(code))


def _fake_gemv(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int) -> Tensor:
    require(code.numel() == 16, lambda: f"code has {code.numel()} elements, must have 16")
    return _fake_gemm(A, B, shapeB, absmax, blocksize, FOUR_BIT[0])


define(
    "gemv_4bit(Tensor A, Tensor B, int[] shapeB, Tensor absmax, Tensor code, int blocksize) -> Tensor",
    _gemv,
    _fake_gemv,
)


def _gemv_out(
    A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int, out: Tensor
) -> None:
    require_factors(A, shapeB)
    state = QuantState(absmax, shapeB, None, blocksize, _format_of_code(code), A.dtype)
    multiply_4bit(torch_kind(A), A, B, state, out, None)


def _fake_gemv_out(
    A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int, out: Tensor
) -> None:
    result = _fake_gemv(A, B, shapeB, absmax, code, blocksize)
    require_out(out, result.shape, result.dtype)


define(
    "gemv_4bit.out(Tensor A, Tensor B, int[] shapeB, Tensor absmax, Tensor code, int blocksize, Tensor(a!) out) -> ()",
    _gemv_out,
    _fake_gemv_out,
)
