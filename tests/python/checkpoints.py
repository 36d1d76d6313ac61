# SPDX-License-Identifier: MIT
"""Checkpoints for tests, made on the spot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def small_model(rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
    """A model with everything that a rule looks at: embeddings, norms, biases, odd shapes, integers, a head."""

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.05).astype(dtype)

    return {
        "model.embed_tokens.weight": normal(500, 64),
        "model.layers.0.input_layernorm.weight": normal(64),
        "model.layers.0.attn.q_proj.weight": normal(128, 64),
        "model.layers.0.attn.q_proj.bias": normal(128),
        "model.layers.1.mlp.up_proj.weight": normal(33, 17),
        "model.layers.1.mlp.down_proj.weight": normal(1, 5),
        "model.layers.1.positions": np.arange(7),
        "lm_head.weight": normal(500, 64),
    }


CONFIG = {"model_type": "llama", "vocab_size": 500, "hidden_size": 64}


def save_model(folder: Path, tensors: dict[str, Any], shards: int = 1, config: dict[str, Any] | None = None) -> Path:
    """A model folder: one file, or several with an index."""
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        part = {name: tensors[name] for name in names[number::shards]}
        file_name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / file_name, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file_name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def digests(path: Path) -> dict[str, str]:
    """File names and hashes of everything in a folder."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data
