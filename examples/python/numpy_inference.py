# SPDX-License-Identifier: MIT
"""A quantized Llama writes tokens on NumPy and libbnb alone, from packed weights, with a cache of keys and values.

    pip install "libbnb[cli]"
    python examples/python/numpy_inference.py [FOLDER] [--format nf4] [--tokens 24] [--json]

FOLDER is a Llama-style checkpoint, quantized by libbnb or by transformers with bitsandbytes, or neither. Without one
the example makes a small one with random weights and quantizes it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from llama import PROMPT, FourBit, Fp8, Int8, Llama, load, make_checkpoint, quantized

import libbnb


def multiply(x: np.ndarray, weight: Any) -> np.ndarray:
    """``x @ weight.T``, read from the packed weight."""
    if isinstance(weight, FourBit):
        return libbnb.matmul_4bit(x, weight.packed, weight.state)
    if isinstance(weight, Fp8):
        return libbnb.matmul_fp8(x, weight.codes, weight.scale)
    if isinstance(weight, Int8):
        return libbnb.linear_int8(x, weight.codes, weight.absmax, threshold=6.0)
    return x @ weight.T


def generate(folder: Path, prompt: list[int], count: int) -> list[int]:
    """The likeliest tokens behind a prompt."""
    config, weights = load(folder)
    model = Llama(np, config, weights, multiply)
    cache: list[Any] = []
    written: list[int] = []
    tokens = prompt
    while len(written) < count:
        written.append(int(model.logits(np.array(tokens), cache)[-1].argmax()))
        tokens = written[-1:]
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a checkpoint [a small one is made]")
    parser.add_argument("--format", default="nf4", help="of the one that is made: nf4, fp4, int8 or fp8")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or quantized(make_checkpoint(Path(temporary) / "llama"), arguments.format)
        written = generate(folder, PROMPT, arguments.tokens)
    frameworks = sorted({"torch", "jax", "mlx", "tensorflow", "transformers"} & sys.modules.keys())
    if arguments.json:
        print(json.dumps({"tokens": written, "frameworks": frameworks}))
    else:
        print(f"behind {PROMPT}:\n{written}\nframeworks imported: {', '.join(frameworks) or 'none'}")


if __name__ == "__main__":
    main()
