# SPDX-License-Identifier: MIT
"""Quantize and dequantize against bitsandbytes and the copy bandwidth, all cores, outputs preallocated.

    python benchmarks/quantize.py [--elements 16777216] [--seconds 1.0]

Writes benchmarks/results/quantize.json. "fraction of copy" is (bytes read + bytes written) / time / copy bandwidth of
the same run. A scale for a whole tensor (ternary, NVFP4) takes two reads of it, which count once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import bitsandbytes, copy_bandwidth, interleaved_medians, median_seconds, rotations, save
from ggml import Ggml, library_folder

import libbnb

peer = bitsandbytes().functional
BLOCKSIZE = 64
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Call = Callable[[], object]


def tensors(n: int, dtype: torch.dtype, count: int) -> list[torch.Tensor]:
    base = torch.randn(n)
    return [base.roll(i).to(dtype) for i in range(count)]


def quantize_4bit(n: int, dtype: torch.dtype, quant_type: str = "nf4") -> tuple[list[Call], list[Call], int]:
    moved = n * dtype.itemsize + n // 2 + n // BLOCKSIZE * 4
    inputs = tensors(n, dtype, rotations(moved))
    outs = [torch.zeros(n // 2, 1, dtype=torch.uint8) for _ in inputs]
    absmax = [torch.zeros(n // BLOCKSIZE) for _ in inputs]
    ours = [
        lambda x=x, o=o, a=a: libbnb.quantize_4bit(x, absmax=a, out=o, blocksize=BLOCKSIZE, quant_type=quant_type)
        for x, o, a in zip(inputs, outs, absmax, strict=True)
    ]
    theirs = [lambda x=x: peer.quantize_4bit(x, blocksize=BLOCKSIZE, quant_type=quant_type) for x in inputs[:2]]
    return ours, theirs, moved


def dequantize_4bit(n: int, dtype: torch.dtype, quant_type: str = "nf4") -> tuple[list[Call], list[Call], int]:
    moved = n * dtype.itemsize + n // 2 + n // BLOCKSIZE * 4
    count = rotations(moved)
    packed, state = libbnb.quantize_4bit(
        torch.randn(n).to(dtype).view(-1, 4096), blocksize=BLOCKSIZE, quant_type=quant_type
    )
    peer_packed, peer_state = peer.quantize_4bit(
        torch.randn(n).to(dtype).view(-1, 4096), blocksize=BLOCKSIZE, quant_type=quant_type
    )
    inputs = [packed.clone() for _ in range(count)]
    outs = [torch.zeros(n // 4096, 4096, dtype=dtype) for _ in range(count)]
    ours = [lambda p=p, o=o: libbnb.dequantize_4bit(p, state, out=o) for p, o in zip(inputs, outs, strict=True)]
    theirs = [lambda p=p: peer.dequantize_4bit(p, peer_state) for p in (peer_packed, peer_packed.clone())]
    return ours, theirs, moved


def quantize_blockwise(n: int, dtype: torch.dtype) -> tuple[list[Call], list[Call], int]:
    moved = n * dtype.itemsize + n + n // 4096 * 4
    inputs = tensors(n, dtype, rotations(moved))
    outs = [torch.zeros(n, dtype=torch.uint8) for _ in inputs]
    absmax = [torch.zeros(n // 4096) for _ in inputs]
    pairs = list(zip(inputs, outs, absmax, strict=True))
    ours = [lambda x=x, o=o, a=a: libbnb.quantize_blockwise(x, absmax=a, out=o) for x, o, a in pairs]
    theirs = [lambda x=x, o=o, a=a: peer.quantize_blockwise(x, absmax=a, out=o) for x, o, a in pairs]
    return ours, theirs, moved


def dequantize_blockwise(n: int, dtype: torch.dtype) -> tuple[list[Call], list[Call], int]:
    moved = n * dtype.itemsize + n + n // 4096 * 4
    x = torch.randn(n).to(dtype)
    (codes, state), (peer_codes, peer_state) = libbnb.quantize_blockwise(x), peer.quantize_blockwise(x)
    count = rotations(moved)
    inputs = [codes.clone() for _ in range(count)]
    outs = [torch.zeros(n, dtype=dtype) for _ in range(count)]
    ours = [lambda c=c, o=o: libbnb.dequantize_blockwise(c, state, out=o) for c, o in zip(inputs, outs, strict=True)]
    theirs = [lambda c=c: peer.dequantize_blockwise(c, peer_state) for c in (peer_codes, peer_codes.clone())]
    return ours, theirs, moved


def int8_vectorwise_quant(n: int, dtype: torch.dtype) -> tuple[list[Call], list[Call], int]:
    moved = n * dtype.itemsize + n + n // 4096 * 4
    inputs = [t.view(-1, 4096) for t in tensors(n, dtype, rotations(moved))]
    ours = [lambda x=x: libbnb.int8_vectorwise_quant(x) for x in inputs]
    theirs = [lambda x=x: peer.int8_vectorwise_quant(x) for x in inputs]
    return ours, theirs, moved


def quantize_fp8(n: int, dtype: torch.dtype) -> tuple[list[Call], list[Call], int]:
    moved = n * dtype.itemsize + n + n // 4096 * 4
    inputs = [t.view(-1, 4096) for t in tensors(n, dtype, rotations(moved))]

    def with_torch(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = x.abs().amax(dim=1, keepdim=True).float() / 448
        return (x.float() / scale).to(torch.float8_e4m3fn), scale

    return [lambda x=x: libbnb.quantize_fp8(x) for x in inputs], [lambda x=x: with_torch(x) for x in inputs], moved


def torchao_mx() -> Any:
    """torchao's quantizers, or None where they cannot be imported."""
    try:
        from torchao.prototype.mx_formats import mx_tensor, nvfp4_tensor
    except ImportError:
        return None
    return mx_tensor, nvfp4_tensor


