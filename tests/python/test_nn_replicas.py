# SPDX-License-Identifier: MIT
"""DistributedDataParallel with quantized layers: the weights of process 0 in all, adapters that learn together."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

import processes

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]

KINDS = ("nf4", "nf4 nested", "fp4 in bfloat16", "int8", "fp8", "experts", "parametrized", "floats")


def layer(kind: str, seed: int) -> Any:
    """A layer with 64 inputs and 96 outputs."""
    import libbnb.nn as nn
    from libbnb.nn.parametrize import replace_parameter_4bit

    torch.manual_seed(seed)
    if kind == "int8":
        return nn.Linear8bitLt(64, 96, False, has_fp16_weights=False).to("cpu")
    if kind == "fp8":
        return nn.LinearFP8(64, 96, False).to("cpu")
    if kind == "parametrized":
        made = torch.nn.Linear(64, 96, False)
        replace_parameter_4bit(made, "weight", quant_type="nf4", compress_statistics=True)
        return made
    if kind == "experts":
        made = Expert()
        nn.quantize_parameter_4bit(made, "weight")
        return made
    if kind == "fp4 in bfloat16":
        return nn.LinearFP4(64, 96, False, quant_storage=torch.bfloat16).to("cpu")
    made = nn.LinearNF4(64, 96, False, compress_statistics="nested" in kind)
    return made if kind == "floats" else made.to("cpu")


class Expert(torch.nn.Module):
    """The second of three experts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 96, 64), requires_grad=False)

    def forward(self, x: Any) -> Any:
        return torch.nn.functional.linear(x, self.weight[1])


def adapted(kind: str, seed: int) -> Any:
    """A frozen layer and one that learns (QLoRA, arXiv:2305.14314)."""
    base = layer(kind, seed).requires_grad_(False)
    return torch.nn.Sequential(base, torch.nn.Linear(96, 64, bias=False))


def data(rank: int, step: int) -> Any:
    return torch.randn(4, 64, generator=torch.Generator().manual_seed(10 * step + rank))


def starts_equal(rank: int) -> None:
    """Every process made other weights; then all have those of process 0, scales included."""
    for kind in KINDS:
        expected = adapted(kind, 0).eval()
        mine = adapted(kind, rank).eval()
        assert torch.equal(mine(data(0, 0)), expected(data(0, 0))) == (rank == 0), kind
        mine = adapted(kind, rank).eval()  # anew: the call quantized what was still floats
        if rank == 0:
            mine.state_dict()  # which makes the standard code a tensor, in this process only
        net = torch.nn.parallel.DistributedDataParallel(mine)
        assert torch.equal(net(data(0, 0)), expected(data(0, 0))), kind


def learns(rank: int) -> None:
    """Two processes with half of the data each do what one does with all; their copies stay equal, bit for bit."""
    import libbnb.optim as optim

    for name in ("AdamW", "AdamW8bit"):
        alone = adapted("nf4 nested", 0)
        net = torch.nn.parallel.DistributedDataParallel(adapted("nf4 nested", rank))
        made = [getattr(optim, name)([x[1].weight], lr=1e-2) for x in (alone, net.module)]
        for step in range(4):
            for optimizer in made:
                optimizer.zero_grad()
            net(data(rank, step)).square().mean().backward()
            alone(torch.cat([data(0, step), data(1, step)])).square().mean().backward()
            assert torch.allclose(net.module[1].weight.grad, alone[1].weight.grad, rtol=1e-4, atol=1e-6), step
            alone[1].weight.grad.copy_(net.module[1].weight.grad)  # codes of 8 bits tell the last bit apart
            for optimizer in made:
                optimizer.step()
        assert torch.equal(net.module[1].weight, alone[1].weight), name
        state: dict[str, Any] = made[1].state[net.module[1].weight]
        assert state["state1"].dtype == (torch.uint8 if name == "AdamW8bit" else torch.float32)
        for tensor in (net.module[1].weight.detach(), state["state1"], state["state2"]):
            both = [torch.empty_like(tensor) for _ in range(2)]
            torch.distributed.all_gather(both, tensor.contiguous())
            assert torch.equal(both[0], both[1])


def refuses(rank: int) -> None:
    """Weights that cannot be those of the other process: all are told."""
    from libbnb import InvalidArgument
    from libbnb.nn import LinearNF4

    net = torch.nn.Sequential(LinearNF4(64, 96, blocksize=(64, 128)[rank]).to("cpu"), torch.nn.Linear(96, 1))
    with pytest.raises(InvalidArgument, match=r"^0\.weight: quantized weights differ between processes: torch\.uint8"):
        torch.nn.parallel.DistributedDataParallel(net)


def worker() -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    starts_equal(rank)
    learns(rank)
    refuses(rank)
    processes.leave()


def test_two_processes() -> None:
    processes.succeed(__file__)


def test_modules_of_others_are_left_alone() -> None:
    """The hook that sees every module: it does nothing but for DistributedDataParallel."""
    from libbnb.nn import LinearNF4

    net = torch.nn.Module()
    net.module = LinearNF4(64, 96).to("cpu")
    assert list(dict(net.named_modules())) == ["", "module"]


if __name__ == "__main__":
    worker()
