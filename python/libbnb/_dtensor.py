# SPDX-License-Identifier: MIT
"""DTensors, as FSDP2 makes them of parameters: tensors of which each process has a part. Needs PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as _dist

dist: Any = _dist  # its functions have no types


def module() -> Any:
    """torch.distributed.tensor, which is imported when a DTensor is at hand."""
    import torch.distributed.tensor as tensor

    return tensor


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is a DTensor."""
    return dist.is_available() and isinstance(tensor, module().DTensor)


def local(tensor: Any) -> torch.Tensor:
    """The part of a tensor that is here: the tensor itself if it is no DTensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def copy_part(into: Any, value: Any) -> None:
    """Copy the part of `value` that is here into that of `into`; both are DTensors of one shape."""
    if tuple(value.placements) != tuple(into.placements):
        value = value.redistribute(placements=into.placements)
    with torch.no_grad():
        local(into).copy_(local(value))
