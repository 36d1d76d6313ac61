# SPDX-License-Identifier: MIT
"""A result on its way: a folder beside the final place, with a journal of what is done, renamed when all of it is.

Nothing ever appears under a final name before it is complete and on the disk. A run that was killed leaves the folder
behind, and the journal tells the next one where to go on.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from libbnb.checkpoint import journal
from libbnb.checkpoint.errors import CheckpointError, os_errors_name
from libbnb.checkpoint.layout import Shard
from libbnb.checkpoint.writer import Writer, write_all

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def partial_path(destination: Path) -> Path:
    """The folder that holds what is not finished yet."""
    return destination.with_name(destination.name + ".partial")


class Partial(Writer):
    """The files of a result that is being made.

    Parameters
    ----------
    destination : Path
        Where the result will be.
    shards : list of Shard
        The weight files.
    job : dict
        Whatever decides the bytes of the result (source, options); a run can only be continued by an equal job.
    resume : bool
        Go on with what an earlier run left, if it left something.

    Attributes
    ----------
    done : set of int
        Numbers of the steps that need not be done again.
    """

    def __init__(self, destination: Path, shards: list[Shard], job: dict[str, Any], resume: bool) -> None:
        super().__init__(partial_path(destination), shards)
        self.destination = destination
        self._all_shards = shards
        self._completed = False
        self._ours = False  # whether the folder is that of this run, not of another one or another job
        self._shared = False  # whether other processes write into it, too
        self._job = job
        self._resume = resume

    def __enter__(self) -> Partial:
        refuse_existing(self.destination)
        try:
            with os_errors_name(self.path):
                self._journal = self._open_journal()
                for shard in self._all_shards:
                    self._files[shard.file_name] = self._open_shard(shard)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _open_journal(self) -> TextIO:
        self._refuse_what_is_there()
        self.path.mkdir(parents=True, exist_ok=True)
        file = self._closing.enter_context((self.path / journal.JOURNAL).open("a+", encoding="utf-8"))
        journal.lock(file, self.path)
        file.seek(0)
        lines = journal.complete_lines(file.read())
        if lines:
            _refuse_other_job(self.path, lines[0], self._job)
            self.done = journal.done_in(lines) | journal.taken_over(self.path, self._job)
        else:
            _clear(self.path)
        self._ours = True
        # Written anew: a line that was cut off by a crash must not stay in front of the next one.
        file.truncate(0)
        for line in [self._job, *({"done": number} for number in sorted(self.done))]:
            journal.write_line(file, line)
        file.flush()
        os.fsync(file.fileno())
        for taken in journal.share_paths(self.path):
            taken.unlink()
        return file

    def _refuse_what_is_there(self) -> None:
        if not self.path.exists():
            return
        if not (self.path / journal.JOURNAL).is_file():
            raise CheckpointError(f"{self.path}: is in the way, and not made by libbnb; delete or rename it")
        if not self._resume:
            raise CheckpointError(
                f"{self.path}: left by a run that did not finish; add --resume to go on with it, or delete it"
            )

    def _open_shard(self, shard: Shard) -> RawIOBase:
        path = self.path / shard.file_name
        file = self._closing.enter_context(path.open("r+b" if path.exists() else "w+b", buffering=0))
        try:
            _reserve(file.fileno(), shard.nbytes)
            file.truncate(shard.nbytes)
            write_all(file, 0, memoryview(shard.header))
        except OSError as error:
            raise CheckpointError(self._too_small(path, error)) from error
        return file

    def _too_small(self, path: Path, error: OSError) -> str:
        reason = os.strerror(error.errno or 0).lower()
        if error.errno not in _FULL:
            return f"{path}: {reason}"
        needed = sum(shard.nbytes for shard in self._all_shards) / 1e6
        free = shutil.disk_usage(self.path).free / 1e6
        return f"{path}: {reason}: the result has {needed:.1f} MB, {free:.1f} MB are free there"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._completed:
            return
        # An error is on its way up already; what cannot be saved now will be done again.
        with suppress(OSError, CheckpointError):
            if self._ours and self._finished_steps:
                self.sync()
        with suppress(OSError):
            self._closing.close()
        if self._ours and not self._shared and not self.done:
            shutil.rmtree(self.path, ignore_errors=True)  # nothing in it that would save work

    def share(self, token: str) -> None:
        """Let other processes write into the folder: a token in the journal tells them that it is the one meant."""
        self._shared = True
        assert self._journal is not None
        journal.write_line(self._journal, {"token": token})
        self.sync()

    def complete(self, texts: dict[str, str], companions: dict[Path, Path]) -> None:
        """Add the small files, make sure that all is on the disk, and give the result its name.

        Parameters
        ----------
        texts : dict
            File name and content of files that are written (config.json, the index).
        companions : dict
            Relative path and origin of files that are copied.
        """
        refuse_existing(self.destination)
        with os_errors_name(self.path):
            self.sync()
            for relative, origin in companions.items():
                (self.path / relative).parent.mkdir(parents=True, exist_ok=True)
                with os_errors_name(self.path / relative):
                    shutil.copyfile(origin, self.path / relative)
            for name, text in texts.items():
                (self.path / name).write_text(text, encoding="utf-8")
            for name in [*map(str, companions), *texts]:
                _sync_path(self.path / name)
            self._closing.close()
            # Its own last: a folder without it is none that a run could go on with.
            for path in [*journal.share_paths(self.path), self.path / journal.JOURNAL]:
                path.unlink()
            self._completed = True
            self._give_name()

    def _give_name(self) -> None:
        if self.destination.suffix == ".safetensors":
            (self.path / self._all_shards[0].file_name).rename(self.destination)
            self.path.rmdir()
        else:
            if self.destination.exists():
                self.destination.rmdir()  # it is empty
            _sync_path(self.path)
            self.path.rename(self.destination)
        _sync_path(self.destination.parent)


def refuse_existing(destination: Path) -> None:
    """Raise if there is something at the destination that would be overwritten."""
    with os_errors_name(destination):
        if destination.is_symlink() or (destination.exists() and not _is_empty_folder(destination)):
            raise CheckpointError(f"{destination}: already exists; delete it or choose another name")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _clear(path: Path) -> None:
    """Delete what is left of a run whose journal does not tell what it is."""
    for left in path.iterdir():
        if left.name != journal.JOURNAL:
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _reserve(descriptor: int, nbytes: int) -> None:
    """Have a full disk found now, not after an hour; where the file system cannot, it is found later."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _sync_path(path: Path) -> None:
    """Bring a file or, where the system can, a folder's entries to the disk."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_other_job(path: Path, left: journal.Line, job: journal.Line) -> None:
    if other := journal.difference(left, job):
        key, there, here = other
        raise CheckpointError(
            f"{path}: was made with another {key} ({there!r}, now {here!r}); repeat that, or delete it"
        )
