# SPDX-License-Identifier: MIT
"""Checks of the arguments that are not arrays. Those of arrays are in the C library, which knows what it needs."""

from __future__ import annotations

import operator
from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._native import QUANT_TYPES

_LIMIT = 2**63

FOUR_BIT = ("fp4", "nf4")
FP8 = ("fp8_e4m3fn", "fp8_e5m2")
TERNARY = ("ternary", "tq1_0", "tq2_0")
MX = ("mxfp4", "mxfp8_e4m3fn", "mxfp8_e5m2", "nvfp4")


def block_length(blocksize: Any, name: str = "blocksize") -> int:
    """A block size as an int of 1 or more that fits the C library."""
    if type(blocksize) is not int:
        if isinstance(blocksize, bool):
            raise TypeError(f"{name} is {blocksize}, must be an int")
        try:
            blocksize = operator.index(blocksize)
        except TypeError:
            raise TypeError(f"{name} is {blocksize!r}, must be an int") from None
    if not 1 <= blocksize < _LIMIT:
        raise InvalidArgument(f"{name} is {blocksize}, must be at least 1 and below 2**63")
    return blocksize


def even_block_length(blocksize: Any, name: str = "blocksize") -> int:
    """A block size of the 4-bit formats: two codes share a byte, so blocks have an even number of elements."""
    blocksize = block_length(blocksize, name)
    if blocksize & 1:
        raise InvalidArgument(f"{name} is {blocksize}, must be even for 4-bit formats")
    return blocksize


def quant_type_number(quant_type: Any, allowed: tuple[str, ...] = FOUR_BIT) -> int:
    """The number that the C library gives a format."""
    number = QUANT_TYPES.get(quant_type) if isinstance(quant_type, str) else None
    if number is None or quant_type not in allowed:
        raise InvalidArgument(f"quant_type is {quant_type!r}, must be {' or '.join(map(repr, allowed))}")
    return number
