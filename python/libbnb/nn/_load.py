# SPDX-License-Identifier: MIT
"""Help for modules that load quantized weights from state dicts themselves."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from libbnb.nn._parameter import QuantizedParameter


@dataclass(frozen=True)
class LoadArguments:
    """The arguments of `torch.nn.Module._load_from_state_dict`."""

    state_dict: dict[str, Any]
    prefix: str
    local_metadata: dict[str, Any]
    strict: bool
    missing: list[str]
    unexpected: list[str]
    errors: list[str]


def place(tensor: torch.Tensor, weight: torch.Tensor, arguments: LoadArguments) -> torch.Tensor:
    """A tensor of a state dict where a weight is: a copy, unless the tensors of the dict are to be used themselves."""
    tensor = tensor.detach()
    if not weight.is_meta:
        moved = tensor.to(weight.device)
        if moved is not tensor:
            return moved
    return tensor if arguments.local_metadata.get("assign_to_params_buffers") else tensor.clone()


def set_weight(module: torch.nn.Module, made: QuantizedParameter, arguments: LoadArguments) -> None:
    """Makes loaded weights those of a module: in the parameter that it has, which others may share, where possible."""
    old: Any = module._parameters["weight"]
    assign = arguments.local_metadata.get("assign_to_params_buffers")
    if assign or old.is_meta or not isinstance(old, type(made)):
        module.weight = made
    else:
        old.become(made)


def load_rest(load: Callable[..., None], arguments: LoadArguments, done: set[str]) -> None:
    """Loads what is left of a state dict, by the method of the base class."""
    rest = type(arguments.state_dict)((k, v) for k, v in arguments.state_dict.items() if k not in done)
    known = set(arguments.missing)
    load(
        rest, arguments.prefix, arguments.local_metadata, arguments.strict, arguments.missing, arguments.unexpected,
        arguments.errors,
    )  # fmt: skip
    for key in done - known:
        if key in arguments.missing:
            arguments.missing.remove(key)
