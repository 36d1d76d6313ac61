# SPDX-License-Identifier: MIT
"""IQ4_NL, for which the gguf package has no quantizer: blocks of 32 codes into 16 values, with a searched scale.

The rule is that of ggml's `quantize_iq4_nl` without an importance matrix. The scale minimises sum w (x - d v)^2 with
w = x^2 and v the value nearest to x/d: from each of sixteen starting points d = sum w v x / sum w v^2.
Everything is float32, and sums run over the elements in their order, each product rounded: that decides the last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK = 32
TYPE_SIZE = 18  # bytes: a float16 scale, then 16 bytes of two codes

# The values of the codes. No zero: the smallest magnitude is 1, at code 8.
VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

_TRIES = 7  # starting points on each side of the first
_NO_SCALE = np.float32(1e-15)  # blocks whose largest magnitude is below get the scale 0
_PART = 2048  # blocks that are worked on at a time, so that what belongs to them stays in a core's cache

# The nearest value changes in the middle of two, which belongs to the upper one. All middles are multiples of a half:
# the code of a number follows from twice the number, rounded down.
_END = 2 * 128
_HALVES = np.arange(-_END, _END) / 2
_MIDDLES = np.add(VALUES[1:], VALUES[:-1]) / 2
_CODES = np.searchsorted(_MIDDLES, _HALVES, side="right").astype(np.uint8)
_NEAREST = np.array(VALUES, np.float32)[_CODES]


def quantize(rows: Any) -> Any:
    """Quantize rows to IQ4_NL.

    Parameters
    ----------
    rows : ndarray
        float32, finite, shape [n, k] with k a multiple of 32.

    Returns
    -------
    ndarray
        uint8, shape [n, k / 32 * 18].
    """
    blocks = rows.reshape(-1, BLOCK)
    packed: Any = np.empty((len(blocks), TYPE_SIZE), np.uint8)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        for begin in range(0, len(blocks), _PART):
            # A block is a column: sums over its elements, one after the other, are sums of rows.
            _quantize_part(np.ascontiguousarray(blocks[begin : begin + _PART].T), packed[begin : begin + _PART])
    return packed.reshape(len(rows), -1)


def _quantize_part(columns: Any, packed: Any) -> None:
    scales = _scales(columns)
    codes: Any = _CODES[_halves(columns, np.where(scales == 0, np.float32(0), np.float32(1) / scales))]
    packed[:, :2] = scales.astype("<f2").view(np.uint8).reshape(-1, 2)
    packed[:, 2:] = (codes[: BLOCK // 2] | codes[BLOCK // 2 :] << 4).T


def _scales(columns: Any) -> Any:
    """The best scale of each block."""
    largest = columns[np.abs(columns).argmax(0), np.arange(columns.shape[1])]
    is_used = np.abs(largest) >= _NO_SCALE
    largest = np.where(is_used, largest, np.float32(np.inf))  # with reciprocal 0, and no NaN on the way
    weights = columns * columns
    sum_vx, sum_vv = _sums(columns, weights, np.float32(1) / (-largest / np.float32(VALUES[0])))
    scales = _or_zero(sum_vv > 0, sum_vx / sum_vv)
    best = scales * sum_vx
    for step in range(-_TRIES, _TRIES + 1):
        sum_vx, sum_vv = _sums(columns, weights, np.float32(step + VALUES[0]) / largest)
        better = (sum_vv > 0) & (sum_vx * sum_vx > best * sum_vv)
        np.divide(sum_vx, sum_vv, out=scales, where=better)
        np.multiply(scales, sum_vx, out=best, where=better)
    return _or_zero(is_used, scales)


def _or_zero(condition: Any, values: Any) -> Any:
    return np.where(condition, values, np.float32(0))


def _halves(columns: Any, reciprocals: Any) -> Any:
    """Where to look up x/d."""
    twice = np.floor(columns * reciprocals * np.float32(2))
    return np.clip(twice, -_END, _END - 1).astype(np.int16) + np.int16(_END)


def _sums(columns: Any, weights: Any, reciprocals: Any) -> tuple[Any, Any]:
    """Sum w v x and sum w v^2 of each block."""
    values: Any = _NEAREST[_halves(columns, reciprocals)]
    weighted = weights * values
    return _in_order(weighted * columns), _in_order(weighted * values)


def _in_order(products: Any) -> Any:
    """The sum of each column, element after element."""
    total = products[0].copy()
    for row in products[1:]:
        total += row
    return total
