# SPDX-License-Identifier: MIT
"""BitLinear: the linear layer of BitNet b1.58 (arXiv:2402.17764), for training and with packed weights."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any, TypeVar

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import dequantize_ternary, quantize_ternary
from libbnb.layer_names import transformers_skips
from libbnb.nn._ternary import bit_linear, check_group
from libbnb.nn.bitnet_config import BitNetConfig

Layer = TypeVar("Layer", bound="BitLinear")

_WEIGHTS_PER_BYTE = 4


class BitLinear(torch.nn.Linear):
    """``y = x @ W^T + bias`` with weights -1, 0 and 1 times a scale, and activations of 8 bits.

    While it learns, the layer has float weights, and quantizes them and its input in every forward pass; gradients pass
    straight through. `pack()` replaces them by what the product reads: two bits a weight. Both give the same bits.

    Parameters
    ----------
    in_features
        Length of x along the last axis, a multiple of 4.
    out_features
        Length of y along the last axis.
    bias
        Whether there is one.
    config
        How weights and activations are quantized; None means the defaults of `BitNetConfig`, those of the paper.
    device, dtype
        Of the float weights.

    Attributes
    ----------
    weight
        Floats of shape (out_features, in_features); packed: uint8 of shape (out_features, in_features / 4).
    weight_scale
        None; packed: float32, one scale, or one per group.

    Notes
    -----
    The state dict of a packed layer has the codes as `weight` and the scales as `weight_scale`. A layer loads either
    kind and becomes what it has loaded.
    """

    weight_scale: torch.Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        config: BitNetConfig | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.config = BitNetConfig() if config is None else config
        if in_features % _WEIGHTS_PER_BYTE:
            raise InvalidArgument(
                f"in_features is {in_features}, must be a multiple of {_WEIGHTS_PER_BYTE}: rows of packed weights are "
                "whole bytes"
            )
        check_group(in_features, self.config.group_size)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.register_buffer("weight_scale", None)

    @classmethod
    def from_linear(cls: type[Layer], linear: torch.nn.Linear, config: BitNetConfig | None = None) -> Layer:
        """A layer with the float weights and the bias of another one: the same parameters, not copies.

        Parameters
        ----------
        linear
            A layer with float weights.
        config
            As for the constructor.
        """
        made = cls(linear.in_features, linear.out_features, False, config, device="meta", dtype=linear.weight.dtype)
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    @property
    def packed(self) -> bool:
        """Whether the weights are packed codes."""
        return self.weight_scale is not None

    @torch.no_grad()
    def pack(self: Layer) -> Layer:
        """Replaces the float weights by their codes, two bits each, and scales. They no longer learn.

        Returns
        -------
        The layer itself.
        """
        if not self.packed:
            self.become_packed(*self.codes_and_scale())
        return self

    @torch.no_grad()
    def unpack(self: Layer, dtype: torch.dtype = torch.float32) -> Layer:
        """Replaces packed codes by floats, which can learn: what the codes stand for.

        Returns
        -------
        The layer itself.
        """
        if self.packed:
            self.weight, self.weight_scale = torch.nn.Parameter(self.dequantized_weight(dtype)), None
        return self

    @torch.no_grad()
    def codes_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The packed weights, whether the layer has them or float ones, and their scales."""
        scale: Any = self.weight_scale
        if scale is not None:
            return self.weight.data, scale
        codes, scale = quantize_ternary(self.weight.data.contiguous(), blocksize=self.config.group_size)
        return codes, scale

    def become_packed(self, codes: torch.Tensor, scale: torch.Tensor) -> None:
        """Takes weights that are packed already.

        Parameters
        ----------
        codes
            As `quantize_ternary` packs weights of shape (out_features, in_features).
        scale
            float32, one scale, or one per group.
        """
        shape = (self.out_features, self.in_features // _WEIGHTS_PER_BYTE)
        self.weight = torch.nn.Parameter(codes.reshape(shape), requires_grad=False)
        self.weight_scale = scale

    @torch.no_grad()
    def dequantized_weight(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The ternary weights times their scales, shape (out_features, in_features), whether packed or not."""
        codes, scale = self.codes_and_scale()
        shape = (self.out_features, self.in_features)
        return dequantize_ternary(codes, scale, blocksize=self.config.group_size, shape=shape, dtype=dtype)

    def sparsity(self) -> float:
        """The part of the weights that are zero, 0 to 1; NaN of a layer without weights."""
        weight = self.dequantized_weight()
        return float((weight == 0).float().mean())

    def compression_ratio(self, dtype: torch.dtype = torch.float32) -> float:
        """How many times as many bytes the weights take in a float dtype as they take packed, scales included."""
        weights = self.in_features * self.out_features
        group = self.config.group_size
        scales = 1 if group is None else weights // group
        return weights * dtype.itemsize / (weights // _WEIGHTS_PER_BYTE + 4 * scales)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.rms_norm:
            x = torch.nn.functional.rms_norm(x, (self.in_features,), eps=self.config.eps)
        return bit_linear(x, self.weight, self.weight_scale, self.bias, self.config)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, packed={self.packed}, {self.config}"

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        scale = self.weight_scale
        result = super()._apply(fn, recurse)
        if scale is not None and self.weight_scale is not None and self.weight_scale.dtype != torch.float32:
            self.weight_scale = scale.to(self.weight_scale.device)  # casts of a model concern its float weights
        return result

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        weight = state_dict.get(prefix + "weight")
        if weight is not None and (weight.dtype == torch.uint8) != self.packed:
            self._become(weight.dtype != torch.uint8)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _become(self, float_weights: bool) -> None:
        """Makes room for the other kind of weights."""
        device, shape = self.weight.device, (self.out_features, self.in_features)
        if float_weights:
            self.weight, self.weight_scale = torch.nn.Parameter(torch.empty(shape, device=device)), None
            return
        group = self.config.group_size
        scales = 1 if group is None else self.out_features * (self.in_features // group)
        self.become_packed(
            torch.empty(shape[0], shape[1] // _WEIGHTS_PER_BYTE, dtype=torch.uint8, device=device),
            torch.empty(scales, device=device),
        )


def replace_with_bitlinear(
    model: torch.nn.Module, config: BitNetConfig | None = None, modules_to_not_convert: list[str] | None = None
) -> torch.nn.Module:
    """Makes a `BitLinear` of every linear layer of a model, in place: to be trained, then packed.

    Parameters
    ----------
    model
        Any module. Replaced are modules whose type is `torch.nn.Linear`; they keep their parameters.
    config
        As for `BitLinear`.
    modules_to_not_convert
        Modules that stay as they are: names as transformers matches them, the beginning or the end of a module's full
        name. None means those that the model calls its output embeddings, and `lm_head`.

    Returns
    -------
    torch.nn.Module
        The model; the new layer if the model is a linear layer itself.
    """
    if type(model) is torch.nn.Linear:
        return BitLinear.from_linear(model, config)
    head = getattr(model, "get_output_embeddings", lambda: None)()
    skips = ["lm_head"] if modules_to_not_convert is None else modules_to_not_convert
    made: dict[int, BitLinear] = {}  # a layer that has two names stays one
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is not torch.nn.Linear or transformers_skips(name, skips):
            continue
        if modules_to_not_convert is None and module is head:
            continue
        if id(module) not in made:
            made[id(module)] = BitLinear.from_linear(module, config)
        model.set_submodule(name, made[id(module)])
    return model


def pack_model(model: torch.nn.Module) -> torch.nn.Module:
    """Packs every `BitLinear` of a model in place, and returns the model."""
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.pack()
    return model
