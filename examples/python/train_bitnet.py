# SPDX-License-Identifier: MIT
"""Trains a small BitNet b1.58 language model from scratch beside the same model in fp32, packs it, lets it write, and
exports it for llama.cpp.

    python examples/python/train_bitnet.py [--steps 600] [--folder bitnet] [--plot docs/images/bitnet.png]
                                           [--json benchmarks/results/bitnet.json]

The model is transformers' BitNet with its linear layers replaced by `BitLinear`; the text is that of
language_model.py, in tokens of a byte-level tokenizer made from it. Both models start from the same weights and see the
same batches. Needs PyTorch, transformers, tokenizers, gguf and matplotlib; where llama-cpp-python is installed,
llama.cpp runs the file.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from language_model import text
from train_lm import smooth
from transformers import BitNetConfig as ModelConfig
from transformers import BitNetForCausalLM, PreTrainedTokenizerFast

from libbnb.integrations import bitnet
from libbnb.nn import BitLinear, BitNetConfig, pack_model, replace_with_bitlinear
from libbnb.optim import AdamW8bit

WORDS, WIDTH, INNER, LAYERS, HEADS, CONTEXT, BATCH = 384, 256, 768, 3, 4, 64, 16
RATE, WARM_UP, WRITTEN = 2e-3, 40, 60
PROMPT = "Return the "


def make_tokenizer(corpus: str) -> PreTrainedTokenizerFast:
    """Byte pairs: the 256 bytes, some frequent runs of them, and a token for the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([corpus], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def make_models(end: int) -> dict[str, Any]:
    """The same model twice: in fp32, and with ternary weights and int8 activations."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=4 * CONTEXT,
        hidden_act="silu",  # that of the paper, which llama.cpp computes; Microsoft's models have relu2
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    dense = BitNetForCausalLM(config)
    ternary = copy.deepcopy(dense)
    # BitNet's blocks normalise what their linear layers get: the layers need not.
    replace_with_bitlinear(ternary, BitNetConfig(rms_norm=False))
    return {"fp32": dense, "BitNet b1.58": ternary}


def loss_on(model: Any, data: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The mean loss on a batch from random places of the text, nats per token."""
    starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,), generator=generator)
    rows = torch.stack([data[start : start + CONTEXT + 1] for start in starts.tolist()])
    logits = model(rows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def train(name: str, model: Any, training: torch.Tensor, held_out: torch.Tensor, steps: int) -> dict[str, Any]:
    """Losses of a run, and the mean loss on held-out text after it."""
    optimizer = AdamW8bit(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP, 1.1 - step / steps)
    )
    generator = torch.Generator().manual_seed(1)
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(steps):
        loss = loss_on(model, training, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 100 == 99:
            print(f"{name:14} step {step + 1}: loss {smooth(losses)[-1]:.3f}", flush=True)
    seconds = time.perf_counter() - start
    model.eval()
    generator.manual_seed(2)
    with torch.no_grad():
        final = sum(float(loss_on(model, held_out, generator)) for _ in range(10)) / 10
    return {"losses": losses, "held_out_loss": final, "seconds": seconds}


@torch.no_grad()
def write(model: Any, prompt: torch.Tensor, count: int) -> list[int]:
    """The likeliest next tokens."""
    tokens = prompt[None]
    for _ in range(count):
        tokens = torch.cat((tokens, model(tokens[:, -CONTEXT:]).logits[:, -1:].argmax(-1)), 1)
    return tokens[0, len(prompt) :].tolist()


def layer_bytes(model: Any) -> int:
    """Bytes of the weights of the linear layers, scales included."""
    layers = [module for name, module in model.named_modules() if type(module) in (BitLinear, torch.nn.Linear)]
    parts = [(layer.weight, getattr(layer, "weight_scale", None)) for layer in layers if layer.out_features != WORDS]
    return sum(tensor.numel() * tensor.itemsize for part in parts for tensor in part if tensor is not None)


def export(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> dict[str, Any]:
    """Saves the packed model as transformers and llama.cpp read it, and reads the file for llama.cpp back."""
    import gguf

    import libbnb
    from libbnb.integrations.gguf import export_gguf

    bitnet.save_pretrained(model, folder)
    tokenizer.save_pretrained(folder)
    path = folder / "model-tq2_0.gguf"
    export_gguf(folder, path, "tq2_0", force=True)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    ternary = [tensor for tensor in tensors.values() if tensor.tensor_type == gguf.GGMLQuantizationType.TQ2_0]
    up = model.model.layers[0].mlp.up_proj
    ours, _ = libbnb.quantize_ternary(up.dequantized_weight(), quant_type="tq2_0", scale_rule="absmax")
    same = bytes(tensors["blk.0.ffn_up.weight"].data.reshape(-1)) == bytes(ours.numpy().reshape(-1))
    return {"file_bytes": path.stat().st_size, "ternary_tensors": len(ternary), "same_bits": same, "path": str(path)}


def run_in_llama_cpp(path: str, prompt: str, count: int) -> str | None:
    """What llama.cpp writes, where it is installed."""
    if importlib.util.find_spec("llama_cpp") is None:
        return None
    from llama_cpp import Llama

    llama = Llama(path, n_ctx=4 * CONTEXT, n_threads=2, verbose=False)
    return llama(prompt, max_tokens=count, temperature=0.0)["choices"][0]["text"]


def plot(runs: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, run in runs.items():
        axes.plot(smooth(run["losses"], 20), label=f"{name} (held out: {run['held_out_loss']:.3f})")
    axes.set(xlabel="step", ylabel="loss, nats per token", title="A small language model, trained from scratch")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument(
        "--folder", type=Path, help="for the checkpoint and the GGUF file; a temporary one if not given"
    )
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    corpus = text()
    tokenizer = make_tokenizer(corpus)
    data = torch.tensor(tokenizer(corpus)["input_ids"])
    held_out = len(data) // 10
    print(f"{len(corpus):,} characters, {len(data):,} tokens")
    models = make_models(tokenizer.eos_token_id)
    runs = {
        name: train(name, model, data[:-held_out], data[-held_out:], arguments.steps) for name, model in models.items()
    }
    for name, run in runs.items():
        print(f"{name:14} held out {run['held_out_loss']:.4f} nats, perplexity {math.exp(run['held_out_loss']):.2f}")

    model, prompt = models["BitNet b1.58"], torch.tensor(tokenizer(PROMPT)["input_ids"])
    floats, as_trained = layer_bytes(model), write(model, prompt, WRITTEN)
    pack_model(model)
    packed, as_packed = layer_bytes(model), write(model, prompt, WRITTEN)
    print(f"linear layers: {floats:,} bytes become {packed:,}; {sparsity_of(model):.0%} of the weights are zero")
    print(f"the same tokens as before: {as_packed == as_trained}\n{PROMPT}{tokenizer.decode(as_packed)}")
    with tempfile.TemporaryDirectory() as scratch:
        found = export(model, tokenizer, arguments.folder or Path(scratch))
        print(f"GGUF: {found['ternary_tensors']} ternary tensors, read back bit for bit: {found['same_bits']}")
        written = run_in_llama_cpp(found.pop("path"), PROMPT, WRITTEN)
    if written is not None:
        print(f"llama.cpp writes:\n{PROMPT}{written}")
    if arguments.plot:
        plot(runs, arguments.plot)
    if arguments.json:
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
            "parameters": sum(parameter.numel() for parameter in models["fp32"].parameters()),
            "tokens": len(data),
            "steps": arguments.steps,
            "runs": runs,
            "float_bytes": floats,
            "packed_bytes": packed,
            "sparsity": sparsity_of(model),
            "same_tokens": as_packed == as_trained,
            "text": PROMPT + tokenizer.decode(as_packed),
            "gguf": found | {"llama_cpp_text": written and PROMPT + written},
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if as_packed == as_trained and found["same_bits"] else 1


def sparsity_of(model: Any) -> float:
    """The part of all ternary weights that are zero."""
    layers = [module for module in model.modules() if isinstance(module, BitLinear)]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    return sum(layer.sparsity() * layer.in_features * layer.out_features for layer in layers) / weights


if __name__ == "__main__":
    sys.exit(main())
