# SPDX-License-Identifier: MIT
"""What has to change in bitsandbytes beside its operators, so that weights stay what `quantize_4bit` made of them.

Where the CPU has AVX-512 BF16, bitsandbytes 0.49 and newer rewrites the weights of a Linear4bit at its first evaluation
into a layout of its own, with scales rounded to bfloat16. Our products read the weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from libbnb import functional

Undo = Callable[[], None]


def replace(package: Any) -> Iterator[tuple[str, Undo]]:
    """Replaces functions of bitsandbytes; yields the name of each and what puts the old one back."""
    modules = package.nn.modules
    for name, function in (("has_avx512bf16", _has_not), ("_convert_weight_packed_for_cpu", _as_it_is)):
        if hasattr(modules, name):  # not before 0.49
            yield _set(modules, name, function)
    if not hasattr(torch.ops.bitsandbytes, "gemm_4bit"):  # before 0.50
        stock = package.matmul_4bit
        for module in (package, package.autograd._functions):
            yield _set(module, "matmul_4bit", _matmul_4bit(stock))


def _set(module: Any, name: str, function: Any) -> tuple[str, Undo]:
    old = getattr(module, name)
    setattr(module, name, function)
    return f"{module.__name__}.{name}", lambda: setattr(module, name, old)


def _has_not() -> bool:
    """Tells a new Linear4bit not to rewrite its weights."""
    return False


def _as_it_is(qweight: Any, quant_state: Any, *_: Any) -> tuple[Any, Any]:
    """In the place of the rewriting, for a Linear4bit that was unpickled with the wish for it."""
    return qweight, quant_state


def _matmul_4bit(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Older versions have no operator for products of several rows: they dequantize the weights each time."""

    def matmul_4bit(A: Any, B: Any, quant_state: Any, out: Any = None, bias: Any = None) -> Any:
        if A.device.type != "cpu" or quant_state is None or getattr(quant_state, "packing_format_for_cpu", False):
            return stock(A, B, quant_state, out, bias)
        return functional.matmul_4bit(A, B, quant_state, out, bias)

    matmul_4bit.__doc__ = stock.__doc__
    return matmul_4bit
