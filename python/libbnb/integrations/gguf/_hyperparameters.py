# SPDX-License-Identifier: MIT
"""From config.json to the metadata that llama.cpp builds a model from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from libbnb.integrations.gguf._architectures import Architecture, unsupported
from libbnb.integrations.gguf._config import Config


def add_hyperparameters(writer: GGUFWriter, row: Architecture, config: Config, vocab_size: int) -> list[str]:
    """Add the keys of the architecture.

    Returns
    -------
    list of str
        What a user should know.
    """
    writer.add_block_count(config.layers)
    writer.add_context_length(config.count("max_position_embeddings"))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.count("intermediate_size"))
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.eps)
    writer.add_vocab_size(vocab_size)
    writer.add_rope_dimension_count(config.head_size)
    if config.head_size * config.heads != config.hidden_size:
        writer.add_key_length(config.head_size)
        writer.add_value_length(config.head_size)
    _add_rope(writer, config)
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window and window < config.count("max_position_embeddings"):
        return [f"sliding_window is {window}: llama.cpp attends to all tokens before, not only to the last {window}"]
    return []


def _add_rope(writer: GGUFWriter, config: Config) -> None:
    rope = config.rope
    kind = rope["rope_type"]
    writer.add_rope_freq_base(config.number(rope, "rope_theta"))
    if kind in ("default", "llama3"):  # the factors of llama3 are a tensor
        return
    if kind not in ("linear", "yarn"):
        raise unsupported(f"rope_type is {kind!r}; default, linear, llama3 and yarn can be exported")
    writer.add_rope_scaling_type(RopeScalingType.LINEAR if kind == "linear" else RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.number(rope, "factor"))
    if kind == "linear":
        return
    trained = "original_max_position_embeddings"
    rope = {trained: config.get("max_position_embeddings")} | rope
    writer.add_rope_scaling_orig_ctx_len(int(config.number(rope, trained)))
    if rope.get("attention_factor") is not None:
        # llama.cpp multiplies it by what YaRN's paper recommends; transformers takes that only where there is none.
        recommended = 0.1 * math.log(max(1.0, config.number(rope, "factor"))) + 1
        writer.add_rope_scaling_attn_factors(config.number(rope, "attention_factor") / recommended)
    if rope.get("beta_fast") is not None:
        writer.add_rope_scaling_yarn_beta_fast(config.number(rope, "beta_fast"))
    if rope.get("beta_slow") is not None:
        writer.add_rope_scaling_yarn_beta_slow(config.number(rope, "beta_slow"))


def rope_factors(config: Config) -> Any:
    """What llama.cpp divides the frequencies of a "llama3" rotary embedding by; None for other types.

    Returns
    -------
    ndarray or None
        float32, one for each pair of a head. Long waves are stretched by `factor`, short ones stay, those between go
        from one to the other with the number of waves that fit into the context of the training.
    """
    rope = config.rope
    if rope["rope_type"] != "llama3":
        return None
    factor, low, high, trained = (
        config.number(rope, key)
        for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    exponents = np.arange(0, config.head_size, 2, dtype=np.float64) / config.head_size
    waves = trained / (2 * math.pi * config.number(rope, "rope_theta") ** exponents)
    smooth = np.clip((waves - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
