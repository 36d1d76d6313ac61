# SPDX-License-Identifier: MIT
"""Linear layers in int8 (LLM.int8(), arXiv:2208.07339)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch

from libbnb.functional import MatmulLtState, matmul
from libbnb.nn._int8 import Int8Module
from libbnb.nn.params_int8 import Int8Params

Layer = TypeVar("Layer", bound="Linear8bitLt")


class Linear8bitLt(Int8Module, torch.nn.Linear):
    """``y = x @ W^T + bias`` in int8, but for columns of x with outliers, which are multiplied as floats.

    With ``has_fp16_weights=False`` the layer is made with float weights, which are quantized when it is moved to a
    device (`.to("cpu")` is enough), or by the first call of `forward`. State dicts are those of bitsandbytes; a layer
    loads float weights and quantized ones.

    Parameters
    ----------
    input_features, output_features
        Lengths of x and y along the last axis.
    bias
        Whether there is one.
    has_fp16_weights
        Whether the weights stay floats, which can be trained, and are quantized at each call.
    threshold
        Columns of x with an element of this magnitude or more have outliers; 0 means none have.
    index
        Kept as an attribute, for bitsandbytes.
    device
        Where the float weights are made.

    Notes
    -----
    In training mode on a CPU the product is that of x with the dequantized weights, as in bitsandbytes.
    """

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        has_fp16_weights: bool = True,
        threshold: float = 0.0,
        index: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__(input_features, output_features, bias, device)
        self.state = MatmulLtState()
        self.index = index
        self.state.threshold = threshold
        self.state.has_fp16_weights = has_fp16_weights
        self.state.use_pool = threshold > 0.0 and not has_fp16_weights
        self.weight = Int8Params(self.weight.data, has_fp16_weights, has_fp16_weights)

    @classmethod
    def from_linear(cls: type[Layer], linear: torch.nn.Linear, **options: Any) -> Layer:
        """A layer with the weights of another one, on its device, quantized unless `has_fp16_weights` is given.

        Parameters
        ----------
        linear
            A layer with float weights. It is not changed; the bias is shared.
        options
            `has_fp16_weights` (here False by default), `threshold`, `index`.
        """
        keeps = options.setdefault("has_fp16_weights", False)
        made = cls(linear.in_features, linear.out_features, False, device="meta", **options)
        weights = linear.weight.detach()
        made.weight = Int8Params(weights.clone() if keeps else weights, keeps, keeps)
        made.bias = linear.bias
        made.train(linear.training)
        if not keeps and weights.device.type != "meta":
            made.weight.quantize()
        return made

    def _weight_shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def _keeps_floats(self) -> bool:
        return self.state.has_fp16_weights

    def dequantized_weight(self) -> torch.Tensor:
        """The weights as floats."""
        return self.weight.dequantize()

    def requantize(self, weights: torch.Tensor) -> None:
        """Replaces the weights by others, floats of the same shape, kept as they were: as int8, or as floats."""
        old = self.weight
        made = Int8Params(weights.detach(), old.requires_grad, self._keeps_floats()).to(old.device)
        self.weight = made.to(old.dtype) if self._keeps_floats() else made
        self.state.reset_grads()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.state
        state.is_training = self.training
        if state.has_fp16_weights:
            return matmul(x, self.weight, state=state, bias=self.bias)
        weight = self._ready()
        state.CB, state.SCB = weight.data, weight.SCB
        return matmul(x, state.CB, state=state, bias=self.bias)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles have the codes once, in the weight; the next call puts them into the state again.
        state = copy.copy(self.state)
        state.reset_grads()
        return self.__dict__ | {"state": state}

    def extra_repr(self) -> str:
        state = self.state
        return f"{super().extra_repr()}, has_fp16_weights={state.has_fp16_weights}, threshold={state.threshold}"
