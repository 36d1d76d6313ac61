# SPDX-License-Identifier: MIT
"""Functions of `libbnb.functional` as torch.compile sees them: made of operators, same arguments, same results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.autograd._library import require, require_out
from libbnb.functional._checks import FP8, MX, TERNARY
from libbnb.functional.blockwise import NESTED_BLOCKSIZE
from libbnb.functional.fourbit import DEFAULT_BLOCKSIZE
from libbnb.quant_state import QuantState

Tensor = torch.Tensor
_ops: Any = torch.ops.libbnb


def finish(result: Tensor, out: Tensor | None) -> Tensor:
    """A result, written into an output of the caller if there is one."""
    if out is None:
        return result
    require_out(out, result.shape, result.dtype)
    return out.copy_(result)


def torch_dtype(spec: Any) -> torch.dtype:
    """A dtype of PyTorch, or one by its name."""
    return spec if isinstance(spec, torch.dtype) else getattr(torch, str(spec))


def scales_of(state: QuantState) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None, int]]:
    """The absmax argument of an operator of 4-bit weights, and the nested ones."""
    state2 = state.state2
    if state2 is None:
        return state.absmax, (None, None, None, NESTED_BLOCKSIZE)
    code = None if getattr(state2, "standard_code", False) else torch.as_tensor(state2.code)  # it may be NumPy's
    assert state2.blocksize is not None
    return state2.absmax, (state.absmax, code, state.offset, state2.blocksize)


def _code_of(state: QuantState, like: Tensor) -> Tensor:
    return _ops.dynamic_map(like) if getattr(state, "standard_code", False) else torch.as_tensor(state.code)


def _nested(
    absmax: Tensor, out: Tensor | None, blocksize: int, nested: bool
) -> tuple[Tensor, Tensor | None, QuantState | None]:
    """absmax as a state has it, the offset, and the state of absmax."""
    if not nested:
        return finish(absmax, out), None, None
    codes, nested_absmax, offset = _ops.quantize_nested(absmax, blocksize)
    return finish(codes, out), offset, QuantState(nested_absmax, None, None, blocksize, None, torch.float32)


def quantize_4bit(
    A: Tensor,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_type: str = "fp4",
    quant_storage: Any = "uint8",
) -> tuple[Tensor, QuantState]:
    """`libbnb.quantize_4bit`."""
    blocksize = DEFAULT_BLOCKSIZE if blocksize is None else blocksize
    storage = torch_dtype(quant_storage) if out is None else out.dtype
    packed, scales = _ops.quantize_4bit(A, blocksize, quant_type, storage)
    scales, offset, state2 = _nested(scales, absmax, NESTED_BLOCKSIZE, compress_statistics)
    state = QuantState(scales, A.shape, None, blocksize, quant_type, A.dtype, offset, state2)
    return finish(packed, out), state


def dequantize_4bit(
    A: Tensor,
    quant_state: QuantState | None = None,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp4",
) -> Tensor:
    """`libbnb.dequantize_4bit`."""
    if quant_state is None:
        if absmax is None or out is None:
            raise InvalidArgument("dequantize_4bit: without a quant_state, absmax and out must be given")
        quant_state = QuantState(absmax, out.shape, None, blocksize, quant_type, out.dtype)
    scales, nested = scales_of(quant_state)
    length = DEFAULT_BLOCKSIZE if quant_state.blocksize is None else quant_state.blocksize
    shape, dtype = (quant_state.shape, quant_state.dtype) if out is None else (out.shape, out.dtype)
    result = _ops.dequantize_4bit(A, scales, length, quant_state.quant_type, tuple(shape), dtype, *nested)
    return finish(result, out)


def quantize_blockwise(
    A: Tensor,
    code: Tensor | None = None,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int = 4096,
    nested: bool = False,
) -> tuple[Tensor, QuantState]:
    """`libbnb.quantize_blockwise`."""
    table = _ops.dynamic_map(A) if code is None else code
    codes, scales = _ops.quantize_blockwise(A, table, blocksize)
    kept = None if code is None else code.clone()
    scales, offset, state2 = _nested(scales, absmax, blocksize, nested)
    return finish(codes, out), QuantState(scales, None, kept, blocksize, None, A.dtype, offset, state2)


def dequantize_blockwise(
    A: Tensor,
    quant_state: QuantState | None = None,
    absmax: Tensor | None = None,
    code: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int = 4096,
    nested: bool = False,
) -> Tensor:
    """`libbnb.dequantize_blockwise`."""
    if quant_state is None:
        if absmax is None:
            raise InvalidArgument("dequantize_blockwise: quant_state or absmax must be given")
        quant_state = QuantState(absmax, None, code, blocksize, None, torch.float32)
    scales, state2 = quant_state.absmax, quant_state.state2
    if state2 is not None:
        table = _code_of(state2, A)
        scales = _ops.dequantize_blockwise(scales, state2.absmax, table, state2.blocksize, torch.float32)
        scales = scales + quant_state.offset
    dtype = (quant_state.dtype or torch.float32) if out is None else out.dtype
    table = _code_of(quant_state, A)
    return finish(_ops.dequantize_blockwise(A, scales, table, quant_state.blocksize, dtype), out)


def quantize_fp8(
    A: Tensor,
    scale: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = FP8[0],
) -> tuple[Tensor, Tensor]:
    """`libbnb.quantize_fp8`."""
    codes, scales = _ops.quantize_fp8(A, blocksize, quant_type)
    if out is not None and out.dtype == torch.uint8:
        codes = codes.view(torch.uint8)
    return finish(codes, out), finish(scales, scale)


def dequantize_fp8(
    A: Tensor,
    scale: Tensor,
    out: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = FP8[0],
    dtype: Any = "float32",
) -> Tensor:
    """`libbnb.dequantize_fp8`."""
    dtype = torch_dtype(dtype) if out is None else out.dtype
    return finish(_ops.dequantize_fp8(A, scale, blocksize, quant_type, dtype), out)


def quantize_ternary(
    A: Tensor,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    scale_rule: str = "absmean",
    out: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`libbnb.quantize_ternary`."""
    codes, scales = _ops.quantize_ternary(A, blocksize, quant_type, scale_rule)
    if out is not None and out.dtype == torch.int8:
        codes = codes.view(torch.int8)
    if scale is None and quant_type != TERNARY[0]:
        return finish(codes, out), None
    return finish(codes, out), finish(scales, scale)


