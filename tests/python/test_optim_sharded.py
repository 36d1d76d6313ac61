# SPDX-License-Identifier: MIT
"""Optimizers on parameters that FSDP2 spreads over two processes: what they do is what one process does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import leave

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]

WORLD = 2
NAMES = ("AdamW", "AdamW8bit", "AdEMAMix8bit", "LAMB", "LARS", "Lion8bit")


def model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 130), torch.nn.Tanh(), torch.nn.Linear(130, 3))


def train(net: Any, optimizer: Any, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 64, generator=generator)
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        optimizer.step()


def make(name: str, net: Any, **options: Any) -> Any:
    import libbnb.optim as optim

    arguments: dict[str, Any] = {"momentum": 0.9} if name == "LARS" else {}
    return getattr(optim, name)(net.parameters(), lr=1e-2, **arguments, **options)


def worker(rank: int, directory: str) -> None:
    """What each process runs."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (WORLD,))
    for name in NAMES:
        net = fully_shard(model(), mesh=mesh)
        optimizer = make(name, net)
        train(net, optimizer, 3)
        whole = [p.full_tensor().detach().clone() for p in net.parameters()]
        if rank == 0:
            torch.save(whole, os.path.join(directory, name + ".pt"))

        saved = {"optimizer": get_optimizer_state_dict(net, optimizer)}
        checkpoint.save(saved, checkpoint_id=os.path.join(directory, name))
        again = make(name, net)
        train(net, again, 1)  # states of its own, of the right form
        into = {"optimizer": get_optimizer_state_dict(net, again)}
        checkpoint.load(into, checkpoint_id=os.path.join(directory, name))
        set_optimizer_state_dict(net, again, into["optimizer"])
        for p in net.parameters():
            first, second = optimizer.state[p], again.state[p]
            assert first.keys() == second.keys(), (name, first.keys(), second.keys())
            for key, value in first.items():
                mine, its = (x.to_local() if hasattr(x, "to_local") else x for x in (value, second[key]))
                assert torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its, (name, key)

    net = fully_shard(model(), mesh=mesh)  # a NaN in one process: both skip
    optimizer = make("AdamW", net, nonfinite="skip_step")
    before = [p.full_tensor().clone() for p in net.parameters()]
    net(torch.randn(8, 64)).sum().backward()
    if rank == 1:
        next(net.parameters()).grad.to_local()[0, 0] = float("nan")
    optimizer.step()
    assert optimizer.found_nonfinite
    assert all(torch.equal(p.full_tensor(), q) for p, q in zip(net.parameters(), before, strict=True))
    leave()


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in workers]
    finally:
        for process in workers:
            process.kill()
    assert [process.returncode for process in workers] == [0] * WORLD, "\n".join(said)

    for name in NAMES:
        net = model()
        train(net, make(name, net), 3)
        got = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        for p, q in zip(net.parameters(), got, strict=True):
            apart = (p.detach() - q).abs()
            if name.endswith("8bit"):  # blocks are cut within shards, so that codes differ, and signs of Lion
                assert float(apart.mean()) < 1e-3, name
            else:  # gradients are sums in another order
                assert float(apart.max()) < 1e-5, name


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2])
