# SPDX-License-Identifier: MIT
"""Layers, optimizers and models of bitsandbytes and transformers on the CPU, for comparing runs with and without the
plug-in.

    LIBBNB_PLUGIN=0 python plugin_models.py MODEL_FOLDER FILE

writes what they compute in a process of its own; MODEL_FOLDER has what `save_llama` made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

OPTIMIZERS = (
    *("Adam", "AdamW", "AdamW8bit", "AdEMAMix8bit", "Lion", "Lion8bit", "SGD", "SGD8bit", "LAMB", "LARS"),
    *("RMSprop", "RMSprop8bit", "Adagrad", "Adagrad8bit"),
)
NO_BETAS = {"SGD": {"momentum": 0.9}, "SGD8bit": {"momentum": 0.9}, "LARS": {"momentum": 0.9}}
TOKENS = 24
VOCABULARY = 320


def inputs() -> Any:
    return torch.randint(0, VOCABULARY, (2, TOKENS), generator=torch.Generator().manual_seed(5))


def save_llama(folder: Path) -> None:
    """A small model with random weights, all of them in whole blocks of 64."""
    import transformers

    torch.manual_seed(7)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(**sizes, vocab_size=VOCABULARY, num_key_value_heads=2, initializer_range=0.2)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def load_llama(folder: Path, nested: bool = True) -> Any:
    import transformers

    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=nested,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, dtype=torch.bfloat16, device_map="cpu"
    )


def dense_llama(folder: Path, quantized: Any) -> Any:
    """The model with the weights that the quantized one stands for, in fp32."""
    import bitsandbytes
    import transformers

    dense = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    layers = dict(quantized.named_modules())
    for name, module in dense.named_modules():
        if isinstance(layers.get(name), bitsandbytes.nn.Linear4bit):
            weight = layers[name].weight
            module.weight.data = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state).float()
    return dense


def llama(folder: Path) -> Iterator[tuple[str, Any]]:
    for nested in (False, True):
        model = load_llama(folder, nested).eval()
        tokens = inputs()
        with torch.no_grad():
            dense = dense_llama(folder, model)
            yield f"logits-{nested}", (model(tokens).logits.float(), dense(tokens).logits)
            generated = model.generate(tokens[:1, :8], max_new_tokens=8, do_sample=False, pad_token_id=0)
            best = dense(generated).logits[0, 7:-1].topk(2).values
            yield f"generated-{nested}", (generated[0, 8:], best[:, 0] - best[:, 1])


def qlora(folder: Path) -> Iterator[tuple[str, Any]]:
    """Two steps of fine-tuning with 8-bit AdamW: losses and the adapters' weights."""
    import bitsandbytes
    import peft

    model = peft.prepare_model_for_kbit_training(load_llama(folder), use_gradient_checkpointing=False)
    torch.manual_seed(11)
    model = peft.get_peft_model(
        model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=True)
    )
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = bitsandbytes.optim.AdamW8bit(list(adapters.values()), lr=1e-2, min_8bit_size=256)
    tokens = inputs()
    losses, gradients = [], {}
    for step in range(2):
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in adapters.items()}
        optimizer.step()
        optimizer.zero_grad()
    yield "qlora", (losses, gradients, {name: p.detach().clone() for name, p in adapters.items()})


def layers() -> Iterator[tuple[str, Any]]:
    import bitsandbytes.nn as nn

    for training in (False, True):
        for quantized_first in ("Linear4bit", "Linear8bitLt"):
            torch.manual_seed(3)
            options: Any = {"quant_type": "nf4"} if quantized_first == "Linear4bit" else {"has_fp16_weights": False}
            layer = getattr(nn, quantized_first)(64, 96, **options).to("cpu").train(training)
            x = torch.randn(5, 64)
            yield f"{quantized_first}-{'train' if training else 'eval'}", layer(x).detach()


def optimizers() -> Iterator[tuple[str, Any]]:
    import bitsandbytes.optim as optim

    for name in OPTIMIZERS:
        torch.manual_seed(13)
        p = torch.nn.Parameter(torch.randn(64, 96))
        optimizer = getattr(optim, name)([p], lr=1e-2, weight_decay=0.1, **NO_BETAS.get(name, {}))
        for _ in range(3):
            p.grad = torch.randn(64, 96)
            optimizer.step()
        yield f"optim-{name}", p.detach().clone()


def results(folder: Path, with_peft: bool) -> dict[str, Any]:
    """Everything that is compared, by name."""
    found: dict[str, Any] = {}
    for part in (llama(folder), qlora(folder) if with_peft else (), layers(), optimizers()):
        found.update(part)
    return found


if __name__ == "__main__":
    torch.save(results(Path(sys.argv[1]), sys.argv[3] == "True"), sys.argv[2])
