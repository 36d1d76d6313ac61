# SPDX-License-Identifier: MIT
"""FP8Params: the weight of a layer in 8-bit floats, one scale per row or per block (arXiv:2209.05433)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import dequantize_fp8, quantize_fp8
from libbnb.nn._parameter import QuantizedParameter

DTYPES = {"fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


class FP8Params(QuantizedParameter):
    """A weight that is quantized to FP8 when it is moved to a device.

    Parameters
    ----------
    data
        Float weights, shape (N, K); or codes of the dtype of `quant_type`, with `scale`.
    requires_grad
        Frozen by default: codes have no gradient.
    scale
        float32, shape (N, K / blocksize): what codes are multiplied by.
    blocksize
        Elements of a row that share a scale: a divisor of K. None means the whole row.
    quant_type
        "fp8_e4m3fn" or "fp8_e5m2".
    """

    scale: torch.Tensor | None
    blocksize: int | None
    quant_type: str

    def __new__(
        cls,
        data: torch.Tensor | None = None,
        requires_grad: bool = False,
        scale: torch.Tensor | None = None,
        blocksize: int | None = None,
        quant_type: str = "fp8_e4m3fn",
        **kwargs: Any,
    ) -> FP8Params:
        del kwargs  # loaders hand over the __dict__ of another parameter, with whatever they put there
        self = torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)
        self.scale = scale
        self.blocksize = blocksize
        self.quant_type = quant_type
        self.module = None
        return self

    @property
    def holds_codes(self) -> bool:
        return self.dtype == DTYPES[self.quant_type]

    def _quantize(self, weights: torch.Tensor) -> None:
        cols = weights.shape[-1]
        if self.blocksize is not None and cols % self.blocksize:
            raise InvalidArgument(f"blocksize is {self.blocksize}, must divide rows of {cols} elements")
        codes, scale = quantize_fp8(weights, blocksize=self.blocksize, quant_type=self.quant_type)
        self.requires_grad_(False)
        self.data = codes
        self.scale = scale.reshape(*weights.shape[:-1], -1)

    def _move_statistics(self, device: torch.device) -> None:
        if self.scale is not None:
            self.scale = self.scale.to(device)

    def statistics(self) -> list[torch.Tensor]:
        return [] if self.scale is None else [self.scale]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weights as floats; floats as they are."""
        if not self.holds_codes:
            return self.data
        if self.scale is None:
            raise RuntimeError("FP8Params: the codes have no scales")
        return dequantize_fp8(self.data, self.scale, blocksize=self.blocksize, dtype=dtype)


torch.serialization.add_safe_globals([FP8Params])
