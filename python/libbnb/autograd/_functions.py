# SPDX-License-Identifier: MIT
"""Products with gradients, with the names that bitsandbytes has in a module of this name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.autograd._library import eager, require_factors
from libbnb.autograd._ops_4bit import bias_gradient, gemm_4bit_with_gradients
from libbnb.autograd._ops_fp8 import gemm_fp8_with_gradients
from libbnb.autograd._ops_int8 import input_gradient_int8, linear_int8_with_gradients
from libbnb.autograd._ops_mx import gemm_mx_with_gradients
from libbnb.autograd._ops_ternary_products import linear_ternary_with_gradients
from libbnb.autograd._traced import finish, scales_of
from libbnb.functional import matmul, matmul_4bit
from libbnb.functional._torch import compiling
from libbnb.functional.fourbit import DEFAULT_BLOCKSIZE
from libbnb.functional.fourbit_products import format_of, weight_shape
from libbnb.functional.int8_products import weights_are_stale
from libbnb.matmul_state import MatmulLtState
from libbnb.quant_state import QuantState

__all__ = ["MatMul4Bit", "MatMul8bitFp", "MatMul8bitLt", "MatmulLtState", "matmul", "matmul_4bit"]

Tensor = torch.Tensor

# Devices on which training multiplies by dequantized weights: it is both faster and more exact there.
_DEQUANTIZING = ("cpu", "xpu")


# ---------------------------------------------------------------------------------------------------------------------
# 4-bit weights


def _blocksize(state: QuantState) -> int:
    return DEFAULT_BLOCKSIZE if state.blocksize is None else state.blocksize


def matmul_4bit_by_operator(
    A: Tensor, B: Tensor, quant_state: QuantState, out: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """`libbnb.matmul_4bit` as an operator of PyTorch: with gradients, and visible to torch.compile."""
    n, k = weight_shape(quant_state.shape)
    if not compiling():
        format_of(quant_state)  # looks at values, which a tracer does not have
    absmax, nested = scales_of(quant_state)
    common = (absmax, _blocksize(quant_state), quant_state.quant_type)
    if A.dim() and A.shape[-1] == n != k:
        if not compiling():
            warnings.warn(
                f"matmul_4bit: the weights were quantized as [K, N], {[n, k]}: they are dequantized for this product. "
                f"Quantize them as [N, K], (out_features, in_features)",
                DeprecationWarning,
                stacklevel=3,
            )
        weights = torch.ops.libbnb.dequantize_4bit(B, *common, (n, k), A.dtype, *nested)
        return finish(torch.nn.functional.linear(A, weights.t(), bias), out)
    multiply = gemm_4bit_with_gradients if eager(A, bias) else torch.ops.libbnb.gemm_4bit
    return finish(multiply(A, B, (n, k), *common, bias, *nested), out)


class MatMul4Bit:
    """`libbnb.matmul_4bit` in the form that bitsandbytes has for its autograd function."""

    @staticmethod
    def apply(
        A: Tensor,
        B: Tensor,
        out: Tensor | None = None,
        bias: Tensor | None = None,
        quant_state: QuantState | None = None,
    ) -> Tensor:
        """The product, with gradients for A and bias."""
        if quant_state is None:
            raise InvalidArgument("MatMul4Bit: quant_state is None, must be the state that quantize_4bit returned")
        return matmul_4bit_by_operator(A, B, quant_state, out, bias)


# ---------------------------------------------------------------------------------------------------------------------
# LLM.int8()


def linear_int8_by_operator(
    A: Tensor,
    CB: Tensor,
    SCB: Tensor,
    threshold: float = 0.0,
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`libbnb.linear_int8` as an operator of PyTorch: with gradients, and visible to torch.compile."""
    multiply = linear_int8_with_gradients if eager(A, bias) else torch.ops.libbnb.linear_int8
    return finish(multiply(A, CB, SCB, threshold, bias), out)


def _quantize_weights(state: MatmulLtState, B: Tensor | None) -> None:
    if weights_are_stale(state, B):
        if B is None:
            raise InvalidArgument("matmul: B is None, and state has no quantized weights")
        state.reset_grads()
        state.CB, state.SCB, _ = torch.ops.libbnb.int8_vectorwise_quant(B.detach())


def _flat(array: Tensor) -> Tensor:
    return array.reshape(-1, array.shape[-1]) if array.shape[-1] else array.reshape(array.shape[:-1].numel(), 0)


