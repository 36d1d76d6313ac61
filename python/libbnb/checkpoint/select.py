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
from typing import Any, cast

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.reader import TensorInfo

# Patterns on the last part of a module's name: "word_embeddings" of "bert.embeddings.word_embeddings".
_EMBEDDINGS = (
    "embed", "embed_in", "embed_tokens", "embed_positions", "*_embed", "*embedding", "*embeddings", "*_emb", "wte",
    "wpe", "shared", "relative_attention_bias", "relative_attention_bias_table", "pos_embed", "tok_embeddings",
)  # fmt: skip
_NORMS = ("*norm", "*norm[0-9]", "ln", "ln_*", "*_ln", "*layernorm*", "*layer_norm*")

# Output embeddings: what `get_output_embeddings()` returns, and transformers leaves alone without being told.
_OUTPUT_EMBEDDINGS = (
    "lm_head", "lm_head.decoder", "predictions.decoder", "embed_out", "proj_out", "vocab_projector",
    "output_projection", "generator_lm_head", "pred_layer.proj", "lm_loss",
)  # fmt: skip

# Heads of other tasks: small, at the end, and their error goes straight to the answer.
_HEADS = ("score", "*classifier*", "qa_outputs", "seq_relationship", "*_head", "*_projection")
_HEAD_FOLDERS = ("classifier", "classification_head", "score")  # of heads with several layers

# Models whose linear layers are transformers' `Conv1D`: stored as [in, out], quantized as [out, in].
_CONV1D_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp_decoder")
_CONV1D_MODULES = ("c_attn", "q_attn", "c_proj", "c_fc")

# What transformers keeps in float32 (`_keep_in_fp32_modules`), in its notation: see `transformers_skips`.
_KEPT_BY_MODEL_TYPE = {
    **dict.fromkeys(("t5", "mt5", "umt5", "udop", "pop2piano"), "wo"),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), "indexer.weights_proj"),
    "blip-2": "qformer",
}


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


def module_of(name: str) -> str:
    """The module that owns a tensor: "a.b" for "a.b.weight"."""
    return name.rpartition(".")[0]


def is_embedding(name: str) -> bool:
    """Whether the name is that of an embedding table."""
    return _matches_last(module_of(name), _EMBEDDINGS)


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
    configs = _nested_configs(config or {})
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
    reason, is_linear = _reason_by_name(tensor, configs, has_experts)
    return Choice(not reason, reason, is_linear, transposed and not reason)


def _reason_by_name(tensor: TensorInfo, configs: list[dict[str, Any]], has_experts: bool) -> tuple[str, bool]:
    """Why the name rules leave a float matrix alone ("" if they do not), and whether it may be a Linear's weight."""
    module = module_of(tensor.name)
    if not tensor.name.endswith(".weight"):
        return "not the weight of a module", False
    if is_embedding(tensor.name):
        return "embedding", False
    if _matches_last(module, _NORMS):
        return "norm", False
    if _is_output_embedding(module):
        return "output embedding", True
    if _is_head(module):
        return "head", True
    if has_experts and ".experts." in tensor.name:
        return "expert", False  # transformers 5 holds them as one 3-D tensor, which bitsandbytes does not quantize
    if has_experts and _matches_last(module, ("gate", "router", "*_router", "*_gate")):
        return "router", True
    model_types = {str(config.get("model_type")) for config in configs} & _KEPT_BY_MODEL_TYPE.keys()
    if transformers_skips(module, [_KEPT_BY_MODEL_TYPE[model_type] for model_type in model_types]):
        return "kept in float32 by this model", True
    if _is_vocabulary_sized(tensor, configs):
        return "as many rows as the vocabulary", True
    return "", False


def _matches_last(module: str, patterns: tuple[str, ...]) -> bool:
    last = module.rpartition(".")[2].lower()
    return any(fnmatchcase(last, pattern) for pattern in patterns)


def _before_layers(module: str) -> list[str]:
    """The parts of a name up to the first number: a module that is not in a repeated layer has no number."""
    parts = module.split(".")
    return parts[: next((position for position, part in enumerate(parts) if part.isdigit()), len(parts))]


def _is_output_embedding(module: str) -> bool:
    outside = ".".join(_before_layers(module)) == module
    return outside and any(module == name or module.endswith("." + name) for name in _OUTPUT_EMBEDDINGS)


def _is_head(module: str) -> bool:
    parts = _before_layers(module)
    outside = ".".join(parts) == module
    return (outside and _matches_last(module, _HEADS)) or any(part in _HEAD_FOLDERS for part in parts)


def _matches_name(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(module_of(name), pattern) for pattern in patterns)


def _nested_configs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The config and those inside it (text_config, vision_config, decoder, ...)."""
    found = [config]
    for value in config.values():
        if isinstance(value, dict):
            found += _nested_configs(cast(dict[str, Any], value))
    return found


def _is_vocabulary_sized(tensor: TensorInfo, configs: list[dict[str, Any]]) -> bool:
    """A table with one row per token that the names did not reveal; not if other sizes of the model equal it."""
    for config in configs:
        vocab_size = config.get("vocab_size")
        sizes = [value for key, value in config.items() if key != "vocab_size" and isinstance(value, int)]
        if vocab_size == tensor.shape[0] and vocab_size not in sizes:
            return True
    return False


def is_conv1d(name: str, config: dict[str, Any] | None) -> bool:
    """Whether the weight is that of a transformers `Conv1D`, stored as [in, out]."""
    return _is_conv1d(name, _nested_configs(config or {}))


def _is_conv1d(name: str, configs: list[dict[str, Any]]) -> bool:
    known = any(config.get("model_type") in _CONV1D_MODELS for config in configs)
    return known and module_of(name).rpartition(".")[2] in _CONV1D_MODULES


# ---------------------------------------------------------------------------------------------------------------------
# Telling transformers


def transformers_skips(module: str, patterns: list[str]) -> bool:
    """Whether transformers leaves a module unquantized for these `llm_int8_skip_modules` (its rule, version 5)."""
    boundary = r"(?:(?<=\.)|(?=\.|$))"
    return any(re.match(f"(?:{pattern}){boundary}", module) or module.endswith(pattern) for pattern in patterns)


def skip_modules(choices: dict[str, Choice]) -> list[str] | None:
    """`llm_int8_skip_modules` of the quantization config: None where transformers' own default agrees with `choices`.

    A list replaces that default, so it names the output embeddings as well, also those that a checkpoint with tied
    embeddings does not contain.
    """
    quantized, kept = _modules(choices)
    own = [module for module in kept if not _is_output_embedding(module)]
    if not own:
        return None

    def is_clear(pattern: str) -> bool:
        return not any(transformers_skips(module, [pattern]) for module in quantized)

    return sorted({_shortest(module, is_clear) for module in own} | set(filter(is_clear, _OUTPUT_EMBEDDINGS)))


def ignore_patterns(choices: dict[str, Choice]) -> list[str]:
    """`ignore` of a compressed-tensors config, as its regular expressions: what may be Linear and was left alone."""
    quantized, kept = _modules(choices)

    def pattern(name: str) -> str:
        return r"(.*\.)?" + re.escape(name) + "$"

    def is_clear(name: str) -> bool:
        return not any(re.match(pattern(name), module) for module in quantized)

    names = {_shortest(module, is_clear) for module in kept} | set(filter(is_clear, _OUTPUT_EMBEDDINGS))
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
    parts, before = module.split("."), len(_before_layers(module))
    short = ".".join(parts[before - 1 :]) if 0 < before < len(parts) else module
    return short if is_clear(short) else module
