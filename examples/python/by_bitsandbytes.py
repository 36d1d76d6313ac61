# SPDX-License-Identifier: MIT
"""The same layers quantized by bitsandbytes, where it is installed: what examples compare themselves with."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

import torch

os.environ["LIBBNB_PLUGIN"] = "0"  # it runs its own kernels here, not those that libbnb would plug in

FORMATS = ("nf4", "fp4", "int8") if importlib.util.find_spec("bitsandbytes") is not None else ()


def quantize(model: torch.nn.Module, names: Iterable[str], kind: str, threshold: float = 6.0) -> torch.nn.Module:
    """Replaces the linear layers of these names by those of bitsandbytes, in place."""
    for name in list(names):
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, torch.nn.Linear)
        setattr(model.get_submodule(parent), last, _quantized(layer, kind, threshold))
    return model


def _quantized(layer: torch.nn.Linear, kind: str, threshold: float) -> torch.nn.Module:
    import bitsandbytes

    sizes = (layer.in_features, layer.out_features, layer.bias is not None)
    if kind == "int8":
        made = bitsandbytes.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=threshold)
        made.weight = bitsandbytes.nn.Int8Params(layer.weight.data, requires_grad=False)
    else:
        made = bitsandbytes.nn.Linear4bit(*sizes, quant_type=kind, compress_statistics=False)
        made.weight = bitsandbytes.nn.Params4bit(
            layer.weight.data, quant_type=kind, compress_statistics=False, module=made
        )
    made.bias = layer.bias
    return made.to("cpu").train(layer.training)
