# SPDX-License-Identifier: MIT
"""What a process of several writes into the folder that the first one of them made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from libbnb.checkpoint import journal
from libbnb.checkpoint.errors import CheckpointError, os_errors_name
from libbnb.checkpoint.layout import Shard
from libbnb.checkpoint.writer import Writer


class Share(Writer):
    """The files that this process has tensors for, and its journal.

    Parameters
    ----------
    path : Path
        The folder.
    shards : list of Shard
        The weight files, of which only those that have a step of this process are opened.
    job : dict
        What this process would do; the first process must do the same.
    rank : int
        The number of this process.
    token : str
        What the first process wrote into its journal.
    """

    def __init__(self, path: Path, shards: list[Shard], job: dict[str, Any], rank: int, token: str) -> None:
        super().__init__(path, shards)
        self._names = [shard.file_name for shard in shards]
        self._job = job
        self._rank = rank
        self._token = token

    def __enter__(self) -> Share:
        try:
            with os_errors_name(self.path):
                self._refuse_another_folder()
                file = journal.share_path(self.path, self._rank).open("a+", encoding="utf-8")
                self._closing.enter_context(file)
                journal.lock(file, self.path)
                file.truncate(0)
                journal.write_line(file, self._job)
                file.flush()
                self._journal = file
                for name in self._names:
                    opened = (self.path / name).open("r+b", buffering=0)
                    self._files[name] = self._closing.enter_context(opened)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _refuse_another_folder(self) -> None:
        main = self.path / journal.JOURNAL
        lines = journal.complete_lines(main.read_text(encoding="utf-8")) if main.is_file() else []
        if {"token": self._token} not in lines:
            raise CheckpointError(
                f"{self.path}: is not what process 0 made under this name; all processes must see the same folder"
            )
        if other := journal.difference(lines[0], self._job):
            key, there, here = other
            raise CheckpointError(f"another {key} than that of process 0 ({there!r}, here {here!r})")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If this fails, an error is on its way up already; what cannot be saved now will be done again.
        with suppress(OSError, CheckpointError):
            if self._finished_steps:
                self.sync()
        with suppress(OSError):
            self._closing.close()
        self._journal = None

    def close(self) -> None:
        """Bring all to the disk and close the files."""
        self.sync()
        with os_errors_name(self.path):
            self._closing.close()
        self._journal = None
