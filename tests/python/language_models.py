# SPDX-License-Identifier: MIT
"""Small language models of transformers that know something, made on the spot: text, tokenizer, training, outliers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SENTENCES = [
    "the quick brown fox jumps over the lazy dog.\n", "a layer has a weight, and a weight has a scale.\n",
    "one two three four five six seven eight nine ten.\n", "blocks of sixty four values share one absmax.\n",
]  # fmt: skip


def text(characters: int) -> str:
    """A text that a small model can learn: a few sentences in an order that is not quite regular."""
    generator = torch.Generator().manual_seed(7)
    found = ""
    while len(found) < characters:
        found += SENTENCES[int(torch.randint(len(SENTENCES), (), generator=generator))]
    return found[:characters]


def save_tokenizer(folder: Path) -> Any:
    """One token for each character, and a first token for every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "<unk>": 1} | {c: i + 2 for i, c in enumerate(sorted(set("".join(SENTENCES))))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    return tokenizer


def trained_llama(tokenizer: Any, steps: int = 80) -> Any:
    """A Llama of two blocks that has read some of `text`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=0,
        eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    tokens = torch.tensor(tokenizer(text(8000))["input_ids"][1:])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        first = torch.randint(len(tokens) - 64, (8,), generator=generator)
        batch = torch.stack([tokens[i : i + 64] for i in first.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def plant_outliers(model: Any, block: int, factor: float = 64.0, channels: int = 4) -> str:
    """Make one layer hard to quantize, without changing what the model computes; gives its name.

    Some inputs of a block's down projection become as much larger as the rows of the up projection that make them
    become smaller. Rows of that are blocks of their own and do not mind; each block of the down projection gets an
    element that leaves few codes for the others.
    """
    mlp = model.model.layers[block].mlp
    chosen = torch.arange(channels) * (mlp.down_proj.weight.shape[1] // channels) + 3
    mlp.down_proj.weight[:, chosen] *= factor
    mlp.up_proj.weight[chosen] /= factor
    return f"model.layers.{block}.mlp.down_proj"
