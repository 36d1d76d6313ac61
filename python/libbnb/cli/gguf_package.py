# SPDX-License-Identifier: MIT
"""What the commands know of GGUF without the gguf package: how a file looks, and what to say where it is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from libbnb.checkpoint import CheckpointError

_MAGIC = b"GGUF"


def need_gguf() -> None:
    """Check that the gguf package is installed.

    Raises
    ------
    CheckpointError
        It is not; the message says what to install.
    """
    if find_spec("gguf") is None:
        raise CheckpointError("GGUF files need the gguf package, which is not installed: pip install 'libbnb[gguf]'")


def is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF file by its first bytes, or claims to be one by its name."""
    if not path.is_file():
        return False
    if path.suffix == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False  # whoever reads it as something else says why it cannot be read
