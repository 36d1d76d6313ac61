# SPDX-License-Identifier: MIT
"""The dtypes of the safetensors format: their size, and what NumPy (with ml_dtypes) calls them."""

from __future__ import annotations

from functools import cache

import numpy as np

# name in a safetensors header: (bits per element, name of the NumPy or ml_dtypes dtype; "" where neither has one)
_DTYPES = {
    "BOOL": (8, "bool"),
    "F4": (4, ""),
    "F6_E2M3": (6, ""),
    "F6_E3M2": (6, ""),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "I16": (16, "int16"),
    "U16": (16, "uint16"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "I32": (32, "int32"),
    "U32": (32, "uint32"),
    "F32": (32, "float32"),
    "C64": (64, "complex64"),
    "F64": (64, "float64"),
    "I64": (64, "int64"),
    "U64": (64, "uint64"),
}

# What a weight may be before it is quantized and after it is dequantized.
FLOAT_DTYPES = ("F32", "F16", "BF16")

# Written into config.json and into quant states: PyTorch's names.
TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FROM_TORCH_NAMES = {torch_name: name for name, torch_name in TORCH_NAMES.items()}


def is_known(dtype: str) -> bool:
    """Whether the format has this dtype."""
    return dtype in _DTYPES


def bits(dtype: str) -> int:
    """Bits of one element."""
    return _DTYPES[dtype][0]


def sort_key(dtype: str) -> int:
    """Where the safetensors package puts tensors of this dtype in a file: the largest number comes first."""
    return list(_DTYPES).index(dtype)


@cache
def numpy_dtype(dtype: str) -> np.dtype:
    """The NumPy dtype of a safetensors dtype.

    Raises
    ------
    TypeError
        NumPy and ml_dtypes have no such dtype (sub-byte floats).
    """
    name = _DTYPES[dtype][1]
    if not name:
        raise TypeError(f"NumPy has no dtype for {dtype}")
    if hasattr(np, name):
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))
