# SPDX-License-Identifier: MIT
"""bitsandbytes' C symbols for products with 4-bit weights, against float64 products of the dequantized weights."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import c_symbols as c
from c_symbols import pointer

TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 2e-2}  # of the sum of absolute products
FORMATS = {"fp4": 1, "nf4": 2}


@pytest.fixture(scope="module")
def ours() -> ctypes.CDLL:
    return c.load_ours()


class Weights:
    """N x K weights, quantized and back."""

    def __init__(self, ours: ctypes.CDLL, quant_type: str, n: int, k: int, blocksize: int) -> None:
        self.quant_type, self.n, self.k, self.blocksize = quant_type, n, k, blocksize
        x = (np.random.default_rng(n * k).standard_normal(n * k) * 0.1).astype(np.float32)
        self.packed = np.zeros(-(-n * k // 2), np.uint8)
        self.absmax = np.zeros(-(-n * k // blocksize), np.float32)
        quantize = getattr(ours, f"cquantize_blockwise_fp32_{quant_type}")
        assert quantize(None, pointer(x), pointer(self.absmax), pointer(self.packed), blocksize, n * k) == c.OK
        self.codes = np.stack([self.packed >> 4, self.packed & 15], -1).reshape(-1)[: n * k]
        self.book = codebook(ours, quant_type)

    def dense(self, absmax: np.ndarray | None = None) -> np.ndarray:
        scale = np.repeat(self.absmax if absmax is None else absmax, self.blocksize)[: self.n * self.k]
        return (self.book[self.codes] * scale).astype(np.float64).reshape(self.n, self.k)


def codebook(ours: ctypes.CDLL, quant_type: str) -> np.ndarray:
    packed = np.array([16 * code + code for code in range(16)], np.uint8)
    out, absmax = np.zeros(32, np.float32), np.ones(1, np.float32)
    dequantize = getattr(ours, f"cdequantize_blockwise_fp32_{quant_type}")
    assert dequantize(None, pointer(packed), pointer(absmax), pointer(out), 32, 32, None) == c.OK
    return out[::2].copy()


def rows(m: int, k: int, t: str) -> np.ndarray:
    return c.narrow(np.random.default_rng(m + k).standard_normal((m, k)).astype(np.float32), t)


def close(out: np.ndarray, a: np.ndarray, w: np.ndarray, t: str, bias: np.ndarray | None = None) -> None:
    x = c.widen(a, t).astype(np.float64).reshape(-1, w.shape[1])
    extra = 0.0 if bias is None else c.widen(bias, t).astype(np.float64)
    error = np.abs(c.widen(out, t).reshape(len(x), -1) - (x @ w.T + extra))
    assert (error <= TOLERANCE[t] * (np.abs(x) @ np.abs(w).T + np.abs(extra))).all()


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("quant_type", FORMATS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 64), (3, 40, 256), (20, 33, 192), (4, 7, 65)])
def test_gemm(ours: ctypes.CDLL, t: str, quant_type: str, m: int, n: int, k: int) -> None:
    w, a, bias = Weights(ours, quant_type, n, k, 64), rows(m, k, t), rows(1, n, t)
    out, gemm = np.zeros((m, n), c.storage(t)), getattr(ours, f"cgemm_4bit_{t}")
    for b in (None, bias):
        arrays = [a, w.packed, w.absmax, None, None, None, out, b]
        assert gemm(*map(pointer, arrays), m, n, k, 64, FORMATS[quant_type], None) == c.OK
        close(out, a, w.dense(), t, b)


@pytest.mark.parametrize("t", c.FLOATS)
def test_gemm_with_nested_scales(ours: ctypes.CDLL, t: str) -> None:
    m, n, k = 2, 70, 256
    w, a, code = Weights(ours, "nf4", n, k, 32), rows(m, k, t), c.dynamic_map(ours)
    offset = np.array([w.absmax.mean()], np.float32)
    nested, codes = np.zeros(-(-w.absmax.size // 256), np.float32), np.zeros(w.absmax.size, np.uint8)
    centred = w.absmax - offset
    arrays = [code, centred, nested, codes]
    assert ours.cquantize_blockwise_fp32(*map(pointer, arrays), 256, w.absmax.size) == c.OK
    absmax = code[codes] * np.repeat(nested, 256)[: codes.size] + offset
    out = np.zeros((m, n), c.storage(t))
    arrays = [a, w.packed, nested, codes, code, offset, out, None]
    assert getattr(ours, f"cgemm_4bit_{t}")(*map(pointer, arrays), m, n, k, 32, FORMATS["nf4"], None) == c.OK
    close(out, a, w.dense(absmax.astype(np.float32)), t)


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("quant_type", FORMATS)
def test_one_row(ours: ctypes.CDLL, t: str, quant_type: str) -> None:
    n, k = 37, 128
    w, a = Weights(ours, quant_type, n, k, 64), rows(1, k, t)
    pointers = [pointer(array) for array in (a, w.packed, w.absmax, w.book)]
    naive, gemv = np.zeros(n, c.storage(t)), np.zeros(n, c.storage(t))
    tail = (n, k // 2, n, 64, None)
    assert getattr(ours, f"cgemm_4bit_inference_naive_{t}")(n, 1, k, *pointers, pointer(naive), *tail) == c.OK
    assert getattr(ours, f"cgemv_4bit_inference_{t}")(1, n, k, *pointers, pointer(gemv), *tail) == c.OK
    close(naive, a, w.dense(), t)
    assert naive.tobytes() == gemv.tobytes()
    if t == "fp16" and quant_type == "nf4":
        old = np.zeros(n, np.uint16)
        assert ours.cgemm_4bit_inference(n, 1, k, *pointers[:3], pointer(old), n, k // 2, n, 64) == c.OK
        assert old.tobytes() == naive.tobytes()


def test_a_codebook_of_neither_format_is_an_error(ours: ctypes.CDLL) -> None:
    w, a = Weights(ours, "nf4", 2, 64, 64), rows(1, 64, "fp32")
    w.book[3] += 0.25
    out = np.full(2, 7, np.float32)
    arrays = [a, w.packed, w.absmax, w.book, out]
    gemv = ours.cgemv_4bit_inference_fp32
    assert gemv(1, 2, 64, *map(pointer, arrays), 2, 32, 2, 64, None) == c.INVALID_ARGUMENT
    assert "datatype" in c.last_error(ours)
    assert (out == 7).all()


def interleaved(codes: np.ndarray) -> np.ndarray:
    """bitsandbytes' packing for CPUs of [N, K] codes."""
    n, k = codes.shape
    blocks = codes.reshape(n // 32, 2, 16, k // 2, 2)  # block, half, row, pair, element
    return (blocks[:, 0] | blocks[:, 1] << 4).transpose(0, 2, 1, 3).reshape(-1).astype(np.uint8)


@pytest.mark.parametrize("quant_type", FORMATS)
@pytest.mark.parametrize("m", [1, 3])
def test_cpu_packing(ours: ctypes.CDLL, quant_type: str, m: int) -> None:
    n, k = 64, 256
    w, x = Weights(ours, quant_type, n, k, 64), rows(m, k + 3, "bf16")
    scales = c.narrow(w.absmax.reshape(n, k // 64).T, "bf16")
    absmax = c.widen(scales, "bf16").T.reshape(-1)
    out = np.zeros((m, n + 5), np.uint16)
    packed = interleaved(w.codes.reshape(n, k))
    gemv = getattr(ours, f"gemv_4bit_inference_cpu_{quant_type}_bf16")
    arrays = [x, packed, np.ascontiguousarray(scales), out]
    assert gemv(m, n, k, *map(pointer, arrays), 64, k + 3, n + 5) == c.OK
    close(out[:, :n].copy(), x[:, :k].copy(), w.dense(absmax), "bf16")
    assert (out[:, n:] == 0).all()
    assert gemv(m, n - 16, k, *map(pointer, arrays), 64, k + 3, n + 5) == c.INVALID_ARGUMENT
    assert gemv(m, n, k, *map(pointer, arrays), 0, k + 3, n + 5) == c.INVALID_ARGUMENT
