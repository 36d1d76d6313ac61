# SPDX-License-Identifier: MIT
"""Linear layers with FP8 weights (arXiv:2209.05433)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any, TypeVar

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import matmul_fp8
from libbnb.nn._load import LoadArguments, load_rest, place, set_weight
from libbnb.nn.params_fp8 import DTYPES, FP8Params

Layer = TypeVar("Layer", bound="LinearFP8")


class LinearFP8(torch.nn.Linear):
    """``y = x @ W^T + bias`` with W in 8-bit floats.

    The layer is made with float weights, which are quantized when it is moved to a device (`.to("cpu")` is enough), or
    by the first call of `forward`. Its state dict has the codes as `weight` and the scales as `weight_scale`, as
    checkpoints of `libbnb quantize --format fp8` and of compressed-tensors have them; a layer loads float weights, too.

    Parameters
    ----------
    input_features, output_features
        Lengths of x and y along the last axis.
    bias
        Whether there is one.
    compute_dtype
        Dtype of the product; x is converted to it and y back to the dtype of x. None: the dtype of x.
    quant_type
        "fp8_e4m3fn" or "fp8_e5m2".
    blocksize
        Elements of a row of W that share a scale, a divisor of `input_features`. None means the whole row.
    device
        Where the float weights are made.
    """

    weight: FP8Params

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        compute_dtype: torch.dtype | None = None,
        quant_type: str = "fp8_e4m3fn",
        blocksize: int | None = None,
        device: Any = None,
    ) -> None:
        if quant_type not in DTYPES:
            raise InvalidArgument(f"quant_type is {quant_type!r}, must be one of {', '.join(DTYPES)}")
        if blocksize is not None and (blocksize < 1 or input_features % blocksize):
            raise InvalidArgument(f"blocksize is {blocksize}, must divide input_features, {input_features}")
        super().__init__(input_features, output_features, bias, device)
        self.compute_dtype = compute_dtype
        self.quant_type = quant_type
        self.blocksize = blocksize
        self.weight = self._as_params(self.weight.data)

    def _as_params(self, data: torch.Tensor, scale: torch.Tensor | None = None) -> FP8Params:
        return FP8Params(data, False, scale, self.blocksize, self.quant_type)

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

    def _ready(self) -> FP8Params:
        """The weight, which is quantized now if it was not."""
        weight: Any = self._parameters["weight"]
        if getattr(weight, "scale", None) is not None:
            return weight
        if torch.compiler.is_compiling():
            raise RuntimeError("LinearFP8: quantize the weights before torch.compile, with module.to(device)")
        if weight.dtype == DTYPES[self.quant_type]:
            raise RuntimeError("LinearFP8: the codes have no scales: load weight_scale, too")
        if not isinstance(weight, FP8Params):
            weight = self.weight = self._as_params(weight.data)
        return weight.quantize()

    def dequantized_weight(self) -> torch.Tensor:
        """The weights as floats."""
        return self.weight.dequantize()

    def requantize(self, weights: torch.Tensor) -> None:
        """Replaces the weights by others, floats of the same shape, quantized as they were."""
        self.weight = self._as_params(weights.detach()).quantize(self.weight.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self._ready()
        dtype = x.dtype
        if self.compute_dtype is not None and self.compute_dtype != dtype:
            x = x.to(self.compute_dtype)
        scale: Any = weight.scale
        y = matmul_fp8(x, weight.data, scale, bias=self.bias, blocksize=self.blocksize)
        return y if y.dtype == dtype else y.to(dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.quant_type}, blocksize={self.blocksize}"

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        scale = getattr(self.weight, "scale", None)
        result = super()._apply(fn, recurse)
        self._keep_class(scale)
        if not self.weight.is_meta:
            self.weight._move_statistics(self.weight.device)
        return result

    def _keep_class(self, scale: torch.Tensor | None = None) -> None:
        """`to_empty`, and loading by assignment, make an ordinary parameter of the weight."""
        weight: Any = self._parameters["weight"]
        if not isinstance(weight, FP8Params):
            self.weight = self._as_params(weight.data, scale)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        scale = getattr(self.weight, "scale", None)
        if scale is not None:
            destination[prefix + "weight_scale"] = scale if keep_vars else scale.detach()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        arguments = LoadArguments(state_dict, prefix, local_metadata, strict, *lists)
        load = super()._load_from_state_dict
        value, scale = state_dict.get(prefix + "weight"), state_dict.get(prefix + "weight_scale")
        fits = value is not None and value.shape == (self.out_features, self.in_features)
        if value is not None and fits and value.dtype in DTYPES.values():
            done = {key for key in (prefix + "weight", prefix + "weight_scale") if key in state_dict}
            self._load_quantized(value, scale, arguments)
            load_rest(load, arguments, done)
        elif value is not None and fits and self.weight.holds_codes and value.is_floating_point():
            weights = value if self.weight.is_meta else value.to(self.weight.device)
            set_weight(self, self._as_params(weights.detach()).quantize(), arguments)
            load_rest(load, arguments, {prefix + "weight"})
        else:
            load(state_dict, prefix, local_metadata, strict, *lists)
        self._keep_class()

    def _load_quantized(self, value: torch.Tensor, scale: torch.Tensor | None, arguments: LoadArguments) -> None:
        """The dict decides on the format and the block size."""
        key, rows = arguments.prefix + "weight_scale", self.out_features
        if scale is None:
            arguments.errors.append(f"{arguments.prefix}weight is {value.dtype}, but its scales {key} are missing")
            return
        blocks = scale.numel() // max(rows, 1)
        if scale.numel() != rows * blocks or not blocks or self.in_features % blocks:
            arguments.errors.append(
                f"size mismatch for {key}: {tuple(scale.shape)} is neither one scale per row nor one per block of "
                f"weights of shape {tuple(value.shape)}"
            )
            return
        self.quant_type = next(name for name, dtype in DTYPES.items() if dtype == value.dtype)
        self.blocksize = None if blocks == 1 else self.in_features // blocks
        weight = self.weight
        scales = place(scale, weight, arguments).to(torch.float32).reshape(rows, blocks)
        set_weight(self, self._as_params(place(value, weight, arguments), scales), arguments)
