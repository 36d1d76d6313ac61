# SPDX-License-Identifier: MIT
"""SwitchBack: training with int8 products (arXiv:2304.13013, section 2)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any, TypeVar

import torch

from libbnb.functional import int8_scaled_mm, int8_vectorwise_dequant, int8_vectorwise_quant

Layer = TypeVar("Layer", bound="SwitchBackLinear")
Codes = tuple[torch.Tensor, torch.Tensor]


def _rowwise(matrix: torch.Tensor) -> Codes:
    """int8 codes of a matrix, and the largest magnitude of each row."""
    codes, scales, _ = int8_vectorwise_quant(matrix)
    return codes, scales


def _whole(matrix: torch.Tensor) -> Codes:
    """int8 codes of a matrix with one scale, repeated for each row."""
    codes, scale, _ = int8_vectorwise_quant(matrix.reshape(1, -1))
    return codes.view(matrix.shape), scale.expand(matrix.shape[0]).contiguous()


class SwitchBack(torch.autograd.Function):
    """The product of a linear layer: in int8 forwards and for the gradient of x, in floats for that of the weight."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rowwise: bool, mem_efficient: bool
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        codes, scales = _rowwise(rows)
        w, w_scales = _rowwise(weight) if rowwise else _whole(weight)
        ctx.rowwise, ctx.dtype, ctx.mem_efficient = rowwise, x.dtype, mem_efficient
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(*((codes, scales) if mem_efficient else (rows,)), weight)
        y = int8_scaled_mm(codes, w, scales, w_scales, bias=bias, dtype=x.dtype)
        return y.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        *saved, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_w = grad_bias = None
        if ctx.needs_input_grad[0]:
            codes, scales = _rowwise(rows)
            # Codes and scales of the transposed weight: with one scale for all of it, those of the weight, transposed.
            w, w_scales = (_rowwise if ctx.rowwise else _whole)(weight.t().contiguous())
            grad_x = int8_scaled_mm(codes, w, scales, w_scales, dtype=ctx.dtype).view(*grad.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            x = int8_vectorwise_dequant(*saved).to(ctx.dtype) if ctx.mem_efficient else saved[0]
            grad_w = (rows.to(x.dtype).t() @ x).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0, dtype=ctx.bias_dtype)
        return grad_x, grad_w, grad_bias, None, None


_multiply: Any = SwitchBack.apply  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


class SwitchBackLinear(torch.nn.Linear):
    """A linear layer with float weights that is trained with int8 products.

    Forwards, and backwards for the gradient of its input, x and the weight are quantized for each product; the gradient
    of the weight, a sum over many rows, is computed in floats.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype
        As in `torch.nn.Linear`.
    vector_wise_quantization
        Whether the weight has a scale for each row, instead of one for all of it.
    mem_efficient
        Whether x is kept in int8 for the gradient of the weight, instead of as it is.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        vector_wise_quantization: bool = False,
        mem_efficient: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.vector_wise_quantization = vector_wise_quantization
        self.mem_efficient = mem_efficient
        self._codes: Codes | None = None

    @classmethod
    def from_linear(cls: type[Layer], linear: torch.nn.Linear, **options: Any) -> Layer:
        """A layer that shares weight and bias with another one.

        Parameters
        ----------
        linear
            A layer with float weights.
        options
            Those of the constructor, but for sizes, bias, device and dtype.
        """
        made = cls(linear.in_features, linear.out_features, False, "meta", **options)
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    def prepare_for_eval(self) -> None:
        """Quantizes the weight once for all calls in evaluation mode; `train()` forgets the codes."""
        with torch.no_grad():
            self._codes = _rowwise(self.weight) if self.vector_wise_quantization else _whole(self.weight)

    def train(self: Layer, mode: bool = True) -> Layer:
        """As in `torch.nn.Module`."""
        if mode:
            self._codes = None
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._codes is None or self.training:
            return _multiply(x, self.weight, self.bias, self.vector_wise_quantization, self.mem_efficient)
        rows = x.reshape(-1, x.shape[-1])
        codes, scales = _rowwise(rows)
        w, w_scales = self._codes
        y = int8_scaled_mm(codes, w, scales, w_scales, bias=self.bias, dtype=x.dtype)
        return y.view(*x.shape[:-1], self.out_features)


class SwitchBackLinearGlobal(SwitchBackLinear):
    """`SwitchBackLinear` with one scale for the weight."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        mem_efficient: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype, False, mem_efficient)


class SwitchBackLinearVectorwise(SwitchBackLinear):
    """`SwitchBackLinear` with a scale for each row of the weight."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        mem_efficient: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype, True, mem_efficient)
