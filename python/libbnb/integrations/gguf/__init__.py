# SPDX-License-Identifier: MIT
"""GGUF files, built on the `gguf` package: checkpoints written as such, and their content read back.

Needs `pip install "libbnb[gguf]"`. docs/gguf.md says what is written.
"""

from __future__ import annotations

try:
    import gguf as _package
except ModuleNotFoundError as _error:
    if _error.name != "gguf":
        raise
    raise ModuleNotFoundError("GGUF files need the gguf package: pip install 'libbnb[gguf]'", name="gguf") from None

from libbnb.integrations.gguf._errors import GGUFError
from libbnb.integrations.gguf._export import GGUFSummary, export_gguf
from libbnb.integrations.gguf._reader import GGUFFile, GGUFTensor
from libbnb.integrations.gguf._sparsity import sparsity
from libbnb.integrations.gguf._types import TYPE_NAMES, dequantize, quantize

del _package

__all__ = [
    "TYPE_NAMES",
    "GGUFError",
    "GGUFFile",
    "GGUFSummary",
    "GGUFTensor",
    "dequantize",
    "export_gguf",
    "quantize",
    "sparsity",
]
