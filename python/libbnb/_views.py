# SPDX-License-Identifier: MIT
"""Descriptions of arrays as the C library wants them: where the memory is, on which device, and how it is laid out."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import Any, TypeAlias

# An array with at most two dimensions: shape[0], shape[1], strides[0], strides[1], address, device, rank and dtype.
View: TypeAlias = tuple[int, int, int, int, int, int, int]


class BufferView(tuple[int, int, int, int, int, int, int]):
    """A View of memory that has a handle instead of an address, as Metal's: views of one buffer differ in their offset.

    Attributes
    ----------
    byte_offset
        Where in its buffer the first element is.
    array
        The array that was described.
    """

    byte_offset: int
    array: Any


def buffer_view(view: View, byte_offset: int, array: Any) -> BufferView:
    """A View whose address is a handle, and how many bytes behind the begin of its buffer the array begins."""
    made = BufferView(view)
    made.byte_offset = byte_offset
    made.array = array
    return made


def seen_as(view: View, rows: int, cols: int, row_stride: int, word: int, skip: int = 0) -> View:
    """The memory of a view, `skip` bytes further on, as a matrix with compact rows."""
    if isinstance(view, BufferView):
        same = (rows, cols, row_stride, 1, view[4], view[5], word)
        return buffer_view(same, view.byte_offset + skip, view.array)
    return (rows, cols, row_stride, 1, view[4] + skip, view[5], word)


def vector_of(view: View, n: int, device: int, word: int) -> View:
    """The memory of a view as `n` elements of a dtype, said to be on a device."""
    same = (n, 0, 1, 1, view[4], device, word)
    return buffer_view(same, view.byte_offset, view.array) if isinstance(view, BufferView) else same


def arrays_of(views: Iterable[View | None]) -> list[Any]:
    """The arrays behind views whose memory has handles."""
    return [view.array for view in views if isinstance(view, BufferView)]


def device_word(device_type: int, device_id: int) -> int:
    """A DLDevice as the integer that a View carries."""
    return int.from_bytes(struct.pack("=ii", device_type, device_id), sys.byteorder)


def dtype_word(ndim: int, code: int, bits: int, lanes: int = 1) -> int:
    """Rank and DLDataType as the integer that a View carries."""
    return int.from_bytes(struct.pack("=iBBH", ndim, code, bits, lanes), sys.byteorder)
