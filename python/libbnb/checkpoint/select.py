# SPDX-License-Identifier: MIT
"""Which tensors are quantized: the weights of Linear layers inside the model; embeddings, norms and heads stay.

This is what transformers does with a bitsandbytes config, found out without building the model: from names, shapes and
config.json. Where a choice could differ from the one that transformers would make, `skip_modules` says so in the
quantization config, so that what was written always loads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.reader import TensorInfo
from libbnb.layer_names import (
    OUTPUT_EMBEDDINGS,
    before_layers,
    is_embedding,
    is_output_embedding,
    module_of,
    nested_configs,
    reason_to_keep,
    transformers_skips,
)

__all__ = ["Choice", "choose", "ignore_patterns", "is_conv1d", "is_embedding", "module_of", "skip_modules"]

# Models whose linear layers are transformers' `Conv1D`: stored as [in, out], quantized as [out, in].
_CONV1D_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder")
_CONV1D_MODULES = ("c_attn", "q_attn", "c_proj", "c_fc")


@dataclass(frozen=True)
class Choice:
    """What happens to one tensor.

    Attributes
    ----------
    quantize : bool
        Whether it is quantized.
    reason : str
        Why not, in a few words; "" if it is.
    is_linear : bool
        A matrix that may belong to a Linear module and was left alone: a loader must be told.
    transposed : bool
        Stored as [in, out]; quantized as [out, in].
    """

    quantize: bool
    reason: str = ""
    is_linear: bool = False
    transposed: bool = False


def choose(
    tensors: dict[str, TensorInfo], config: dict[str, Any] | None, include: list[str], exclude: list[str]
) -> dict[str, Choice]:
    """Decide for every tensor whether it is quantized.

    Parameters
    ----------
    tensors : dict
        The tensors of the checkpoint.
    config : dict or None
        config.json of the model.
    include : list of str
        Globs on tensor names, with or without ".weight". If there are any, they decide instead of the name rules:
        every float matrix that matches is quantized, no other.
    exclude : list of str
        Globs; what matches is left alone, whatever else holds.
    """
    configs = nested_configs(config or {})
    has_experts = any(".experts." in name for name in tensors)
    return {name: _choose_one(tensor, configs, has_experts, include, exclude) for name, tensor in tensors.items()}


def _choose_one(
    tensor: TensorInfo, configs: list[dict[str, Any]], has_experts: bool, include: list[str], exclude: list[str]
) -> Choice:
    if tensor.dtype not in dtypes.FLOAT_DTYPES:
        return Choice(False, f"dtype {tensor.dtype}")
    if len(tensor.shape) != 2 or tensor.size == 0:
        return Choice(False, f"{len(tensor.shape)}-D" if tensor.size else "empty")
    transposed = _is_conv1d(tensor.name, configs)
    if _matches_name(tensor.name, exclude):
        return Choice(False, "excluded", is_linear=True)
    if include:
        chosen = _matches_name(tensor.name, include)
        return Choice(True, transposed=transposed) if chosen else Choice(False, "not included", is_linear=True)
    if not tensor.name.endswith(".weight"):
        return Choice(False, "not the weight of a module")
    if has_experts and ".experts." in tensor.name:
        # transformers 5 holds them as one 3-D tensor, which bitsandbytes does not quantize.
        return Choice(False, "expert")
    reason, is_linear = reason_to_keep(module_of(tensor.name), tensor.shape[0], configs, has_experts)
    return Choice(not reason, reason, is_linear, transposed and not reason)


def _matches_name(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(module_of(name), pattern) for pattern in patterns)


def is_conv1d(name: str, config: dict[str, Any] | None) -> bool:
    """Whether the weight is that of a transformers `Conv1D`, stored as [in, out]."""
    return _is_conv1d(name, nested_configs(config or {}))


def _is_conv1d(name: str, configs: list[dict[str, Any]]) -> bool:
    known = any(config.get("model_type") in _CONV1D_MODELS for config in configs)
    return known and module_of(name).rpartition(".")[2] in _CONV1D_MODULES


# ---------------------------------------------------------------------------------------------------------------------
# Telling transformers


def skip_modules(choices: dict[str, Choice]) -> list[str] | None:
    """`llm_int8_skip_modules` of the quantization config: None where transformers' own default agrees with `choices`.

    A list replaces that default, so it names the output embeddings as well, also those that a checkpoint with tied
    embeddings does not contain.
    """
    quantized, kept = _modules(choices)
    own = [module for module in kept if not is_output_embedding(module)]
    if not own:
        return None

    def is_clear(pattern: str) -> bool:
        return not any(transformers_skips(module, [pattern]) for module in quantized)

    return sorted({_shortest(module, is_clear) for module in own} | set(filter(is_clear, OUTPUT_EMBEDDINGS)))


def ignore_patterns(choices: dict[str, Choice]) -> list[str]:
    """`ignore` of a compressed-tensors config, as its regular expressions: what may be Linear and was left alone."""
    quantized, kept = _modules(choices)

    def pattern(name: str) -> str:
        return r"(.*\.)?" + re.escape(name) + "$"

    def is_clear(name: str) -> bool:
        return not any(re.match(pattern(name), module) for module in quantized)

    names = {_shortest(module, is_clear) for module in kept} | set(filter(is_clear, OUTPUT_EMBEDDINGS))
    return ["re:" + pattern(name) for name in sorted(names)]


def _modules(choices: dict[str, Choice]) -> tuple[list[str], list[str]]:
    """The modules that are quantized, and those that could have been."""
    quantized = [module_of(name) for name, choice in choices.items() if choice.quantize]
    kept = [module_of(name) for name, choice in choices.items() if choice.is_linear and not choice.quantize]
    return quantized, kept


def _shortest(module: str, is_clear: Callable[[str], bool]) -> str:
    """The name from the repeated layer on ("layers.0.mlp.gate"), if it means no other module.

    It holds for the model with and without its head, whose names differ in what comes before.
    """
    parts, before = module.split("."), len(before_layers(module))
    short = ".".join(parts[before - 1 :]) if 0 < before < len(parts) else module
    return short if is_clear(short) else module
