# SPDX-License-Identifier: MIT
"""NumPy, with the dtypes of ml_dtypes, and whatever NumPy can look into: buffers and `__array_interface__`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from libbnb._errors import InvalidArgument
from libbnb._native import address_of
from libbnb._views import View
from libbnb.arrays import dlpack
from libbnb.arrays.base import CPU, Array, ArrayKind, HostArray, as_matrix, rows_and_cols
from libbnb.arrays.dtypes import DTYPES, NAMES, WORDS, name_of

_NATIVE_CODES = (0, 1, 2, 5, 6)  # DLPack's integer, unsigned, float, complex and bool: what plain NumPy has
_ANONYMOUS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}  # same size as a dtype that cannot be in a buffer
_empty = np.empty


class NumpyKind(ArrayKind):
    """Arrays of NumPy."""

    name: ClassVar[str] = "NumPy"
    uint8 = np.dtype(np.uint8)
    int8 = np.dtype(np.int8)
    int32 = np.dtype(np.int32)
    float16 = np.dtype(np.float16)
    float32 = np.dtype(np.float32)

    def __init__(self) -> None:
        # dtype -> (word of a View, dtype to see it as if the buffer protocol has no letter for it)
        self._known: dict[Any, tuple[int, Any]] = {}
        for name, (code, _) in DTYPES.items():
            if code in _NATIVE_CODES:
                self._known[np.dtype(name)] = (WORDS[name], None)

    def _describe(self, dtype: Any, name: str) -> tuple[int, Any]:
        known = self._known.get(dtype)
        if known is None:
            # ml_dtypes registers its types under their names; a byte order that is not this machine's has none.
            if dtype.isbuiltin == 1 or dtype.name not in WORDS or not dtype.isnative:
                raise InvalidArgument(f"{name} has dtype {dtype}, which no operation takes")
            known = (WORDS[dtype.name], _ANONYMOUS[dtype.itemsize])
            self._known[dtype] = known
        return known

    def _view(self, array: Any, name: str) -> View:
        known = self._known.get(array.dtype)
        word, seen_as = known if known is not None else self._describe(array.dtype, name)
        address = address_of(array if seen_as is None else array.view(seen_as))
        return (array.size, 0, 1, 1, address, CPU, word)

    def read(self, array: Array, name: str) -> tuple[Array, View]:
        if type(array) is not np.ndarray:
            array = self.convert(array, name)
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        return array, self._view(array, name)

    def write(self, array: Array, name: str) -> View:
        if type(array) is not np.ndarray:
            array = self.convert(array, name)
        flags = array.flags
        if not flags.writeable:
            raise InvalidArgument(f"{name} is read-only")
        if not flags.c_contiguous:
            raise InvalidArgument(f"{name} is not compact and row-major (strides {array.strides} bytes)")
        return self._view(array, name)

    def fresh(self, shape: tuple[int, ...], dtype: Any, like: Array) -> tuple[Array, View]:
        array = _empty(shape, dtype)
        return array, self._view(array, "result")

    def read_rows(self, array: Array, name: str) -> tuple[Array, View]:
        array = self.convert(array, name)
        rows, cols = rows_and_cols(array.shape, name)
        size = array.itemsize
        apart = array.ndim == 2 and rows > 1 and cols > 0 and array.strides[0] >= cols * size
        if apart and array.strides[0] % size == 0 and array[0].flags.c_contiguous:
            first = self._view(array[0], name)
            row, col, _, one, address, device, word = as_matrix(first, rows, cols)
            return array, (row, col, array.strides[0] // size, one, address, device, word)
        array, view = self.read(array, name)
        return array, as_matrix(view, rows, cols)

    def accept(self, array: Array, name: str) -> Array:
        return self.convert(array, name)

    def swapped(self, array: Array) -> Array:
        return self.convert(array, "array").swapaxes(-1, -2)

    def is_transposed(self, array: Array) -> bool:
        flags = array.flags
        return array.ndim == 2 and flags.f_contiguous and not flags.c_contiguous

    def columns(self, array: Array, indices: Array) -> Array:
        return self.convert(array, "array")[:, self.convert(indices, "indices")]

    def convert(self, array: Array, name: str) -> HostArray:
        """An ndarray on the same memory, or TypeError."""
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array, whose mask would be ignored: pass .filled() or .data")
        if isinstance(array, np.ndarray):
            return np.asarray(array)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if offers(array, "__array_interface__"):  # NumPy's scalars have it, too
            return np.asarray(array)
        if has_buffer(array):
            return np.asarray(memoryview(array))
        if offers(array, "__dlpack__"):
            return from_dlpack(array, name)
        raise TypeError(f"{name} is a {type(array).__name__}, must be an array that NumPy can look into, as A is")

    def dtype(self, spec: Any, name: str) -> Any:
        return numpy_dtype(name_of(spec, name))

    def dtype_name(self, dtype: Any) -> str:
        return np.dtype(dtype).name

    def from_numpy(self, array: HostArray, like: Array) -> Array:
        return array.copy()

    def to_numpy(self, array: Array) -> HostArray:
        return self.convert(array, "array")


def numpy_dtype(name: str) -> Any:
    """NumPy's dtype of a name, from ml_dtypes where NumPy has none.

    Raises
    ------
    ImportError
        The dtype is one of ml_dtypes, which is not installed.
    """
    if DTYPES[name][0] in _NATIVE_CODES:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(f"NumPy has no {name}; install ml_dtypes, or ask for float32") from error
    return np.dtype(getattr(ml_dtypes, name))


class _Memory:
    """Memory that NumPy can look into and that keeps its owner alive."""

    def __init__(self, imported: dlpack.Imported, typestr: str, itemsize: int) -> None:
        strides = imported.strides
        self.owner = imported
        self.__array_interface__ = {
            "version": 3,
            "shape": imported.shape,
            "typestr": typestr,
            "data": (imported.address, imported.read_only),
            "strides": None if strides is None else tuple(stride * itemsize for stride in strides),
        }


def from_dlpack(array: Any, name: str) -> HostArray:
    """An ndarray on the memory of a DLPack object, of ml_dtypes' types too (`numpy.from_dlpack` knows NumPy's only).

    Raises
    ------
    TypeError
        Its memory is not the host's, or its dtype has no name.
    """
    imported = dlpack.read(array)
    code, bits, lanes = imported.dtype
    dtype_name = NAMES.get((code, bits))
    if imported.device_type != dlpack.CPU:
        raise TypeError(
            f"{name} is a {type(array).__name__} on DLPack device type {imported.device_type}, not on the host"
        )
    if dtype_name is None or lanes != 1:
        raise TypeError(f"{name} has DLPack dtype (code {code}, {bits} bits, {lanes} lanes), which no operation takes")
    dtype = numpy_dtype(dtype_name)
    seen_as = dtype if code in _NATIVE_CODES else _ANONYMOUS[dtype.itemsize]
    return np.asarray(_Memory(imported, seen_as.str, dtype.itemsize)).view(dtype)


def offers(array: Any, protocol: str) -> bool:
    """Whether an object has a protocol's attribute; a class has the attributes of its instances, but no memory."""
    return hasattr(array, protocol) and not isinstance(array, type)


def has_buffer(array: Any) -> bool:
    """Whether an object offers its memory through Python's buffer protocol."""
    try:
        memoryview(array)
    except TypeError:
        return False
    return True
