# SPDX-License-Identifier: MIT
"""4-bit parameters in modules of others: the expert weights of a mixture of experts, three dimensions in one tensor."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from libbnb.nn.params_4bit import Params4bit


def quantize_parameter_4bit(
    module: torch.nn.Module,
    name: str,
    quant_type: str = "nf4",
    compress_statistics: bool = False,
    blocksize: int | None = None,
    quant_storage: torch.dtype = torch.uint8,
) -> Params4bit:
    """Replaces a float parameter of any module by a `Params4bit`, and lets its state dict have what belongs to it.

    A module that multiplies by `torch.nn.functional.linear` goes on working: by the whole of a matrix, or by one
    expert, ``F.linear(x, self.weight[e])``, of which only the codes are read.

    Parameters
    ----------
    module
        The module. Its state dict gets the entries that that of `Linear4bit` has, "NAME.absmax" and so on, and it loads
        quantized weights as well as float ones.
    name
        The name of a parameter of `module`. On the meta device it stays as it is until weights are loaded.
    quant_type, compress_statistics, blocksize, quant_storage
        As in `Params4bit`.

    Returns
    -------
    Params4bit
        The new parameter.

    Raises
    ------
    AttributeError
        There is no such parameter.
    """
    old = module._parameters.get(name)
    if old is None:
        raise AttributeError(f"{type(module).__name__} has no parameter {name!r}")
    made = Params4bit(old.detach(), False, None, blocksize, compress_statistics, quant_type, quant_storage)
    if not made.is_meta:
        made.quantize()
    module._parameters[name] = made
    hook_state_dict(module, name)
    return made


def hook_state_dict(module: torch.nn.Module, name: str) -> None:
    """Makes state dicts of a module have, and take, the quantization state of a `Params4bit`."""
    module._register_state_dict_hook(partial(_save, name=name))
    module._register_load_state_dict_pre_hook(partial(_load, name=name), with_module=True)


def _save(module: torch.nn.Module, state_dict: Any, prefix: str, local_metadata: Any, *, name: str) -> None:
    del local_metadata
    weight: Any = module._parameters[name]
    if isinstance(weight, Params4bit) and weight.quant_state is not None and prefix + name in state_dict:
        for key, value in weight.quant_state.as_dict(packed=True).items():
            state_dict[f"{prefix}{name}.{key}"] = value


def _load(
    module: torch.nn.Module, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: Any, name: str
) -> None:
    del local_metadata, strict, lists
    key = prefix + name
    value = state_dict.get(key)
    weight: Any = module._parameters[name]
    if value is None or not isinstance(weight, Params4bit):
        return
    device = None if weight.is_meta else weight.device
    parts = {entry: state_dict.pop(entry) for entry in list(state_dict) if entry.startswith(key + ".")}
    if parts:
        copies = {entry: part.detach().clone() for entry, part in parts.items()}
        made = Params4bit.from_prequantized(value.detach().clone(), copies, device=device)
    elif tuple(value.shape) == tuple(weight.logical_shape) and value.is_floating_point() and not value.is_meta:
        made = Params4bit(
            value.detach(), False, None, weight.blocksize, weight.compress_statistics, weight.quant_type,
            weight.quant_storage,
        ).quantize(device)  # fmt: skip
    else:
        return
    # Whether PyTorch copies or assigns now, the module has this parameter and its values.
    module._parameters[name] = state_dict[key] = made
