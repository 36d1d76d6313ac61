# SPDX-License-Identifier: MIT
"""The way from a function to PyTorch's operators, where torch.compile traces the caller."""

from __future__ import annotations

import sys
from typing import Any


def compiling() -> bool:
    """Whether torch.compile is tracing the caller: then only operators will do, and arrays have no memory."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def traced() -> Any:
    """The functions that torch.compile is to see, by the names of those it would not understand."""
    from libbnb.autograd import _traced

    return _traced
