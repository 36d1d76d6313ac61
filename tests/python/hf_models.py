# SPDX-License-Identifier: MIT
"""Tiny models of transformers, made on the spot, and Python without bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t

# Rows and columns are multiples of 64, because for a short last block bitsandbytes divides where libbnb multiplies.
_SIZES = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=320)
_ENDS = dict(bos_token_id=1, eos_token_id=2)

# What `from_pretrained` finds where bitsandbytes is not installed, to be run first.
WITHOUT_BITSANDBYTES = "import sys; sys.modules['bitsandbytes'] = None\n"

# name: the settings of a QuantizationConfig
FORMATS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4-nested": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True},
    "nf4-bf16-storage": {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": "bfloat16",
    },
    "int8": {"load_in_8bit": True},
    "int8-floats": {"load_in_8bit": True, "llm_int8_has_fp16_weight": True},
    "fp8": {"load_in_fp8": True},
    "fp8-e5m2": {"load_in_fp8": True, "fp8_quant_type": "fp8_e5m2", "fp8_blocksize": 32},
}  # fmt: skip
OF_BITSANDBYTES = ("nf4", "nf4-nested", "fp4", "nf4-bf16-storage", "int8")
TOKENS = torch.arange(2 * 12).reshape(2, 12) % 311 + 3


def make(name: str) -> Any:
    """A model with random weights, always the same."""
    torch.manual_seed(7)
    llama = dict(_SIZES, num_key_value_heads=2, **_ENDS)
    makers = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama)),
        "llama-tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama, tie_word_embeddings=True)),
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**_SIZES)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=320, **_ENDS)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**llama, num_local_experts=4)),
    }
    return makers[name]().eval()


def logits(model: Any) -> torch.Tensor:
    """What a model says to `TOKENS`, as fp32."""
    with torch.no_grad():
        return model(TOKENS).logits.float()


def alike(ours: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether logits of the same weights agree. PyTorch's dense products may add up in another order where their
    operands lie at other addresses; some CPUs show it.
    """
    return torch.allclose(ours, others, rtol=0, atol=1e-5 * float(others.abs().max()))


def first_layer(model: Any) -> Any:
    """A linear layer in the middle of a model, whatever it is now."""
    names = ("layers.0.self_attn.q_proj", "h.0.attn.c_attn", "layer.0.attention.self.query")
    return next(module for name, module in model.named_modules() if name.endswith(names))
