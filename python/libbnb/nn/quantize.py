# SPDX-License-Identifier: MIT
"""Quantizing the layers of a model in place."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.layer_names import nested_configs, reason_to_keep, transformers_skips
from libbnb.nn._parameter import QuantizedParameter
from libbnb.nn.configuration import QuantizationConfig
from libbnb.nn.experts import quantize_parameter_4bit
from libbnb.nn.linear_4bit import Linear4bit
from libbnb.nn.linear_8bit import Linear8bitLt
from libbnb.nn.linear_fp8 import LinearFP8
from libbnb.quant_state import QuantState


def quantize_model(model: torch.nn.Module, config: Any) -> torch.nn.Module:
    """Replaces the linear layers of a model by quantized ones, in place and one at a time.

    Parameters
    ----------
    model
        Any module. Layers are quantized on the devices where they are; those on the meta device get their weights
        later, by `load_state_dict` of quantized weights or of float ones.
    config
        A `QuantizationConfig`, or what `QuantizationConfig.of` makes one of: "nf4", transformers' BitsAndBytesConfig.

    Returns
    -------
    torch.nn.Module
        The model. If it is itself a linear layer, the quantized one.

    Raises
    ------
    InvalidArgument
        The config names no format, or no layer was found that could be quantized.

    Notes
    -----
    Replaced are modules whose type is `torch.nn.Linear` (no subclass: those know why they are one) and transformers'
    `Conv1D`. Layers that share a weight share the quantized one; a layer that shares its weight with something else,
    such as an embedding, is left alone, and so is what `llm_int8_skip_modules` names, or by default what transformers
    would leave alone.
    """
    settings = QuantizationConfig.of(config)
    if not settings.is_quantizable():
        raise InvalidArgument("config: one of load_in_4bit, load_in_8bit and load_in_fp8 must be True")
    names = list(_chosen(model, settings))
    experts = list(_experts(model, settings))
    if not names and not experts:
        raise InvalidArgument(f"quantize_model: no layer of this {type(model).__name__} can be quantized")
    for name, same_weight, same_layer in names:
        layer = model.get_submodule(name)
        if same_layer != name:
            made = model.get_submodule(same_layer)
        elif same_weight != name:
            made = _quantized(_without_weight(layer), settings)
            _share(model.get_submodule(same_weight), made)
        else:
            made = _quantized(_as_linear(layer), settings)
        made.source_cls = type(layer)  # type: ignore[assignment]  # what `dequantize_model` makes of it again
        if not name:
            return made
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, made)
    _quantize_experts(model, experts, settings)
    return model


def quantized_layer(layer: torch.nn.Module, config: Any) -> torch.nn.Module:
    """A quantized layer with the weights of a linear one, which is not changed; the bias is shared.

    Parameters
    ----------
    layer
        A `torch.nn.Linear`, or a `Conv1D` of transformers.
    config
        As for `quantize_model`.

    Returns
    -------
    torch.nn.Module
        A `Linear4bit`, `Linear8bitLt` or `LinearFP8`.

    Raises
    ------
    InvalidArgument
        The config names no format.
    TypeError
        The module is no such layer.
    """
    settings = QuantizationConfig.of(config)
    if not settings.is_quantizable():
        raise InvalidArgument("config: one of load_in_4bit, load_in_8bit and load_in_fp8 must be True")
    if not is_linear(layer):
        raise TypeError(f"layer is a {type(layer).__name__}, must be a torch.nn.Linear")
    return _quantized(_as_linear(layer), settings)


def _chosen(model: torch.nn.Module, settings: QuantizationConfig) -> Iterator[tuple[str, str, str]]:
    """The names of the layers to quantize, each with the first name of the same weight and of the same layer.

    Names, because a layer that nobody holds is freed as soon as it is replaced.
    """
    config: Any = getattr(model, "config", None)
    configs = nested_configs(config.to_dict() if hasattr(config, "to_dict") else {})
    has_experts = any(".experts" in name for name, _ in model.named_modules())
    heads = _heads(model)
    shared = _shared_with_others(model)
    skips = settings.llm_int8_skip_modules
    first: dict[int, str] = {}
    module: Any
    for name, module in model.named_modules(remove_duplicate=False):
        if not is_linear(module):
            continue
        weight: Any = module.weight
        if weight.numel() == 0 or id(weight) in shared:
            continue
        if skips is not None:
            keep = transformers_skips(name, skips)
        else:
            rows = _linear_shape(module)[0]
            keep = bool(name) and (id(module) in heads or bool(reason_to_keep(name, rows, configs, has_experts)[0]))
        if not keep:
            yield name, first.setdefault(id(weight), name), first.setdefault(id(module), name)


def _heads(model: torch.nn.Module) -> set[int]:
    """The output embedding that a model of transformers says it has."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    return set() if head is None else {id(head)}


def is_linear(module: Any) -> bool:
    """Whether `quantize_model` may replace a module: a linear layer, or transformers' `Conv1D`."""
    return type(module) is torch.nn.Linear or _is_conv1d(module)


