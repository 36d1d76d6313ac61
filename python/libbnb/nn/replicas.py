# SPDX-License-Identifier: MIT
"""The same quantized weights in every process: what DistributedDataParallel does for parameters, with their scales.

DDP sends parameters from the first process to all. Codes without their scales would be other weights, and codes in FP8
are nothing that gloo can send; so the two travel together here, and DDP leaves them alone.
"""

# PyTorch hands out modules without types.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.module import register_module_module_registration_hook

from libbnb._dtensor import dist, is_sharded
from libbnb._errors import InvalidArgument
from libbnb.nn._parameter import QuantizedParameter
from libbnb.nn.parametrize import Bnb4bitParametrization


def broadcast_quantized(module: torch.nn.Module, process_group: Any = None, group_src: int = 0) -> list[str]:
    """Gives every process the quantized weights of one of them: codes, scales, and what else belongs to them.

    `DistributedDataParallel` calls this itself when it gets a module with quantized weights. All processes of the group
    must call it, with the same layers.

    Parameters
    ----------
    module
        Its quantized weights are written in place. Weights that are still floats are left alone, and so are shards.
    process_group
        The default one if None.
    group_src
        The process whose weights all get, by its number in the group.

    Returns
    -------
    list of str
        The names of the parameters that were sent.

    Raises
    ------
    InvalidArgument
        The weights of two processes differ in name, format, shape or dtype.
    """
    parameters = {
        name: p
        for name, p in module.named_parameters()
        if isinstance(p, QuantizedParameter) and p.holds_codes and not is_sharded(p)
    }
    tensors = {
        f"{name}.{i}": tensor for name, p in parameters.items() for i, tensor in enumerate((p.data, *p.statistics()))
    }
    parts: Any = module.named_modules()
    for name, part in parts:
        if isinstance(part, Bnb4bitParametrization):
            tensors |= {f"{name}.{i}": tensor for i, tensor in enumerate(part.quant_state.tensors())}
    _refuse_others(tensors, process_group)
    source = dist.get_global_rank(process_group or dist.group.WORLD, group_src)
    with torch.no_grad():
        works = [
            dist.broadcast(_as_bytes(tensor), source, group=process_group, async_op=True)
            for tensor in tensors.values()
            if tensor.numel()
        ]
        for work in works:
            work.wait()
    return list(parameters)


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


def _refuse_others(tensors: dict[str, torch.Tensor], process_group: Any) -> None:
    mine = {name: f"{tensor.dtype} of shape {tuple(tensor.shape)}" for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise InvalidArgument(f"{name}: a part of a quantized weight is not contiguous and cannot be sent")
    all_: list[Any] = [None] * dist.get_world_size(process_group)
    dist.all_gather_object(all_, mine, group=process_group)
    for rank, theirs in enumerate(all_):
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                raise InvalidArgument(
                    f"{name.rpartition('.')[0]}: quantized weights differ between processes: {mine.get(name)} here, "
                    f"{theirs.get(name)} in process {rank}"
                )


def _when_ddp_takes_a_module(owner: torch.nn.Module, name: str, module: Any) -> None:
    if name != "module" or not isinstance(owner, torch.nn.parallel.DistributedDataParallel):
        return
    if not any(isinstance(p, QuantizedParameter) for p in module.parameters()) and not any(
        isinstance(part, Bnb4bitParametrization) for part in module.modules()
    ):
        return
    ddp: Any = owner
    ddp.parameters_to_ignore.update(broadcast_quantized(module, ddp.process_group))


if dist.is_available():
    # PyTorch has no hook for this alone. It calls this one before anything is sent.
    register_module_module_registration_hook(_when_ddp_takes_a_module)
