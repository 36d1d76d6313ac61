# SPDX-License-Identifier: MIT
"""Every operation on a GPU against bitsandbytes, PyTorch's dense products and the copy bandwidth of the same run.

    python benchmarks/device.py [--device cuda] [--elements 268435456] [--shapes 4096x4096 ...] [--rows 1 16 ...]
                                [--seconds 0.2] [--only quantize products optimizers]

Writes benchmarks/results/device.json. Work rotates over twice the L2 cache. "fraction of copy" is (bytes read + bytes
written) / time / copy bandwidth; for products the bytes are those of weights, scales, activations and result. The
default shapes are those of 7B and 70B models.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from common import RESULTS, bitsandbytes, save
from device_clock import Call, Clock

import libbnb as bnb

SHAPES = ["4096x4096", "11008x4096", "4096x11008", "8192x8192", "28672x8192", "8192x28672"]  # N x K
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
BLOCKSIZE = 64
OPTIMIZER_BLOCKSIZE = 256


@dataclass
class Case:
    """One line of the results: our calls, those of peers, and what they have to move and compute."""

    name: str
    sizes: dict[str, Any]
    calls: list[Call]
    moved: int
    operations: int = 0
    peers: dict[str, list[Call]] = field(default_factory=dict)


def peer_functions() -> Any:
    """bitsandbytes.functional, or None where bitsandbytes is not installed or has no library for this GPU."""
    try:
        return bitsandbytes().functional
    except (ImportError, RuntimeError) as error:
        print(f"without bitsandbytes: {error}", file=sys.stderr)
        return None


def quantizers(clock: Clock, n: int, peer: Any) -> Iterator[Case]:
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)):
        sizes = {"elements": n, "dtype": name}
        for quant_type in ("nf4", "fp4"):
            yield from four_bit(clock, n, dtype, quant_type, sizes, peer)
        yield from eight_bit(clock, n, dtype, sizes, peer)
        yield from fp8(clock, n, dtype, sizes)
        yield int8_rows(clock, n, dtype, sizes, peer)


def tensors(clock: Clock, n: int, dtype: torch.dtype, moved: int) -> list[torch.Tensor]:
    return [torch.randn(n, device=clock.device).to(dtype) for _ in range(clock.rotations(moved))]


def four_bit(clock: Clock, n: int, dtype: torch.dtype, quant_type: str, sizes: Any, peer: Any) -> Iterator[Case]:
    moved = n * dtype.itemsize + n // 2 + n // BLOCKSIZE * 4
    inputs = tensors(clock, n, dtype, moved)
    kwargs = {"blocksize": BLOCKSIZE, "quant_type": quant_type}
    packed = [bnb.quantize_4bit(x, **kwargs) for x in inputs]
    quantize = Case(
        f"quantize_4bit {quant_type}",
        sizes,
        [
            lambda x=x, p=p, s=s: bnb.quantize_4bit(x, absmax=s.absmax, out=p, **kwargs)
            for x, (p, s) in zip(inputs, packed, strict=True)
        ],
        moved,
    )
    dequantize = Case(
        f"dequantize_4bit {quant_type}",
        sizes,
        [lambda x=x, p=p, s=s: bnb.dequantize_4bit(p, s, out=x) for x, (p, s) in zip(inputs, packed, strict=True)],
        moved,
    )
    if peer is not None:
        theirs = [peer.quantize_4bit(x, **kwargs) for x in inputs]
        quantize.peers["bitsandbytes"] = [lambda x=x: peer.quantize_4bit(x, **kwargs) for x in inputs]
        dequantize.peers["bitsandbytes"] = [lambda p=p, s=s: peer.dequantize_4bit(p, s) for p, s in theirs]
    yield quantize
    yield dequantize


def eight_bit(clock: Clock, n: int, dtype: torch.dtype, sizes: Any, peer: Any) -> Iterator[Case]:
    blocksize = 256
    moved = n * dtype.itemsize + n + n // blocksize * 4
    inputs = tensors(clock, n, dtype, moved)
    quantized = [bnb.quantize_blockwise(x, blocksize=blocksize) for x in inputs]
    quantize = Case(
        "quantize_blockwise",
        sizes,
        [
            lambda x=x, c=c, s=s: bnb.quantize_blockwise(x, absmax=s.absmax, out=c, blocksize=blocksize)
            for x, (c, s) in zip(inputs, quantized, strict=True)
        ],
        moved,
    )
    dequantize = Case(
        "dequantize_blockwise",
        sizes,
        [
            lambda x=x, c=c, s=s: bnb.dequantize_blockwise(c, s, out=x)
            for x, (c, s) in zip(inputs, quantized, strict=True)
        ],
        moved,
    )
    if peer is not None:
        theirs = [peer.quantize_blockwise(x, blocksize=blocksize) for x in inputs]
        quantize.peers["bitsandbytes"] = [lambda x=x: peer.quantize_blockwise(x, blocksize=blocksize) for x in inputs]
        dequantize.peers["bitsandbytes"] = [lambda c=c, s=s: peer.dequantize_blockwise(c, s) for c, s in theirs]
    yield quantize
    yield dequantize


def fp8(clock: Clock, n: int, dtype: torch.dtype, sizes: Any) -> Iterator[Case]:
    blocksize = 128
    moved = n * dtype.itemsize + n + n // blocksize * 4
    inputs = tensors(clock, n, dtype, moved)
    quantized = [bnb.quantize_fp8(x, blocksize=blocksize) for x in inputs]
    yield Case(
        "quantize_fp8",
        sizes,
        [
            lambda x=x, c=c, s=s: bnb.quantize_fp8(x, scale=s, out=c, blocksize=blocksize)
            for x, (c, s) in zip(inputs, quantized, strict=True)
        ],
        moved,
    )
    yield Case(
        "dequantize_fp8",
        sizes,
        [
            lambda x=x, c=c, s=s: bnb.dequantize_fp8(c, s, out=x, blocksize=blocksize)
            for x, (c, s) in zip(inputs, quantized, strict=True)
        ],
        moved,
    )


def int8_rows(clock: Clock, n: int, dtype: torch.dtype, sizes: Any, peer: Any) -> Case:
    cols = min(4096, n)
    moved = n * dtype.itemsize + n + n // cols * 4
    inputs = [x.view(-1, cols) for x in tensors(clock, n, dtype, moved)]
    case = Case("int8_vectorwise_quant", sizes, [lambda x=x: bnb.int8_vectorwise_quant(x) for x in inputs], moved)
    if peer is not None and dtype == torch.float16:
        case.peers["bitsandbytes"] = [lambda x=x: peer.int8_vectorwise_quant(x) for x in inputs]
    return case


def optimizers(clock: Clock, n: int, peer: Any) -> Iterator[Case]:
    """AdamW steps on bf16 parameters and gradients: functions with the same arguments in both libraries."""
    dtype = torch.bfloat16
    sizes = {"elements": n, "dtype": "bf16"}
    for bits in (8, 32):
        moved = 3 * n * dtype.itemsize + 2 * 2 * n * bits // 8
        calls: dict[str, list[Call]] = {}
        for name, library in (("ours", bnb), ("bitsandbytes", peer)):
            if library is not None:
                count = clock.rotations(moved)
                calls[name] = [adamw(library, bits, clock, n, dtype) for _ in range(count)]
        ours = calls.pop("ours")
        yield Case(f"AdamW {bits}-bit", sizes, ours, moved, peers=calls)


def adamw(library: Any, bits: int, clock: Clock, n: int, dtype: torch.dtype) -> Call:
    g = torch.randn(n, device=clock.device).to(dtype)
    p = torch.randn(n, device=clock.device).to(dtype)
    if bits == 32:
        state1, state2 = (torch.zeros(n, device=clock.device) for _ in range(2))
        return lambda: library.optimizer_update_32bit(
            "adam", g, p, state1, 0.9, 1e-8, 10, 1e-3, state2=state2, beta2=0.999, weight_decay=0.01
        )
    codes = [torch.zeros(n, dtype=torch.uint8, device=clock.device) for _ in range(2)]
    maps = [bnb.create_dynamic_map(signed=signed) for signed in (True, False)]
    qmaps = [torch.as_tensor(qmap).to(clock.device) for qmap in maps]
    scales = [torch.zeros(-(-n // OPTIMIZER_BLOCKSIZE), device=clock.device) for _ in range(2)]
    # optimizer, g, p, state1, state2, beta1, beta2, beta3, alpha, eps, step, lr, qmap1, qmap2, absmax1, absmax2, decay
    arguments = ("adam", g, p, *codes, 0.9, 0.999, 0.0, 0.0, 1e-8, 10, 1e-3, *qmaps, *scales, 0.01)
    return lambda: library.optimizer_update_8bit_blockwise(*arguments)


def products(clock: Clock, shapes: list[str], rows: list[int], peer: Any) -> Iterator[Case]:
    for shape in shapes:
        n, k = (int(extent) for extent in shape.split("x"))
        weights = [torch.randn(n, k, device=clock.device).bfloat16() for _ in range(clock.rotations(n * k // 2))]
        for m in rows:
            x = torch.randn(m, k, device=clock.device).bfloat16()
            sizes = {"m": m, "n": n, "k": k, "dtype": "bf16"}
            yield product_4bit(clock, weights, x, sizes, peer)
            yield product_int8(clock, weights, x, sizes)
        weights.clear()


def product_4bit(clock: Clock, weights: list[torch.Tensor], x: torch.Tensor, sizes: Any, peer: Any) -> Case:
    (m, k), n = x.shape, weights[0].shape[0]
    out = torch.empty(m, n, dtype=x.dtype, device=clock.device)
    kwargs = {"blocksize": BLOCKSIZE, "quant_type": "nf4"}
    packed = [bnb.quantize_4bit(w, **kwargs) for w in weights]
    moved = n * k // 2 + n * k // BLOCKSIZE * 4 + (m * k + m * n) * x.itemsize
    case = Case(
        "matmul_4bit nf4",
        sizes,
        [lambda p=p, s=s: bnb.matmul_4bit(x, p, s, out=out) for p, s in packed],
        moved,
        operations=2 * m * n * k,
    )
    case.peers["dense"] = [lambda w=w: F.linear(x, w) for w in weights]
    case.peers["dequantize_then_dense"] = [
        lambda p=p, s=s, w=w: F.linear(x, bnb.dequantize_4bit(p, s, out=w))
        for (p, s), w in zip(packed, weights, strict=True)
    ]
    if peer is not None:
        theirs = [peer.quantize_4bit(w, **kwargs) for w in weights]
        matmul = bitsandbytes().matmul_4bit
        case.peers["bitsandbytes"] = [lambda p=p, s=s: matmul(x, p.t(), s) for p, s in theirs]
    return case


def product_int8(clock: Clock, weights: list[torch.Tensor], x: torch.Tensor, sizes: Any) -> Case:
    (m, k), n = x.shape, weights[0].shape[0]
    codes, row_stats, _ = bnb.int8_vectorwise_quant(x)
    quantized = [bnb.int8_vectorwise_quant(w)[:2] for w in weights]
    out = torch.empty(m, n, dtype=x.dtype, device=clock.device)
    case = Case(
        "int8_scaled_mm",
        sizes,
        [lambda c=c, s=s: bnb.int8_scaled_mm(codes, c, row_stats, s, dtype=x.dtype, out=out) for c, s in quantized],
        n * k + m * k + m * n * x.itemsize,
        operations=2 * m * n * k,
    )
    case.peers["dense"] = [lambda w=w: F.linear(x, w) for w in weights]
    return case


def measured(case: Case, clock: Clock, bandwidth: float) -> dict[str, Any]:
    ours = clock.measure(case.calls)
    row: dict[str, Any] = {
        "operation": case.name,
        **case.sizes,
        "seconds": ours.seconds,
        "graph": ours.graph,
        "fraction_of_copy": case.moved / ours.seconds / bandwidth,
    }
    if case.operations:
        row["operations_per_second"] = case.operations / ours.seconds
    for name, calls in case.peers.items():
        try:
            peer = clock.measure(calls)
        except (RuntimeError, NotImplementedError, ValueError) as error:  # a peer that cannot is a row without it
            row[f"{name}_failed"] = str(error).splitlines()[0]
            continue
        row[f"against_{name}"] = peer.seconds / ours.seconds
        row[f"{name}_graph"] = peer.graph
    return row


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--elements", type=int, default=1 << 28)
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--only", nargs="*", default=["quantize", "optimizers", "products"])
    parser.add_argument("--name", default="device", help="of the file in benchmarks/results")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    clock = Clock(args.device, args.seconds)
    peer = peer_functions()
    cases = {
        "quantize": lambda: quantizers(clock, args.elements, peer),
        "optimizers": lambda: optimizers(clock, args.elements, peer),
        "products": lambda: products(clock, args.shapes, args.rows, peer),
    }
    bandwidth = clock.copy_bandwidth((2 << 30) if clock.is_gpu else (1 << 20))
    rows: list[dict[str, Any]] = []
    for name in args.only:
        for case in cases[name]():
            rows.append(measured(case, clock, bandwidth))
            print(rows[-1], flush=True)
            del case
            gc.collect()
            # What is measured is kept even if the machine is taken away in the middle.
            save(args.name, {"gpu": clock.machine(), "copy_bandwidth": bandwidth, "rows": rows})
    print(f"wrote {RESULTS / args.name}.json")


main()