def _is_conv1d(module: Any) -> bool:
    """transformers' `Conv1D`: a linear layer whose weight is stored as [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _linear_shape(module: Any) -> tuple[int, int]:
    rows, cols = module.weight.shape
    return (cols, rows) if _is_conv1d(module) else (rows, cols)


def _shared_with_others(model: torch.nn.Module) -> set[int]:
    """Parameters that modules other than linear layers have."""
    return {
        id(parameter)
        for module in model.modules()
        if not is_linear(module)
        for parameter in module._parameters.values()
        if parameter is not None
    }


def _as_linear(module: Any) -> torch.nn.Linear:
    """A `Conv1D` as the linear layer that it is."""
    if not _is_conv1d(module):
        return module
    linear = _without_weight(module)
    linear.weight = torch.nn.Parameter(module.weight.detach().t(), requires_grad=False)
    return linear


def _without_weight(module: Any) -> torch.nn.Linear:
    """A linear layer of the same sizes and with the same bias, but a weight without memory."""
    rows, cols = _linear_shape(module)
    linear = torch.nn.Linear(cols, rows, bias=False, device="meta")
    linear.bias = module.bias
    return linear.train(module.training)


def _quantized(linear: torch.nn.Linear, settings: QuantizationConfig) -> torch.nn.Module:
    if settings.load_in_8bit:
        return Linear8bitLt.from_linear(
            linear, has_fp16_weights=settings.llm_int8_has_fp16_weight, threshold=settings.llm_int8_threshold
        )
    if settings.load_in_fp8:
        block = settings.fp8_blocksize
        return LinearFP8.from_linear(
            linear,
            compute_dtype=settings.bnb_4bit_compute_dtype,
            quant_type=settings.fp8_quant_type,
            blocksize=block if block is not None and linear.in_features % block == 0 else None,
        )
    return Linear4bit.from_linear(
        linear,
        compute_dtype=settings.bnb_4bit_compute_dtype,
        compress_statistics=settings.bnb_4bit_use_double_quant,
        quant_type=settings.bnb_4bit_quant_type,
        quant_storage=settings.bnb_4bit_quant_storage,
        blocksize=settings.bnb_4bit_blocksize,
    )


def _share(first: Any, second: Any) -> None:
    """Layers that shared a float weight share the quantized one."""
    second.weight = first.weight
    if isinstance(second, Linear4bit):
        second.quant_state = first.quant_state


# ---------------------------------------------------------------------------------------------------------------------
# Mixtures of experts


def _experts(model: torch.nn.Module, settings: QuantizationConfig) -> Iterator[tuple[torch.nn.Module, str]]:
    """Expert weights that are [experts, out, in], which modules multiply by one by one."""
    if not settings.load_in_4bit or settings.bnb_4bit_experts is False:
        return
    skips = settings.llm_int8_skip_modules or []
    for name, module in model.named_modules():
        if name.rpartition(".")[2] != "experts" or transformers_skips(name, skips):
            continue
        if getattr(module, "is_transposed", False):  # [experts, in, out]: transformers does not use `linear` there
            continue
        for key, parameter in module._parameters.items():
            if parameter is not None and parameter.dim() == 3 and parameter.is_floating_point():
                yield module, key


def _quantize_experts(
    model: torch.nn.Module, experts: list[tuple[torch.nn.Module, str]], settings: QuantizationConfig
) -> None:
    for module, name in experts:
        quantize_parameter_4bit(
            module,
            name,
            settings.bnb_4bit_quant_type,
            settings.bnb_4bit_use_double_quant,
            settings.bnb_4bit_blocksize,
            settings.bnb_4bit_quant_storage,  # type: ignore[arg-type]
        )
    choose = getattr(model, "set_experts_implementation", None)
    if experts and choose is not None:
        choose("eager")  # the one of transformers that goes expert by expert


# ---------------------------------------------------------------------------------------------------------------------


def get_memory_footprint(model: torch.nn.Module, return_buffers: bool = True) -> int:
    """The bytes that a model's parameters and buffers take, with the scales and tables of quantized ones.

    Parameters
    ----------
    model
        Any module.
    return_buffers
        Whether buffers count.

    Returns
    -------
    int
        Memory that is shared counts once.
    """
    tensors: list[torch.Tensor] = []
    for parameter in model.parameters():
        tensors.append(parameter.data)
        tensors += _statistics(parameter)
    if return_buffers:
        tensors += list(model.buffers())
    sizes: dict[Any, int] = {}
    for tensor in tensors:
        key = id(tensor) if tensor.is_meta else (tensor.device, tensor.data_ptr(), tensor.nbytes)
        sizes[key] = tensor.nbytes
    return sum(sizes.values())


def _statistics(parameter: Any) -> list[torch.Tensor]:
    """What belongs to the codes of a parameter."""
    if not isinstance(parameter, QuantizedParameter):
        return []
    found = [getattr(parameter, name, None) for name in ("SCB", "scale")]
    state: QuantState | None = getattr(parameter, "quant_state", None)
    if state is not None:
        found += [state.absmax, state.offset, None if state.standard_code else state.code]
        if state.state2 is not None:
            found += [state.state2.absmax, None if state.state2.standard_code else state.state2.code]
    return [tensor for tensor in found if isinstance(tensor, torch.Tensor)]
