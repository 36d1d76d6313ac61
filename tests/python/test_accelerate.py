# SPDX-License-Identifier: MIT
"""Hugging Face accelerate with two processes: prepare, steps, save_state and load_state of QLoRA with 8-bit states."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

import torch

import processes

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]


class Adapted(torch.nn.Module):
    """A frozen 4-bit layer and a small one that learns (QLoRA, arXiv:2305.14314)."""

    def __init__(self, storage: Any) -> None:
        from libbnb.nn import LinearNF4

        super().__init__()
        self.base = LinearNF4(64, 96, False, quant_storage=storage)
        self.down = torch.nn.Linear(64, 64, bias=False)
        self.up = torch.nn.Linear(64, 96, bias=False)

    def forward(self, x: Any) -> Any:
        return self.base(x) + self.up(self.down(x))


def accelerator(sharded: bool) -> Any:
    """An Accelerator on CPUs; accelerate itself offers FSDP on other devices only, so it is told that it does here."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    if not sharded:
        return Accelerator(cpu=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, state_dict_type="SHARDED_STATE_DICT", auto_wrap_policy="NO_WRAP", reshard_after_forward=True
    )
    made = Accelerator(cpu=True, fsdp_plugin=plugin)
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state |= {"distributed_type": DistributedType.FSDP, "fsdp_plugin": plugin}
    return made


def prepared(one: Any, sharded: bool, seed: int) -> Any:
    import libbnb.optim as optim

    torch.manual_seed(seed)
    net = Adapted(torch.float32 if sharded else torch.uint8).to("cpu")
    return one.prepare(net, optim.AdamW8bit([p for p in net.parameters() if p.requires_grad], lr=1e-2))


def train(one: Any, net: Any, optimizer: Any, steps: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed + one.process_index)
    losses: list[float] = []
    for _ in range(steps):
        loss = net(torch.randn(4, 64, generator=generator)).square().mean()
        one.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def kind(tensor: Any) -> str:
    return type(tensor).__name__


def save(one: Any, folder: str, sharded: bool) -> list[float]:
    """The losses after what was saved."""
    net, optimizer = prepared(one, sharded, 0)
    assert kind(net) == ("FSDPAdapted" if sharded else "DistributedDataParallel")
    first = train(one, net, optimizer, 3, seed=0)
    one.save_state(folder)
    later = train(one, net, optimizer, 3, seed=100)
    assert later[-1] < first[0]
    whole = one.get_state_dict(net)
    if one.is_main_process:
        torch.save({key: value.detach() for key, value in whole.items()}, f"{folder}/whole.pt")
    one.free_memory()
    return later


def load(one: Any, folder: str, sharded: bool, later: list[float]) -> None:
    """Other weights, another history; with what was saved, the same steps to the last bit."""
    net, optimizer = prepared(one, sharded, 1)
    train(one, net, optimizer, 1, seed=7)
    one.load_state(folder)
    assert train(one, net, optimizer, 3, seed=100) == later
    states: list[Any] = [state["state1"] for state in optimizer.optimizer.state.values()]
    assert [state.dtype for state in states] == [torch.uint8, torch.uint8]
    assert all(kind(state) == ("DTensor" if sharded else "Tensor") for state in states)


def worker(folder: str, way: str) -> None:
    torch.set_num_threads(1)
    one = accelerator(way == "fsdp2")
    assert one.num_processes == 2
    load(one, folder, way == "fsdp2", save(one, folder, way == "fsdp2"))
    processes.leave()


@pytest.mark.parametrize("way", ["ddp", "fsdp2"])
def test_save_state_load_state(tmp_path: Path, way: str) -> None:
    processes.succeed(__file__, tmp_path, way)
    whole = torch.load(tmp_path / "whole.pt")
    assert {"base.weight", "base.weight.absmax", "up.weight"} <= set(whole)
    net = Adapted(torch.float32 if way == "fsdp2" else torch.uint8).to("cpu")
    net.load_state_dict(whole)  # what get_state_dict gives is for one process


if __name__ == "__main__":
    worker(*sys.argv[1:])
