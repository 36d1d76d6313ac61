# SPDX-License-Identifier: MIT
"""Arrays of any library as memory that the C library can work on: see `kind_of`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from libbnb._native import NULL
from libbnb._views import View
from libbnb.arrays.base import CPU, Array, ArrayKind, as_matrix, rows_and_cols
from libbnb.arrays.numpy_kind import NumpyKind, has_buffer, offers

__all__ = ["CPU", "NUMPY", "Array", "ArrayKind", "as_matrix", "kind_of", "rows_and_cols", "stream_of"]

NUMPY = NumpyKind()

_kinds: dict[type, ArrayKind] = {np.ndarray: NUMPY}  # by the exact type of an array
_libraries: dict[str, ArrayKind] = {}  # by the name of the library


def kind_of(array: Array, name: str) -> ArrayKind:
    """The library that an array belongs to. Objects that only show their memory belong to NumPy.

    Raises
    ------
    TypeError
        The object is no array.
    """
    kind = _kinds.get(array.__class__)
    if kind is None:
        kind = _kinds[array.__class__] = _classify(array, name)
    return kind


def stream_of(kind: ArrayKind, array: Array, view: View) -> Any:
    """The queue on which a call on `array` belongs; NULL on the CPU."""
    return NULL if view[5] == CPU else kind.stream(array)


def _classify(array: Array, name: str) -> ArrayKind:
    # An array of a library can only arrive if somebody imported that library: we never do.
    torch, jax, mlx, cupy = (sys.modules.get(module) for module in ("torch", "jax", "mlx.core", "cupy"))
    if torch is not None and isinstance(array, torch.Tensor):
        return _library("torch")
    if jax is not None and isinstance(array, jax.Array):
        return _library("jax")
    if mlx is not None and isinstance(array, mlx.array):
        return _library("mlx")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return _library("cupy")
    if offers(array, "__array_interface__"):
        return NUMPY
    if offers(array, "__dlpack__"):
        return _dlpack_kind(array)
    if not isinstance(array, str) and has_buffer(array):
        return NUMPY
    raise TypeError(f"{name} is a {type(array).__name__}, must be an array: of NumPy, PyTorch, JAX, ... or DLPack")


def _library(name: str) -> ArrayKind:
    if name not in _libraries:
        if name == "torch":
            from libbnb.arrays.torch_kind import TorchKind

            _libraries[name] = TorchKind()
        else:
            from libbnb.arrays.dlpack_kind import CupyKind, JaxKind, MlxKind

            _libraries[name] = {"jax": JaxKind, "mlx": MlxKind, "cupy": CupyKind}[name]()
    return _libraries[name]


def _dlpack_kind(array: Array) -> ArrayKind:
    import array_api_compat

    from libbnb.arrays.dlpack_kind import NamespaceKind

    try:
        namespace = array_api_compat.array_namespace(array)
    except TypeError:  # no library stands behind it: results are NumPy's
        return NUMPY
    return NamespaceKind(namespace, array.__class__)
