# SPDX-License-Identifier: MIT
"""Calls of bitsandbytes' operators on CPU tensors, for comparing its own kernels with those of the plug-in.

    LIBBNB_PLUGIN=0 python plugin_cases.py FILE

writes what each call returns in a process of its own, where the plug-in may be off.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch

Tensor = torch.Tensor
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FOUR_BIT = ("nf4", "fp4")
WHOLE, PARTIAL = 64 * 96, 64 * 96 + 17
OPTIMIZERS = ("adam", "lamb", "ademamix", "lion", "momentum", "lars", "rmsprop", "adagrad")
TWO_STATES = ("adam", "lamb", "ademamix")
SECOND_MOMENTS = ("rmsprop", "adagrad")
STEPS = 3
LR, EPS, DECAY, GNORM = 1e-2, 1e-6, 0.05, 0.5
BETAS = (0.9, 0.99, 0.999, 4.0)  # the last is AdEMAMix's alpha


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator(seed)).to(dtype)


def four_bit(ops: Any) -> Iterator[tuple[str, Any]]:
    for quant_type in FOUR_BIT:
        for dtype in FLOATS:
            for blocksize in (64, 4096):
                for count in (WHOLE, PARTIAL):
                    x = normal(count, seed=count, dtype=dtype)
                    x[:64] = 0  # a block of zeros
                    packed, absmax = ops.quantize_4bit(x, blocksize, quant_type, torch.uint8)
                    name = f"{quant_type}-{name_of(dtype)}-{blocksize}-{count}"
                    yield f"quantize_4bit-{name}", (packed, absmax, x)
        x = normal(64, 96)
        packed, absmax = ops.quantize_4bit(x, 64, quant_type, torch.bfloat16)
        yield f"quantize_4bit-{quant_type}-storage", (packed, absmax, x)
        for dtype in FLOATS:
            for blocksize in (32, 64, 2048):
                codes = torch.arange(WHOLE // 2, dtype=torch.int32).mul(37).to(torch.uint8)
                scales = normal(-(-WHOLE // blocksize), seed=blocksize).abs()
                shape = [96, 64] if blocksize <= 64 else [64, 96]  # stock needs small blocks to end with rows
                out = ops.dequantize_4bit(codes.view(-1, 1), scales, blocksize, quant_type, shape, dtype)
                yield f"dequantize_4bit-{quant_type}-{name_of(dtype)}-{blocksize}", out


def products(ops: Any) -> Iterator[tuple[str, Any]]:
    """With what they multiply, so that there can be a bound."""
    from bitsandbytes.functional import create_dynamic_map, get_4bit_type

    for quant_type in FOUR_BIT:
        packed, absmax = ops.quantize_4bit(normal(96, 128, seed=3), 64, quant_type, torch.uint8)
        code = create_dynamic_map()
        offset = absmax.mean()
        nested, absmax2 = ops.quantize_blockwise(absmax - offset, code, 256)
        for dtype in FLOATS:
            bias = normal(96, seed=4, dtype=dtype)
            for shape in ((1, 128), (2, 3, 128), (70, 128)):
                a = normal(*shape, seed=5, dtype=dtype)
                name = f"{quant_type}-{name_of(dtype)}-{'x'.join(map(str, shape))}"
                out = ops.gemm_4bit(a, packed, [96, 128], absmax, 64, quant_type, bias)
                yield f"gemm_4bit-{name}", (out, a, packed, absmax, bias)
                out = ops.gemm_4bit(
                    a, packed, [96, 128], absmax2, 64, quant_type, None, nested, code, offset
                )  # fmt: skip
                scales = ops.dequantize_blockwise(nested, absmax2, code, 256, torch.float32) + offset
                yield f"gemm_4bit-{name}-nested", (out, a, packed, scales, None)
                if quant_type == "nf4" and dtype is torch.bfloat16:
                    out = gemv(ops, a, packed, absmax, get_4bit_type(quant_type, "cpu"))
                    yield f"gemv_4bit-{name}", (out, a, packed, absmax, None)


def gemv(ops: Any, a: Tensor, packed: Tensor, absmax: Tensor, code: Tensor) -> Tensor:
    """bitsandbytes' own kernel reads weights that it has rewritten before; ours reads these, too."""
    from bitsandbytes import functional as F

    if not F.has_avx512bf16():
        return ops.gemv_4bit(a, packed, [96, 128], absmax, code, 64)
    state = F.QuantState(absmax.clone(), torch.Size([96, 128]), code, 64, "nf4", torch.bfloat16)
    rewritten, state = F._convert_weight_packed_for_cpu(packed.clone(), state)
    return ops.gemv_4bit(a, rewritten, [96, 128], state.absmax, code, 64)


