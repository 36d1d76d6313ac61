# SPDX-License-Identifier: MIT
"""Reading values from the front of a GGUF file, each only after its size was compared with what is left of the file."""

from __future__ import annotations

import struct
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from gguf import GGUFValueType

from libbnb.integrations.gguf._errors import GGUFError

_V = GGUFValueType
_FORMATS = {
    _V.UINT8: "B", _V.INT8: "b", _V.UINT16: "H", _V.INT16: "h", _V.UINT32: "I", _V.INT32: "i", _V.FLOAT32: "f",
    _V.BOOL: "?", _V.UINT64: "Q", _V.INT64: "q", _V.FLOAT64: "d",
}  # fmt: skip
# What an element of an array takes at least; a string is never shorter than its length.
_LEAST_BYTES = {kind: struct.calcsize(code) for kind, code in _FORMATS.items()} | {_V.STRING: 8, _V.ARRAY: 12}


class Cursor:
    """A position in a little-endian file.

    Parameters
    ----------
    file : BufferedReader
        The open file.
    path : Path
        Its name, for messages.
    size : int
        Its bytes.
    """

    def __init__(self, file: BufferedReader, path: Path, size: int) -> None:
        self._file = file
        self._path = path
        self._size = size
        self.position = file.tell()

    def error(self, what: str) -> GGUFError:
        """An error that names the file."""
        return GGUFError(f"{self._path}: not a readable GGUF file: {what}")

    def take(self, nbytes: int, what: str) -> bytes:
        """The next bytes.

        Raises
        ------
        GGUFError
            The file ends before.
        """
        data = self._file.read(nbytes) if nbytes <= self._size - self.position else b""
        if len(data) != nbytes:
            raise self.error(f"ends at byte {self._size}, within {what}")
        self.position += nbytes
        return data

    def integer(self, code: str, what: str) -> int:
        """A number in `struct`'s notation."""
        return struct.unpack("<" + code, self.take(struct.calcsize(code), what))[0]

    def count(self, least_bytes: int, what: str) -> int:
        """How many of something follow, of at least so many bytes each."""
        number = self.integer("Q", what)
        if number * least_bytes > self._size - self.position:
            raise self.error(f"says that {number} {what} follow, for which it is too short")
        return number

    def string(self, what: str) -> str:
        """A string with its length in front."""
        data = self.take(self.count(1, f"bytes of {what}"), what)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.error(f"{what} is not UTF-8") from None

    def value(self, kind: int, what: str) -> Any:
        """A metadata value: a number, a bool, a string, or a list of those."""
        if kind == _V.STRING:
            return self.string(what)
        if kind == _V.ARRAY:
            return self._array(what)
        code = _FORMATS.get(self._kind(kind, what))
        return struct.unpack("<" + cast(str, code), self.take(struct.calcsize(cast(str, code)), what))[0]

    def _array(self, what: str) -> list[Any]:
        kind = self._kind(self.integer("I", what), what)
        length = self.count(_LEAST_BYTES[kind], f"elements of {what}")
        if kind == _V.STRING:
            return [self._bytes_or_text(what) for _ in range(length)]
        if kind == _V.ARRAY:
            raise self.error(f"{what} is an array of arrays")
        code = _FORMATS[kind]
        return list(struct.unpack(f"<{length}{code}", self.take(length * struct.calcsize(code), what)))

    def _bytes_or_text(self, what: str) -> str:
        """An element of an array of strings. Tokens need not be UTF-8."""
        return self.take(self.count(1, f"bytes of {what}"), what).decode(errors="replace")

    def _kind(self, kind: int, what: str) -> GGUFValueType:
        try:
            return _V(kind)
        except ValueError:
            raise self.error(f"{what} has type {kind}, which does not exist") from None
