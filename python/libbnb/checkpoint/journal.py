# SPDX-License-Identifier: MIT
"""The journal of a run: a line for the job, then one for each step whose outputs are on the disk.

The journal of a run of several processes is that of the first one; each of the others keeps one of its own beside it,
which the next run takes over.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, TextIO, cast

from libbnb.checkpoint.errors import CheckpointError

Line = dict[str, Any]

JOURNAL = ".journal.jsonl"
_SHARE = ".journal-{:05d}.jsonl"


def share_path(folder: Path, rank: int) -> Path:
    """The journal of a process that is not the first."""
    return folder / _SHARE.format(rank)


def share_paths(folder: Path) -> list[Path]:
    """All journals of such processes."""
    return sorted(path for path in folder.iterdir() if path.name.startswith(".journal-"))


def complete_lines(text: str) -> list[Line]:
    """The lines of a journal; what a crash cut off is not one."""
    lines: list[Line] = []
    for line in text.splitlines(keepends=True):
        try:
            value = json.loads(line) if line.endswith("\n") else None
        except ValueError:
            break
        if not isinstance(value, dict):
            break
        lines.append(cast(Line, value))
    return lines


def done_in(lines: list[Line]) -> set[int]:
    """The numbers of the steps that a journal calls done."""
    return {cast(int, line["done"]) for line in lines if "done" in line}


def write_line(journal: TextIO, line: Line) -> None:
    """Add a line; `journal` is still to be flushed."""
    journal.write(json.dumps(line) + "\n")


def difference(left: Line, job: Line) -> tuple[str, Any, Any] | None:
    """The first thing in which two jobs differ, by its name: what it is there, what it is here."""
    for key, value in json.loads(json.dumps(job)).items():
        if left.get(key) != value:
            return key, left.get(key), value
    return None


def taken_over(folder: Path, job: Line) -> set[int]:
    """The steps that the other processes of an earlier run did.

    Raises
    ------
    CheckpointError
        One of them is still at work.
    """
    done: set[int] = set()
    for path in share_paths(folder):
        with path.open("r+", encoding="utf-8") as journal:
            lock(journal, folder)
            lines = complete_lines(journal.read())
        if lines and difference(lines[0], job) is None:
            done |= done_in(lines)
    return done


def lock(journal: TextIO, path: Path) -> None:
    """Keep a second run away; the system drops the lock when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: an open file cannot be replaced there anyway
        return
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise CheckpointError(f"{path}: another run is writing there") from error