def blockwise(ops: Any) -> Iterator[tuple[str, Any]]:
    from bitsandbytes.functional import create_dynamic_map

    for signed in (True, False):
        code = create_dynamic_map(signed=signed)
        for dtype in FLOATS:
            for count in (WHOLE, PARTIAL):
                x = normal(count, seed=7, dtype=dtype)
                x = x if signed else x.abs()
                name = f"{'signed' if signed else 'unsigned'}-{name_of(dtype)}-{count}"
                yield f"quantize_blockwise-{name}", (*ops.quantize_blockwise(x, code, 256), x, code)
                codes = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator(8))
                scales = normal(-(-count // 256), seed=9).abs()
                yield f"dequantize_blockwise-{name}", ops.dequantize_blockwise(codes, scales, code, 256, dtype)


def int8(ops: Any) -> Iterator[tuple[str, Any]]:
    for dtype in FLOATS:
        for threshold in (0.0, 2.5):
            x = normal(33, 96, seed=11, dtype=dtype)
            name = f"{name_of(dtype)}-{threshold}"
            codes, stats, columns = ops.int8_vectorwise_quant(x.clone(), threshold)
            yield f"int8_vectorwise_quant-{name}", (codes, stats, columns)
            weights, weight_stats, _ = ops.int8_vectorwise_quant(normal(40, 96, seed=12, dtype=dtype))
            bias = normal(40, seed=13, dtype=dtype)
            out = ops.int8_scaled_mm(codes, weights, stats, weight_stats, bias, dtype)
            yield f"int8_scaled_mm-{name}", out
            out, part = ops.int8_mixed_scaled_mm(x, codes, weights, stats, weight_stats, columns, bias)
            yield f"int8_mixed_scaled_mm-{name}", (out, part)
    a = torch.randint(-128, 128, (5, 7, 96), dtype=torch.int8, generator=generator(14))
    b = torch.randint(-128, 128, (40, 96), dtype=torch.int8, generator=generator(15))
    yield "int8_linear_matmul", ops.int8_linear_matmul(a, b)
    product = ops.int8_linear_matmul(a[0], b)
    rows, columns = normal(7, seed=16).abs(), normal(40, seed=17).abs()
    yield "int8_mm_dequant", ops.int8_mm_dequant(product, rows, columns, torch.float32, normal(40, seed=18))
    yield "int8_vectorwise_dequant", ops.int8_vectorwise_dequant(b, normal(40, seed=19).abs())


def optimizers(ops: Any) -> Iterator[tuple[str, Any]]:
    from bitsandbytes.functional import create_dynamic_map

    maps = {signed: create_dynamic_map(signed=signed) for signed in (True, False)}
    for name in OPTIMIZERS:
        for dtype in FLOATS:
            for transposed in (False, True):
                p = normal(24, 40, seed=21, dtype=dtype)
                p = p.t() if transposed else p
                gradients = [normal(*p.shape, seed=22 + step, dtype=dtype) for step in range(STEPS)]
                averages = (2,) if name == "ademamix" else ()
                tail = f"{name}-{name_of(dtype)}{'-transposed' if transposed else ''}"
                p32, state1 = p.clone(), torch.zeros(*averages, *p.shape)
                state2 = torch.zeros(p.shape) if name in TWO_STATES else None
                for step, g in enumerate(gradients, 1):
                    ops.optimizer_update_32bit(
                        name, g, p32, state1, state2, None, 0.0, 0.0, *BETAS, EPS, DECAY, step, LR, GNORM
                    )
                yield f"optimizer_update_32bit-{tail}", (p32, state1, state2)
                p8, codes1 = p.clone(), torch.zeros(*averages, *p.shape, dtype=torch.uint8)
                absmax1 = torch.zeros(*averages, -(-p.numel() // 256))
                codes2 = absmax2 = None
                if state2 is not None:
                    codes2, absmax2 = torch.zeros(p.shape, dtype=torch.uint8), torch.zeros(-(-p.numel() // 256))
                for step, g in enumerate(gradients, 1):
                    ops.optimizer_update_8bit_blockwise(
                        *(name, g, p8, codes1, codes2, *BETAS, EPS, step, LR, maps[name not in SECOND_MOMENTS]),
                        *(maps[False] if codes2 is not None else None, absmax1, absmax2, DECAY, GNORM),
                    )
                yield f"optimizer_update_8bit_blockwise-{tail}", p8


def results() -> dict[str, Any]:
    """What every call returns, by the name of the call."""
    import bitsandbytes  # noqa: F401  (defines the operators)

    ops = torch.ops.bitsandbytes
    found: dict[str, Any] = {}
    for cases in (four_bit, products, blockwise, int8, optimizers):
        found.update(cases(ops))
    return found


if __name__ == "__main__":
    torch.save(results(), sys.argv[1])
