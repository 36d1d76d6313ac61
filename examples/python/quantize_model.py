# SPDX-License-Identifier: MIT
"""A whole model, file to file: made here, quantized, looked into, read back. No PyTorch, no model class.

python examples/python/quantize_model.py [FOLDER]     # a model of your own; otherwise a small one is made
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from libbnb.checkpoint import (
    Checkpoint,
    compare_formats,
    dequantize_checkpoint,
    describe_checkpoint,
    make_format,
    quantize_checkpoint,
)


def make_model(folder: Path) -> Path:
    """A language model's checkpoint with random weights: embeddings, four layers, norms, a head."""
    rng = np.random.default_rng(0)
    hidden, vocabulary = 256, 1000
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden)}
    for layer in range(4):
        name = f"model.layers.{layer}"
        shapes |= {f"{name}.self_attn.{part}_proj.weight": (hidden, hidden) for part in "qkvo"}
        shapes |= {
            f"{name}.mlp.up_proj.weight": (4 * hidden, hidden),
            f"{name}.mlp.down_proj.weight": (hidden, 4 * hidden),
        }
        shapes |= {f"{name}.input_layernorm.weight": (hidden,)}
    folder.mkdir()
    tensors = {name: rng.standard_normal(shape, np.float32) * 0.02 for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "llama", "hidden_size": hidden, "vocab_size": vocabulary}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def main(folder: Path, model: Path) -> None:
    # What would each format cost? Nothing is written by this.
    formats = {name: make_format(name) for name in ("nf4", "int8", "fp8")}
    layers = compare_formats(model, formats)
    for name in formats:
        mine = [layer for layer in layers if layer.format == name]
        worst = max(mine, key=lambda layer: layer.relative_error)
        print(f"{name}: {worst.bits_per_weight:.2f} bits, at worst {100 * worst.relative_error:.2f}% off: {worst.name}")

    # Quantize. The result is complete or not there, whatever happens to this process.
    summary = quantize_checkpoint(model, folder / "nf4", make_format("nf4", double_quant=True))
    print(f"\n{summary.bytes_before / 1e6:.2f} MB -> {summary.bytes_after / 1e6:.2f} MB in {summary.seconds:.2f} s")
    for reason, names in summary.kept.items():
        print(f"left alone ({reason}): {', '.join(names)}")

    # Look into it, and use it: a quantized weight is an array like the others.
    entry = next(entry for entry in describe_checkpoint(folder / "nf4") if entry.quantized)
    print(f"\n{entry.name}: {entry.format}, {entry.detail}, {entry.shape}, {entry.bits_per_weight:.2f} bits per weight")
    before, after = Checkpoint(model), Checkpoint(folder / "nf4", dtype="float32")
    x = np.ones((1, entry.shape[1]), np.float32)
    y, expected = x @ after[entry.name].T, x @ before[entry.name].T
    print(f"its product differs by {100 * np.linalg.norm(y - expected) / np.linalg.norm(expected):.1f}%")

    # And back to a plain checkpoint for programs that know no quantization.
    dequantize_checkpoint(folder / "nf4", folder / "plain", dtype="float16")
    print(f"plain again: {Checkpoint(folder / 'plain').nbytes / 1e6:.2f} MB in float16")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), Path(sys.argv[1]) if len(sys.argv) > 1 else make_model(Path(temporary) / "model"))
