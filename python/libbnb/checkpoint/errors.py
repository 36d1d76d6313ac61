# SPDX-License-Identifier: MIT
"""The error that everything about checkpoints raises, with a message made for one line on a terminal."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from libbnb._errors import Error


class CheckpointError(Error, ValueError):
    """A checkpoint that cannot be read or written; the message names the file and says why."""


@contextmanager
def os_errors_name(path: Path) -> Generator[None]:
    """Turn the operating system's errors about `path` into a `CheckpointError` that names it."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CheckpointError(f"{error.filename or path}: {reason}") from error
