# SPDX-License-Identifier: MIT
"""4-bit layers that FSDP2 spreads over two processes: they compute, learn beside adapters, and are saved whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]

WORLD = 2


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


def model(nested: bool) -> Any:
    torch.manual_seed(0)
    return Adapted(nested).to("cpu")


def step(net: Any) -> Any:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    loss = net(x).square().mean()
    loss.backward()
    return loss.detach()


def worker(rank: int) -> None:
    """What each process runs."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (WORLD,))
    for nested in (False, True):
        single = model(nested)
        expected = step(single)
        net = fully_shard(model(nested), mesh=mesh)
        assert net.base.weight.to_local().numel() < single.base.weight.numel()
        for _ in range(2):  # the second time with parameters that were gathered and let go before
            net.zero_grad()
            assert torch.equal(step(net), expected)
        for name in ("down", "up"):
            grad = getattr(net, name).weight.grad.full_tensor()
            assert torch.allclose(grad, getattr(single, name).weight.grad, rtol=1e-5, atol=1e-7)
        saved = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
        whole = single.state_dict()
        assert saved.keys() == whole.keys(), (saved.keys(), whole.keys())
        for key, value in saved.items():
            assert torch.equal(value.view(torch.uint8), whole[key].view(torch.uint8)), key
    dist.destroy_process_group()


def test_two_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in workers]
    finally:
        for process in workers:
            process.kill()
    assert [process.returncode for process in workers] == [0] * WORLD, "\n".join(said)


if __name__ == "__main__":
    worker(int(sys.argv[1]))