def quantize_mx(n: int, dtype: torch.dtype, quant_type: str) -> tuple[list[Call], list[Call], int]:
    base = torch.randn(n).to(dtype).view(-1, 4096)
    codes, scale, tensor_scale = libbnb.quantize_mx(base, quant_type)
    moved = base.nbytes + codes.nbytes + scale.nbytes  # a tensor scale takes two reads, which count once
    inputs = [t.view(-1, 4096) for t in tensors(n, dtype, rotations(moved))]
    outs = [(torch.empty_like(codes), torch.empty_like(scale)) for _ in inputs]
    of_tensor: Any = True if tensor_scale is None else tensor_scale
    ours = [
        lambda x=x, c=c, s=s: libbnb.quantize_mx(x, quant_type, out=c, scale=s, tensor_scale=of_tensor)
        for x, (c, s) in zip(inputs, outs, strict=True)
    ]
    theirs: list[Call] = []
    if (peer_modules := torchao_mx()) and dtype != torch.float16:  # which it does not take
        mx, nvfp4 = peer_modules
        element = torch.float4_e2m1fn_x2 if quant_type == "mxfp4" else torch.float8_e4m3fn
        for x in inputs[:2]:
            if quant_type == "nvfp4":
                theirs.append(lambda x=x: nvfp4.nvfp4_quantize(x, 16, nvfp4.per_tensor_amax_to_scale(x.abs().max())))
            else:
                theirs.append(lambda x=x: mx.to_mx(x, element, 32))
    return ours, theirs, moved


