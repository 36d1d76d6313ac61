# SPDX-License-Identifier: MIT
"""Sharded checkpoints of optimizers: saved by two processes, loaded by two, by one, and by one without shards."""

from __future__ import annotations

import os
import sys
from copy import deepcopy
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

NAMES = ("AdamW8bit", "AdEMAMix8bit", "AdamW")


def model(inputs: int) -> Any:
    """With 256 inputs, rows are blocks; with 64, half of 130 rows is no number of blocks. Biases are in fp32."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(inputs, 130), torch.nn.Tanh(), torch.nn.Linear(130, 3))


def train(net: Any, optimizer: Any, steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, net[0].in_features, generator=generator)
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        optimizer.step()


def make(name: str, net: Any) -> Any:
    import libbnb.optim as optim

    return getattr(optim, name)(net.parameters(), lr=1e-2)


def whole(value: Any) -> Any:
    return value.full_tensor().detach().clone() if hasattr(value, "full_tensor") else value


def states(net: Any, optimizer: Any) -> dict[str, dict[str, Any]]:
    """The states by names of parameters, without shards."""
    return {
        name: {key: whole(value) for key, value in optimizer.state[p].items()} for name, p in net.named_parameters()
    }


def same(mine: Any, saved: Any) -> None:
    assert mine.keys() == saved.keys()
    for name, state in saved.items():
        assert mine[name].keys() == state.keys()
        for key, value in state.items():
            equal = torch.equal(mine[name][key], value) if isinstance(value, torch.Tensor) else mine[name][key] == value
            assert equal, (name, key)


def sharded(inputs: int) -> Any:
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    return fully_shard(model(inputs), mesh=mesh)


def save(folder: str) -> None:
    """Trains, saves shards with torch.distributed.checkpoint, and all in one piece for comparisons."""
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    for name in NAMES:
        for inputs in (256, 64):
            net = sharded(inputs)
            optimizer = make(name, net)
            train(net, optimizer, 3)
            at = os.path.join(folder, f"{name}-{inputs}")
            checkpoint.save({"optimizer": get_optimizer_state_dict(net, optimizer)}, checkpoint_id=at)
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            full = deepcopy(get_optimizer_state_dict(net, optimizer, options=options))
            told = {"states": states(net, optimizer), "full": full}
            told["parameters"] = [whole(p) for p in net.parameters()]
            train(net, optimizer, 2, seed=2)
            told["later"] = [whole(p) for p in net.parameters()]
            if torch.distributed.get_rank() == 0:
                torch.save(told, at + ".pt")


def load(folder: str) -> None:
    """Loads what any number of processes saved; what would have blocks cut is refused."""
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    import libbnb

    for name in NAMES:
        for inputs in (256, 64):
            at = os.path.join(folder, f"{name}-{inputs}")
            told = torch.load(at + ".pt", weights_only=False)
            saved_by = 2 if folder.endswith("2") else 1
            cut = inputs == 64 and name != "AdamW" and torch.distributed.get_world_size() != saved_by
            for way in ("shards", "full"):
                net = sharded(inputs)
                optimizer = make(name, net)
                into = {"optimizer": get_optimizer_state_dict(net, optimizer)}
                options = StateDictOptions(full_state_dict=way == "full")
                if cut:
                    errors = (checkpoint.CheckpointException, libbnb.Error, RuntimeError, ValueError)
                    with pytest.raises(errors, match=r"absmax1|ize mismatch|size of tensor"):
                        if way == "shards":
                            checkpoint.load(into, checkpoint_id=at)
                        else:
                            into["optimizer"] = told["full"]
                        set_optimizer_state_dict(net, optimizer, into["optimizer"], options=options)
                    continue
                if way == "shards":
                    checkpoint.load(into, checkpoint_id=at)
                else:
                    into["optimizer"] = told["full"]
                set_optimizer_state_dict(net, optimizer, into["optimizer"], options=options)
                same(states(net, optimizer), told["states"])
                with torch.no_grad():
                    for p, value in zip(net.parameters(), told["parameters"], strict=True):
                        p.copy_(torch.distributed.tensor.distribute_tensor(value, p.device_mesh, p.placements))
                train(net, optimizer, 2, seed=2)
                for p, value in zip(net.parameters(), told["later"], strict=True):
                    # Sums of gradients come in another order, so that a code here and there is another one.
                    assert float((whole(p) - value).abs().mean()) < 1e-4, (name, inputs)


def worker(what: str, *arguments: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    (save if what == "save" else load)(*arguments)
    processes.leave()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Checkpoints by how many processes wrote them."""
    folders = {size: tmp_path_factory.mktemp("saved") / f"by{size}" for size in (1, 2)}
    for size, folder in folders.items():
        folder.mkdir()
        processes.succeed(__file__, "save", folder, size=size)
    return folders


@pytest.mark.parametrize("loading", [1, 2])
@pytest.mark.parametrize("saving", [1, 2])
def test_resharding(saved: dict[int, Path], saving: int, loading: int) -> None:
    processes.succeed(__file__, "load", saved[saving], size=loading)


@pytest.mark.parametrize("inputs", [256, 64])
@pytest.mark.parametrize("name", NAMES)
def test_without_shards(saved: dict[int, Path], name: str, inputs: int) -> None:
    """A full state dict of two processes in an optimizer of one without DTensors."""
    told = torch.load(saved[2] / f"{name}-{inputs}.pt", weights_only=False)
    net = model(inputs)
    optimizer = make(name, net)
    names = [name for name, _ in net.named_parameters()]
    groups = [dict(told["full"]["param_groups"][0], params=list(range(len(names))))]
    full = {"state": {i: told["full"]["state"][name] for i, name in enumerate(names)}, "param_groups": groups}
    if inputs == 64 and name != "AdamW":
        with pytest.raises(ValueError, match="absmax1: its 2 shards begin where no block of 256 elements does"):
            optimizer.load_state_dict(full)
        return
    optimizer.load_state_dict(full)
    with torch.no_grad():
        for p, value in zip(net.parameters(), told["parameters"], strict=True):
            p.copy_(value)
    train(net, optimizer, 2, seed=2)
    for p, value in zip(net.parameters(), told["later"], strict=True):
        assert float((p.detach() - value).abs().mean()) < 1e-4


if __name__ == "__main__":
    worker(*sys.argv[1:])
