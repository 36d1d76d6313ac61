# SPDX-License-Identifier: MIT
"""Products with quantized weights against PyTorch's dense product, bitsandbytes and ggml, all cores.

    python benchmarks/products.py [--rows 1 16 512] [--shapes 4096x4096] [--seconds 0.6] [--only NAME] [--ggml FOLDER]

Writes benchmarks/results/products.json. Weights rotate over more than the last-level cache. "fraction of read" is the
bytes of the packed weights and their scales / time / read bandwidth of the same run. ggml multiplies fp32 activations;
its libraries are those of llama-cpp-python, if that is installed, or lie in FOLDER.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import bitsandbytes, interleaved_medians, read_bandwidth, rotations, save
from ggml import Ggml, library_folder

import libbnb as bnb

Call = Callable[[], object]
ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048]
SHAPES = ["4096x4096", "4096x14336", "14336x4096"]  # N x K
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PEER_ROWS = (1, 16, 512)  # where the slow peers are measured
GGML_KIND = "Q4_0"
BITSANDBYTES = ("nf4", "Linear8bitLt", "Linear8bitLt, eval")


@dataclass
class Case:
    """One line of the results: which product, of which sizes."""

    name: str
    dtype: str
    n: int
    k: int
    m: int

    @property
    def first_shape(self) -> bool:
        return f"{self.n}x{self.k}" == SHAPES[0]

    def activations(self) -> torch.Tensor:
        return torch.randn(self.m, self.k).to(DTYPES[self.dtype])

    def dense(self, dtype: str | None = None) -> list[Call]:
        x = self.activations().to(DTYPES[dtype or self.dtype])
        weight = torch.randn(self.n, self.k, dtype=x.dtype)
        weights = [weight.clone() for _ in range(rotations(weight.nbytes))]
        return [lambda w=w: F.linear(x, w) for w in weights]


def products_4bit(case: Case) -> tuple[list[Call], int]:
    weight = torch.randn(case.n, case.k).to(DTYPES[case.dtype])
    packed, state = bnb.quantize_4bit(weight, quant_type=case.name, blocksize=64)
    size = packed.nbytes + state.absmax.nbytes
    x, out = case.activations(), torch.empty(case.m, case.n, dtype=DTYPES[case.dtype])
    copies = [packed.clone() for _ in range(rotations(size))]
    return [lambda p=p: bnb.matmul_4bit(x, p, state, out=out) for p in copies], size


def products_fp8(case: Case) -> tuple[list[Call], int]:
    codes, scale = bnb.quantize_fp8(torch.randn(case.n, case.k))
    x, out = case.activations(), torch.empty(case.m, case.n, dtype=DTYPES[case.dtype])
    copies = [codes.clone() for _ in range(rotations(codes.nbytes))]
    return [lambda c=c: bnb.matmul_fp8(x, c, scale, out=out) for c in copies], codes.nbytes + scale.nbytes


def products_mx(case: Case) -> tuple[list[Call], int]:
    quant_type = "mxfp8_e4m3fn" if case.name == "mxfp8" else case.name
    codes, scale, tensor_scale = bnb.quantize_mx(torch.randn(case.n, case.k), quant_type)
    x, out = case.activations(), torch.empty(case.m, case.n, dtype=DTYPES[case.dtype])
    copies = [codes.clone() for _ in range(rotations(codes.nbytes))]
    calls = [lambda c=c: bnb.gemm_mx(x, c, scale, tensor_scale, quant_type, out=out) for c in copies]
    return calls, codes.nbytes + scale.nbytes


def products_int8(case: Case) -> tuple[list[Call], int]:
    a = torch.randint(-127, 128, (case.m, case.k), dtype=torch.int8)
    b = torch.randint(-127, 128, (case.n, case.k), dtype=torch.int8)
    out = torch.empty(case.m, case.n, dtype=torch.int32)
    copies = [b.clone() for _ in range(rotations(b.nbytes))]
    return [lambda b=b: bnb.int8_linear_matmul(a, b, out=out) for b in copies], b.nbytes


def layers_int8(case: Case) -> tuple[list[Call], int]:
    import libbnb.nn

    x = case.activations()
    return [inference(layer, x) for layer in int8_layers(libbnb.nn.Linear8bitLt, case)], case.n * case.k


# name -> (what makes our calls, activations)
FORMATS: dict[str, tuple[Callable[[Case], tuple[list[Call], int]], tuple[str, ...]]] = {
    "nf4": (products_4bit, ("bf16", "fp16", "fp32")),
    "fp4": (products_4bit, ("bf16",)),
    "fp8": (products_fp8, ("bf16",)),
    "mxfp4": (products_mx, ("bf16",)),
    "mxfp8": (products_mx, ("bf16",)),
    "nvfp4": (products_mx, ("bf16",)),
    "int8": (products_int8, ("int8",)),
    "Linear8bitLt": (layers_int8, ("bf16",)),
    "Linear8bitLt, eval": (layers_int8, ("bf16",)),
}


def inference(layer: torch.nn.Module, x: torch.Tensor) -> Call:
    def call() -> object:
        with torch.no_grad():
            return layer(x)

    return call


def int8_layers(kind: Any, case: Case) -> list[torch.nn.Module]:
    """Layers with the threshold of load_in_8bit, as constructed or after eval(): bitsandbytes has a path for each."""
    made = []
    for _ in range(min(rotations(case.n * case.k), 8)):
        layer = kind(case.k, case.n, bias=False, has_fp16_weights=False, threshold=6.0)
        layer.load_state_dict({"weight": torch.randn(case.n, case.k)})
        made.append(layer.to("cpu").train(case.name == "Linear8bitLt"))
    return made


def bitsandbytes_calls(case: Case, evaluates: bool) -> list[Call]:
    """Layers of bitsandbytes. After eval() it has other paths, for 4 bits one that packs the weights anew in place."""
    peer = bitsandbytes().nn

    x = case.activations()
    if case.name.startswith("Linear8bitLt"):
        return [inference(layer, x) for layer in int8_layers(peer.Linear8bitLt, case)]
    layers = []
    for _ in range(min(rotations(case.n * case.k // 2), 24) if evaluates else 1):
        layer = peer.LinearNF4(case.k, case.n, bias=False, compute_dtype=DTYPES[case.dtype])
        layer.weight = peer.Params4bit(torch.randn(case.n, case.k), requires_grad=False, quant_type="nf4")
        layers.append(layer.to("cpu").train(not evaluates))
    return [inference(layer, x) for layer in layers]


def int_mm_calls(case: Case) -> list[Call]:
    a = torch.randint(-127, 128, (case.m, case.k), dtype=torch.int8)
    b = torch.randint(-127, 128, (case.n, case.k), dtype=torch.int8)
    copies = [b.clone() for _ in range(rotations(b.nbytes))]
    return [lambda b=b: torch._int_mm(a, b.t()) for b in copies]


def peers(case: Case, ggml: Ggml | None) -> tuple[dict[str, list[Call]], list[Callable[[], None]]]:
    """The peers of a case, and what frees their memory."""
    groups: dict[str, list[Call]] = {}
    after: list[Callable[[], None]] = []
    if case.name == "int8":
        groups["int_mm"] = int_mm_calls(case)
    else:
        groups["dense"] = case.dense()
    if case.first_shape and case.m in PEER_ROWS and case.dtype == "bf16" and case.name in BITSANDBYTES:
        groups["bitsandbytes"] = bitsandbytes_calls(case, False)
        if case.name == "nf4":
            groups["bitsandbytes_eval"] = bitsandbytes_calls(case, True)
    if ggml and case.first_shape and case.m in PEER_ROWS and case.name == "nf4" and case.dtype == "bf16":
        weight = torch.randn(case.n, case.k).numpy()
        calls, free = ggml.products(
            weight, GGML_KIND, case.m, rotations(weight.size * 9 // 16), torch.get_num_threads()
        )
        groups["ggml"] = calls
        after.append(free)
    return groups, after


def measure(case: Case, seconds: float, bandwidth: float, ggml: Ggml | None) -> dict[str, Any]:
    calls, weight_bytes = FORMATS[case.name][0](case)
    groups, after = peers(case, ggml)
    times = interleaved_medians({"ours": calls, **groups}, seconds, least=3)
    for free in after:
        free()
    ours = times["ours"]
    row: dict[str, Any] = {
        "format": case.name, "dtype": case.dtype, "n": case.n, "k": case.k, "m": case.m, "seconds": ours,
        "operations_per_second": 2 * case.m * case.n * case.k / ours, "weight_bytes": weight_bytes,
        "fraction_of_read": weight_bytes / ours / bandwidth,
    }  # fmt: skip
    for peer, time in times.items():
        if peer != "ours":
            row[f"{peer}_seconds"] = time
            row[f"against_{peer}"] = time / ours
    ratios = "  ".join(f"{row[key]:6.2f}x {key[8:]}" for key in row if key.startswith("against_"))
    print(
        f"{case.name:18} {case.dtype:5} {case.n:5}x{case.k:<5} M={case.m:<5} {1e3 * ours:9.3f} ms  "
        f"{row['operations_per_second'] / 1e9:7.0f} GFLOP/s  {row['fraction_of_read']:5.2f} of read  {ratios}",
        flush=True,
    )
    gc.collect()
    return row


def alternate(m: int, seconds: float) -> dict[str, Any]:
    """Our product in turn with PyTorch's, which has a pool of threads of its own, against the two alone."""
    case = Case("nf4", "bf16", 4096, 4096, m)
    ours, theirs = products_4bit(case)[0], case.dense()
    both = [lambda i=i: (ours[i % len(ours)](), theirs[i % len(theirs)]()) for i in range(len(ours))]
    times = interleaved_medians({"ours": ours, "torch": theirs, "both": both}, seconds, rounds=5)
    excess = times["both"] / (times["ours"] + times["torch"]) - 1
    print(f"alternating with PyTorch, M={m}: {100 * excess:+.1f}%", flush=True)
    return {"m": m, "excess": excess, **{f"{name}_seconds": time for name, time in times.items()}}


