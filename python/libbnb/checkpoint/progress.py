# SPDX-License-Identifier: MIT
"""What is told while a plan is carried out."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What is told while a plan is carried out."""

    def start(self, total_bytes: int, done_bytes: int) -> None:
        """The work is to read so many bytes; some were done by an earlier run."""

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        """So many more bytes of the tensor `name` were read and worked on, and so many of its elements."""


class Silent:
    """Progress for programs."""

    def start(self, total_bytes: int, done_bytes: int) -> None:
        """Say nothing."""

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        """Say nothing."""
