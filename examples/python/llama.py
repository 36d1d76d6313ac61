# SPDX-License-Identifier: MIT
"""A Llama that runs on any array library with NumPy's functions: what the examples for NumPy, JAX and MLX share.

A quantized weight stays packed: `load` gives it as what `libbnb.matmul_4bit`, `matmul_fp8` or `linear_int8` take, and
the example says how its library multiplies by it. There is no PyTorch here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

import libbnb
from libbnb.checkpoint import Checkpoint, make_format, quantize_checkpoint

PROMPT = [3, 141, 59, 26, 53, 58]

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "vocab_size": 320,
    "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 16, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "max_position_embeddings": 256, "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip


class FourBit(NamedTuple):
    """A weight in NF4 or FP4."""

    packed: Any
    state: libbnb.QuantState


class Fp8(NamedTuple):
    """A weight in FP8."""

    codes: Any
    scale: Any


class Int8(NamedTuple):
    """A weight for LLM.int8()."""

    codes: Any
    absmax: Any


# ---------------------------------------------------------------------------------------------------------------------
# The checkpoint


def make_checkpoint(folder: Path) -> Path:
    """A small Llama with random weights, as transformers would save it."""
    generator = np.random.default_rng(0)
    width, inner, vocabulary = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
    narrow = CONFIG["num_key_value_heads"] * CONFIG["head_dim"]

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, np.float32) * np.float32(1 / np.sqrt(shape[-1]))

    tensors = {"model.embed_tokens.weight": normal(vocabulary, width) * 4, "lm_head.weight": normal(vocabulary, width)}
    for layer in range(CONFIG["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        for part, shape in {
            "self_attn.q_proj": (width, width), "self_attn.k_proj": (narrow, width),
            "self_attn.v_proj": (narrow, width), "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }.items():  # fmt: skip
            tensors[f"{name}{part}.weight"] = normal(*shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}{norm}.weight"] = 1 + normal(width)
    tensors["model.norm.weight"] = 1 + normal(width)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def quantized(folder: Path, format: str) -> Path:
    """The checkpoint after `libbnb quantize`, in a folder beside it."""
    result = folder.with_name(f"{folder.name}-{format}")
    quantize_checkpoint(folder, result, make_format(format))
    return result


def load(folder: Path, asarray: Callable[[np.ndarray], Any] = np.asarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and the weights of a checkpoint, quantized ones as they are stored, in arrays of a library."""
    checkpoint = Checkpoint(folder, dtype="float32")
    assert checkpoint.source.config is not None
    weights: dict[str, Any] = {}
    for name in checkpoint:
        if name not in checkpoint.packed:
            weights[name] = asarray(checkpoint[name].astype(np.float32))
            continue
        codes, *scales = parts = {key: asarray(value) for key, value in checkpoint.stored(name).items()}
        format = checkpoint.packed[name].format
        if format in ("nf4", "fp4"):
            state = libbnb.QuantState.from_dict({key: parts[key] for key in scales})
            weights[name] = FourBit(parts[codes], state)
        else:
            weights[name] = (Int8 if format == "int8" else Fp8)(parts[codes], parts[scales[0]])
    return checkpoint.source.config, weights


# ---------------------------------------------------------------------------------------------------------------------
# The model


class Llama:
    """The decoder, on the library whose namespace is `xp`; `multiply(x, weight)` is ``x @ weight.T``."""

    def __init__(self, xp: Any, config: dict[str, Any], weights: Any, multiply: Callable[[Any, Any], Any]) -> None:
        self.xp, self.config, self.weights, self.multiply = xp, config, weights, multiply

    def logits(self, tokens: Any, cache: list[Any] | None = None) -> Any:
        """Logits after each token, shape (tokens, vocabulary). A cache holds keys and values of those before them."""
        x = self.weights["model.embed_tokens.weight"][tokens]
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            y = self.norm(f"{name}.input_layernorm", x)
            x = x + self.attention(f"{name}.self_attn", y, cache, layer)
            y = self.norm(f"{name}.post_attention_layernorm", x)
            gate = self.linear(f"{name}.mlp.gate_proj", y)
            gate = gate / (1 + self.xp.exp(-gate))
            x = x + self.linear(f"{name}.mlp.down_proj", gate * self.linear(f"{name}.mlp.up_proj", y))
        return self.linear("lm_head", self.norm("model.norm", x))

    def linear(self, name: str, x: Any) -> Any:
        return self.multiply(x, self.weights[f"{name}.weight"])

    def norm(self, name: str, x: Any) -> Any:
        scale = 1 / self.xp.sqrt(self.xp.mean(x * x, axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x * scale * self.weights[f"{name}.weight"]

    def attention(self, name: str, x: Any, cache: list[Any] | None, layer: int) -> Any:
        xp, count = self.xp, x.shape[0]
        q, k, v = (self.split(self.linear(f"{name}.{part}_proj", x)) for part in "qkv")
        known = cache[layer] if cache is not None and len(cache) > layer else None
        seen = 0 if known is None else known[0].shape[1]
        q, k = self.rotate(q, seen), self.rotate(k, seen)
        if known is not None:
            k, v = xp.concatenate([known[0], k], axis=1), xp.concatenate([known[1], v], axis=1)
        if cache is not None:
            cache[layer:] = [(k, v), *cache[layer + 1 :]]
        repeats = q.shape[0] // k.shape[0]
        k, v = xp.repeat(k, repeats, axis=0), xp.repeat(v, repeats, axis=0)
        scores = q @ xp.swapaxes(k, 1, 2) / self.config["head_dim"] ** 0.5
        later = xp.arange(seen + count)[None, :] > xp.arange(seen, seen + count)[:, None]
        scores = xp.where(later, -1e9, scores)
        scores = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        y = (scores / xp.sum(scores, axis=-1, keepdims=True)) @ v
        return self.linear(f"{name}.o_proj", xp.reshape(xp.swapaxes(y, 0, 1), (count, -1)))

    def split(self, x: Any) -> Any:
        """(tokens, heads x length) as (heads, tokens, length)."""
        return self.xp.swapaxes(self.xp.reshape(x, (x.shape[0], -1, self.config["head_dim"])), 0, 1)

    def rotate(self, x: Any, first: int) -> Any:
        """Rotary position embedding (arXiv:2104.09864): halves of a head are the two coordinates."""
        xp, half = self.xp, self.config["head_dim"] // 2
        theta = self.config.get("rope_theta") or self.config["rope_parameters"]["rope_theta"]
        frequency = xp.exp(xp.arange(half) * (-np.log(theta) / half))
        angle = xp.arange(first, first + x.shape[1])[:, None] * frequency[None, :]
        sine, cosine = xp.sin(angle).astype(x.dtype), xp.cos(angle).astype(x.dtype)
        one, two = x[..., :half], x[..., half:]
        return xp.concatenate([one * cosine - two * sine, two * cosine + one * sine], axis=-1)
