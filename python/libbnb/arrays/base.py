# SPDX-License-Identifier: MIT
"""What every array library must offer so that operations can run on its arrays: one subclass of ArrayKind for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from libbnb._errors import InvalidArgument, Unsupported
from libbnb._native import NULL
from libbnb._views import View, device_word, seen_as
from libbnb.arrays.dtypes import matrix_word

Array: TypeAlias = Any  # an array of any library: they have no common static type
HostArray: TypeAlias = NDArray[Any]  # one of NumPy

CPU = device_word(1, 0)


def as_matrix(view: View, rows: int, cols: int) -> View:
    """The same compact memory seen as a matrix."""
    return seen_as(view, rows, cols, cols, matrix_word(view[6]))


def rows_and_cols(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """A shape as a matrix: the last axis is a row, the others are counted together."""
    if len(shape) == 2:
        return shape[0], shape[1]
    if not shape:
        raise InvalidArgument(f"{name} has no dimensions, must have at least 1")
    return prod(shape[:-1]), shape[-1]


class ArrayKind(ABC):
    """One array library. A `View` describes memory to the C library; the array must outlive its use."""

    name: ClassVar[str]

    # Its own objects for the dtypes that results have.
    uint8: Any
    int8: Any
    int32: Any
    float16: Any
    float32: Any

    @abstractmethod
    def read(self, array: Array, name: str) -> tuple[Array, View]:
        """An input and its flat view. The array that comes back is a compact copy if the input was not compact.

        Raises TypeError if it is not an array of this library, InvalidArgument if C has no word for its dtype or place.
        """

    @abstractmethod
    def write(self, array: Array, name: str) -> View:
        """Flat view of an output: compact and writable, or InvalidArgument."""

    @abstractmethod
    def fresh(self, shape: tuple[int, ...], dtype: Any, like: Array) -> tuple[Array, View]:
        """A new uninitialised array on the device of another one, and its flat view."""

    @abstractmethod
    def dtype(self, spec: Any, name: str) -> Any:
        """This library's dtype object for a dtype of any library, or a dtype's name."""

    @abstractmethod
    def dtype_name(self, dtype: Any) -> str:
        """The dtype's name, such as "bfloat16"."""

    @abstractmethod
    def from_numpy(self, array: HostArray, like: Array) -> Array:
        """A copy of a NumPy array on the device of another array."""

    @abstractmethod
    def to_numpy(self, array: Array) -> HostArray:
        """The elements as a NumPy array, without a copy where possible."""

    def read_rows(self, array: Array, name: str) -> tuple[Array, View]:
        """Like `read`, as a matrix. Rows may be further apart than they are long, where the library can tell."""
        array, view = self.read(array, name)
        rows, cols = rows_and_cols(tuple(array.shape), name)
        return array, as_matrix(view, rows, cols)

    def has_dtype(self, name: str) -> bool:
        """Whether this library has a dtype of that name here."""
        try:
            self.dtype(name, "dtype")
        except (InvalidArgument, ImportError):
            return False
        return True

    def to_device(self, array: Array, device: Any) -> Array:
        """The array on another device."""
        if str(device) != "cpu":
            raise Unsupported(f"arrays of {self.name} cannot go to device {device}")
        return array

    def shape(self, shape: tuple[int, ...]) -> Any:
        """A shape in the type that this library uses."""
        return shape

    def indices(self, mask: Array) -> Array:
        """Positions of the nonzero elements of a vector, ascending, int64."""
        return self.from_numpy(np.flatnonzero(self.to_numpy(mask)), mask)

    def accept(self, array: Array, name: str) -> Array:
        """An array of this library on the same memory, or TypeError."""
        return array

    def as_rows(self, array: Array) -> Array:
        """An array of two or more dimensions as a matrix, without a copy where possible."""
        return array.reshape(rows_and_cols(tuple(array.shape), "array"))

    def swapped(self, array: Array) -> Array:
        """The array with its last two axes exchanged, without a copy where possible."""
        return array.swapaxes(-1, -2)

    def is_transposed(self, array: Array) -> bool:
        """Whether a matrix is known to be compact and row-major once its axes are exchanged, and not as it is."""
        return False

    def columns(self, array: Array, indices: Array) -> Array:
        """A new array of the columns of a matrix at some positions."""
        return array[:, indices]

    def wants_operator(self, *arrays: Array | None) -> bool:
        """Whether a call must go through the library's own dispatch: for gradients, tracing or its subclasses."""
        return False

    def stream(self, array: Array) -> Any:
        """The queue of the array's device on which work is expected to run."""
        return NULL
