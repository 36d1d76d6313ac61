# SPDX-License-Identifier: MIT
"""What products must give: float64 products of the dequantized weights, and how far the header lets results be off."""

from __future__ import annotations

from typing import Any

import numpy as np

import oracle
from kinds import BF16

Array = np.ndarray[Any, Any]

# dtype of activations and results -> (unit roundoff of the result, error of the weights as the header has it)
ROUNDING = {
    np.dtype(np.float32): (2.0**-24, 0.0),
    np.dtype(np.float16): (2.0**-11, 2.0**-15),
    BF16: (2.0**-8, 2.0**-8),
}


def weights_4bit(packed: Array, absmax: Array, blocksize: int, quant_type: str, shape: tuple[int, int]) -> Array:
    """Dequantized weights: the fp32 values."""
    flat = oracle.dequantize_4bit(packed.ravel(), absmax, blocksize, quant_type, shape[0] * shape[1], np.float32)
    return flat.reshape(shape)


def assert_product(
    out: Array,
    a: Array,
    weights: Array,
    bias: Array | None = None,
    largest: float = 1.0,
    weights_are_exact: bool = False,
) -> None:
    """That `out` is a @ weights^T + bias within the bound of bnb.h.

    `largest` is the largest magnitude that a weight may have: that of the scales times that of the codes.
    """
    a64 = a.astype(np.float64).reshape(-1, a.shape[-1])
    w64 = weights.astype(np.float64)
    b64 = np.zeros(len(w64)) if bias is None else bias.astype(np.float64)
    k = w64.shape[1]
    want = a64 @ w64.T + b64
    got = out.astype(np.float64).reshape(want.shape)
    unit, weight_error = ROUNDING[out.dtype]
    if weights_are_exact:
        weight_error = 0.0
    total = np.abs(a64) @ np.abs(w64).T + np.abs(b64)
    bound = unit * np.abs(got) + (weight_error + (k + 8) * 2.0**-24) * total
    bound += 2.0**-125 * (1 + np.abs(a64)).sum(1, keepdims=True) * (1 + largest)
    if out.dtype == np.float16:
        bound += 2.0**-25
    off = np.abs(got - want) - bound
    assert (off <= 0).all(), f"off by {off.max()} more than the bound at {np.unravel_index(off.argmax(), off.shape)}"


def rms(got: Array, want: Array) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean((got.astype(np.float64) - want) ** 2)))