class MatMul8bitLt(torch.autograd.Function):
    """LLM.int8() as ``MatMul8bitLt.apply(A, B, out, bias, state)``, with gradients for A, B and bias.

    The gradient of B is itself a product of int8 matrices: of the output's gradient and A, each quantized by columns;
    outlier columns are added in full precision.
    """

    @staticmethod
    def forward(
        ctx: Any,
        A: Tensor,
        B: Tensor | None,
        out: Tensor | None = None,
        bias: Tensor | None = None,
        state: MatmulLtState | None = None,
    ) -> Tensor:
        """The product; `out` is written to, but gradients are those of what is returned."""
        state = MatmulLtState() if state is None else state
        _quantize_weights(state, B)
        codes = stats = outliers = None
        if ctx.needs_input_grad[1]:
            rows = _flat(A)
            CA, codes, SCA, stats, state.idx = torch.ops.libbnb.int8_double_quant(rows, state.threshold)
            product, outliers = torch.ops.libbnb.int8_mixed_scaled_mm(
                rows, CA, state.CB, SCA, state.SCB, state.idx, bias
            )
            product = product.reshape(*A.shape[:-1], product.shape[-1])
        else:
            product = torch.ops.libbnb.linear_int8(A, state.CB, state.SCB, state.threshold, bias)
        ctx.save_for_backward(state.CB, state.SCB, codes, stats, outliers, state.idx if outliers is not None else None)
        ctx.dtype_B = None if B is None else B.dtype
        ctx.bias_shape = None if bias is None else bias.shape
        ctx.bias_dtype = None if bias is None else bias.dtype
        if out is not None:
            finish(product, out)
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of A, B and bias."""
        (grad,) = grads
        CB, SCB, codes, stats, outliers, idx = ctx.saved_tensors
        grad_A = grad_B = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_A = input_gradient_int8(grad, CB, SCB)
        if ctx.needs_input_grad[1]:
            rows = _flat(grad)
            _, grad_codes, _, grad_stats, _ = torch.ops.libbnb.int8_double_quant(rows)
            grad_B = torch.ops.libbnb.int8_scaled_mm(grad_codes.t(), codes.t(), grad_stats, stats, dtype=ctx.dtype_B)
            if outliers is not None:  # whole columns: what was quantized of them is part of them
                grad_B[:, idx] = torch.matmul(rows.t(), outliers).to(ctx.dtype_B)
        if ctx.needs_input_grad[3]:
            grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype)
        return grad_A, grad_B, None, grad_bias, None


class MatMul8bitFp(torch.autograd.Function):
    """Training with int8 weights as ``MatMul8bitFp.apply(A, B, out, bias, state)``, with gradients for A, B and bias.

    A is multiplied as it is by the dequantized weights.
    """

    @staticmethod
    def forward(
        ctx: Any,
        A: Tensor,
        B: Tensor | None,
        out: Tensor | None = None,
        bias: Tensor | None = None,
        state: MatmulLtState | None = None,
    ) -> Tensor:
        """The product; `out` is written to, but gradients are those of what is returned."""
        state = MatmulLtState() if state is None else state
        _quantize_weights(state, B)
        require_factors(A, state.CB.shape)
        ctx.save_for_backward(A if ctx.needs_input_grad[1] else None, state.CB, state.SCB)
        ctx.dtype_B = None if B is None else B.dtype
        ctx.bias_shape = None if bias is None else bias.shape
        ctx.bias_dtype = None if bias is None else bias.dtype
        weights = torch.ops.libbnb.int8_vectorwise_dequant(state.CB, state.SCB, A.dtype)
        product = torch.nn.functional.linear(A, weights, None if bias is None else bias.reshape(-1).to(A.dtype))
        if out is not None:
            finish(product, out)
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of A, B and bias."""
        (grad,) = grads
        A, CB, SCB = ctx.saved_tensors
        grad_A = input_gradient_int8(grad, CB, SCB) if ctx.needs_input_grad[0] else None
        grad_B = torch.matmul(_flat(grad).t(), _flat(A)).to(ctx.dtype_B) if ctx.needs_input_grad[1] else None
        grad_bias = bias_gradient(grad, ctx.bias_shape, ctx.bias_dtype) if ctx.needs_input_grad[3] else None
        return grad_A, grad_B, None, grad_bias, None


_train: Any = MatMul8bitFp.apply  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
_quantize_and_multiply: Any = MatMul8bitLt.apply  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def matmul_8bit_with_gradients(
    A: Tensor, B: Tensor | None, out: Tensor | None, bias: Tensor | None, state: MatmulLtState
) -> Tensor:
    """`libbnb.matmul` by operators of PyTorch: with gradients, and visible to torch.compile."""
    wanted = torch.is_grad_enabled()
    learns = wanted and B is not None and B.requires_grad
    wanted = learns or (wanted and (A.requires_grad or (bias is not None and bias.requires_grad)))
    if wanted and state.is_training and A.device.type in _DEQUANTIZING:
        return finish(_train(A, B, None, bias, state), out)
    if learns:
        return finish(_quantize_and_multiply(A, B, None, bias, state), out)
    _quantize_weights(state, B)
    return linear_int8_by_operator(A, state.CB, state.SCB, state.threshold, bias, out)


# ---------------------------------------------------------------------------------------------------------------------
# FP8


def matmul_fp8_by_operator(
    A: Tensor,
    B: Tensor,
    scale: Tensor,
    out: Tensor | None = None,
    bias: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp8_e4m3fn",
) -> Tensor:
    """`libbnb.matmul_fp8` as an operator of PyTorch: with gradients, and visible to torch.compile."""
    multiply = gemm_fp8_with_gradients if eager(A, bias) else torch.ops.libbnb.gemm_fp8
    return finish(multiply(A, B, scale, bias, blocksize, quant_type), out)


# ---------------------------------------------------------------------------------------------------------------------
# MX and NVFP4


def gemm_mx_by_operator(
    A: Tensor,
    B: Tensor,
    scale: Tensor,
    tensor_scale: Tensor | None = None,
    quant_type: str = "mxfp4",
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`libbnb.gemm_mx` as an operator of PyTorch: with gradients, and visible to torch.compile."""
    multiply = gemm_mx_with_gradients if eager(A, bias) else torch.ops.libbnb.gemm_mx
    return finish(multiply(A, B, scale, tensor_scale, quant_type, bias), out)


# ---------------------------------------------------------------------------------------------------------------------
# Ternary weights


def linear_ternary_by_operator(
    A: Tensor,
    B: Tensor,
    scale: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = "ternary",
    per_tensor: bool = False,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """`libbnb.linear_ternary` as an operator of PyTorch: with gradients, and visible to torch.compile."""
    multiply = linear_ternary_with_gradients if eager(A, bias) else torch.ops.libbnb.linear_ternary
    return finish(multiply(A, B, scale, bias, blocksize, quant_type, per_tensor, shape), out)
