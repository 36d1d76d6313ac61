# SPDX-License-Identifier: MIT
"""Int8Params: the weight of a layer in int8, one scale per row (LLM.int8(), arXiv:2208.07339)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# pyright: reportConstantRedefinition=false

from __future__ import annotations

from typing import Any

import torch

from libbnb.functional import int8_vectorwise_dequant, int8_vectorwise_quant
from libbnb.nn._parameter import QuantizedParameter


class Int8Params(QuantizedParameter):
    """A weight that is quantized to int8 when it is moved from the CPU to a device, the CPU included.

    Parameters
    ----------
    data
        Float weights, shape (N, K); or int8 ones, with `SCB`.
    requires_grad
        Codes have no gradient, so it must be False for int8 data.
    has_fp16_weights
        Whether the weights stay floats, and the layer quantizes them at each call.
    CB
        The same as `data` once it is int8.
    SCB
        float32, shape (N,): the largest magnitude of each row.
    """

    has_fp16_weights: bool
    SCB: torch.Tensor | None

    def __new__(
        cls,
        data: torch.Tensor | None = None,
        requires_grad: bool = True,
        has_fp16_weights: bool = False,
        CB: torch.Tensor | None = None,
        SCB: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Int8Params:
        del CB, kwargs  # loaders hand over the __dict__ of another parameter, with whatever they put there
        self = torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)
        self.has_fp16_weights = has_fp16_weights
        self.SCB = SCB
        self.module = None
        return self

    @property
    def holds_codes(self) -> bool:
        return self.dtype == torch.int8

    @property
    def CB(self) -> torch.Tensor | None:
        """The int8 weights, None while they are floats."""
        return self.data if self.holds_codes else None

    @CB.setter
    def CB(self, codes: torch.Tensor | None) -> None:
        if codes is not None:
            self.data = codes

    def _quantizes_on(self, device: torch.device) -> bool:
        return device.type != "meta" and self.device.type == "cpu" and not self.has_fp16_weights

    def _quantize(self, weights: torch.Tensor) -> None:
        codes, scales, _ = int8_vectorwise_quant(weights)
        self.requires_grad_(False)
        self.data = codes
        self.SCB = scales

    def _move_statistics(self, device: torch.device) -> None:
        if self.SCB is not None and self.SCB.device.type != "meta":
            self.SCB = self.SCB.to(device)

    def statistics(self) -> list[torch.Tensor]:
        return [] if self.SCB is None else [self.SCB]

    def dequantize(self) -> torch.Tensor:
        """The weights as float32; floats as they are."""
        if not self.holds_codes:
            return self.data
        if self.SCB is None:
            raise RuntimeError("Int8Params: the int8 weights have no scales (SCB)")
        return int8_vectorwise_dequant(self.data, self.SCB)


torch.serialization.add_safe_globals([Int8Params])
