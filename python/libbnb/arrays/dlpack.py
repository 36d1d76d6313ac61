# SPDX-License-Identifier: MIT
"""Reading what an object's `__dlpack__` offers, without taking it over: pointer, device, dtype, shape, strides.

The capsule stays unconsumed, so its own destructor releases the exporter's reference; hold it as long as the pointer is
used. ctypes is needed for the two CPython calls that look into a capsule.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from libbnb._native import METAL, ffi

CPU = 1
CUDA = 2
ROCM = 10
_READ_ONLY = 1  # bit 0 of DLManagedTensorVersioned.flags

_capsule_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_capsule_is_valid.restype = ctypes.c_int
_capsule_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Imported(NamedTuple):
    """A tensor that somebody else exported. Where memory has handles, `address` is one, and `byte_offset` not 0."""

    address: int
    byte_offset: int
    device_type: int
    device_id: int
    dtype: tuple[int, int, int]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    read_only: bool
    capsule: Any

    @property
    def size(self) -> int:
        """Number of elements."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def compact(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        if self.strides is None or self.size == 0:
            return True
        expected = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return True


def stream_number(device_type: int, stream: int | None) -> int | None:
    """A stream, or None for the default one, as exporters want to be told of it; None where there is none."""
    if device_type == CUDA:
        return stream or 1  # the default one, of which CUDA has two
    return stream or 0 if device_type == ROCM else None


def _capsule_of(array: Any, device_type: int, stream: int | None) -> Any:
    number = stream_number(device_type, stream)
    keywords: dict[str, Any] = {} if number is None else {"stream": number}
    try:
        return array.__dlpack__(max_version=(1, 1), **keywords)
    except TypeError:  # exporters from before DLPack 1.0 do not know max_version
        return array.__dlpack__(**keywords)


def read(array: Any, stream: int | None = None) -> Imported:
    """Asks an object for its DLPack capsule and reads it. Its exporter makes `stream` wait for what it still computes.

    Raises
    ------
    TypeError
        What `__dlpack__` returned is not a DLPack capsule.
    """
    device_type = int(array.__dlpack_device__()[0])
    capsule = _capsule_of(array, device_type, stream)
    read_only = False
    if _capsule_is_valid(capsule, b"dltensor_versioned"):
        managed = ffi.cast("DLManagedTensorVersioned *", _capsule_pointer(capsule, b"dltensor_versioned"))
        if managed.version.major != 1:
            raise TypeError(f"{type(array).__name__} exports DLPack {managed.version.major}.{managed.version.minor}")
        read_only = bool(managed.flags & _READ_ONLY)
    elif _capsule_is_valid(capsule, b"dltensor"):
        managed = ffi.cast("DLManagedTensor *", _capsule_pointer(capsule, b"dltensor"))
    else:
        raise TypeError(f"what {type(array).__name__}.__dlpack__ returned is not a DLPack capsule")
    tensor = managed.dl_tensor
    rank = tensor.ndim
    shape = tuple(tensor.shape[0:rank]) if rank else ()
    strides = None if tensor.strides == ffi.NULL else tuple(tensor.strides[0:rank]) if rank else ()
    address, offset = int(ffi.cast("uintptr_t", tensor.data)), int(tensor.byte_offset)
    if tensor.device.device_type != METAL:
        address, offset = address + offset, 0
    return Imported(
        address=address,
        byte_offset=offset,
        device_type=int(tensor.device.device_type),
        device_id=int(tensor.device.device_id),
        dtype=(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes),
        shape=shape,
        strides=strides,
        read_only=read_only,
        capsule=capsule,
    )