def dequantize_ternary(
    A: Tensor,
    scale: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    shape: Sequence[int] | None = None,
    dtype: Any = "float32",
    out: Tensor | None = None,
) -> Tensor:
    """`libbnb.dequantize_ternary`."""
    if out is not None:
        shape, dtype = out.shape, out.dtype
    return finish(_ops.dequantize_ternary(A, scale, blocksize, quant_type, shape, torch_dtype(dtype)), out)


def quantize_mx(
    A: Tensor,
    quant_type: str = MX[0],
    scale_rule: str = "floor",
    out: Tensor | None = None,
    scale: Tensor | None = None,
    tensor_scale: Tensor | bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`libbnb.quantize_mx`."""
    wanted = tensor_scale is not False and quant_type == "nvfp4"
    codes, scales, of_tensor = _ops.quantize_mx(A, quant_type, scale_rule, wanted)
    if isinstance(tensor_scale, Tensor):
        require(wanted, lambda: f"tensor_scale is a tensor, but quant_type is {quant_type!r}: only 'nvfp4' has one")
        of_tensor = finish(of_tensor, tensor_scale)
    codes, scales = (new if old is None else new.view(old.dtype) for new, old in ((codes, out), (scales, scale)))
    return finish(codes, out), finish(scales, scale), of_tensor if wanted else None


def dequantize_mx(
    A: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    quant_type: str = MX[0],
    dtype: Any = "float32",
    out: Tensor | None = None,
) -> Tensor:
    """`libbnb.dequantize_mx`."""
    dtype = torch_dtype(dtype) if out is None else out.dtype
    return finish(_ops.dequantize_mx(A, scale, tensor_scale, quant_type, dtype), out)


def gemm_ternary(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    scale: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = TERNARY[0],
    bias: Tensor | None = None,
    out: Tensor | None = None,
    dtype: Any = "float32",
    shape: Sequence[int] | None = None,
) -> Tensor:
    """`libbnb.gemm_ternary`."""
    dtype = torch_dtype(dtype) if out is None else out.dtype
    return finish(_ops.gemm_ternary(A, B, row_stats, scale, bias, blocksize, quant_type, dtype, shape), out)


def int8_vectorwise_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    """`libbnb.int8_vectorwise_quant`."""
    return _ops.int8_vectorwise_quant(A, threshold)


def int8_vectorwise_dequant(A: Tensor, stats: Tensor, out: Tensor | None = None) -> Tensor:
    """`libbnb.int8_vectorwise_dequant`."""
    return finish(_ops.int8_vectorwise_dequant(A, stats, None if out is None else out.dtype), out)


def int8_double_quant(
    A: Tensor,
    col_stats: Tensor | None = None,
    row_stats: Tensor | None = None,
    out_col: Tensor | None = None,
    out_row: Tensor | None = None,
    threshold: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """`libbnb.int8_double_quant`."""
    rows, cols, of_rows, of_cols, outlier_cols = _ops.int8_double_quant(A, threshold)
    return (
        finish(rows, out_row),
        finish(cols, out_col),
        finish(of_rows, row_stats),
        finish(of_cols, col_stats),
        outlier_cols,
    )


def int8_mm_dequant(
    A: Tensor, row_stats: Tensor, col_stats: Tensor, out: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """`libbnb.int8_mm_dequant`."""
    return finish(_ops.int8_mm_dequant(A, row_stats, col_stats, None if out is None else out.dtype, bias), out)


def int8_linear_matmul(A: Tensor, B: Tensor, out: Tensor | None = None, dtype: Any = "int32") -> Tensor:
    """`libbnb.int8_linear_matmul`."""
    require(torch_dtype(dtype) == torch.int32, lambda: f"int8_linear_matmul: dtype is {dtype!r}, must be int32")
    return finish(_ops.int8_linear_matmul(A, B), out)


def int8_scaled_mm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """`libbnb.int8_scaled_mm`."""
    kind = None if dtype is None else torch_dtype(dtype)
    return finish(_ops.int8_scaled_mm(A, B, row_stats, col_stats, bias, kind if out is None else out.dtype), out)


def int8_mixed_scaled_mm(
    A: Tensor,
    CA: Tensor,
    CB: Tensor,
    SCA: Tensor,
    SCB: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`libbnb.int8_mixed_scaled_mm`."""
    product, outliers = _ops.int8_mixed_scaled_mm(A, CA, CB, SCA, SCB, outlier_cols, bias)
    return finish(product, out), outliers
