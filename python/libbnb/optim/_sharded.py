# SPDX-License-Identifier: MIT
"""Parameters that are spread over processes (DTensor, as FSDP2 makes them): each process works on its own shard.

States are DTensors like their parameter, and so are the scales of 8-bit states, so that they can be gathered and saved.
Blocks begin anew in each shard. Where shards begin at rows at which blocks begin anyway, the scales have a row for each
of those groups of rows, with any number of processes: such a state can be loaded by another number of them. Where a
block would be cut, each shard has a row of scales, padded to the longest: such a state is for as many processes as
saved it. States in fp32 are for any number.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import torch

from libbnb._dtensor import dist, is_sharded, local
from libbnb._dtensor import module as _dtensor
from libbnb._errors import InvalidArgument

__all__ = [
    "check_scales",
    "is_sharded",
    "local",
    "local_gradient",
    "norm",
    "scales",
    "share_found",
    "whole_scales",
    "zeros",
]


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
        stride=_strides(shape),
    )


@dataclass(frozen=True)
class Scales:
    """The scales of an 8-bit state: their shape, how they are spread, and whether the shape is for any mesh."""

    shape: tuple[int, ...]
    placements: list[Any]
    movable: bool


def scales_of(p: Any, averages: int, blocksize: int) -> Scales:
    """What the scales of a state of a DTensor look like."""
    module = _dtensor()
    axis = 0 if averages == 1 else 1
    groups = _groups(p, averages, blocksize)
    if groups is not None:
        shape = groups if averages == 1 else (averages, *groups)
        return Scales(shape, [module.Shard(axis) if x.is_shard() else module.Replicate() for x in p.placements], True)
    largest = list(p.shape)
    shards = 1
    for i, placement in enumerate(p.placements):
        if placement.is_shard():
            size = p.device_mesh.size(i)
            largest[placement.dim] = -(-largest[placement.dim] // size)
            shards *= size
    each = averages * -(-prod(largest) // blocksize)
    # Four dimensions, which those above never have: one is not taken for the other when a checkpoint is loaded.
    placements = [module.Shard(0) if x.is_shard() else module.Replicate() for x in p.placements]
    return Scales((shards, 1, 1, each), placements, False)


def _groups(p: Any, averages: int, blocksize: int) -> tuple[int, int] | None:
    """Groups of rows at whose beginnings blocks begin, and blocks of a group; None if shards cut groups."""
    cuts = [p.device_mesh.size(i) for i, x in enumerate(p.placements) if x.is_shard()]
    if len(cuts) > 1 or p.dim() == 0 or any(x.is_shard() and not x.is_shard(0) for x in p.placements):
        return None
    rows, row = p.shape[0], prod(p.shape[1:])
    if rows * row == 0:
        return None
    group = blocksize // gcd(row, blocksize)
    each = -(-rows // (cuts[0] if cuts else 1))  # as torch.chunk cuts
    if each % group and each < rows:
        return None
    blocks = group * row // blocksize
    rest = -(-(rows % group) * row // blocksize)  # blocks of a last group that is not whole
    if averages > 1 and rest not in (0, blocks):
        return None  # the second average follows the first without a gap
    return -(-rows // group), blocks


def scales(p: Any, averages: int, blocksize: int) -> torch.Tensor:
    """The scales of an 8-bit state: zeros."""
    look = scales_of(p, averages, blocksize)
    module = _dtensor()
    here = list(look.shape)
    coordinate = p.device_mesh.get_coordinate()
    for i, placement in enumerate(look.placements):
        if placement.is_shard():
            axis: int = placement.dim
            shards: int = p.device_mesh.size(i)
            each = -(-look.shape[axis] // shards) if look.movable else 1
            begin = min(look.shape[axis], each * int(coordinate[i]))
            here[axis] = min(each, look.shape[axis] - begin)
    return module.DTensor.from_local(
        torch.zeros(here, dtype=torch.float32, device=local(p).device),
        p.device_mesh,
        look.placements,
        run_check=False,
        shape=torch.Size(look.shape),
        stride=_strides(look.shape),
    )


def check_scales(p: Any, key: str, value: torch.Tensor, averages: int, blocksize: int) -> None:
    """Whether loaded scales are cut like the shards of their parameter.

    Raises
    ------
    InvalidArgument
        They were saved by another number of processes, and a block would be cut.
    """
    look = scales_of(p, averages, blocksize)
    if tuple(value.shape) != look.shape:
        raise InvalidArgument(
            f"{key} has shape {tuple(value.shape)}, must have {look.shape} for a parameter of shape {tuple(p.shape)} "
            f"in shards {tuple(p.placements)} on {tuple(p.device_mesh.shape)} processes: it was saved by another "
            f"number of processes, and blocks of {blocksize} elements would be cut"
        )


def whole_scales(value: torch.Tensor, key: str, n: int, averages: int, blocksize: int) -> torch.Tensor:
    """Scales that a sharded run saved, for a parameter of `n` elements in one piece.

    Raises
    ------
    InvalidArgument
        Shards cut blocks.
    """
    if value.dim() == 4:
        raise InvalidArgument(
            f"{key}: its {value.shape[0]} shards begin where no block of {blocksize} elements does: this state is for "
            f"{value.shape[0]} processes"
        )
    blocks = -(-n // blocksize)
    flat = value.reshape(averages, -1)[:, :blocks]
    return (flat.reshape(-1) if averages == 1 else flat).clone()


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


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
