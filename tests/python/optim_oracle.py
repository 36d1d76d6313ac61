# SPDX-License-Identifier: MIT
"""One optimizer step in plain NumPy, from the formulas of docs/optimizers.md: in float32 as the library does it,
operation by operation, and in float64 for long runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import oracle

Array = np.ndarray[Any, Any]
TWO_STATES = ("adam", "lamb", "ademamix")
NAMES = ("adam", "lamb", "ademamix", "lion", "momentum", "lars", "rmsprop", "adagrad")
_COUPLED = ("momentum", "lars", "rmsprop", "adagrad")


@dataclass
class Settings:
    """Hyperparameters of a step."""

    lr: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.99
    beta3: float = 0.999
    alpha: float = 5.0
    eps: float = 1e-8
    weight_decay: float = 0.0
    gnorm_scale: float = 1.0
    max_unorm: float = 0.0
    skip_zeros: bool = False


class Arithmetic:
    """float32 with fused multiply-add, or float64."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __call__(self, x: Any) -> Any:
        return np.asarray(x, self.dtype) if isinstance(x, np.ndarray) else self.dtype(x)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        # The product of two float32 is exact in float64.
        return (np.float64(1) * a * b + c).astype(self.dtype)


def step(name: str, s: Settings, t: int, g: Array, p: Array, state: dict[str, Array], dtype: Any = np.float32) -> Array:
    """The new parameter; `state` (first, second, slow: arrays of `dtype`) is changed in place."""
    a = Arithmetic(dtype)
    g = a(g) * a(s.gnorm_scale)
    p = a(p)
    skipped = (g == 0) if s.skip_zeros else np.zeros(g.shape, bool)
    if name in _COUPLED and s.weight_decay:
        g = a.fma(a(s.weight_decay), p, g)
    c1, c2 = 1 - s.beta1**t, math.sqrt(1 - s.beta2**t)
    old = {key: value.copy() for key, value in state.items()}
    d, k = _direction(a, name, s, t, g, state, c1, c2)
    for key, value in state.items():
        value[skipped] = old[key][skipped]
    us = 1.0
    if s.max_unorm > 0:
        norm = k * math.sqrt(float((d[~skipped].astype(np.float64) ** 2).sum()))
        limit = s.max_unorm * math.sqrt(float((p.astype(np.float64) ** 2).sum()))
        us = limit / norm if norm > limit > 0 else 1.0
    kept = 1.0 if name in _COUPLED else 1 - s.lr * s.weight_decay
    return np.where(skipped, p, a.fma(a(-s.lr * us * k), d, p * a(kept)))


def _direction(
    a: Arithmetic, name: str, s: Settings, t: int, g: Array, state: dict[str, Array], c1: float, c2: float
) -> tuple[Array, float]:
    first = state["first"]
    if name in TWO_STATES:
        first[:] = a.fma(a(s.beta1), first, a(1 - s.beta1) * g)
        second = state["second"]
        second[:] = a.fma(a(s.beta2), second, a(1 - s.beta2) * (g * g))
        below = np.sqrt(second) + a(s.eps * c2)
        if name != "ademamix":
            return first / below, c2 / c1
        slow = state["slow"]
        slow[:] = a.fma(a(s.beta3), slow, a(1 - s.beta3) * g)
        return a.fma(a(c2 * s.alpha), slow, a(c2 / c1) * first) / below, 1.0
    if name in ("momentum", "lars"):
        first[:] = g if t == 1 else a.fma(a(s.beta1), first, g)
        return first.copy(), 1.0
    if name == "lion":
        d = np.sign(a.fma(a(s.beta1), first, a(1 - s.beta1) * g))
        first[:] = a.fma(a(s.beta2), first, a(1 - s.beta2) * g)
        return d, 1.0
    first[:] = a.fma(g, g, first) if name == "adagrad" else a.fma(a(s.beta1), first, a(1 - s.beta1) * (g * g))
    return g / (np.sqrt(first) + a(s.eps)), 1.0


def zeros(name: str, n: int, dtype: Any = np.float32) -> dict[str, Array]:
    keys = ["first", *(["second"] if name in TWO_STATES else []), *(["slow"] if name == "ademamix" else [])]
    return {key: np.zeros(n, dtype) for key in keys}


@dataclass
class Quantized:
    """8-bit states: codes and scales by name."""

    codes: dict[str, Array]
    absmax: dict[str, Array]
    maps: dict[str, Array]
    blocksize: int

    def step(self, name: str, s: Settings, t: int, g: Array, p: Array) -> Array:
        state = {
            key: oracle.dequantize_blockwise(
                self.codes[key], self.absmax[key], self.maps[key], self.blocksize, np.float32
            )
            for key in self.codes
        }
        p = step(name, replace(s), t, g, p, state)
        for key, value in state.items():
            self.codes[key], self.absmax[key] = oracle.quantize_blockwise(value, self.maps[key], self.blocksize)
        return p
