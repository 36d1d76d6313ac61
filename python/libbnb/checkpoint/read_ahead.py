# SPDX-License-Identifier: MIT
"""A thread that reads the next pieces of the source while the current one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from io import RawIOBase
from pathlib import Path
from types import TracebackType

import numpy as np

from libbnb.checkpoint.errors import os_errors_name
from libbnb.checkpoint.reader import read_into
from libbnb.checkpoint.step import CHUNK_BYTES, ByteArray, Read

_SLOTS = 3  # one is worked on, one is ready, one is being read


class ReadAhead:
    """The bytes of a known sequence of reads, one after the other.

    Each array is valid until the next one is taken: the buffers are used again. A read larger than a buffer gets one of
    its own, and is alone in memory while that lives.
    """

    def __init__(self, reads: Iterable[Read]) -> None:
        self._free: queue.SimpleQueue[ByteArray | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[ByteArray, int] | BaseException | None] = queue.SimpleQueue()
        self._stop = False
        for _ in range(_SLOTS):
            self._free.put(np.empty(CHUNK_BYTES, np.uint8))
        self._thread = threading.Thread(target=self._read_all, args=(reads,), name="libbnb read-ahead", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        for _ in range(_SLOTS):
            self._free.put(None)
        self._thread.join()

    def __iter__(self) -> Iterator[ByteArray]:
        while (ready := self._ready.get()) is not None:
            if isinstance(ready, BaseException):
                raise ready
            buffer, nbytes = ready
            yield buffer[:nbytes]
            if nbytes <= CHUNK_BYTES:
                self._free.put(buffer)
            else:
                del ready, buffer  # before the next large read
                for _ in range(_SLOTS):
                    self._free.put(np.empty(CHUNK_BYTES, np.uint8))

    def _read_all(self, reads: Iterable[Read]) -> None:
        try:
            self._read_each(reads)
            self._ready.put(None)
        except BaseException as error:  # raised again where the data is taken
            self._ready.put(error)

    def _read_each(self, reads: Iterable[Read]) -> None:
        with ExitStack() as opened:
            path: Path | None = None
            file: RawIOBase | None = None
            for read in reads:
                buffer = self._buffer(read.nbytes)
                if self._stop or buffer is None:
                    return
                with os_errors_name(read.tensor.path):
                    if file is None or path != read.tensor.path:
                        opened.close()
                        path = read.tensor.path
                        file = opened.enter_context(path.open("rb", buffering=0))
                    read_into(file, read.tensor.offset + read.begin, memoryview(buffer)[: read.nbytes])
                self._ready.put((buffer, read.nbytes))

    def _buffer(self, nbytes: int) -> ByteArray | None:
        buffer: ByteArray | None = None
        for _ in range(_slots_taken(nbytes)):
            buffer = self._free.get()
        return buffer if nbytes <= CHUNK_BYTES or buffer is None else np.empty(nbytes, np.uint8)


def _slots_taken(nbytes: int) -> int:
    return 1 if nbytes <= CHUNK_BYTES else _SLOTS
