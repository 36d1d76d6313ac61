# SPDX-License-Identifier: MIT
"""Dtype names, the numbers that DLPack gives them, and the words that describe them to the C library."""

from __future__ import annotations

from typing import Any

import numpy as np

from libbnb._errors import InvalidArgument
from libbnb._views import dtype_word

_INT, _UINT, _FLOAT, _BFLOAT, _COMPLEX, _BOOL = 0, 1, 2, 4, 5, 6

# name -> (DLPack type code, bits)
DTYPES: dict[str, tuple[int, int]] = {
    "float32": (_FLOAT, 32),
    "float16": (_FLOAT, 16),
    "bfloat16": (_BFLOAT, 16),
    "float64": (_FLOAT, 64),
    "uint8": (_UINT, 8),
    "int8": (_INT, 8),
    "int16": (_INT, 16),
    "int32": (_INT, 32),
    "int64": (_INT, 64),
    "uint16": (_UINT, 16),
    "uint32": (_UINT, 32),
    "uint64": (_UINT, 64),
    "bool": (_BOOL, 8),
    "complex64": (_COMPLEX, 64),
    "complex128": (_COMPLEX, 128),
    "float8_e3m4": (7, 8),
    "float8_e4m3": (8, 8),
    "float8_e4m3b11fnuz": (9, 8),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
    "float8_e5m2fnuz": (13, 8),
    "float8_e8m0fnu": (14, 8),
}

NAMES: dict[tuple[int, int], str] = {number: name for name, number in DTYPES.items()}

# name -> the word of a View with one dimension (two dimensions: see matrix_word)
WORDS: dict[str, int] = {name: dtype_word(1, code, bits) for name, (code, bits) in DTYPES.items()}
WORDS["float4_e2m1fn_x2"] = dtype_word(
    1, 17, 4, 2
)  # two to an item of one byte: PyTorch's, which NumPy has nothing like

_ONE_TO_TWO = dtype_word(2, 0, 0) - dtype_word(1, 0, 0)


def matrix_word(word: int) -> int:
    """The word of the same dtype with two dimensions."""
    return word + _ONE_TO_TWO


def itemsize(name: str) -> int:
    """Bytes of one element."""
    return DTYPES[name][1] // 8


def name_of(spec: Any, argument: str) -> str:
    """The name of a dtype that a caller wrote as a name or as an object of any array library.

    Raises
    ------
    InvalidArgument
        It is none that DLPack has a number for.
    """
    name: str = str(spec).rsplit(".", 1)[-1]  # "torch.bfloat16", "mlx.core.bfloat16", "bfloat16"
    if name not in DTYPES:
        try:
            numpy_dtype: Any = np.dtype(spec)
            name = numpy_dtype.name
        except TypeError:
            pass
    if name not in DTYPES:
        raise InvalidArgument(f"{argument} is {spec!r}, which is no dtype that operations know")
    return name
