# SPDX-License-Identifier: MIT
"""Arrays of any library as memory that the C library can work on: see `kind_of`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from libbnb._native import NULL, View
from libbnb.arrays.base import CPU, Array, ArrayKind, as_matrix, rows_and_cols
from libbnb.arrays.numpy_kind import NumpyKind, has_numpy_dtype, looks_like_numpy

__all__ = ["CPU", "Array", "ArrayKind", "NUMPY", "as_matrix", "has_numpy_dtype", "kind_of", "rows_and_cols", "stream_of"]

NUMPY = NumpyKind()

_kinds: dict[type, ArrayKind] = {np.ndarray: NUMPY}


def kind_of(array: Array, name: str) -> ArrayKind:
    """The library that an array belongs to.

    Raises
    ------
    TypeError
        The object is no array.
    """
    kind = _kinds.get(type(array))
    return kind if kind is not None else _classify(array, name)


def stream_of(kind: ArrayKind, array: Array, view: View) -> Any:
    """The queue on which a call on `array` belongs; NULL on the CPU."""
    return NULL if view[5] == CPU else kind.stream(array)


def _classify(array: Array, name: str) -> ArrayKind:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return _remember(array, _torch_kind())
    if looks_like_numpy(array):
        return NUMPY
    raise TypeError(f"{name} is a {type(array).__name__}, must be an array (of NumPy, PyTorch, JAX, CuPy, MLX or DLPack)")


def _remember(array: Array, kind: ArrayKind) -> ArrayKind:
    _kinds[type(array)] = kind
    return kind


_torch: list[ArrayKind] = []


def _torch_kind() -> ArrayKind:
    if not _torch:
        from libbnb.arrays.torch_kind import TorchKind

        _torch.append(TorchKind())
    return _torch[0]