def wanted_cases(only: str, shapes: list[str], rows: list[int]) -> list[Case]:
    """Every number of rows; every shape for NF4 with bf16 and for int8, the first one for the others."""
    cases = []
    for name, (_, dtypes) in FORMATS.items():
        for dtype in dtypes:
            for shape in shapes if (name, dtype) in (("nf4", "bf16"), ("int8", "int8")) else shapes[:1]:
                n, k = (int(size) for size in shape.split("x"))
                layer = name.startswith("Linear8bitLt")
                chosen = [m for m in rows if m in PEER_ROWS] if layer else rows
                if only in f"{name} {dtype}":
                    cases += [Case(name, dtype, n, k, m) for m in chosen]
    return cases


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--only", default="", help="cases whose format and dtype contain this, such as 'nf4 bf16'")
    parser.add_argument("--result", default="products", help="name of the result file")
    parser.add_argument("--ggml", type=Path, default=library_folder(), help="folder of ggml's libraries")
    arguments = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    torch.manual_seed(0)
    ggml = Ggml(arguments.ggml) if arguments.ggml else None
    bandwidth = read_bandwidth()
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s; ggml {'found' if ggml else 'not installed'}")
    cases = wanted_cases(arguments.only, arguments.shapes, arguments.rows)
    rows = [measure(case, arguments.seconds, bandwidth, ggml) for case in cases]
    turns = [alternate(m, 2 * arguments.seconds) for m in (1, 16, 128)] if "nf4 bf16".startswith(arguments.only) else []
    print(save(arguments.result, {"read_bandwidth": bandwidth, "ggml": bool(ggml), "rows": rows, "alternating": turns}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
