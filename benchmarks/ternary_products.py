# SPDX-License-Identifier: MIT
"""Products with ternary weights against our int8 product, PyTorch's dense and int8 ones, and ggml, all cores.

    python benchmarks/ternary_products.py [--rows 1 128] [--shape 4096x4096] [--seconds 0.6] [--only NAME]
                                          [--ggml FOLDER]

Writes benchmarks/results/ternary_products.json. Weights rotate over more than the last-level cache. "product" has
activations in int8, "layer" is linear_ternary, which quantizes them. ggml's libraries are those of llama-cpp-python, if
that is installed, or lie in FOLDER; it has fp32 activations, which it quantizes in every call.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import interleaved_medians, read_bandwidth, rotations, save
from ggml import Ggml, library_folder

import libbnb as bnb

Call = Callable[[], object]
ROWS = [1, 4, 16, 32, 128, 512, 2048]
GGML_ROWS = 512  # above this it is far behind, and slow

# name -> (quant_type, weights per scale, what ggml calls it)
FORMATS: dict[str, tuple[str, int | None, str | None]] = {
    "two bits, a scale for all": ("ternary", None, "TQ2_0"),
    "two bits, blocks of 64": ("ternary", 64, None),
    "TQ2_0": ("tq2_0", 256, "TQ2_0"),
    "TQ1_0": ("tq1_0", 256, "TQ1_0"),
}


def ours(
    weight: torch.Tensor, quant_type: str, blocksize: int | None, m: int, dtype: torch.dtype
) -> tuple[dict[str, list[Call]], int]:
    """Calls of the product and of the layer, on copies of the weights, and the bytes of one."""
    n, k = weight.shape
    codes, scale = bnb.quantize_ternary(weight, blocksize, quant_type)
    size = codes.nbytes + (0 if scale is None else scale.nbytes)
    copies = [codes.clone() for _ in range(rotations(size))]
    x = torch.randn(m, k).to(dtype)
    a, stats, _ = bnb.int8_vectorwise_quant(x)
    out = torch.empty(m, n, dtype=dtype)
    product = [lambda c=c: bnb.gemm_ternary(a, c, stats, scale, blocksize, quant_type, out=out) for c in copies]
    layer = [lambda c=c: bnb.linear_ternary(x, c, scale, blocksize, quant_type, out=out) for c in copies]
    return {"product": product, "layer": layer}, size


def peers(weight: torch.Tensor, m: int, dtype: torch.dtype) -> dict[str, list[Call]]:
    """Our int8 product with the same scaling, PyTorch's int8 product, and its dense one."""
    n, k = weight.shape
    codes, col_stats, _ = bnb.int8_vectorwise_quant(weight)
    a, row_stats, _ = bnb.int8_vectorwise_quant(torch.randn(m, k))
    out, x = torch.empty(m, n, dtype=dtype), torch.randn(m, k).to(dtype)
    int8 = [codes.clone() for _ in range(rotations(codes.nbytes))]
    dense = [weight.to(dtype) for _ in range(rotations(2 * weight.numel()))]
    return {
        "int8": [lambda b=b: bnb.int8_scaled_mm(a, b, row_stats, col_stats, out=out) for b in int8],
        "int_mm": [lambda b=b: torch._int_mm(a, b.t()) for b in int8],
        "dense": [lambda w=w: F.linear(x, w) for w in dense],
    }


def measure(
    name: str, weight: torch.Tensor, m: int, seconds: float, bandwidth: float, ggml: Ggml | None
) -> dict[str, Any]:
    quant_type, blocksize, of_ggml = FORMATS[name]
    groups, size = ours(weight, quant_type, blocksize, m, torch.bfloat16)
    groups |= peers(weight, m, torch.bfloat16)
    free: Callable[[], None] | None = None
    if ggml and of_ggml and m <= GGML_ROWS:
        matrix = weight.numpy()
        groups["ggml"], free = ggml.products(matrix, of_ggml, m, rotations(size), torch.get_num_threads())
    times = interleaved_medians(groups, seconds, least=3)
    if free:
        free()
    time = times["product"]
    row: dict[str, Any] = {
        "format": name, "n": weight.shape[0], "k": weight.shape[1], "m": m, "weight_bytes": size,
        "fraction_of_read": size / time / bandwidth, **{f"{group}_seconds": value for group, value in times.items()},
    }  # fmt: skip
    ratios = "  ".join(f"{times[peer] / time:6.2f}x {peer}" for peer in times if peer not in ("product", "layer"))
    print(
        f"{name:26} M={m:<5} {1e3 * time:8.3f} ms, layer {1e3 * times['layer']:8.3f}  "
        f"{row['fraction_of_read']:5.2f} of read  {ratios}",
        flush=True,
    )
    gc.collect()
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--shape", default="4096x4096", help="N x K of the weights")
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--only", default="", help="formats whose names contain this, such as 'TQ'")
    parser.add_argument("--ggml", type=Path, default=library_folder(), help="folder of ggml's libraries")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ggml = Ggml(arguments.ggml) if arguments.ggml else None
    bandwidth = read_bandwidth()
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s; ggml {'found' if ggml else 'not installed'}")
    n, k = (int(size) for size in arguments.shape.split("x"))
    weight = torch.randn(n, k)
    names = [name for name in FORMATS if arguments.only in name]
    rows = [measure(name, weight, m, arguments.seconds, bandwidth, ggml) for name in names for m in arguments.rows]
    print(save("ternary_products", {"read_bandwidth": bandwidth, "ggml": bool(ggml), "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
