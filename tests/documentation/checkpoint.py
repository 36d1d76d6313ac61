# SPDX-License-Identifier: MIT
"""A small Llama in safetensors, whole enough for transformers to load: the `model` of the pages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-05,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def make_checkpoint(folder: Path) -> bool:
    """False where safetensors is not installed: pages that need it are skipped there."""
    try:
        from safetensors.numpy import save_file
    except ImportError:
        return False
    rng = np.random.default_rng(0)
    hidden, inner, vocabulary = 128, 256, 512
    shapes = {"model.embed_tokens": (vocabulary, hidden), "lm_head": (vocabulary, hidden)}
    tensors = {"model.norm.weight": np.ones(hidden, np.float32)}
    for layer in range(2):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{name}_proj": (hidden, hidden) for name in "qo"}
        shapes |= {f"{prefix}.self_attn.{name}_proj": (hidden // 2, hidden) for name in "kv"}
        shapes |= {f"{prefix}.mlp.{name}_proj": (inner, hidden) for name in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj"] = (hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}.{name}.weight"] = np.ones(hidden, np.float32)
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = 0.05 * rng.standard_normal(shape, dtype=np.float32)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return True


def make_broken_copy(folder: Path, copy: Path) -> None:
    """The same without its last bytes."""
    copy.mkdir()
    for path in folder.iterdir():
        data = path.read_bytes()
        (copy / path.name).write_bytes(data[:-100] if path.suffix == ".safetensors" else data)
