# SPDX-License-Identifier: MIT
"""Layers of a model that a format would quantize, and what they become."""

# What PyTorch's classes have is without types in places.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats import Format
from libbnb.checkpoint.formats.fourbit import FourBit
from libbnb.checkpoint.formats.fp8 import FP8
from libbnb.checkpoint.formats.int8 import Int8
from libbnb.checkpoint.select import module_of
from libbnb.nn import Linear8bitLt, QuantizationConfig
from libbnb.nn.quantize import is_linear, quantized_layer


@dataclass(frozen=True)
class Layer:
    """A linear layer.

    Attributes
    ----------
    name : str
        Of its weight in the checkpoint.
    module : str
        Of the module in the model.
    """

    name: str
    module: str


def settings_of(format: Format) -> QuantizationConfig:
    """A format of checkpoints as layers of `libbnb.nn` have it.

    Raises
    ------
    CheckpointError
        There are no layers for it.
    """
    if isinstance(format, FourBit):
        return QuantizationConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=format.name,
            bnb_4bit_blocksize=format.blocksize,
            bnb_4bit_use_double_quant=format.nested,
            bnb_4bit_experts=False,
        )
    if isinstance(format, Int8):
        return QuantizationConfig(load_in_8bit=True)
    if isinstance(format, FP8):
        quant_type = "fp8_e4m3fn" if format.name == "fp8" else "fp8_e5m2"
        return QuantizationConfig(load_in_fp8=True, fp8_quant_type=quant_type, fp8_blocksize=format.blocksize)
    raise CheckpointError(f"{format.name} has no layers that a model could run with; nf4, fp4, int8 and fp8 have")


def find_layers(model: Any, tensors: list[str]) -> list[Layer]:
    """The modules of a model that have these weights of its checkpoint, as far as they are linear layers.

    A checkpoint of a model without its head has names without, and one of a model with has names with its prefix.
    """
    modules = {name for name, module in model.named_modules() if is_linear(module)}
    prefix = f"{model.base_model_prefix}."
    found: list[Layer] = []
    for name in tensors:
        own = module_of(name)
        candidates = (own, prefix + own, own.removeprefix(prefix))
        module = next((candidate for candidate in candidates if candidate in modules), None)
        if module is not None:
            found.append(Layer(name, module))
    return found


def make(model: Any, layer: Layer, settings: QuantizationConfig) -> torch.nn.Module:
    """The quantized form of a layer."""
    return quantized_layer(model.get_submodule(layer.module), settings)


def weights_only(quantized: torch.nn.Module) -> torch.Tensor | None:
    """The dequantized weights, float32, of a layer that quantizes activations, too; None for others."""
    return quantized.dequantized_weight().float() if isinstance(quantized, Linear8bitLt) else None
