# SPDX-License-Identifier: MIT
"""A Llama in JAX with NF4 weights inside `jax.jit`, beside its dense self; then adapters learn through them.

pip install "libbnb[cli,jax]"
python examples/python/jax_inference.py
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from llama import PROMPT, FourBit, Llama, load, make_checkpoint, quantized

from libbnb.integrations.jax import dequantize_4bit, matmul_4bit

CONTEXT, RANK, STEPS, RATE = 32, 4, 20, 0.02


class Adapted(NamedTuple):
    """A weight with a low-rank addition: ``base + up @ down``."""

    base: Any
    down: Any
    up: Any


def multiply(x: Any, weight: Any) -> Any:
    """``x @ weight.T``; a FourBit is a pytree of arrays, so it may be an argument of a jitted function."""
    if isinstance(weight, Adapted):
        return multiply(x, weight.base) + x @ weight.down.T @ weight.up.T
    return matmul_4bit(x, *weight) if isinstance(weight, FourBit) else x @ weight.T


def make_generate(config: dict[str, Any]) -> Any:
    """A jitted function that writes the likeliest tokens behind a prompt, all in one program."""

    @partial(jax.jit, static_argnames="known")
    def generate(weights: Any, tokens: Any, known: int) -> Any:
        def step(position: Any, tokens: Any) -> Any:
            logits = Llama(jnp, config, weights, multiply).logits(tokens)
            return tokens.at[position].set(logits[position - 1].argmax())

        return jax.lax.fori_loop(known, CONTEXT, step, tokens)

    return generate


def train_adapters(config: dict[str, Any], weights: Any, tokens: Any) -> tuple[float, float]:
    """QLoRA (arXiv:2305.14314): low-rank additions to the value projections learn a text; the first and last loss."""
    names = [name for name in weights if name.endswith("v_proj.weight")]
    generator = np.random.default_rng(1)
    adapters = {}
    for name in names:
        n, k = weights[name].state.shape
        down = jnp.asarray(generator.standard_normal((RANK, k), np.float32) / np.sqrt(k))
        adapters[name] = (down, jnp.zeros((n, RANK)))

    @jax.jit
    def loss_and_gradients(adapters: Any, weights: Any) -> Any:
        def loss(adapters: Any) -> Any:
            adapted = weights | {name: Adapted(weights[name], *adapters[name]) for name in adapters}
            logits = Llama(jnp, config, adapted, multiply).logits(tokens[:-1])
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(tokens) - 1), tokens[1:]])

        return jax.value_and_grad(loss)(adapters)

    losses = []
    for _ in range(STEPS):
        loss, gradients = loss_and_gradients(adapters, weights)
        adapters = jax.tree.map(lambda value, gradient: value - RATE * jnp.sign(gradient), adapters, gradients)
        losses.append(float(loss))
    return losses[0], losses[-1]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_checkpoint(Path(temporary) / "llama")
        config, original = load(folder, jnp.asarray)
        _, packed = load(quantized(folder, "nf4"), jnp.asarray)
    dense = {k: dequantize_4bit(*v) if isinstance(v, FourBit) else v for k, v in packed.items()}
    sizes = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(one)) / 1e6
             for name, one in {"float32": original, "NF4": packed}.items()}  # fmt: skip
    print(f"weights: {sizes['float32']:.2f} MB in float32, {sizes['NF4']:.2f} MB with NF4")

    generate = make_generate(config)
    tokens = jnp.zeros(CONTEXT, int).at[: len(PROMPT)].set(jnp.array(PROMPT))
    written = {name: generate(weights, tokens, len(PROMPT)) for name, weights in
               {"NF4": packed, "dense, the same values": dense, "dense, original": original}.items()}  # fmt: skip
    for name, found in written.items():
        print(f"{name:24}{found[len(PROMPT) :].tolist()}")
    same = bool((written["NF4"] == written["dense, the same values"]).all())

    logits = jax.jit(lambda weights: Llama(jnp, config, weights, multiply).logits(written["NF4"]))
    ours, theirs = logits(packed), logits(dense)
    error = float(jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs))
    changed = float(jnp.linalg.norm(ours - logits(original)) / jnp.linalg.norm(theirs))
    print(f"same tokens: {same}; logits differ by {error:.1e}; NF4 itself changed them by {changed:.2f}")

    before, after = train_adapters(config, packed, written["dense, original"])
    print(f"adapters on 4-bit weights: loss {before:.3f} -> {after:.3f}")


if __name__ == "__main__":
    main()