def dequantize_mx(n: int, dtype: torch.dtype, quant_type: str) -> tuple[list[Call], list[Call], int]:
    codes, scale, tensor_scale = libbnb.quantize_mx(torch.randn(n // 4096, 4096), quant_type)
    moved = n * dtype.itemsize + codes.nbytes + scale.nbytes
    inputs = [codes.clone() for _ in range(rotations(moved))]
    outs = [torch.zeros(n // 4096, 4096, dtype=dtype) for _ in inputs]
    ours = [
        lambda c=c, o=o: libbnb.dequantize_mx(c, scale, tensor_scale, quant_type, out=o)
        for c, o in zip(inputs, outs, strict=True)
    ]
    return ours, [], moved


def quantize_ternary(
    n: int, dtype: torch.dtype, blocksize: int | None, quant_type: str = "ternary"
) -> tuple[list[Call], list[Call], int]:
    codes = n // 4 if quant_type == "ternary" else n // 256 * (54 if quant_type == "tq1_0" else 66)
    moved = n * dtype.itemsize + codes + (n // blocksize * 4 if blocksize and quant_type == "ternary" else 0)
    inputs = [t.view(-1, 4096) for t in tensors(n, dtype, rotations(moved))]
    outs = [torch.zeros(codes, dtype=torch.uint8) for _ in inputs]
    ours = [
        lambda x=x, o=o: libbnb.quantize_ternary(x, blocksize, quant_type, out=o)
        for x, o in zip(inputs, outs, strict=True)
    ]
    theirs: list[Call] = []
    if quant_type != "ternary" and dtype == torch.float32 and ggml:
        theirs = [ggml.quantizer(x.numpy(), quant_type.upper(), libbnb.get_num_threads()) for x in inputs[:2]]
    return ours, theirs, moved


def dequantize_ternary(n: int, dtype: torch.dtype, quant_type: str) -> tuple[list[Call], list[Call], int]:
    codes, scale = libbnb.quantize_ternary(torch.randn(n), 256, quant_type)
    moved = n * dtype.itemsize + codes.numel() + (0 if scale is None else scale.numel() * 4)
    inputs = [codes.clone() for _ in range(rotations(moved))]
    outs = [torch.zeros(n, dtype=dtype) for _ in inputs]
    ours = [
        lambda c=c, o=o: libbnb.dequantize_ternary(c, scale, 256, quant_type, out=o)
        for c, o in zip(inputs, outs, strict=True)
    ]
    return ours, [], moved


ggml = Ggml(folder) if (folder := library_folder()) else None

OPERATIONS: dict[str, Callable[..., tuple[list[Call], list[Call], int]]] = {
    "quantize_4bit nf4": quantize_4bit,
    "quantize_4bit fp4": lambda n, dtype: quantize_4bit(n, dtype, "fp4"),
    "dequantize_4bit nf4": dequantize_4bit,
    "quantize_blockwise": quantize_blockwise,
    "dequantize_blockwise": dequantize_blockwise,
    "int8_vectorwise_quant": int8_vectorwise_quant,
    "quantize_fp8 (peer: torch)": quantize_fp8,
    "quantize_mx mxfp4": lambda n, dtype: quantize_mx(n, dtype, "mxfp4"),
    "quantize_mx mxfp8": lambda n, dtype: quantize_mx(n, dtype, "mxfp8_e4m3fn"),
    "quantize_mx nvfp4": lambda n, dtype: quantize_mx(n, dtype, "nvfp4"),
    "dequantize_mx mxfp4": lambda n, dtype: dequantize_mx(n, dtype, "mxfp4"),
    "dequantize_mx mxfp8": lambda n, dtype: dequantize_mx(n, dtype, "mxfp8_e4m3fn"),
    "dequantize_mx nvfp4": lambda n, dtype: dequantize_mx(n, dtype, "nvfp4"),
    "quantize_ternary per tensor": lambda n, dtype: quantize_ternary(n, dtype, None),
    "quantize_ternary group 64": lambda n, dtype: quantize_ternary(n, dtype, 64),
    "quantize_ternary group 128": lambda n, dtype: quantize_ternary(n, dtype, 128),
    "quantize_ternary tq2_0": lambda n, dtype: quantize_ternary(n, dtype, 256, "tq2_0"),
    "quantize_ternary tq1_0": lambda n, dtype: quantize_ternary(n, dtype, 256, "tq1_0"),
    "dequantize_ternary group 256": lambda n, dtype: dequantize_ternary(n, dtype, "ternary"),
    "dequantize_ternary tq2_0": lambda n, dtype: dequantize_ternary(n, dtype, "tq2_0"),
    "dequantize_ternary tq1_0": lambda n, dtype: dequantize_ternary(n, dtype, "tq1_0"),
}


def measure(name: str, dtype_name: str, n: int, seconds: float) -> dict[str, Any]:
    ours, theirs, moved = OPERATIONS[name](n, DTYPES[dtype_name])
    bandwidth = copy_bandwidth()
    times = interleaved_medians({"ours": ours, "peer": theirs} if theirs else {"ours": ours}, seconds)
    peer_seconds = times.get("peer")
    row = {
        "operation": name,
        "dtype": dtype_name,
        "elements": n,
        "bytes": moved,
        "copy_bandwidth": bandwidth,
        "seconds": times["ours"],
        "peer_seconds": peer_seconds,
        "speedup": peer_seconds / times["ours"] if peer_seconds else None,
        "fraction_of_copy": moved / times["ours"] / bandwidth,
        "elements_per_second": n / times["ours"],
    }
    against = f"{row['speedup']:7.1f}x peer" if peer_seconds else " " * 13
    print(
        f"{name:28} {dtype_name}  {row['elements_per_second'] / 1e9:6.2f} G/s  {against}  "
        f"{row['fraction_of_copy']:5.2f} of copy ({bandwidth / 1e9:.1f} GB/s)",
        flush=True,
    )
    return row


def call_overhead(seconds: float) -> list[dict[str, Any]]:
    """Microseconds of one functional call on a 64x64 array, from NumPy and from torch, and bitsandbytes' own."""
    rows: list[dict[str, Any]] = []
    array = torch.randn(64, 64).numpy()
    tensor = torch.from_numpy(array)
    for kind, x, module in (("numpy", array, libbnb), ("torch", tensor, libbnb), ("bitsandbytes", tensor, peer)):
        packed, state = module.quantize_4bit(x, quant_type="nf4")
        codes, blockwise_state = module.quantize_blockwise(x)
        calls: dict[str, Call] = {
            "quantize_4bit": lambda m=module, x=x: m.quantize_4bit(x, quant_type="nf4"),
            "dequantize_4bit": lambda m=module, p=packed, s=state: m.dequantize_4bit(p, s),
            "quantize_blockwise": lambda m=module, x=x: m.quantize_blockwise(x),
            "dequantize_blockwise": lambda m=module, c=codes, s=blockwise_state: m.dequantize_blockwise(c, s),
        }
        for name, call in calls.items():
            microseconds = 1e6 * median_seconds([call], seconds, least=200)
            rows.append({"operation": name, "caller": kind, "microseconds": microseconds})
            print(f"64x64 {name:22} {kind:13} {microseconds:6.2f} us", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1 << 24)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.manual_seed(0)
    overhead = call_overhead(min(options.seconds, 0.5))
    rows = [
        measure(name, dtype, options.elements, options.seconds)
        for name in OPERATIONS
        for dtype in DTYPES
        if options.only in name
    ]
    if not options.only:
        print(save("quantize", {"rows": rows, "overhead": overhead}))


if __name__ == "__main__":
    main()
