# SPDX-License-Identifier: MIT
"""Functions for tests on devices: of `m`, which makes an array there of one of NumPy, and a matrix of 37 x 64."""

from __future__ import annotations

from typing import Any

import numpy as np

import libbnb

TOLERANCE = 1e-3  # relative and absolute, of products of such matrices whose sums are in another order


def is_product(name: str) -> bool:
    """Whether a function's results are not the same bits everywhere."""
    return name.startswith(("sparse", "mixed", "product"))


def sparse(m: Any, x: Any) -> list[Any]:
    rows, cols = np.array([0, 3, 3]), np.array([1, 2, 36])
    S = libbnb.COOSparseTensor(5, 37, 3, m(rows), m(cols), m(np.ones(3, np.float32)))
    return [libbnb.spmm_coo(S, m(x))]


def mixed(m: Any, x: Any, index: Any = np.int64) -> list[Any]:
    codes, stats, _ = libbnb.int8_vectorwise_quant(m(x), threshold=2.5)
    weight, weight_stats, _ = libbnb.int8_vectorwise_quant(m(x[:8]))
    columns = m(np.array([1, 5], index))
    return [libbnb.int8_mixed_scaled_mm(m(x), codes, weight, stats, weight_stats, columns)[0]]


def eight_bits(m: Any, x: Any) -> list[Any]:
    codes, state = libbnb.quantize_blockwise(m(x), blocksize=64, nested=True)
    return [codes, state.absmax, state.offset, libbnb.dequantize_blockwise(codes, state)]


def product_int8(m: Any, x: Any) -> list[Any]:
    a, rows, _ = libbnb.int8_vectorwise_quant(m(x[:3]))
    b, cols, _ = libbnb.int8_vectorwise_quant(m(x))
    sums = libbnb.int8_linear_matmul(a, b)
    return [
        libbnb.int8_scaled_mm(a, b, rows, cols, m(x[0, :37])),
        libbnb.int8_mm_dequant(sums, rows, cols),
        libbnb.linear_int8(m(x[:3]), b, cols),
    ]


def product_ternary(m: Any, x: Any) -> list[Any]:
    a, rows, _ = libbnb.int8_vectorwise_quant(m(x[:3]))
    b, scale = libbnb.quantize_ternary(m(x))
    shape = x.shape
    return [
        libbnb.linear_ternary(m(x[:3]), b, scale, shape=shape),
        libbnb.gemm_ternary(a, b, rows, scale, shape=shape),
    ]


def batches(m: Any, x: Any) -> list[Any]:
    a, b = x[:36].astype(np.int8).reshape(4, 9, 64), np.ascontiguousarray(x[:28].reshape(4, 64, 7).astype(np.int8))
    return [libbnb.batched_igemm(m(a), m(b))]


FUNCTIONS = {
    "8 bits, nested": eight_bits,
    "product fp8": lambda m, x: [libbnb.matmul_fp8(m(x[:3]), *libbnb.quantize_fp8(m(x)))],
    "product mx": lambda m, x: [libbnb.gemm_mx(m(x[:3]), *libbnb.quantize_mx(m(x))[:2])],
    "product 4 bits": lambda m, x: [libbnb.matmul_4bit(m(x), *libbnb.quantize_nf4(m(x)), bias=m(x[1, :37]))],
    "product int8": product_int8,
    "product ternary": product_ternary,
    "batches": batches,
    "fp8": lambda m, x: [*(q := libbnb.quantize_fp8(m(x))), libbnb.dequantize_fp8(*q)],
    "mx": lambda m, x: [*(q := libbnb.quantize_mx(m(x)))[:2], libbnb.dequantize_mx(q[0], q[1])],
    "ternary": lambda m, x: [*(q := libbnb.quantize_ternary(m(x))), libbnb.dequantize_ternary(*q, shape=x.shape)],
    "int8 by rows and columns": lambda m, x: list(libbnb.int8_double_quant(m(x), threshold=2.0)),
    "int8 and back": lambda m, x: [libbnb.int8_vectorwise_dequant(*libbnb.int8_vectorwise_quant(m(x))[:2])],
    "igemm": lambda m, x: [libbnb.igemm(m(x.astype(np.int8)), m(np.ascontiguousarray(x.T).astype(np.int8)))],
    "sparse": sparse,
    "mixed": mixed,
    "mixed, indices in 32 bits": lambda m, x: mixed(m, x, np.int32),
}
