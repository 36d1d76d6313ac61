# SPDX-License-Identifier: MIT
"""libbnb inside `jax.jit`, `jax.grad`, `jax.vmap` and `jax.lax.scan`: the functions of `libbnb`, for traced arrays.

Importing the module makes `QuantState` a pytree, which can be an argument, a result or a part of either: its arrays are
the leaves, the rest is static. On the CPU XLA hands over its buffers and nothing is copied; on other devices the
operands travel to the host and back, by `jax.pure_callback`.

Gradients are those of activations and biases (reverse mode). Nothing that is quantized has one: it counts as constant,
as in PyTorch. Under `jax.vmap` products with shared weights become one product with more rows; whatever else is
mapped is gone through one by one. docs/frameworks.md says more.
"""

from __future__ import annotations

from libbnb.integrations.jax._functions import (
    dequantize_4bit,
    dequantize_fp8,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
    quantize_4bit,
    quantize_fp8,
)
from libbnb.integrations.jax._products import (
    int8_linear_matmul,
    int8_scaled_mm,
    linear_int8,
    matmul_4bit,
    matmul_fp8,
)
from libbnb.integrations.jax._state import register

register()

__all__ = [
    "dequantize_4bit",
    "dequantize_fp8",
    "int8_linear_matmul",
    "int8_scaled_mm",
    "int8_vectorwise_dequant",
    "int8_vectorwise_quant",
    "linear_int8",
    "matmul_4bit",
    "matmul_fp8",
    "quantize_4bit",
    "quantize_fp8",
]
