# SPDX-License-Identifier: MIT
"""Parts of a 4-bit tensor: their codes are a piece of memory, and this finds the scales that belong to them."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from math import gcd, prod
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.quant_state import QuantState


def gather_absmax(state: QuantState, blocks: torch.Tensor) -> torch.Tensor:
    """The absmax of some blocks in fp32, whether it is nested or not.

    Parameters
    ----------
    state
        The state of a 4-bit tensor.
    blocks
        Numbers of blocks, int64, any shape.
    """
    absmax = state.absmax[blocks]
    if state.state2 is None:
        return absmax
    scale = state.state2.absmax[blocks // _length(state.state2)]
    return state.state2.code[absmax.long()] * scale + state.offset


def state_of_part(state: QuantState, start: int, shape: tuple[int, ...]) -> QuantState:
    """The state of some elements in a row of a 4-bit tensor.

    Parameters
    ----------
    state
        That of the whole tensor.
    start
        The number of the first element, even.
    shape
        The shape of the part.

    Returns
    -------
    QuantState
        With views of the scales where blocks of the part are blocks of the whole; where they are not, with scales of
        shorter blocks. A nested absmax stays nested if the part begins where one of its blocks begins.
    """
    count, blocksize = prod(shape), _length(state)
    if start % 2:
        raise InvalidArgument(f"a part of a 4-bit tensor begins at element {start}: two of them share a byte")
    first, last = start // blocksize, -(-(start + count) // blocksize)
    absmax, offset, inner, state2 = None, None, state.state2, None
    if start % blocksize:
        whole, blocksize = blocksize, gcd(start, blocksize)
        begins = torch.arange(start, start + count, blocksize, device=state.absmax.device)
        absmax = gather_absmax(state, begins // whole)
    elif inner is None:
        absmax = state.absmax[first:last]
    elif first % _length(inner):
        absmax = gather_absmax(state, torch.arange(first, last, device=state.absmax.device))
    else:
        absmax, offset = state.absmax[first:last], state.offset
        scales = inner.absmax[first // _length(inner) : -(-last // _length(inner))]
        state2 = QuantState(scales, None, _code_of(inner), inner.blocksize, None, inner.dtype)
    return QuantState(
        absmax, torch.Size(shape), _code_of(state), blocksize, state.quant_type, state.dtype, offset, state2
    )


def _length(state: QuantState) -> int:
    assert state.blocksize is not None
    return state.blocksize


def _code_of(state: QuantState) -> Any:
    return None if state.standard_code else state.code
