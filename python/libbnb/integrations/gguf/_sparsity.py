# SPDX-License-Identifier: MIT
"""How many weights of a ternary tensor are zero, counted from its bytes."""

from __future__ import annotations

from functools import cache
from typing import Any

import gguf
import numpy as np

from libbnb.integrations.gguf._reader import GGUFFile
from libbnb.integrations.gguf._types import TYPES, Type

_TERNARY = {row.ggml.name: row for row in TYPES.values() if row.is_ternary}


def sparsity(file: GGUFFile, name: str) -> float | None:
    """The share of zeros in a ternary tensor; None for tensors of other types, and for empty ones.

    Parameters
    ----------
    file : GGUFFile
        The file.
    name : str
        The tensor.
    """
    tensor = file.tensors[name]
    if tensor.type not in _TERNARY or not tensor.size:
        return None
    row = _TERNARY[tensor.type]
    table = _zeros_of_bytes(row)
    zeros = 0
    for chunk in file.chunks(name, row.type_size):
        blocks = chunk.reshape(-1, row.type_size)
        scales = row.scales(blocks)
        zeros += row.block * int((scales == 0).sum())
        blocks = blocks[scales != 0]
        for at in range(row.type_size):
            zeros += int(table[at][blocks[:, at]].sum(dtype=np.int64))
    return zeros / tensor.size


@cache
def _zeros_of_bytes(row: Type) -> Any:
    """How many zeros each value of each byte of a block means, [bytes of a block, 256]; none for the scale's.

    Found out by dequantizing blocks of scale 1 whose other bytes are all the same: which byte an element depends on is
    seen where only that byte changes.
    """
    blocks = np.zeros((256, row.type_size), np.uint8)
    one: Any = np.frombuffer(np.array(1, "<f2").tobytes(), np.uint8)
    first = (row.scale_at or 0) % row.type_size
    table = np.zeros((row.type_size, 256), np.uint8)
    for at in range(row.type_size):
        blocks[:] = 0
        blocks[:, at] = np.arange(256)
        blocks[:, first : first + 2] = one
        values = gguf.dequantize(blocks, row.ggml)
        depends = (values != values[0]).any(0)
        table[at] = (values[:, depends] == 0).sum(1)
    return table
