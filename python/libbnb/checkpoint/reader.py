# SPDX-License-Identifier: MIT
"""Reading safetensors files: the safetensors package judges the header, plain reads fetch the data.

The package's own `get_tensor` has no bfloat16 or float8 for NumPy, and its memory map would count every page that was
touched as memory of this process. So the data is read here, in pieces, into buffers that the caller reuses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError, os_errors_name


@dataclass(frozen=True)
class TensorInfo:
    """Name, dtype and shape of a tensor, and where its bytes are.

    Attributes
    ----------
    name : str
        The key in the checkpoint.
    dtype : str
        As safetensors spells it: "F32", "BF16", ...
    shape : tuple of int
        Elements along each axis.
    path : Path
        The file.
    offset : int
        Bytes from the start of the file to the first element.
    nbytes : int
        Size of the data in bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    nbytes: int

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class SafetensorsFile:
    """One file: its tensors in the order of their data, its metadata, and what tells whether it changed since."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    size: int
    mtime_ns: int


def read_header(path: Path) -> SafetensorsFile:
    """Read and check the header of a safetensors file.

    Raises
    ------
    CheckpointError
        The file cannot be read, is not a safetensors file, is truncated, or its header lies: offsets overlap, leave
        holes or end outside the file, sizes that do not fit the dtype, a name that occurs twice, ...
    """
    with os_errors_name(path):
        if not path.is_file():
            raise CheckpointError(f"{path}: {'not a file' if path.exists() else 'no such file or directory'}")
        _let_safetensors_judge(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length)
            status = path.stat()
    entries = cast(dict[str, Any], json.loads(header, object_pairs_hook=lambda pairs: _unique(path, pairs)))
    metadata = cast(dict[str, str], entries.pop("__metadata__", None) or {})
    tensors = [_tensor_info(path, 8 + length, name, entry) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.name))
    return SafetensorsFile(
        path, {tensor.name: tensor for tensor in tensors}, metadata, status.st_size, status.st_mtime_ns
    )


def _let_safetensors_judge(path: Path) -> None:
    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CheckpointError(f"{path}: not a readable safetensors file: {reason}") from error


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice, of which JSON parsers silently keep one."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"{path}: not a readable safetensors file: {twice!r} occurs twice in the header")
    return entries


def _tensor_info(path: Path, data_start: int, name: str, entry: dict[str, Any]) -> TensorInfo:
    begin, end = entry["data_offsets"]
    if not dtypes.is_known(entry["dtype"]):  # a safetensors package that is newer than this table
        raise CheckpointError(f"{path}: tensor {name!r} has dtype {entry['dtype']}, which this libbnb does not know")
    return TensorInfo(name, entry["dtype"], tuple(entry["shape"]), path, data_start + begin, end - begin)


def read_into(file: RawIOBase, offset: int, buffer: memoryview) -> None:
    """Fill `buffer` with the bytes of an unbuffered file from `offset` on.

    Raises
    ------
    CheckpointError
        The file ends before the buffer is full: somebody truncated it after its header was read.
    """
    file.seek(offset)
    filled = 0
    while filled < len(buffer):
        count = file.readinto(buffer[filled:])
        if not count:
            name = getattr(file, "name", "a file")
            raise CheckpointError(f"{name}: ends at byte {offset + filled}; it was truncated while it was read")
        filled += count
