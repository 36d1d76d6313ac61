# SPDX-License-Identifier: MIT
"""What the name of a layer says about it: embeddings, norms, heads and routers are not quantized, others are.

These are the choices of transformers with a bitsandbytes config, made from names, shapes and the model's config.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, cast

# Patterns on the last part of a module's name: "word_embeddings" of "bert.embeddings.word_embeddings".
_EMBEDDINGS = (
    "embed", "embed_in", "embed_tokens", "embed_positions", "*_embed", "*embedding", "*embeddings", "*_emb", "wte",
    "wpe", "shared", "relative_attention_bias", "relative_attention_bias_table", "pos_embed", "tok_embeddings",
)  # fmt: skip
_NORMS = ("*norm", "*norm[0-9]", "ln", "ln_*", "*_ln", "*layernorm*", "*layer_norm*")

# Output embeddings: what `get_output_embeddings()` returns, and transformers leaves alone without being told.
OUTPUT_EMBEDDINGS = (
    "lm_head", "lm_head.decoder", "predictions.decoder", "embed_out", "proj_out", "vocab_projector",
    "output_projection", "generator_lm_head", "pred_layer.proj", "lm_loss",
)  # fmt: skip

# Heads of other tasks: small, at the end, and their error goes straight to the answer.
_HEADS = ("score", "*classifier*", "qa_outputs", "seq_relationship", "head", "*_head", "*_projection")
_HEAD_FOLDERS = ("classifier", "classification_head", "score")  # of heads with several layers

_ROUTERS = ("gate", "router", "*_router", "*_gate")

# What transformers keeps in float32 (`_keep_in_fp32_modules`), in its notation: see `transformers_skips`.
_KEPT_BY_MODEL_TYPE = {
    **dict.fromkeys(("t5", "mt5", "umt5", "udop", "pop2piano"), "wo"),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), "indexer.weights_proj"),
    "blip-2": "qformer",
}


def module_of(name: str) -> str:
    """The module that owns a tensor: "a.b" for "a.b.weight"."""
    return name.rpartition(".")[0]


def is_embedding(name: str) -> bool:
    """Whether the name is that of an embedding table."""
    return _matches_last(module_of(name), _EMBEDDINGS)


def _matches_last(module: str, patterns: tuple[str, ...]) -> bool:
    last = module.rpartition(".")[2].lower()
    return any(fnmatchcase(last, pattern) for pattern in patterns)


def before_layers(module: str) -> list[str]:
    """The parts of a name up to the first number: a module that is not in a repeated layer has no number."""
    parts = module.split(".")
    return parts[: next((position for position, part in enumerate(parts) if part.isdigit()), len(parts))]


def is_output_embedding(module: str) -> bool:
    """Whether the name is that of a layer that gives logits for every token."""
    outside = ".".join(before_layers(module)) == module
    return outside and any(module == name or module.endswith("." + name) for name in OUTPUT_EMBEDDINGS)


def _is_head(module: str) -> bool:
    parts = before_layers(module)
    outside = ".".join(parts) == module
    return (outside and _matches_last(module, _HEADS)) or any(part in _HEAD_FOLDERS for part in parts)


def reason_to_keep(module: str, rows: int, configs: list[dict[str, Any]], has_experts: bool) -> tuple[str, bool]:
    """Why a float matrix is left alone, "" if it is not, and whether it may be the weight of a Linear module.

    Parameters
    ----------
    module
        The name of the module whose weight it is.
    rows
        Its number of rows.
    configs
        The config of the model and those inside it (`nested_configs`).
    has_experts
        Whether it is a mixture of experts, so that a "gate" is a router.
    """
    if _matches_last(module, _EMBEDDINGS):
        return "embedding", False
    if _matches_last(module, _NORMS):
        return "norm", False
    if is_output_embedding(module):
        return "output embedding", True
    if _is_head(module):
        return "head", True
    if has_experts and _matches_last(module, _ROUTERS):
        return "router", True
    model_types = {str(config.get("model_type")) for config in configs} & _KEPT_BY_MODEL_TYPE.keys()
    if transformers_skips(module, [_KEPT_BY_MODEL_TYPE[model_type] for model_type in model_types]):
        return "kept in float32 by this model", True
    if _is_vocabulary_sized(rows, configs):
        return "as many rows as the vocabulary", True
    return "", False


def nested_configs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The config and those inside it (text_config, vision_config, decoder, ...)."""
    found = [config]
    for value in config.values():
        if isinstance(value, dict):
            found += nested_configs(cast(dict[str, Any], value))
    return found


def _is_vocabulary_sized(rows: int, configs: list[dict[str, Any]]) -> bool:
    """A table with one row per token that the names did not reveal; not if other sizes of the model equal it."""
    for config in configs:
        vocab_size = config.get("vocab_size")
        sizes = [value for key, value in config.items() if key != "vocab_size" and isinstance(value, int)]
        if vocab_size == rows and vocab_size not in sizes:
            return True
    return False


def transformers_skips(module: str, patterns: list[str]) -> bool:
    """Whether transformers leaves a module unquantized for these `llm_int8_skip_modules` (its rule, version 5)."""
    boundary = r"(?:(?<=\.)|(?=\.|$))"
    return any(re.match(f"(?:{pattern}){boundary}", module) or module.endswith(pattern) for pattern in patterns)
