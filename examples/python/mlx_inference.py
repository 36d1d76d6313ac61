# SPDX-License-Identifier: MIT
"""A Llama in MLX with packed weights, beside its dense self. On Linux: pip install "mlx[cpu]".

    pip install "libbnb[cli]" mlx
    python examples/python/mlx_inference.py

libbnb looks at arrays, so MLX computes what it has put off whenever a product with a packed weight comes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
from llama import PROMPT, FourBit, Llama, load, make_checkpoint, quantized

import libbnb

COUNT = 24


def multiply(x: Any, weight: Any) -> Any:
    """``x @ weight.T``."""
    return libbnb.matmul_4bit(x, weight.packed, weight.state) if isinstance(weight, FourBit) else x @ weight.T


def generate(config: dict[str, Any], weights: dict[str, Any]) -> tuple[list[int], Any]:
    """The likeliest tokens behind the prompt, and the logits of the last."""
    model = Llama(mx, config, weights, multiply)
    cache: list[Any] = []
    written: list[int] = []
    logits, tokens = None, PROMPT
    while len(written) < COUNT:
        logits = model.logits(mx.array(tokens), cache)[-1]
        written.append(int(mx.argmax(logits)))
        tokens = written[-1:]
    return written, logits


def main() -> None:
    mx.set_default_device(mx.cpu)  # where libbnb has kernels
    with tempfile.TemporaryDirectory() as temporary:
        folder = quantized(make_checkpoint(Path(temporary) / "llama"), "nf4")
        config, packed = load(folder, mx.array)
    dense = {k: libbnb.dequantize_4bit(*v) if isinstance(v, FourBit) else v for k, v in packed.items()}
    ours, logits = generate(config, packed)
    theirs, expected = generate(config, dense)
    error = float(mx.sqrt(mx.sum(mx.square(logits - expected)) / mx.sum(mx.square(expected))))
    print(f"NF4  {ours}\ndense{theirs}\nsame tokens: {ours == theirs}; logits differ by {error:.1e}")


if __name__ == "__main__":
    main()
