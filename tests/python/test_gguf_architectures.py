# SPDX-License-Identifier: MIT
"""Architectures and rotary embeddings in llama.cpp: logits and greedy tokens of transformers, in float32 throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")
pytest.importorskip("llama_cpp")
pytest.importorskip("torch")
pytest.importorskip("transformers")

import llama_cpp
import torch
import transformers

from checkpoints import save_model
from gguf_models import BITNET_CONFIG, CONFIG, QWEN2, save_bpe, tensors
from libbnb.integrations.gguf import export_gguf

LAYERS = CONFIG["num_hidden_layers"]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
TRAINED = {"original_max_position_embeddings": 64}
CASES: dict[str, dict[str, Any]] = {
    "llama": CONFIG,
    "llama with heads of another size": CONFIG | {"head_dim": 32},
    "llama, linear": CONFIG | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama, llama3": CONFIG | {"rope_scaling": LLAMA3 | TRAINED},
    "llama, yarn": CONFIG | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0} | TRAINED},
    "llama, yarn with a factor": CONFIG
    | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3} | TRAINED},
    "mistral": CONFIG | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "qwen2": CONFIG | QWEN2 | {"tie_word_embeddings": True},
    "bitnet": BITNET_CONFIG,
}
TOKENS = [(37 * i + i * i) % CONFIG["vocab_size"] for i in range(100)]


def load(path: Path, **arguments: Any) -> Any:
    """A model of llama.cpp that keeps keys and values in float32."""
    return llama_cpp.Llama(
        str(path), n_ctx=128, logits_all=True, verbose=False, n_threads=2, type_k=0, type_v=0, **arguments
    )


def logits_of(model: Any) -> Any:
    model.eval(TOKENS)
    return np.array(model.scores[: len(TOKENS)])


def reference(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("case", CASES)
def test_float32_is_transformers(case: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Sums of at most 512 products in float32, in another order, through two layers: far below 1e-4."""
    config = CASES[case]
    content = tensors(rng, config)
    if config["model_type"] == "qwen2":
        for layer in range(LAYERS):
            for name, size in (("q", 256), ("k", 128), ("v", 128)):
                content[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = rng.standard_normal(size, np.float32)
    folder = save_model(tmp_path / "model", content, config=config)
    save_bpe(folder)
    assert export_gguf(folder, tmp_path / "model.gguf", "f32").complete
    model, wanted = load(tmp_path / "model.gguf"), reference(folder)
    with torch.no_grad():
        assert relative_error(logits_of(model), wanted(torch.tensor([TOKENS])).logits[0].numpy()) < 1e-4
    model.reset()
    prompt = TOKENS[:8]
    made = wanted.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=16, eos_token_id=None)[0, 8:]
    greedy = [token for token, _ in zip(model.generate(prompt, temp=0.0), range(16), strict=False)]
    assert greedy == made.tolist()


def test_biases(tmp_path: Path, rng: np.random.Generator) -> None:
    """Those of q and k change places with the rows of the weights."""
    config = CONFIG | {"attention_bias": True, "mlp_bias": True}
    content = tensors(rng, config)
    for name in [name for name in content if "proj" in name]:
        content[name.replace("weight", "bias")] = rng.standard_normal(len(content[name]), np.float32)
    folder = save_model(tmp_path / "model", content, config=config)
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    with torch.no_grad():
        wanted = reference(folder)(torch.tensor([TOKENS])).logits[0].numpy()
    assert relative_error(logits_of(load(tmp_path / "model.gguf")), wanted) < 1e-4
