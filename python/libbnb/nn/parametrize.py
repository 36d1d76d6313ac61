# SPDX-License-Identifier: MIT
"""4-bit parameters that look like floats: `torch.nn.utils.parametrize`, with the names of bitsandbytes.

A parameter of any shape in any module is kept in 4 bits, and is dequantized as a whole whenever it is read; within the
forward pass of its module, once. For expert weights of which few are used, see `libbnb.nn.quantize_parameter_4bit`.
"""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn.utils import parametrize

import libbnb.autograd  # noqa: F401  # pyright: ignore[reportUnusedImport]  # it defines torch.ops.libbnb
from libbnb.functional import quantize_4bit
from libbnb.nn._parts import gather_absmax
from libbnb.quant_state import QuantState


class Bnb4bitParametrization(torch.nn.Module):
    """What makes floats of the codes of a parameter.

    Parameters
    ----------
    quant_state
        The state that belongs to the codes.
    """

    def __init__(self, quant_state: QuantState) -> None:
        super().__init__()
        self.quant_state = quant_state

    @torch.no_grad()
    def forward(self, quantized_param: torch.Tensor) -> torch.Tensor:
        state = self.quant_state
        absmax = gather_absmax(state, torch.arange(state.absmax.numel(), device=state.absmax.device))
        return torch.ops.libbnb.dequantize_4bit(
            quantized_param, absmax, state.blocksize, state.quant_type, state.shape, state.dtype
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.quant_state.to(fn(torch.empty(0, dtype=torch.uint8, device=self.quant_state.absmax.device)).device)
        return super()._apply(fn, recurse)


def replace_parameter_4bit(
    module: torch.nn.Module,
    param_name: str,
    compress_statistics: bool = False,
    quant_type: str = "nf4",
    blocksize: int | None = None,
) -> None:
    """Quantizes a parameter of a module, which goes on reading it as floats.

    Parameters
    ----------
    module
        Any module.
    param_name
        The name of a parameter of it.
    compress_statistics, quant_type, blocksize
        As in `quantize_4bit`.

    Raises
    ------
    AttributeError
        There is nothing of that name.
    TypeError
        It is no parameter.
    """
    codes, state = quantize_4bit(
        _parameter(module, param_name).data,
        blocksize=blocksize,
        compress_statistics=compress_statistics,
        quant_type=quant_type,
    )
    setattr(module, param_name, torch.nn.Parameter(codes, requires_grad=False))
    _parametrize(module, param_name, state)


def replace_parameter_4bit_prequantized(
    module: torch.nn.Module, param_name: str, qs_dict: dict[str, Any], device: Any
) -> None:
    """The same for a parameter that holds codes already.

    Parameters
    ----------
    module, param_name
        As above.
    qs_dict
        What belongs to the codes, as `QuantState.from_dict` takes it.
    device
        Where that goes.
    """
    _parameter(module, param_name)
    _parametrize(module, param_name, QuantState.from_dict(qs_dict, device))


def _parameter(module: torch.nn.Module, name: str) -> torch.nn.Parameter:
    if not hasattr(module, name):
        raise AttributeError(f"{type(module).__name__} has no parameter {name!r}")
    parameter = getattr(module, name)
    if not isinstance(parameter, torch.nn.Parameter):
        raise TypeError(f"{name!r} is a {type(parameter).__name__}, must be a parameter")
    return parameter


def _parametrize(module: torch.nn.Module, name: str, state: QuantState) -> None:
    parametrize.register_parametrization(module, name, Bnb4bitParametrization(state), unsafe=True)
    module._register_state_dict_hook(partial(_save, name=name))
    module.register_forward_pre_hook(_begin_forward)
    module.register_forward_hook(_end_forward, always_call=True)


def _begin_forward(module: torch.nn.Module, inputs: Any) -> None:
    parametrize._cache_enabled += 1


def _end_forward(module: torch.nn.Module, inputs: Any, output: Any) -> None:
    # Also after a forward pass that failed, maybe before it was counted.
    parametrize._cache_enabled = max(0, parametrize._cache_enabled - 1)
    if not parametrize._cache_enabled:
        parametrize._cache = {}


def _save(module: torch.nn.Module, state_dict: Any, prefix: str, local_metadata: Any, *, name: str) -> None:
    """The codes go by the name of the parameter, and what belongs to them beside them."""
    original = f"{prefix}parametrizations.{name}.original"
    if original not in state_dict:
        return
    state_dict[prefix + name] = state_dict.pop(original)
    state: Any = module.parametrizations[name][0].quant_state  # type: ignore[index]
    for key, value in state.as_dict(packed=True).items():
        state_dict[f"{prefix}{name}.{key}"] = value
