# SPDX-License-Identifier: MIT
"""Writing tensors into files that were laid out before, and a journal of what is done."""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import RawIOBase
from pathlib import Path
from typing import TextIO

from libbnb.checkpoint.errors import os_errors_name
from libbnb.checkpoint.journal import write_line
from libbnb.checkpoint.layout import Shard
from libbnb.checkpoint.step import Piece, as_bytes

_SYNC_BYTES = 256 << 20  # at most this much work is lost when the process is killed


class Writer:
    """The part of a result that this process writes.

    Parameters
    ----------
    path : Path
        The folder where the result is made.
    shards : list of Shard
        The weight files.

    Attributes
    ----------
    done : set of int
        Numbers of the steps whose outputs are on the disk.
    """

    def __init__(self, path: Path, shards: list[Shard]) -> None:
        self.path = path
        self.done: set[int] = set()
        self._shards = {name: shard for shard in shards for name in shard.offsets}
        self._files: dict[str, RawIOBase] = {}
        self._journal: TextIO | None = None
        self._closing = ExitStack()
        self._finished_steps: list[int] = []
        self._unsynced = 0

    def write(self, piece: Piece) -> None:
        """Put a piece of a tensor where it belongs."""
        shard = self._shards[piece.name]
        data = memoryview(as_bytes(piece))
        with os_errors_name(self.path / shard.file_name):
            write_all(self._files[shard.file_name], shard.offsets[piece.name] + piece.begin, data)
        self._unsynced += len(data)

    def finish_step(self, number: int) -> None:
        """Remember that all outputs of a step have been written."""
        self._finished_steps.append(number)
        if self._unsynced >= _SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """First the data, then the journal: what the journal says is on the disk, is."""
        if self._journal is None:
            return
        with os_errors_name(self.path):
            for file in self._files.values():
                os.fsync(file.fileno())
            for number in self._finished_steps:
                write_line(self._journal, {"done": number})
            self._journal.flush()
            os.fsync(self._journal.fileno())
        self.done.update(self._finished_steps)
        self._finished_steps.clear()
        self._unsynced = 0


def write_all(file: RawIOBase, offset: int, data: memoryview) -> None:
    """All of `data`, from byte `offset` of the file on."""
    file.seek(offset)
    while data:
        data = data[file.write(data) or 0 :]
