# SPDX-License-Identifier: MIT
"""Our kernels for bitsandbytes' operators: its arguments in, a call of `libbnb.functional`, its results out.

What bitsandbytes' own CPU kernels take, these take, too: other float dtypes than the three of the C library, scales
that a loader cast to 16 bits, parameters that are not contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from libbnb import functional
from libbnb._errors import InvalidArgument
from libbnb.arrays import kind_of
from libbnb.functional.fourbit_products import multiply_4bit
from libbnb.quant_state import QuantState

Tensor = torch.Tensor
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
NESTED_BLOCKSIZE = 256  # the only one that gemm_4bit of bitsandbytes knows
_REPACKED_ROWS = 32

KERNELS: dict[str, Callable[..., Any]] = {}


def _kernel(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        KERNELS[name] = function
        return function

    return add


def _float(tensor: Tensor) -> Tensor:
    """A tensor of a dtype that the C library takes for activations, weights and gradients."""
    return tensor if tensor.dtype in FLOATS else tensor.float()


def _float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype is torch.float32 else tensor.float()


def _require_out(out: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An output of the caller, as large as the result, to be written to."""
    if tuple(out.shape) != tuple(shape) or out.dtype != dtype:
        raise InvalidArgument(f"out is {out.dtype} {list(out.shape)}, must be {dtype} {list(shape)}")
    return out.detach()


# ---------------------------------------------------------------------------------------------------------------------
# 4 bits


@_kernel("quantize_4bit")
def _quantize_4bit(A: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype) -> tuple[Tensor, Tensor]:
    packed, state = functional.quantize_4bit(
        _float(A), blocksize=blocksize, quant_type=quant_type, quant_storage=quant_storage
    )
    return packed, state.absmax


