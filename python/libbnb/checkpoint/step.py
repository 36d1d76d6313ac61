# SPDX-License-Identifier: MIT
"""The unit of work: one step reads some tensors of the source, in an order known beforehand, and writes some others.

Sizes of all outputs are known before any data is: a file's header is written first, then its tensors, piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.reader import TensorInfo

# Bytes of a tensor that are in memory at a time: enough to keep all threads busy, little beside a large tensor.
CHUNK_BYTES = 16 << 20

# NumPy arrays. NumPy's own types for dtypes and views need a newer Python than this package does.
ByteArray: TypeAlias = Any  # one dimension, uint8
FloatArray: TypeAlias = Any  # float32, float16 or ml_dtypes' bfloat16
AnyArray: TypeAlias = Any


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that will be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return self.size * dtypes.bits(self.dtype) // 8


@dataclass(frozen=True)
class Read:
    """`nbytes` bytes of a tensor, from byte `begin` of it on."""

    tensor: TensorInfo
    begin: int
    nbytes: int


@dataclass(frozen=True)
class Piece:
    """Bytes of an output tensor, from byte `begin` of it on; `data` is contiguous and of any dtype."""

    name: str
    begin: int
    data: AnyArray


def as_bytes(piece: Piece) -> ByteArray:
    """The data of a piece as bytes."""
    return piece.data.reshape(-1).view("uint8")


def transpose(matrix: AnyArray, begin: int, end: int) -> AnyArray:
    """Columns `begin` to `end` of a matrix as compact rows."""
    rows = np.empty((end - begin, matrix.shape[0]), matrix.dtype)
    tile = 256  # rows of the matrix: the cache lines that they share are used before they are gone (measured, 5x)
    for first in range(0, matrix.shape[0], tile):
        rows[:, first : first + tile] = matrix[first : first + tile, begin:end].T
    return rows


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes
    ----------
    name : str
        What a progress bar shows.
    reads : list of Read
        What it needs, in the order in which `work` takes it.
    outputs : list of TensorSpec
        What it makes; they stay together in one shard.
    elements : int
        Elements of the weight, for a progress bar.
    work : callable
        Takes an iterator over the bytes of `reads`, each valid until the next is taken, and yields the pieces of the
        outputs; a piece may be a view of what was read.
    """

    name: str
    reads: list[Read]
    outputs: list[TensorSpec]
    elements: int
    work: Callable[[Iterator[ByteArray]], Iterator[Piece]]

    @property
    def bytes_read(self) -> int:
        """Bytes that it reads."""
        return sum(read.nbytes for read in self.reads)


def reads_of(tensor: TensorInfo, unit_bytes: int = 1, limit: int = CHUNK_BYTES) -> list[Read]:
    """The whole tensor in chunks of a multiple of `unit_bytes`, about `limit` bytes each; the last may be shorter."""
    length = max(1, limit // unit_bytes) * unit_bytes
    return [Read(tensor, begin, min(length, tensor.nbytes - begin)) for begin in range(0, tensor.nbytes, length)]


def copy_step(tensor: TensorInfo) -> Step:
    """A step that writes a tensor as it is."""

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        begin = 0
        for chunk in chunks:
            yield Piece(tensor.name, begin, chunk)
            begin += chunk.nbytes

    return Step(tensor.name, reads_of(tensor), [TensorSpec(tensor.name, tensor.dtype, tensor.shape)], tensor.size, work)
