# SPDX-License-Identifier: MIT
"""Reading GGUF files, which may be cut off, corrupt or made to harm: nothing is believed before it is compared.

The gguf package's own reader trusts lengths and offsets; it meets a corrupt file with errors of any kind, or with data
from elsewhere in the file. So the header is read here; the meaning of types and their values is the package's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, Keys

from libbnb.checkpoint.errors import os_errors_name
from libbnb.checkpoint.reader import read_into
from libbnb.integrations.gguf._cursor import Cursor
from libbnb.integrations.gguf._errors import GGUFError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_LEAST_ENTRY_BYTES = {"key-value pairs": 8 + 4 + 1, "tensors": 8 + 4 + 4 + 8}
_CHUNK_BYTES = 16 << 20

# Types whose elements are stored as they are, with the NumPy dtype.
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor of a GGUF file.

    Attributes
    ----------
    name, type : str
        Its name; its type as ggml spells it: "F32", "TQ2_0", ...
    shape : tuple of int
        Elements along each axis in NumPy's order, which is the reverse of the file's.
    offset, nbytes : int
        Where its data is in the file, and how much.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class GGUFFile:
    """The header of a GGUF file, checked against the file's size; tensors are read when they are asked for.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    path : Path
        The file.
    version, alignment : int
        Of the format; of the tensors' data in bytes.
    metadata : dict
        Key-value pairs: numbers, bools, strings, and lists of them.
    types : dict
        Their types: "UINT32", "ARRAY", ...
    tensors : dict of GGUFTensor
        By name, in the order of the file.

    Raises
    ------
    GGUFError
        The file cannot be read, is no GGUF file of version 2 or 3 in little-endian order, or is corrupt: cut off,
        counts and lengths that do not fit, names that occur twice, types that do not exist, data that would overlap or
        lie outside.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.metadata: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.tensors: dict[str, GGUFTensor] = {}
        with os_errors_name(self.path):
            if not self.path.is_file():
                raise GGUFError(f"{self.path}: {'not a file' if self.path.exists() else 'no such file or directory'}")
            self._size = self.path.stat().st_size
            with self.path.open("rb") as file:
                self._read(Cursor(file, self.path, self._size))

    def _read(self, cursor: Cursor) -> None:
        if cursor.take(len(MAGIC), "the magic number") != MAGIC:
            raise cursor.error("does not start with GGUF")
        self.version = _version(cursor)
        tensor_count = cursor.count(_LEAST_ENTRY_BYTES["tensors"], "tensors")
        for _ in range(cursor.count(_LEAST_ENTRY_BYTES["key-value pairs"], "key-value pairs")):
            self._read_pair(cursor)
        self.alignment = self._alignment(cursor)
        infos = [_tensor_info(cursor) for _ in range(tensor_count)]
        start = -(-cursor.position // self.alignment) * self.alignment
        for name, ggml, shape, offset in infos:
            if name in self.tensors:
                raise cursor.error(f"tensor {name!r} occurs twice")
            self.tensors[name] = self._tensor(cursor, name, ggml, shape, start, offset)
        self._refuse_overlaps(cursor)

    def _read_pair(self, cursor: Cursor) -> None:
        key = cursor.string("a metadata key")
        if key in self.metadata:
            raise cursor.error(f"metadata key {key!r} occurs twice")
        kind = cursor.integer("I", f"the type of {key}")
        self.metadata[key] = cursor.value(kind, key)
        self.types[key] = GGUFValueType(kind).name

    def _alignment(self, cursor: Cursor) -> int:
        alignment = self.metadata.get(Keys.General.ALIGNMENT, gguf.GGUF_DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise cursor.error(f"{Keys.General.ALIGNMENT} is {alignment!r}, must be a power of two")
        return alignment

    def _tensor(
        self, cursor: Cursor, name: str, ggml: GGMLQuantizationType, shape: tuple[int, ...], start: int, offset: int
    ) -> GGUFTensor:
        block, type_size = GGML_QUANT_SIZES[ggml]
        if shape[-1] % block:
            raise cursor.error(f"tensor {name!r} has rows of {shape[-1]}, {ggml.name} needs a multiple of {block}")
        nbytes = math.prod(shape) // block * type_size
        if offset % self.alignment:
            raise cursor.error(f"tensor {name!r} is at offset {offset}, not a multiple of {self.alignment}")
        if start + offset + nbytes > self._size:
            raise cursor.error(
                f"tensor {name!r} ends at byte {start + offset + nbytes}, the file at byte {self._size}: it was cut off"
            )
        return GGUFTensor(name, ggml.name, shape, start + offset, nbytes)

    def _refuse_overlaps(self, cursor: Cursor) -> None:
        in_order = sorted((tensor for tensor in self.tensors.values() if tensor.nbytes), key=lambda one: one.offset)
        for one, other in pairwise(in_order):
            if one.offset + one.nbytes > other.offset:
                raise cursor.error(f"tensors {one.name!r} and {other.name!r} overlap")

    def chunks(self, name: str, unit: int = 1) -> Iterator[Any]:
        """The bytes of a tensor in arrays of a multiple of `unit` bytes, about 16 MB each.

        Raises
        ------
        KeyError
            There is no such tensor.
        GGUFError
            The file changed since its header was read.
        """
        tensor = self.tensors[name]
        length = max(1, _CHUNK_BYTES // unit) * unit
        with os_errors_name(self.path), self.path.open("rb", buffering=0) as file:
            for begin in range(0, tensor.nbytes, length):
                chunk: Any = np.empty(min(length, tensor.nbytes - begin), np.uint8)
                read_into(file, tensor.offset + begin, memoryview(chunk))
                yield chunk

    def read(self, name: str) -> Any:
        """The bytes of a tensor.

        Returns
        -------
        ndarray
            uint8, shape [..., bytes of a row].
        """
        tensor = self.tensors[name]
        data = np.concatenate([np.empty(0, np.uint8), *self.chunks(name)])
        return data.reshape(*tensor.shape[:-1], -1 if tensor.size else 0)

    def dequantize(self, name: str) -> Any:
        """A tensor's values, by the gguf package where it is quantized.

        Returns
        -------
        ndarray
            Of the tensor's shape; float32, or the tensor's own type if that is no quantized one.

        Raises
        ------
        GGUFError
            A type that the gguf package cannot dequantize.
        """
        tensor = self.tensors[name]
        if tensor.type in _PLAIN:
            return self.read(name).reshape(-1).view(_PLAIN[tensor.type]).reshape(tensor.shape)
        try:
            return gguf.dequantize(self.read(name), GGMLQuantizationType[tensor.type]).reshape(tensor.shape)
        except NotImplementedError as error:
            raise GGUFError(f"{self.path}: tensor {name!r}: gguf cannot dequantize {tensor.type}") from error


def _version(cursor: Cursor) -> int:
    version = cursor.integer("I", "the version")
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in _VERSIONS:
        raise cursor.error("it is in big-endian order")
    if version not in _VERSIONS:
        raise cursor.error(f"version {version}; only {' and '.join(map(str, _VERSIONS))} can be read")
    return version


def _tensor_info(cursor: Cursor) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
    name = cursor.string("a tensor's name")
    dimensions = cursor.integer("I", f"the shape of {name}")
    if dimensions > _MAX_DIMENSIONS:
        raise cursor.error(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.integer("Q", f"the shape of {name}") for _ in range(dimensions))[::-1] or (1,)
    kind = cursor.integer("I", f"the type of {name}")
    offset = cursor.integer("Q", f"the offset of {name}")
    try:
        return name, GGMLQuantizationType(kind), shape, offset
    except ValueError:
        raise cursor.error(f"tensor {name!r} has type {kind}, which this gguf package does not know") from None
