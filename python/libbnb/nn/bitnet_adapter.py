# SPDX-License-Identifier: MIT
"""BitNetAdapter: low-rank adapters (LoRA, arXiv:2106.09685) beside frozen ternary weights."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch

from libbnb._errors import InvalidArgument
from libbnb.nn.bit_linear import BitLinear
from libbnb.nn.bitnet_config import BitNetConfig

Adapter = TypeVar("Adapter", bound="BitNetAdapter")


class BitNetAdapter(torch.nn.Module):
    """``y = base(x) + (lora_alpha / r) * B(A(dropout(x)))`` with a packed, frozen `BitLinear` as its base.

    A is drawn as PyTorch draws linear layers, B is zero: at first the adapter adds nothing.

    Parameters
    ----------
    base
        The layer that is adapted. It is packed, if it was not, and frozen.
    r
        Rank of what is learned, 1 or more.
    lora_alpha
        What the sum is scaled by, times r.
    lora_dropout
        The part of the input's elements that A does not see in training, 0 to less than 1.

    Attributes
    ----------
    lora_A, lora_B
        float32, shapes (r, in_features) and (out_features, r).
    """

    def __init__(self, base: BitLinear, r: int = 8, lora_alpha: float = 16.0, lora_dropout: float = 0.0) -> None:
        if not isinstance(base, BitLinear):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"base is a {type(base).__name__}, must be a BitLinear: from_linear takes other layers")
        if r < 1:
            raise InvalidArgument(f"r is {r}, must be 1 or more")
        if not 0.0 <= lora_dropout < 1.0:
            raise InvalidArgument(f"lora_dropout is {lora_dropout}, must be 0 or more and less than 1")
        super().__init__()
        self.base = base.pack()
        self.base.requires_grad_(False)
        self.r = r
        self.scaling = lora_alpha / r
        device = base.weight.device
        self.lora_A = torch.nn.Parameter(torch.empty(r, base.in_features, device=device))
        self.lora_B = torch.nn.Parameter(torch.zeros(base.out_features, r, device=device))
        self.dropout = torch.nn.Dropout(lora_dropout)
        torch.nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @classmethod
    def from_linear(
        cls: type[Adapter],
        linear: torch.nn.Linear,
        config: BitNetConfig | None = None,
        r: int = 8,
        lora_alpha: float = 16.0,
        lora_dropout: float = 0.0,
    ) -> Adapter:
        """An adapter whose base are the weights of a linear layer, quantized as `config` says.

        The layer is not changed.
        """
        base = BitLinear.from_linear(linear, config)
        bias: Any = linear.bias
        if bias is not None:
            base.bias = torch.nn.Parameter(bias.detach().clone())  # which is frozen, unlike that of the layer
        return cls(base, r, lora_alpha, lora_dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        a, b = self.lora_A.to(x.dtype), self.lora_B.to(x.dtype)
        learned = torch.nn.functional.linear(torch.nn.functional.linear(self.dropout(x), a), b)
        return y + self.scaling * learned

    @torch.no_grad()
    def delta_weight(self) -> torch.Tensor:
        """What has been learned, as a matrix of shape (out_features, in_features): float32."""
        return self.scaling * (self.lora_B @ self.lora_A)

    def num_parameters(self) -> int:
        """Numbers that are learned."""
        return self.lora_A.numel() + self.lora_B.numel()

    def compression_ratio(self, dtype: torch.dtype = torch.float32) -> float:
        """How many times as many bytes the base's weights take in a float dtype as base and adapter take together."""
        dense = self.base.in_features * self.base.out_features * dtype.itemsize
        packed = dense / self.base.compression_ratio(dtype)
        return dense / (packed + 4 * self.num_parameters())

    def freeze(self) -> None:
        """The adapter stops learning."""
        self.requires_grad_(False)

    def unfreeze(self) -> None:
        """The adapter learns again; its base never does."""
        self.lora_A.requires_grad_(True)
        self.lora_B.requires_grad_(True)

    def extra_repr(self) -> str:
        return f"r={self.r}, scaling={self.scaling:g}"
