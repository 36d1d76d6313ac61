# SPDX-License-Identifier: MIT
"""The array libraries that tests run on: how to make one of their arrays from NumPy's, and how to look at it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

Array = Any
BF16 = np.dtype(ml_dtypes.bfloat16)


class Exporter:
    """A home-made array: nothing but DLPack, as an object of a library that libbnb has never heard of."""

    def __init__(self, array: np.ndarray[Any, Any], versioned: bool = True) -> None:
        self.array = array
        self.versioned = versioned

    def __dlpack__(self, **keywords: Any) -> Any:
        if not self.versioned and "max_version" in keywords:
            raise TypeError("unexpected keyword argument 'max_version'")
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Kind:
    """One array library."""

    name: str
    dtypes: tuple[Any, ...] = (np.dtype(np.float32), np.dtype(np.float16), BF16)

    def make(self, array: np.ndarray[Any, Any]) -> Array:
        return array

    def host(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def is_mine(self, array: Array) -> bool:
        return isinstance(array, np.ndarray)


class NumpyKind(Kind):
    name = "numpy"


class ExporterKind(Kind):
    name = "dlpack"
    dtypes = (np.dtype(np.float32), np.dtype(np.float16))  # NumPy exports no bfloat16

    def make(self, array: np.ndarray[Any, Any]) -> Array:
        return Exporter(np.array(array))  # a copy: NumPy exports no read-only array either


class TorchKind(Kind):
    name = "torch"

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")

    def make(self, array: np.ndarray[Any, Any]) -> Array:
        if array.dtype == BF16:
            return self.torch.from_numpy(np.array(array).view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(np.array(array))

    def host(self, array: Array) -> np.ndarray[Any, Any]:
        if array.dtype == self.torch.bfloat16:
            return array.view(self.torch.int16).numpy().view(BF16)
        if array.dtype in (self.torch.float8_e4m3fn, self.torch.float8_e5m2, self.torch.float8_e8m0fnu):
            return array.view(self.torch.uint8).numpy().view(getattr(ml_dtypes, str(array.dtype)[6:]))
        return array.numpy()

    def is_mine(self, array: Array) -> bool:
        return isinstance(array, self.torch.Tensor)


class JaxKind(Kind):
    name = "jax"

    def __init__(self) -> None:
        self.jax = pytest.importorskip("jax")

    def make(self, array: np.ndarray[Any, Any]) -> Array:
        return self.jax.numpy.asarray(array)

    def is_mine(self, array: Array) -> bool:
        return isinstance(array, self.jax.Array)


class MlxKind(Kind):
    name = "mlx"

    def __init__(self) -> None:
        self.mlx = pytest.importorskip("mlx.core", reason="MLX does not import here", exc_type=ImportError)

    def make(self, array: np.ndarray[Any, Any]) -> Array:
        if array.dtype == BF16:
            return self.mlx.array(array.view(np.uint16)).view(self.mlx.bfloat16)
        return self.mlx.array(array)

    def host(self, array: Array) -> np.ndarray[Any, Any]:
        if array.dtype == self.mlx.bfloat16:
            return np.array(memoryview(array.view(self.mlx.uint16))).view(BF16)
        return np.array(memoryview(array))

    def is_mine(self, array: Array) -> bool:
        return isinstance(array, self.mlx.array)


class StrictKind(Kind):
    name = "array_api_strict"
    dtypes = (np.dtype(np.float32),)  # the standard has no 16-bit floats

    def __init__(self) -> None:
        self.namespace = pytest.importorskip("array_api_strict")

    def make(self, array: np.ndarray[Any, Any]) -> Array:
        return self.namespace.asarray(np.array(array))

    def host(self, array: Array) -> np.ndarray[Any, Any]:
        return np.from_dlpack(array)

    def is_mine(self, array: Array) -> bool:
        return type(array).__module__.startswith("array_api_strict")


KINDS: tuple[type[Kind], ...] = (NumpyKind, TorchKind, JaxKind, MlxKind, StrictKind, ExporterKind)
