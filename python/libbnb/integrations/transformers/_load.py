# SPDX-License-Identifier: MIT
"""Weights on their way from a checkpoint into quantized layers: operations of transformers' loader."""

# Most of transformers' classes are without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportIncompatibleMethodOverride=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from transformers.core_model_loading import ConversionOps, WeightConverter

from libbnb._errors import InvalidArgument
from libbnb.nn.dequantize import QUANTIZED_LINEAR, plain_layer

if TYPE_CHECKING:
    from libbnb.integrations.transformers._quantizer import LibbnbQuantizer

# What belongs to a quantized weight, besides itself: behind its name, or instead of it.
_OF_4_BITS = (
    "nested_absmax", "nested_quant_map", "quant_map", "absmax", "quant_state.bitsandbytes__nf4",
    "quant_state.bitsandbytes__fp4",
)  # fmt: skip
_OF_INT8 = ("SCB", "weight_format")
_OF_FP8 = ("weight_scale",)


class _Operation(ConversionOps):
    """An operation that knows the quantizer. The loader copies operations for every weight; all have the same one."""

    def __init__(self, hf_quantizer: LibbnbQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class Quantize(_Operation):
    """Float weights of a checkpoint, which may be the result of other operations, to quantized ones."""

    def convert(self, input_dict: dict[str, Any], model: Any = None, **kwargs: Any) -> dict[str, Any]:
        del kwargs
        result: dict[str, Any] = {}
        for name, value in input_dict.items():
            weight = _one(value)
            is_transposed = _is_transposed(model.get_submodule(name.rpartition(".")[0]))
            result[name] = _fill(model, name, {"": weight.t() if is_transposed else weight})
        return result


class Deserialize(_Operation):
    """The tensors that a checkpoint has of one weight, by the end of their names, to a quantized weight."""

    def convert(
        self, input_dict: dict[str, Any], model: Any = None, full_layer_name: str = "", **kwargs: Any
    ) -> dict[str, Any]:
        del kwargs
        if not self.hf_quantizer.param_needs_quantization(model, full_layer_name):
            if len(input_dict) > 1:
                raise InvalidArgument(
                    f"{full_layer_name} is quantized in the checkpoint, but its config does not say so: is "
                    "llm_int8_skip_modules right?"
                )
            return input_dict
        name = full_layer_name.rpartition(".")[2]
        entries = {key.removeprefix(name): _one(value) for key, value in input_dict.items()}
        if entries.keys() == {""} and entries[""].is_floating_point() and _is_plain(model, full_layer_name):
            return {name: self._keep(model, full_layer_name, entries[""])}
        return {name: _fill(model, full_layer_name, entries)}

    def _keep(self, model: Any, full_name: str, weight: torch.Tensor) -> torch.nn.Parameter:
        """A layer that is not quantized in the checkpoint becomes a plain one again."""
        module = full_name.rpartition(".")[0]
        layer = model.get_submodule(module)
        made = plain_layer(layer, weight=weight.t() if _is_transposed(layer) else weight)
        model.set_submodule(module, made)
        self.hf_quantizer.kept.append(module)
        return made.weight


def converters(quantizer: LibbnbQuantizer, experts: Iterable[str]) -> list[WeightConverter]:
    """What gathers the tensors of quantized weights.

    Parameters
    ----------
    quantizer
        Its config says in which format they are.
    experts
        Full names of parameters with the weights of several experts, in 4 bits.
    """
    config = quantizer.quantization_config
    operations: list[ConversionOps] = [Deserialize(quantizer)]
    if config.load_in_4bit:
        names = ["weight", *sorted({name.rpartition(".")[2] for name in experts} - {"weight"})]
        return [
            WeightConverter([*(f"{name}.{part}" for part in _OF_4_BITS), name], name, operations=operations)
            for name in names
        ]
    parts = _OF_INT8 if config.load_in_8bit else _OF_FP8
    return [WeightConverter([*parts, "weight"], "weight", operations=operations)]


def saved_as_loaded(conversions: list[Any], experts: Iterable[str]) -> list[Any]:
    """The conversions that saving is to undo: not ours, nor those that made the weights of quantized experts."""
    quantized = {name.rpartition(".")[2] for name in experts}
    return [
        one
        for one in conversions
        if not any(isinstance(operation, Deserialize) for operation in getattr(one, "operations", ()))
        and not quantized & {pattern.rpartition(".")[2] for pattern in one.target_patterns}
    ]


def _one(value: Any) -> torch.Tensor:
    return value[0] if isinstance(value, list) else value


def _is_plain(model: Any, full_name: str) -> bool:
    """Whether floats are what a checkpoint must not have for this weight: int8 layers may keep them."""
    layer = model.get_submodule(full_name.rpartition(".")[0])
    return isinstance(layer, QUANTIZED_LINEAR) and not getattr(layer, "_keeps_floats", bool)()


def _is_transposed(layer: Any) -> bool:
    """Whether it was made from a layer that stores its weight as [in, out]."""
    return getattr(layer, "source_cls", torch.nn.Linear).__name__ == "Conv1D"


def _fill(model: Any, full_name: str, entries: dict[str, torch.Tensor]) -> torch.nn.Parameter:
    """Lets a module load what belongs to one of its weights, as it loads a state dict, and gives the quantized weight.

    Parameters
    ----------
    full_name
        That of the weight.
    entries
        Tensors by what follows the weight's name, "" for itself, or by a name of their own.
    """
    path, _, name = full_name.rpartition(".")
    module = model.get_submodule(path)
    state = {name + key if key[:1] in ("", ".", "_") else key: value for key, value in entries.items()}
    module.load_state_dict(state, strict=False, assign=True)
    weight = module._parameters[name]
    if not getattr(module, "_keeps_floats", bool)():
        weight.quantize()
    return weight
