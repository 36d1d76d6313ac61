# SPDX-License-Identifier: MIT
"""Linear layers with NF4 or FP4 weights (QLoRA, arXiv:2305.14314)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any, TypeVar

import torch

from libbnb.functional import matmul_4bit
from libbnb.nn._four_bit import FourBitModule

Layer = TypeVar("Layer", bound="Linear4bit")


class Linear4bit(FourBitModule, torch.nn.Linear):
    """``y = x @ W^T + bias`` with W in 4 bits, multiplied as it is stored.

    The layer is made with float weights, which are quantized when it is moved to a device (`.to("cpu")` is enough), or
    by the first call of `forward`. State dicts are those of bitsandbytes; a layer loads quantized and float weights.

    Parameters
    ----------
    input_features, output_features
        Lengths of x and y along the last axis.
    bias
        Whether there is one.
    compute_dtype
        Dtype of the product; x is converted to it and y back to the dtype of x. None: the dtype of the first x decides,
        if it is float32 or bfloat16; float16 is computed in as it is.
    compress_statistics
        Whether absmax is quantized, too.
    quant_type
        "nf4" or "fp4".
    quant_storage
        Dtype in which codes are kept: that of the other parameters if FSDP is to shard them.
    device
        Where the float weights are made.
    blocksize
        Elements per block; 64 if None.
    """

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_type: str = "fp4",
        quant_storage: torch.dtype = torch.uint8,
        device: Any = None,
        blocksize: int | None = None,
    ) -> None:
        super().__init__(input_features, output_features, bias, device)
        self._use_4bit_weight(compress_statistics, quant_type, quant_storage, blocksize)
        self.compute_dtype = compute_dtype
        self.compute_type_is_set = compute_dtype is not None

    @classmethod
    def from_linear(cls: type[Layer], linear: torch.nn.Linear, **options: Any) -> Layer:
        """A quantized layer with the weights of another one, on its device.

        Parameters
        ----------
        linear
            A layer with float weights. It is not changed; the bias is shared.
        options
            Those of the constructor, but for sizes, bias and device.
        """
        made = cls(linear.in_features, linear.out_features, False, device="meta", **options)
        made.weight = made._as_params(linear.weight.detach())
        made.bias = linear.bias
        made.train(linear.training)
        if linear.weight.device.type != "meta":
            made.weight.quantize()
        return made

    def _weight_shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def set_compute_type(self, x: torch.Tensor) -> None:
        """Chooses the dtype of products by the first input."""
        if x.dtype in (torch.float32, torch.bfloat16):
            self.compute_dtype = x.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self._ready()
        if not self.compute_type_is_set:
            self.set_compute_type(x)
            self.compute_type_is_set = True
        dtype = x.dtype
        if self.compute_dtype is not None and self.compute_dtype != dtype:
            x = x.to(self.compute_dtype)
        y = matmul_4bit(x, self.weight.codes, state, bias=self.bias)
        return y if y.dtype == dtype else y.to(dtype)

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, {self.quant_type}, blocksize={self.blocksize}, "
            f"compress_statistics={self.compress_statistics}"
        )


class LinearFP4(Linear4bit):
    """`Linear4bit` with FP4 weights."""

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_storage: torch.dtype = torch.uint8,
        device: Any = None,
        blocksize: int | None = None,
    ) -> None:
        super().__init__(
            input_features, output_features, bias, compute_dtype, compress_statistics, "fp4", quant_storage, device,
            blocksize,
        )  # fmt: skip


class LinearNF4(Linear4bit):
    """`Linear4bit` with NF4 weights."""

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        compress_statistics: bool = True,
        quant_storage: torch.dtype = torch.uint8,
        device: Any = None,
        blocksize: int | None = None,
    ) -> None:
        super().__init__(
            input_features, output_features, bias, compute_dtype, compress_statistics, "nf4", quant_storage, device,
            blocksize,
        )  # fmt: skip
