# SPDX-License-Identifier: MIT
"""The error of everything about GGUF files."""

from __future__ import annotations

from libbnb.checkpoint.errors import CheckpointError


class GGUFError(CheckpointError):
    """A GGUF file that cannot be read or made; the message names the file or the tensor and says why."""
