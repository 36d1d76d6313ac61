# SPDX-License-Identifier: MIT
"""Making the quantized layers of a model plain again, in place."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from typing import Any

import torch

from libbnb.nn.linear_4bit import Linear4bit
from libbnb.nn.linear_8bit import Linear8bitLt
from libbnb.nn.linear_fp8 import LinearFP8
from libbnb.nn.params_4bit import Params4bit

QUANTIZED_LINEAR = (Linear4bit, Linear8bitLt, LinearFP8)


def dequantize_model(model: torch.nn.Module, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """Replaces quantized linear layers by plain ones with the values of their weights, in place and one at a time.

    Parameters
    ----------
    model
        Any module.
    dtype
        Of the weights and biases of these layers. None: 4-bit weights get the dtype they had, int8 and FP8 ones
        float32.

    Returns
    -------
    torch.nn.Module
        The model. If it is itself a quantized layer, the plain one.

    Notes
    -----
    What `quantize_model` made of transformers' `Conv1D` becomes one again. Layers that share a weight share the plain
    one. Hooks that accelerate put on a layer move to the new one. 4-bit weights of experts become plain parameters.
    """
    names = [name for name, layer in model.named_modules(remove_duplicate=False) if isinstance(layer, QUANTIZED_LINEAR)]
    layers: dict[int, torch.nn.Module] = {}
    weights: dict[int, torch.nn.Parameter] = {}
    old: list[Any] = []  # a layer that is gone gives its id away
    for name in names:
        layer: Any = model.get_submodule(name)
        if id(layer) not in layers:
            old += [layer, layer.weight]
            made = plain_layer(layer, dtype)
            made.weight = weights.setdefault(id(layer.weight), made.weight)
            layers[id(layer)] = made
        if not name:
            return layers[id(layer)]
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layers[id(layer)])
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, Params4bit) and not hasattr(module, "dequantized_weight"):
                module._parameters[name] = torch.nn.Parameter(_as(parameter.dequantize(), dtype))
    return model


def plain_layer(layer: Any, dtype: torch.dtype | None = None, weight: torch.Tensor | None = None) -> Any:
    """A layer of the class that a quantized one was made from, with its weights, or with others of the same shape."""
    if weight is None:
        weight = _as(layer.dequantized_weight().detach(), dtype)
    source = getattr(layer, "source_cls", torch.nn.Linear)
    if source.__name__ == "Conv1D":
        with torch.device("meta"):
            made = source(layer.out_features, layer.in_features)
        weight = weight.t().contiguous()
    else:
        made = torch.nn.Linear(layer.in_features, layer.out_features, False, device="meta")
    made.weight = torch.nn.Parameter(weight)
    made.bias = layer.bias
    if layer.bias is not None and dtype is not None:
        made.bias = torch.nn.Parameter(layer.bias.detach().to(dtype), requires_grad=layer.bias.requires_grad)
    _move_hook(layer, made)
    return made.train(layer.training)


def _as(weights: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return weights if dtype is None else weights.to(dtype)


def _move_hook(old: torch.nn.Module, new: torch.nn.Module) -> None:
    """accelerate's hook on a layer, which moves inputs to the device of the weights."""
    hook = getattr(old, "_hf_hook", None)
    if hook is not None:
        from accelerate.hooks import add_hook_to_module, remove_hook_from_module

        remove_hook_from_module(old)
        add_hook_to_module(new, hook)
