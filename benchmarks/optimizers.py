# SPDX-License-Identifier: MIT
"""Optimizer steps against bitsandbytes and PyTorch's fused AdamW, all cores.

    python benchmarks/optimizers.py [--elements 16777216 ...] [--seconds 2.0] [--skip-peer]

Writes benchmarks/results/optimizers.json. "fraction of copy" is (bytes read + bytes written) / time / copy bandwidth of
the same run; gradients are read, parameters and states are read and written. 134217728 elements need about 8 GiB of
memory with one peer.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable
from typing import Any

import torch
from common import bitsandbytes, copy_bandwidth, interleaved_medians, save

import libbnb.optim as optim

Call = Callable[[], object]
SMALL = (2000, 4096)  # tensors, elements of each

# name -> (our class, class of bitsandbytes, of PyTorch, bytes of state read and written per element)
OPTIMIZERS: dict[str, tuple[Any, str | None, Any, float]] = {
    "AdamW8bit": (optim.AdamW8bit, "AdamW8bit", torch.optim.AdamW, 2 * (2 + 2 * 4 / 256)),
    "Lion8bit": (optim.Lion8bit, "Lion8bit", None, 2 * (1 + 4 / 256)),
    "AdamW 32-bit": (optim.AdamW, "AdamW", torch.optim.AdamW, 2 * 8),
}


def stepper(make: Callable[[list[Any]], Any], shapes: list[int]) -> Call:
    """The step of an optimizer on parameters and gradients of its own."""
    params = [torch.nn.Parameter(torch.randn(n)) for n in shapes]
    for p in params:
        p.grad = torch.randn_like(p) * 1e-2
    return make(params).step


def measure(name: str, shapes: list[int], seconds: float, peers: bool) -> dict[str, Any]:
    ours, theirs, fused, state_bytes = OPTIMIZERS[name]
    groups: dict[str, list[Call]] = {"ours": [stepper(lambda params: ours(params, lr=1e-4), shapes)]}
    if peers and theirs is not None:
        peer = bitsandbytes().optim

        groups["bitsandbytes"] = [stepper(lambda params: getattr(peer, theirs)(params, lr=1e-4), shapes)]
    if fused is not None:
        groups["torch_fused"] = [stepper(lambda params: fused(params, lr=1e-4, fused=True), shapes)]
    elements = sum(shapes)
    moved = elements * (4 + 8 + state_bytes)
    bandwidth = copy_bandwidth()
    times = interleaved_medians(groups, seconds, least=3)
    row: dict[str, Any] = {
        "optimizer": name,
        "tensors": len(shapes),
        "elements": elements,
        "bytes": moved,
        "copy_bandwidth": bandwidth,
        "seconds": times["ours"],
        "elements_per_second": elements / times["ours"],
        "fraction_of_copy": moved / times["ours"] / bandwidth,
    }
    for peer_name, time in times.items():
        if peer_name != "ours":
            row[f"{peer_name}_seconds"] = time
            row[f"against_{peer_name}"] = time / times["ours"]
    ratios = "  ".join(f"{row[key]:7.1f}x {key[8:]}" for key in row if key.startswith("against_"))
    print(
        f"{name:13} {len(shapes):5} tensors, {elements:11,} elements  {row['elements_per_second'] / 1e9:5.2f} G/s  "
        f"{row['fraction_of_copy']:5.2f} of copy  {ratios}",
        flush=True,
    )
    gc.collect()
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, nargs="*", default=[1 << 24])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--small-tensors", type=int, default=SMALL[0])
    parser.add_argument("--skip-peer", action="store_true", help="without bitsandbytes, whose steps are slow")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    cases = [[n] for n in arguments.elements] + [[SMALL[1]] * arguments.small_tensors]
    peers = not arguments.skip_peer
    rows = [measure(name, shapes, arguments.seconds, peers) for shapes in cases for name in OPTIMIZERS]
    print(save("optimizers", {"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
