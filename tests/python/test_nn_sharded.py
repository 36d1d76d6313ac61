# SPDX-License-Identifier: MIT
"""4-bit layers that FSDP2 spreads over two processes: they compute, learn beside adapters, are saved and loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

import processes

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]


class Adapted(torch.nn.Module):
    """A frozen 4-bit layer and a small one that learns, as in QLoRA (arXiv:2305.14314)."""

    def __init__(self, nested: bool) -> None:
        from libbnb.nn import LinearNF4

        super().__init__()
        self.base = LinearNF4(64, 96, False, compress_statistics=nested, quant_storage=torch.float32)
        self.down = torch.nn.Linear(64, 4, bias=False)
        self.up = torch.nn.Linear(4, 96, bias=False)

    def forward(self, x: Any) -> Any:
        return self.base(x) + self.up(self.down(x))


def model(nested: bool, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return Adapted(nested).to("cpu")


def step(net: Any) -> Any:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    loss = net(x).square().mean()
    loss.backward()
    return loss.detach()


def sharded(nested: bool, seed: int = 0) -> Any:
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    return fully_shard(model(nested, seed), mesh=mesh)


def plain(key: str, value: Any) -> Any:
    """The bytes of an entry of a state dict; of JSON without the blanks behind it, which sharded ones have."""
    data = bytes(value.detach().contiguous().view(torch.uint8).flatten().tolist())
    return data.rstrip(b" ") if "quant_state" in key else data


def same(saved: dict[str, Any], whole: dict[str, Any]) -> None:
    assert saved.keys() == whole.keys(), (saved.keys(), whole.keys())
    for key, value in saved.items():
        assert value.dtype == whole[key].dtype and plain(key, value) == plain(key, whole[key]), key


def full(net: Any) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))


def learn(nested: bool) -> None:
    """What is computed is what one process computes; a full state dict is that of one process."""
    single = model(nested)
    expected = step(single)
    net = sharded(nested)
    if torch.distributed.get_world_size() > 1:
        assert net.base.weight.to_local().numel() < single.base.weight.numel()
    for _ in range(2):  # the second time with parameters that were gathered and let go before
        net.zero_grad()
        assert torch.equal(step(net), expected)
    for name in ("down", "up"):
        grad = getattr(net, name).weight.grad.full_tensor()
        assert torch.allclose(grad, getattr(single, name).weight.grad, rtol=1e-5, atol=1e-7)
    same(full(net), single.state_dict())


def save(nested: bool, folder: str) -> None:
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    saved = get_model_state_dict(sharded(nested))
    checkpoint.save({"model": saved}, checkpoint_id=os.path.join(folder, str(nested)))


def load(nested: bool, folder: str) -> None:
    """Shards of any number of processes, and full state dicts, into layers that had other weights and were saved."""
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

    single = model(nested)
    expected, whole = step(single), single.state_dict()

    net = sharded(nested, seed=1)
    into = {"model": get_model_state_dict(net)}
    checkpoint.load(into, checkpoint_id=os.path.join(folder, str(nested)))
    set_model_state_dict(net, into["model"])
    assert torch.equal(step(net), expected)
    same(full(net), whole)

    net = sharded(nested, seed=2)
    step(net)
    set_model_state_dict(net, dict(whole), options=StateDictOptions(full_state_dict=True))
    assert torch.equal(step(net), expected)
    same(full(net), whole)


def refuse() -> None:
    """What cannot be loaded into shards is said, and never makes codes and scales of different weights meet."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
    from torch.distributed.tensor import distribute_tensor

    net = sharded(False)
    shards = get_model_state_dict(net)
    weight = shards["base.weight"]
    scales = {key: value for key, value in shards.items() if key.startswith("base.weight.")}
    codes = {key: value for key, value in shards.items() if key not in scales}
    with pytest.raises(RuntimeError, match=r"base\.weight: codes without what belongs to them"):
        net.load_state_dict(codes)
    floats = distribute_tensor(torch.zeros(96, 64), weight.device_mesh, weight.placements)
    with pytest.raises(RuntimeError, match="float weights cannot become shards of codes"):
        net.load_state_dict(codes | {"base.weight": floats})
    with pytest.raises(RuntimeError, match=r"must be a DTensor of torch\.float32, shape \(768, 1\)"):
        net.load_state_dict(shards | {"base.weight": weight.full_tensor()})
    if torch.distributed.get_rank() == 1:  # rank 0 sends parameters only
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        with pytest.raises(RuntimeError, match="a full state dict is needed in every process"):
            set_model_state_dict(net, {}, options=options)
    elif torch.distributed.get_world_size() > 1:
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(net, model(False).state_dict(), options=options)


def worker(what: str, folder: str) -> None:
    """What each process runs."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for nested in (False, True):
        if what == "save":
            learn(nested)
            save(nested, folder)
        load(nested, folder)
    refuse()
    processes.leave()


def test_two_processes_then_one(tmp_path: Path) -> None:
    processes.succeed(__file__, "save", tmp_path, size=2)
    processes.succeed(__file__, "load", tmp_path, size=1)


def test_one_process_then_two(tmp_path: Path) -> None:
    processes.succeed(__file__, "save", tmp_path, size=1)
    processes.succeed(__file__, "load", tmp_path, size=2)


if __name__ == "__main__":
    worker(*sys.argv[1:])
