# SPDX-License-Identifier: MIT
"""Array libraries that are reached through DLPack: JAX, MLX, and all with an array API namespace, CuPy among them.

Inputs are looked at without a copy. Results are new arrays of the library itself, whose memory DLPack shows, so
nothing is copied there either.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import array_api_compat
import numpy as np

from libbnb._errors import InternalError, InvalidArgument
from libbnb._native import METAL, NULL, ffi, waited_stream
from libbnb._views import View, buffer_view, device_word, dtype_word
from libbnb.arrays import dlpack
from libbnb.arrays.base import Array, ArrayKind, HostArray, rows_and_cols
from libbnb.arrays.dtypes import name_of
from libbnb.arrays.numpy_kind import from_dlpack, numpy_dtype

_device_of: Any = array_api_compat.device  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
_to_device: Any = array_api_compat.to_device  # pyright: ignore[reportUnknownMemberType]


class Held:
    """An input array together with what keeps the memory that was described: a capsule, and the array it came from."""

    __slots__ = ("array", "dtype", "keeps", "shape")

    def __init__(self, array: Array, shape: tuple[int, ...], keeps: Any) -> None:
        self.array = array
        self.shape = shape
        self.dtype = array.dtype
        self.keeps = keeps


def _flat_view(imported: dlpack.Imported) -> View:
    device = device_word(imported.device_type, imported.device_id)
    view = (imported.size, 0, 1, 1, imported.address, device, dtype_word(1, *imported.dtype))
    return view if imported.device_type != METAL else buffer_view(view, imported.byte_offset, imported)


class NamespaceKind(ArrayKind):
    """A library with a namespace as the array API standard describes it."""

    name: ClassVar[str] = "an array API library"

    def __init__(self, namespace: Any, type_: type) -> None:
        self._namespace = namespace
        self._type = type_
        self.uint8 = self.dtype("uint8", "dtype")
        self.int8 = self.dtype("int8", "dtype")
        self.int32 = self.dtype("int32", "dtype")
        self.float32 = self.dtype("float32", "dtype")
        # The array API standard has no float16; a library that has none, either, gets the next larger results.
        self.float16 = self.dtype("float16", "dtype") if self.has_dtype("float16") else self.float32

    def accept(self, array: Array, name: str) -> Array:
        """The array itself, or TypeError."""
        if not isinstance(array, self._type):
            raise TypeError(f"{name} is a {type(array).__name__}, must be a {self._type.__name__} as A is")
        return array

    def read(self, array: Array, name: str) -> tuple[Array, View]:
        array = array.array if isinstance(array, Held) else self.accept(array, name)
        imported = self._show(array)
        shown, shape = array, imported.shape
        if not imported.compact:
            shown = self.flattened(array)
            imported = self._show(shown)
        return Held(array, shape, (shown, imported.capsule)), _flat_view(imported)

    def write(self, array: Array, name: str) -> View:
        imported = self._show(self.accept(array, name))
        if imported.read_only:
            raise InvalidArgument(f"{name} is read-only")
        if not imported.compact:
            raise InvalidArgument(f"{name} is not compact and row-major (strides {imported.strides})")
        return _flat_view(imported)

    def fresh(self, shape: tuple[int, ...], dtype: Any, like: Array) -> tuple[Array, View]:
        array = self.empty(tuple(shape), dtype, like.array if isinstance(like, Held) else like)
        imported = self._show(array)
        if not imported.compact:
            raise InternalError(f"a new array of {self._type.__name__} is not compact")
        return array, _flat_view(imported)

    def dtype(self, spec: Any, name: str) -> Any:
        dtype = getattr(self._namespace, name_of(spec, name), None)
        if dtype is None:
            raise InvalidArgument(f"{name} is {spec!r}, which {self.name} does not have")
        return dtype

    def dtype_name(self, dtype: Any) -> str:
        return name_of(dtype, "dtype")

    def from_numpy(self, array: HostArray, like: Array) -> Array:
        like = like.array if isinstance(like, Held) else like
        return self._namespace.asarray(array.copy(), device=_device_of(like))

    def to_numpy(self, array: Array) -> HostArray:
        array = array.array if isinstance(array, Held) else array
        if int(array.__dlpack_device__()[0]) != dlpack.CPU:
            return np.asarray(_to_device(array, "cpu"))
        return from_dlpack(array, "array")

    def as_rows(self, array: Array) -> Array:
        array = array.array if isinstance(array, Held) else array
        return self._namespace.reshape(array, rows_and_cols(tuple(array.shape), "array"))

    def swapped(self, array: Array) -> Array:
        return self._namespace.matrix_transpose(array)

    def columns(self, array: Array, indices: Array) -> Array:
        array = array.array if isinstance(array, Held) else array
        return self._namespace.take(array, indices.array if isinstance(indices, Held) else indices, axis=1)

    def _show(self, array: Array) -> dlpack.Imported:
        return dlpack.read(array, self.current_stream(array))

    def stream(self, array: Array) -> Any:
        array = array.array if isinstance(array, Held) else array
        device_type, device_id = array.__dlpack_device__()
        if int(device_type) not in (dlpack.CUDA, dlpack.ROCM, METAL):
            return NULL
        number = self.current_stream(array)
        # A library that does not say where it computes cannot wait for us there either.
        return waited_stream(int(device_type), int(device_id)) if number is None else ffi.cast("void *", number)

    # What libraries do differently.

    def current_stream(self, array: Array) -> int | None:
        """The address of the stream on which the library computes with the array now; None if it does not tell."""
        return None

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        """A new array that has its memory."""
        return self._namespace.empty(shape, dtype=dtype, device=_device_of(like))

    def flattened(self, array: Array) -> Array:
        """A compact row-major copy."""
        return self._namespace.reshape(array, (-1,))


class CupyKind(NamespaceKind):
    """CuPy, on the stream that is its current one."""

    name: ClassVar[str] = "CuPy"

    def __init__(self) -> None:
        self._cupy: Any = sys.modules["cupy"]
        super().__init__(array_api_compat.array_namespace(self._cupy.empty(0)), self._cupy.ndarray)

    def current_stream(self, array: Array) -> int | None:
        with array.device:
            return int(self._cupy.cuda.get_current_stream().ptr)


class JaxKind(NamespaceKind):
    """JAX: arrays on one device. They never change, so they cannot be `out`."""

    name: ClassVar[str] = "JAX"

    def __init__(self) -> None:
        jax = sys.modules["jax"]
        self._jax: Any = jax
        super().__init__(jax.numpy, jax.Array)

    def accept(self, array: Array, name: str) -> Array:
        if isinstance(array, self._jax.core.Tracer):
            raise TypeError(
                f"{name} is traced by JAX, so has no memory: inside jit, call the functions of libbnb.integrations.jax"
            )
        array = super().accept(array, name)
        if len(array.devices()) != 1:
            raise InvalidArgument(f"{name} is spread over {len(array.devices())} devices, must be on one")
        return array

    def write(self, array: Array, name: str) -> View:
        raise InvalidArgument(f"{name} is a JAX array, which cannot be written to: use the array that is returned")

    def dtype(self, spec: Any, name: str) -> Any:
        return numpy_dtype(name_of(spec, name))  # JAX's dtypes are those of NumPy and ml_dtypes

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        return self._namespace.empty(shape, dtype, device=like.device).block_until_ready()

    def flattened(self, array: Array) -> Array:
        return self._namespace.reshape(array, (-1,)).block_until_ready()

    def to_device(self, array: Array, device: Any) -> Array:
        if isinstance(device, str):
            device = self._jax.devices(device)[0]
        return self._jax.device_put(array, device)

    def to_numpy(self, array: Array) -> HostArray:
        return np.asarray(array.array if isinstance(array, Held) else array)


class MlxKind(NamespaceKind):
    """MLX: arrays are computed when they are looked at, and count as unchangeable, as in JAX."""

    name: ClassVar[str] = "MLX"

    def __init__(self) -> None:
        mlx = sys.modules["mlx.core"]
        super().__init__(mlx, mlx.array)

    def write(self, array: Array, name: str) -> View:
        raise InvalidArgument(f"{name} is an MLX array, which shares its memory: use the array that is returned")

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        array = self._namespace.zeros(shape, dtype=dtype)
        self._namespace.eval(array)
        return array

    def flattened(self, array: Array) -> Array:
        flat = self._namespace.reshape(array, (-1,))
        self._namespace.eval(flat)
        return flat

    def swapped(self, array: Array) -> Array:
        return self._namespace.swapaxes(array, -1, -2)

    def from_numpy(self, array: HostArray, like: Array) -> Array:
        return self._namespace.array(array)

    def to_numpy(self, array: Array) -> HostArray:
        return from_dlpack(array.array if isinstance(array, Held) else array, "array")