@_kernel("dequantize_4bit")
def _dequantize_4bit(
    A: Tensor, absmax: Tensor, blocksize: int, quant_type: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    middle = dtype if dtype in FLOATS else torch.float32
    state = QuantState(_float32(absmax), tuple(shape), None, blocksize, quant_type, middle)
    return functional.dequantize_4bit(A, state).to(dtype)


@_kernel("dequantize_4bit.out")
def _dequantize_4bit_out(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    out: Tensor,
) -> None:
    out = _require_out(out, shape, dtype)
    functional.dequantize_4bit(A, None, _float32(absmax), out, blocksize, quant_type)


@_kernel("gemm_4bit")
def _gemm_4bit(
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
) -> Tensor:
    state = QuantState(_float32(absmax), shapeB, None, blocksize, quant_type, A.dtype)
    if absmax_8bit is not None:
        if absmax_code is None or absmax_offset is None:
            raise InvalidArgument("absmax_8bit needs absmax_code and absmax_offset")
        state.state2 = QuantState(state.absmax, None, _float32(absmax_code), NESTED_BLOCKSIZE, None, torch.float32)
        state.absmax, state.offset = absmax_8bit, _float32(absmax_offset)
    return multiply_4bit(kind_of(A, "A"), A, B, state, None, bias)


def _gemv_state(
    A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int
) -> tuple[Tensor, QuantState]:
    """The weights as the C library reads them, and their state."""
    quant_type = "fp4" if float(code[1]) > 0 else "nf4"
    packed = B
    if absmax.dtype is torch.bfloat16 and absmax.dim() == 2:
        packed, absmax = _original_layout(B, shapeB, absmax)
    return packed, QuantState(_float32(absmax), shapeB, None, blocksize, quant_type, A.dtype)


@_kernel("gemv_4bit")
def _gemv_4bit(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int) -> Tensor:
    packed, state = _gemv_state(A, B, shapeB, absmax, code, blocksize)
    return multiply_4bit(kind_of(A, "A"), A, packed, state, None, None)


@_kernel("gemv_4bit.out")
def _gemv_4bit_out(
    A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int, out: Tensor
) -> None:
    packed, state = _gemv_state(A, B, shapeB, absmax, code, blocksize)
    multiply_4bit(kind_of(A, "A"), A, packed, state, out.detach(), None)


def _original_layout(B: Tensor, shape: Sequence[int], absmax: Tensor) -> tuple[Tensor, Tensor]:
    """Weights that bitsandbytes rewrote for its CPU kernel before they were pickled, in their first layout.

    There, 32 rows are one group. For each pair of columns of a group there are 32 bytes: the low halves are the pairs
    of codes of rows 0 to 15, the high halves those of rows 16 to 31. The scales are transposed and bfloat16.
    """
    n, k = shape
    grouped = B.view(torch.uint8).reshape(n // _REPACKED_ROWS, k // 2, _REPACKED_ROWS)
    pairs = torch.cat([grouped & 15, grouped >> 4], -1).reshape(n // _REPACKED_ROWS, k // 2, _REPACKED_ROWS, 2)
    packed = (pairs[..., 0] << 4) | pairs[..., 1]
    return packed.transpose(1, 2).reshape(-1, 1), absmax.t().float().reshape(-1)


# ---------------------------------------------------------------------------------------------------------------------
# 8 bits, blockwise


@_kernel("quantize_blockwise")
def _quantize_blockwise(A: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    codes, state = functional.quantize_blockwise(_float(A), _float32(code), blocksize=blocksize)
    return codes, state.absmax


@_kernel("dequantize_blockwise")
def _dequantize_blockwise(A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype) -> Tensor:
    out = torch.empty(A.shape, dtype=dtype if dtype in FLOATS else torch.float32)
    functional.dequantize_blockwise(A, None, _float32(absmax), _float32(code), out, blocksize)
    return out.to(dtype)


@_kernel("dequantize_blockwise.out")
def _dequantize_blockwise_out(
    A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype, out: Tensor
) -> None:
    out = _require_out(out, A.shape, dtype)
    functional.dequantize_blockwise(A, None, _float32(absmax), _float32(code), out, blocksize)


# ---------------------------------------------------------------------------------------------------------------------
# LLM.int8()


@_kernel("int8_vectorwise_quant")
def _int8_vectorwise_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    return functional.int8_vectorwise_quant(_float(A), max(threshold, 0.0))


@_kernel("int8_double_quant")
def _int8_double_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    return functional.int8_double_quant(_float(A), threshold=max(threshold, 0.0))


@_kernel("int8_vectorwise_dequant")
def _int8_vectorwise_dequant(A: Tensor, stats: Tensor) -> Tensor:
    return functional.int8_vectorwise_dequant(A, _float32(stats))


@_kernel("int8_mm_dequant")
def _int8_mm_dequant(
    A: Tensor, row_stats: Tensor, col_stats: Tensor, dtype: torch.dtype | None = None, bias: Tensor | None = None
) -> Tensor:
    out = torch.empty(A.shape, dtype=dtype or torch.float16)
    return functional.int8_mm_dequant(A, row_stats, col_stats, out, bias)


@_kernel("int8_linear_matmul")
def _int8_linear_matmul(A: Tensor, B: Tensor) -> Tensor:
    return functional.int8_linear_matmul(A, B)


@_kernel("int8_linear_matmul.out")
def _int8_linear_matmul_out(A: Tensor, B: Tensor, out: Tensor) -> None:
    functional.int8_linear_matmul(A, B, out)


@_kernel("int8_scaled_mm")
def _int8_scaled_mm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    return functional.int8_scaled_mm(A, B, row_stats, col_stats, bias, dtype)


@_kernel("int8_mixed_scaled_mm")
def _int8_mixed_scaled_mm(
    A: Tensor,
    CA: Tensor,
    CB: Tensor,
    SCA: Tensor,
    SCB: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    return functional.int8_mixed_scaled_mm(A, CA, CB, SCA, SCB, outlier_cols, bias)


# ---------------------------------------------------------------------------------------------------------------------
# Optimizers


def _in_place(step: Callable[..., None], *tensors: Tensor | None) -> None:
    """Calls a step with tensors that it can write to, and puts the results where they belong."""
    whole = [None if tensor is None else tensor.detach() for tensor in tensors]
    compact = [tensor if tensor is None or tensor.is_contiguous() else tensor.contiguous() for tensor in whole]
    step(*compact)
    for tensor, copy in zip(whole, compact, strict=True):
        if tensor is not None and copy is not None and copy is not tensor:
            tensor.copy_(copy)


def _parameter_step(step: Callable[..., None], p: Tensor, *states: Tensor | None) -> None:
    """A step whose parameter may have a dtype that the C library does not take."""
    if p.dtype in FLOATS:
        _in_place(step, p, *states)
    else:
        value = p.detach().float()
        _in_place(step, value, *states)
        p.detach().copy_(value)


@_kernel("optimizer_update_32bit")
def _optimizer_update_32bit(
    optimizer_name: str,
    g: Tensor,
    p: Tensor,
    state1: Tensor,
    state2: Tensor | None,
    unorm_vec: Tensor | None,
    max_unorm: float,
    param_norm: float,
    beta1: float,
    beta2: float,
    beta3: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    step: int,
    lr: float,
    gnorm_scale: float,
    skip_zeros: bool = False,
) -> None:
    def update(p: Tensor, state1: Tensor, state2: Tensor | None, unorm_vec: Tensor | None) -> None:
        functional.optimizer_update_32bit(
            optimizer_name, _float(g), p, state1, beta1, eps, step, lr, state2, beta2, beta3, alpha, weight_decay,
            gnorm_scale, unorm_vec, max_unorm, skip_zeros, param_norm=param_norm,
        )  # fmt: skip

    _parameter_step(update, p, state1, state2, unorm_vec)


@_kernel("optimizer_update_8bit_blockwise")
def _optimizer_update_8bit_blockwise(
    optimizer_name: str,
    g: Tensor,
    p: Tensor,
    state1: Tensor,
    state2: Tensor | None,
    beta1: float,
    beta2: float,
    beta3: float,
    alpha: float,
    eps: float,
    step: int,
    lr: float,
    qmap1: Tensor,
    qmap2: Tensor | None,
    absmax1: Tensor,
    absmax2: Tensor | None,
    weight_decay: float,
    gnorm_scale: float,
    skip_zeros: bool = False,
) -> None:
    def update(p: Tensor, state1: Tensor, state2: Tensor | None, absmax1: Tensor, absmax2: Tensor | None) -> None:
        functional.optimizer_update_8bit_blockwise(
            optimizer_name, _float(g), p, state1, state2, beta1, beta2, beta3, alpha, eps, step, lr, qmap1, qmap2,
            absmax1, absmax2, weight_decay, gnorm_scale, skip_zeros,
        )  # fmt: skip

    _parameter_step(update, p, state1, state2, absmax1, absmax2)
