# SPDX-License-Identifier: MIT
"""Parameters that are spread over processes (DTensor, as FSDP2 makes them): each process works on its own shard.

States are DTensors like their parameter. The scales of 8-bit states have one row of blocks for each shard, padded to
the largest one, so that they are DTensors that can be gathered and saved, too. Blocks follow shards: an 8-bit state can
be loaded by as many processes as saved it; states in fp32 by any number.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.distributed as _dist

dist: Any = _dist  # its functions have no types


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is a DTensor."""
    return dist.is_available() and isinstance(tensor, _dtensor().DTensor)


def _dtensor() -> Any:
    import torch.distributed.tensor as module

    return module


def local(tensor: Any) -> torch.Tensor:
    """The part of a tensor that is here: the tensor itself if it is no DTensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def local_gradient(p: Any, g: Any) -> torch.Tensor:
    """The gradient of the shard of `p` that is here."""
    if is_sharded(g) and tuple(g.placements) != tuple(p.placements):
        g = g.redistribute(placements=p.placements)
    return local(g)


def zeros(p: Any, averages: int, dtype: torch.dtype) -> torch.Tensor:
    """A state of zeros, spread like its parameter."""
    if averages == 1:
        return torch.zeros_like(p, dtype=dtype, memory_format=torch.contiguous_format)
    module = _dtensor()
    here = local(p)
    placements = [module.Shard(x.dim + 1) if x.is_shard() else x for x in p.placements]
    shape = torch.Size((averages, *p.shape))
    return module.DTensor.from_local(
        torch.zeros((averages, *here.shape), dtype=dtype, device=here.device),
        p.device_mesh,
        placements,
        run_check=False,
        shape=shape,
        stride=tuple(prod(shape[i + 1 :]) for i in range(len(shape))),
    )


def scales(p: Any, averages: int, blocksize: int) -> torch.Tensor:
    """The scales of an 8-bit state: for each shard as many as the largest one needs; those of the padding stay 0."""
    module = _dtensor()
    largest = list(p.shape)
    shards = 1
    for i, placement in enumerate(p.placements):
        if placement.is_shard():
            size = p.device_mesh.size(i)
            largest[placement.dim] = -(-largest[placement.dim] // size)
            shards *= size
    each = averages * -(-prod(largest) // blocksize)
    return module.DTensor.from_local(
        torch.zeros(each, dtype=torch.float32, device=local(p).device),
        p.device_mesh,
        [module.Shard(0) if x.is_shard() else module.Replicate() for x in p.placements],
        run_check=False,
        shape=torch.Size((each * shards,)),
        stride=(1,),
    )


def norm(p: Any, here: torch.Tensor) -> float:
    """Euclidean norm of all shards together, of which `here` is a norm in this process. Every process must call it."""
    square = here.double() ** 2
    for i, placement in enumerate(p.placements):
        if placement.is_shard():
            dist.all_reduce(square, group=p.device_mesh.get_group(i))
    return float(square.sqrt())


def share_found(p: Any, found: torch.Tensor) -> None:
    """Makes a found_inf what the largest one of all shards is. Every process must call it."""
    for i, placement in enumerate(p.placements):
        if placement.is_shard():
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=p.device_mesh.get_group(i))
