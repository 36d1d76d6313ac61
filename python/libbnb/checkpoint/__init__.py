# SPDX-License-Identifier: MIT
"""Checkpoints on disk: quantize, dequantize and read safetensors files without loading them, and without PyTorch.

Needs the safetensors package (`pip install "libbnb[cli]"`).
"""

from libbnb.checkpoint.compare import LayerError, compare_formats
from libbnb.checkpoint.dequantize import dequantize_checkpoint
from libbnb.checkpoint.describe import Entry, describe_checkpoint
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats import FORMAT_NAMES, Format, make_format
from libbnb.checkpoint.load import Checkpoint
from libbnb.checkpoint.progress import Progress
from libbnb.checkpoint.quantize import quantize_checkpoint
from libbnb.checkpoint.run import Summary
from libbnb.checkpoint.team import Team, TeamError, joined

__all__ = [
    "FORMAT_NAMES",
    "Checkpoint",
    "CheckpointError",
    "Entry",
    "Format",
    "LayerError",
    "Progress",
    "Summary",
    "Team",
    "TeamError",
    "compare_formats",
    "dequantize_checkpoint",
    "describe_checkpoint",
    "joined",
    "make_format",
    "quantize_checkpoint",
]
