# SPDX-License-Identifier: MIT
"""An array library whose memory is a device's, made of nothing but libbnb's own services and DLPack.

For processes with BNB_LIB_PATH set to a library of the tests whose device is emulated: there the host cannot touch the
memory of the device, so that whoever tries dies. BNB_TEST_DEVICE says which device. On Metal, where memory has handles,
every array is a view that begins inside of its buffer, behind bytes that stay what they are.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import ml_dtypes
import numpy as np

import libbnb
from libbnb._native import check, ffi, lib
from libbnb.arrays.dtypes import DTYPES

CUDA, METAL, ROCM = 2, 8, 10
NAME = libbnb.info()["backends"][1]["name"]
TYPE = {"cuda": CUDA, "hip": ROCM, "metal": METAL}[NAME]
LEAD = 73 if TYPE == METAL else 0  # bytes in front of every array
HOST = ffi.new("DLDevice *", (1, 0))[0]

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

streams: list[Any] = []  # what exporters were told, call by call


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name)) if name == "bfloat16" or name.startswith("float8") else np.dtype(name)


class Device:
    """A device, as the array API has it."""

    def __init__(self, id_: int = 0) -> None:
        self.c = ffi.new("DLDevice *", (TYPE, id_))[0]

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass


DEVICE = Device(int(os.environ.get("BNB_TEST_DEVICE", "0")))


class Array:
    """Memory on the device."""

    allocate: Any = staticmethod(lambda *arguments: lib.bnb_allocate(*arguments))

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None) -> None:
        self.shape, self.dtype, self.device = tuple(shape), np.dtype(dtype), DEVICE
        self.strides = strides
        pointer = ffi.new("void **")
        check(self.allocate(DEVICE.c, LEAD + max(self.nbytes, 1), pointer))
        self.data = ffi.gc(pointer[0], lambda data: lib.bnb_free(DEVICE.c, data))
        self.offset = LEAD
        self._exports: list[Any] = []

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @classmethod
    def of(cls, array: Any, transposed: bool = False) -> Array:
        host = np.ascontiguousarray(array)
        strides = tuple(s // host.itemsize for s in host.T.strides) if transposed else None
        made = cls(host.T.shape if transposed else host.shape, host.dtype, strides)
        memory = np.concatenate([_lead(), host.reshape(-1).view(np.uint8)])
        check(lib.bnb_copy(DEVICE.c, made.data, HOST, ffi.cast("void *", memory.ctypes.data), memory.nbytes, ffi.NULL))
        return made

    def host(self) -> Any:
        shape = self.shape[::-1] if self.strides else self.shape
        memory = np.empty(self.offset + self.nbytes, np.uint8)
        check(lib.bnb_copy(HOST, ffi.cast("void *", memory.ctypes.data), DEVICE.c, self.data, memory.nbytes, ffi.NULL))
        found = memory[self.offset :].copy().view(self.dtype).reshape(shape)
        return found.T if self.strides else found

    def part(self, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A view of the same memory, from a byte on."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, shape=shape, dtype=np.dtype(dtype), strides=None, _exports=[])
        view.offset = self.offset + start
        return view

    def to_device(self, device: Any, stream: Any = None) -> Any:
        return self.host() if device == "cpu" else self

    def __array_namespace__(self, **_: Any) -> Any:
        return sys.modules[__name__]

    def __dlpack_device__(self) -> tuple[int, int]:
        return TYPE, DEVICE.c.device_id

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        streams.append(stream)
        managed = ffi.new("DLManagedTensorVersioned *")
        managed.version = (1, 0)
        shape = ffi.new("int64_t[]", self.shape or (0,))
        strides = ffi.new("int64_t[]", self.strides or (0,))
        tensor = managed.dl_tensor
        tensor.data, tensor.device, tensor.ndim, tensor.shape = self.data, DEVICE.c, len(self.shape), shape
        tensor.dtype = (*DTYPES[self.dtype.name], 1)
        tensor.byte_offset = self.offset
        tensor.strides = strides if self.strides else ffi.NULL
        self._exports = [managed, shape, strides]  # nobody has more than the last one in use
        return _new_capsule(int(ffi.cast("uintptr_t", managed)), b"dltensor_versioned", None)


def _lead() -> Any:
    return np.arange(LEAD, dtype=np.uint8)


class Managed(Array):
    """Memory that the host sees, too."""

    allocate: Any = staticmethod(lambda *arguments: lib.bnb_allocate_managed(*arguments))


# The namespace.

float32, float16, bfloat16 = dtype_of("float32"), dtype_of("float16"), dtype_of("bfloat16")
uint8, int8, int32, int64 = dtype_of("uint8"), dtype_of("int8"), dtype_of("int32"), dtype_of("int64")
float8_e4m3fn, float8_e5m2, float8_e8m0fnu = map(dtype_of, ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"))


def empty(shape: Any, dtype: Any = None, device: Any = None) -> Array:
    return Array(shape if isinstance(shape, tuple) else (shape,), dtype or float32)


def reshape(array: Array, shape: tuple[int, ...]) -> Array:
    return Array.of(array.host().reshape(shape))


def asarray(array: Any, device: Any = None) -> Array:
    return Array.of(array)


def matrix_transpose(array: Array) -> Array:
    return Array.of(np.swapaxes(array.host(), -1, -2))


def take(array: Array, indices: Array, axis: int) -> Array:
    return Array.of(np.take(array.host(), indices.host(), axis))
