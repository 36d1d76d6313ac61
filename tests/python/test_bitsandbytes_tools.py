# SPDX-License-Identifier: MIT
"""bitsandbytes' GPU-only and removed C symbols on host memory, against NumPy; bad input; what is not there yet."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import c_symbols as c
from c_symbols import pointer


@pytest.fixture(scope="module")
def ours() -> ctypes.CDLL:
    return c.load_ours()


def half(rows: int, cols: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, cols)) * spread).astype(np.float16)


# 8-bit and 4-bit names of the GPU library


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("quant_type", ["", "_nf4", "_fp4"])
@pytest.mark.parametrize("blocksize", [32, 64, 96, 4096])
def test_device_names_work_on_host_memory(ours: ctypes.CDLL, t: str, quant_type: str, blocksize: int) -> None:
    code = None if quant_type else c.dynamic_map(ours)
    for n in (0, 1, 65, 1000):
        bits = c.narrow(np.random.default_rng(n).standard_normal(n), t)
        codes = np.full(n if code is not None else -(-n // 2), 0xAA, np.uint8)
        absmax = np.full(-(-n // blocksize), np.nan, np.float32)
        back = np.zeros(n, c.storage(t))
        quantize = getattr(ours, f"cquantize_blockwise_{t}{quant_type}")
        dequantize = getattr(ours, f"cdequantize_blockwise_{t}{quant_type}")
        assert quantize(pointer(code), pointer(bits), pointer(absmax), pointer(codes), blocksize, n) == c.OK
        assert dequantize(pointer(code), pointer(codes), pointer(absmax), pointer(back), blocksize, n, None) == c.OK
        x = c.widen(bits, t)
        assert absmax.tobytes() == c.scales(x, blocksize).tobytes()
        error = np.abs(c.widen(back, t) - x).reshape(-1) / np.repeat(absmax, blocksize)[:n]
        assert error.max(initial=0) <= (0.01 if not quant_type else 0.18)


def test_fp4_signs_and_last_blocks(ours: ctypes.CDLL) -> None:
    x = np.array([1.0, 1e-4, -1e-4, -0.0], np.float32)
    out, absmax = np.zeros(3, np.uint8), np.ones(3, np.float32)
    assert ours.cquantize_blockwise_fp32_fp4(None, pointer(x), pointer(absmax), pointer(out), 4, 4) == c.OK
    assert out[:2].tolist() == [0x30, 0x80]  # the sign bit is set exactly for values below zero
    x = np.array([1, 2, 3, 4, 0], np.float32)
    assert ours.cquantize_blockwise_fp32_nf4(None, pointer(x), pointer(absmax), pointer(out), 4, 5) == c.OK
    assert absmax[:2].tolist() == [4, 0]  # a short block of zeros is nothing special
    assert out[2] == 0x77


def test_rust_names(ours: ctypes.CDLL) -> None:
    a, absmax = np.arange(32, dtype=np.uint8), np.array([2.0], np.float32)
    for quant_type in ("nf4", "fp4"):
        expected, out = np.zeros(64, np.float32), np.zeros(64, np.float32)
        function = getattr(ours, f"cdequantize_blockwise_cpu_{quant_type}_fp32")
        assert function(pointer(a), pointer(absmax), pointer(expected), 64, 1, 64) == c.OK
        function = getattr(ours, f"cdequantize_blockwise_cpu_fp32_{quant_type}")
        assert function(None, pointer(a), pointer(absmax), pointer(out), 64, 64) == c.OK
        assert out.any()
        assert out.tobytes() == expected.tobytes()


def test_nearest_code_without_scaling(ours: ctypes.CDLL) -> None:
    code = np.sort(np.random.default_rng(5).standard_normal(256) * 100).astype(np.float32)
    midpoints = (code[:-1] + code[1:]) * np.float32(0.5)
    inf = np.float32(np.inf)
    x = np.concatenate([code, midpoints, np.nextafter(midpoints, inf), np.nextafter(midpoints, -inf)])
    x = np.concatenate([x, np.array([np.inf, -np.inf, 1e38, -1e38], np.float32)])
    out = np.zeros(x.size, np.uint8)
    assert ours.cquantize(pointer(code), pointer(x), pointer(out), x.size) == c.OK
    assert out.tobytes() == c.nearest(code, x).tobytes()
    assert out[256:511].tobytes() == np.arange(255, dtype=np.uint8).tobytes()  # ties go down
    back = np.zeros(x.size, np.float32)
    assert ours.cdequantize(pointer(code), pointer(out), pointer(back), x.size, None) == c.OK
    assert back.tobytes() == code[out].tobytes()


# LLM.int8()


def int8_statistics(x: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outliers = (np.abs(x) >= threshold) if threshold > 0 else np.zeros(x.shape, bool)
    inliers = np.where(outliers, 0, np.abs(x)).astype(np.float32)
    return outliers, inliers.max(axis=1), inliers.max(axis=0)


def int8_codes(x: np.ndarray, outliers: np.ndarray, stats: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint(x.astype(np.float32) * (np.float32(127) / stats))
    return np.where(outliers | (np.broadcast_to(stats, x.shape) == 0), 0, codes).astype(np.int8)


@pytest.mark.parametrize("threshold", [0.0, 2.3])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (10, 100), (37, 259), (3, 0), (0, 3)])
def test_int8_names(ours: ctypes.CDLL, rows: int, cols: int, threshold: float) -> None:
    A = half(rows, cols, 3)
    if rows > 2:
        A[2] = 0
    outliers, row_expected, col_expected = (
        int8_statistics(A, threshold) if A.size else (A > 0, np.zeros(rows, np.float32), np.zeros(cols, np.float32))
    )
    out, row_stats = np.full(A.shape, 99, np.int8), np.full(rows, 99, np.float32)
    assert ours.cint8_vector_quant(pointer(A), pointer(out), pointer(row_stats), threshold, rows, cols, None) == c.OK
    assert row_stats.tobytes() == row_expected.tobytes()
    assert out.tobytes() == int8_codes(A, outliers, row_expected[:, None]).tobytes()

    row_stats[:] = 99
    assert ours.cget_row_stats(pointer(A), pointer(row_stats), threshold, rows, cols, None) == c.OK
    assert row_stats.tobytes() == row_expected.tobytes()

    col_stats, counts = np.full(cols, 99, np.float32), np.full(rows + 1, 99, np.int32)
    status = ours.cget_col_row_stats(
        pointer(A), pointer(row_stats), pointer(col_stats), pointer(counts), threshold, rows, cols
    )
    assert status == c.OK
    assert row_stats.tobytes() == row_expected.tobytes()
    assert col_stats.tobytes() == col_expected.tobytes()
    assert counts.tolist() == [0, *outliers.sum(axis=1)]

    starts = np.cumsum(counts, dtype=np.int32)
    nnz = int(starts[-1])
    assert (nnz > 0) == (threshold > 0 and A.size > 1)
    rowidx, colidx = np.full(nnz + 1, -7, np.int32), np.full(nnz + 1, -7, np.int32)
    val = np.full(nnz + 1, -7, np.float16)
    out_row, out_col = np.full(A.shape, 99, np.int8), np.full(A.shape, 99, np.int8)
    arrays = (A, row_stats, col_stats, out_col, out_row, rowidx, colidx, val, starts)
    assert ours.cdouble_rowcol_quant(*map(pointer, arrays), threshold, rows, cols) == c.OK
    assert out_row.tobytes() == out.tobytes()
    assert out_col.tobytes() == int8_codes(A, outliers, col_expected[None, :]).tobytes()
    assert rowidx.tolist() == [*np.nonzero(outliers)[0], -7]
    assert colidx.tolist() == [*np.nonzero(outliers)[1], -7]
    assert val.tolist() == [*A[outliers], -7]


def test_double_quant_in_the_buffers_of_old_callers(ours: ctypes.CDLL) -> None:
    # Python code of the time sized the counts by tiles of 16 x 256 and summed all of them.
    rows, cols, threshold = 20, 300, 2.0
    A = half(rows, cols, 8)
    counts = np.zeros(32 * 2 + 1, np.int32)
    row_stats, col_stats = np.full(rows, -50000, np.float32), np.full(cols, -50000, np.float32)
    arrays = (A, row_stats, col_stats, counts)
    assert ours.cget_col_row_stats(*map(pointer, arrays), threshold, rows, cols) == c.OK
    starts = np.cumsum(counts, dtype=np.int32)
    nnz = int(starts[-1])
    assert nnz == (np.abs(A) >= threshold).sum()
    rowidx, colidx, val = np.zeros(nnz, np.int32), np.zeros(nnz, np.int32), np.zeros(nnz, np.float16)
    out_row, out_col = np.zeros(A.shape, np.int8), np.zeros(A.shape, np.int8)
    arrays = (A, row_stats, col_stats, out_col, out_row, rowidx, colidx, val, starts)
    assert ours.cdouble_rowcol_quant(*map(pointer, arrays), threshold, rows, cols) == c.OK
    dense = np.zeros(A.shape, np.float16)
    dense[rowidx, colidx] = val
    assert (dense == np.where(np.abs(A) >= threshold, A, 0)).all()

    starts[5] += 1  # now the outliers of a row would land in the next one's place
    out_row[:] = rowidx[:] = 55
    assert ours.cdouble_rowcol_quant(*map(pointer, arrays), threshold, rows, cols) == c.INVALID_ARGUMENT
    assert "nnz_row_ptr" in c.last_error(ours)
    assert "row 4" in c.last_error(ours)
    assert (out_row == 55).all()
    assert (rowidx == 55).all()


def test_double_quant_by_foreign_statistics_saturates(ours: ctypes.CDLL) -> None:
    A = np.array([[1, -4, 0.5], [np.nan, np.inf, -np.inf]], np.float16)
    row_stats, col_stats = np.array([2, 3], np.float32), np.array([np.nan, 0, -1], np.float32)
    out_row, out_col = np.zeros(A.shape, np.int8), np.full(A.shape, 9, np.int8)
    arrays = (A, row_stats, col_stats, out_col, out_row, None, None, None, None)
    assert ours.cdouble_rowcol_quant(*map(pointer, arrays), 0.0, 2, 3) == c.OK
    assert out_row.tolist() == [[64, -127, 32], [0, 127, -127]]
    assert not out_col.any()


@pytest.mark.parametrize("with_bias", [False, True])
def test_dequant_mm(ours: ctypes.CDLL, with_bias: bool) -> None:
    rng = np.random.default_rng(1)
    rows, cols = 9, 33
    A = rng.integers(-(1 << 20), 1 << 20, (rows, cols), np.int32)
    row_stats, col_stats = rng.random(rows, np.float32), rng.random(cols, np.float32)
    bias = half(1, cols)[0] if with_bias else None
    out = np.zeros((rows, cols), np.float16)
    arrays = (A, row_stats, col_stats, out, bias)
    assert ours.cdequant_mm_int32_fp16(*map(pointer, arrays), rows, cols, None) == c.OK
    scale = np.float32(1) / (np.float32(127) * np.float32(127))
    expected = A.astype(np.float32) * (row_stats[:, None] * col_stats) * scale
    expected = expected + bias.astype(np.float32) if with_bias else expected
    assert out.tobytes() == expected.astype(np.float16).tobytes()


# Statistics and tools


@pytest.mark.parametrize("t", ["fp32", "fp16"])
@pytest.mark.parametrize("n", [1, 2, 255, 256, 1000, 100_003])
@pytest.mark.parametrize("offset", [1 / 512, 0.0, 0.25, 0.5])
def test_quantiles_are_exact(ours: ctypes.CDLL, t: str, n: int, offset: float) -> None:
    rng = np.random.default_rng(n)
    for x in (rng.standard_normal(n), rng.integers(-3, 3, n), rng.standard_normal(n) * 10.0 ** rng.integers(-9, 4, n)):
        bits = c.narrow(x, t)
        code = np.zeros(256, np.float32)
        function = getattr(ours, f"cestimate_quantiles_{t}")
        assert function(pointer(bits), pointer(code), offset, n) == c.OK
        ordered = np.sort(c.widen(bits, t)).astype(np.float64)
        double = float(np.float32(offset))
        places = (double + np.arange(256) * (1 - 2 * double) / 255) * (n - 1)
        below = np.minimum(places.astype(np.int64), n - 1)
        low, high = ordered[below], ordered[np.minimum(below + 1, n - 1)]
        expected = (low + (high - low) * (places - below)).astype(np.float32)
        assert (code == expected).all()
        assert np.allclose(code, np.quantile(ordered, np.clip(places / max(n - 1, 1), 0, 1)), rtol=1e-6, atol=1e-12)


def test_quantiles_of_unusual_arrays(ours: ctypes.CDLL) -> None:
    code = np.full(256, 5, np.float32)
    assert ours.cestimate_quantiles_fp32(None, pointer(code), 0.1, 0) == c.OK
    assert (code == 5).all()
    x = np.array([1, np.nan, 2], np.float32)
    assert ours.cestimate_quantiles_fp32(pointer(x), pointer(code), 0.1, 3) == c.OK
    assert np.isnan(code).all()
    x = np.array([-np.inf] * 300 + [np.inf] * 300, np.float32)
    assert ours.cestimate_quantiles_fp32(pointer(x), pointer(code), 0.0, 600) == c.OK
    assert (code[:127] == -np.inf).all()
    assert (code[129:] == np.inf).all()
    for offset in (-0.1, 0.6, np.nan):
        assert ours.cestimate_quantiles_fp32(pointer(x), pointer(code), offset, 600) == c.INVALID_ARGUMENT
        assert "offset" in c.last_error(ours)


@pytest.mark.parametrize(("suffix", "t"), [("32", "fp32"), ("16", "fp16")])
def test_percentile_clipping(ours: ctypes.CDLL, suffix: str, t: str) -> None:
    function = getattr(ours, f"cpercentile_clipping_g{suffix}")
    history = np.zeros(100, np.float32)
    norms = {}
    for step in (1, 2, 99, 100, 250):
        g = c.narrow(np.random.default_rng(step).standard_normal(50_001), t)
        assert function(pointer(g), pointer(history), step, g.size) == c.OK
        norms[step] = np.float32((c.widen(g, t).astype(np.float64) ** 2).sum())
    expected = np.full(100, norms[1])
    expected[[2, 99, 0, 50]] = [norms[2], norms[99], norms[100], norms[250]]
    assert np.allclose(history, expected, rtol=1.2e-7)  # NumPy adds in another order
    assert function(pointer(g), pointer(history), -1, g.size) == c.INVALID_ARGUMENT


def test_percentile_clipping_has_the_same_bits_for_every_number_of_threads(ours: ctypes.CDLL) -> None:
    g = np.random.default_rng(2).standard_normal(3_000_000).astype(np.float32)
    seen = set()
    for threads in (1, 2, 5):
        assert ours.bnb_set_num_threads(threads) == c.OK
        history = np.zeros(100, np.float32)
        assert ours.cpercentile_clipping_g32(pointer(g), pointer(history), 7, g.size) == c.OK
        seen.add(history[7].tobytes())
    assert ours.bnb_set_num_threads(0) == c.OK
    assert len(seen) == 1


def test_histogram(ours: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    n, rows, cols = 5000, 7, 11
    i1, i2 = rng.integers(0, rows, n, np.int32), rng.integers(0, cols, n, np.int32)
    source = rng.standard_normal(n).astype(np.float32)
    histogram = np.ones((rows, cols), np.float32)
    expected = histogram.copy()
    np.add.at(expected, (i1, i2), source)
    arrays = (histogram, i1, i2, source)
    assert ours.chistogram_scatter_add_2d(*map(pointer, arrays), cols, n) == c.OK
    assert histogram.tobytes() == expected.tobytes()
    for index, wrong in ((i1, -1), (i2, -1), (i2, cols)):
        kept, index[-1] = index[-1], wrong
        assert ours.chistogram_scatter_add_2d(*map(pointer, arrays), cols, n) == c.INVALID_ARGUMENT
        assert "source[4999]" in c.last_error(ours)
        index[-1] = kept
    assert histogram.tobytes() == expected.tobytes()


def test_fill_arange_multiply(ours: ctypes.CDLL) -> None:
    for n in (0, 1, 1000, 300_000):
        a, b = np.zeros(n + 1, np.float32), np.random.default_rng(n).standard_normal(n).astype(np.float32)
        assert ours.cfill_fp32(pointer(a), None, 2.5, n) == c.OK
        assert (a[:n] == 2.5).all()
        assert ours.c_mul_fp32(pointer(a), pointer(b), 0.0, n) == c.OK
        assert (a[:n] == b * np.float32(2.5)).all()
        assert ours.c_mul_fp32(pointer(a), pointer(a), 0.0, n) == c.OK
        assert (a[:n] == (b * np.float32(2.5)) ** 2).all()
        assert ours.carange_fp32(pointer(a), None, 0.0, n) == c.OK
        assert (a[:n] == np.arange(n)).all()
        assert a[n] == 0
        u = np.zeros(n + 1, np.uint8)
        assert ours.cfill_uint8(pointer(u), None, 200, n) == c.OK
        assert (u[:n] == 200).all()
        assert u[n] == 0


def test_memory_and_contexts(ours: ctypes.CDLL) -> None:
    address = ours.cget_managed_ptr(1 << 20)
    assert address
    array = np.ctypeslib.as_array((ctypes.c_uint8 * (1 << 20)).from_address(address))
    assert ours.cfill_uint8(address, None, 3, 1 << 20) == c.OK
    assert (array == 3).all()
    assert ours.cprefetch(address, 1 << 20, -1) == c.OK
    assert ours.cprefetch(address, 1 << 20, 0) == c.OK
    assert ours.cprefetch(None, 8, 0) == c.INVALID_ARGUMENT
    assert ours.cprefetch(address, 8, -2) == c.INVALID_ARGUMENT
    assert ours.cget_managed_ptr(0) is None
    assert ours.cget_managed_ptr(1 << 62) is None
    assert "cget_managed_ptr" in c.last_error(ours)
    assert ours.get_context() is not None
    assert ours.get_context() == ours.get_context()
    assert ours.get_cusparse() is not None


def test_features(ours: ctypes.CDLL) -> None:
    with open("/proc/cpuinfo") as lines:
        flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    assert ours.has_avx512f_cpu() == ({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"} <= flags)
    # A program that hears "yes" repacks its weights in place.
    assert not ours.has_avx512bf16_cpu()


# Errors


def zeros(signature: str) -> list:
    return [{"p": None, "f": 0.0, "b": False}.get(letter, 0) for letter in signature]


@pytest.mark.parametrize("name", [*c.PRODUCTS, *c.OPTIMIZERS])
def test_what_is_not_there_says_so(ours: ctypes.CDLL, name: str) -> None:
    status = getattr(ours, name)(*zeros(c.ALL[name]))
    assert status in (c.OK, c.INVALID_ARGUMENT, c.UNSUPPORTED)
    assert status == c.OK or c.last_error(ours).startswith(f"{name}: ")


@pytest.mark.parametrize("name", c.IGEMMLT)
def test_igemmlt_speaks_its_own_codes(ours: ctypes.CDLL, name: str) -> None:
    assert getattr(ours, name)(*zeros(c.ALL[name])) == 0


SIZED = [name for name in c.SIGNATURES if c.SIGNATURES[name][:1] == "p" and name != "cprefetch"]


@pytest.mark.parametrize("name", SIZED)
def test_bad_input_is_an_error_and_writes_nothing(ours: ctypes.CDLL, name: str) -> None:
    signature, function = c.SIGNATURES[name], getattr(ours, name)
    arrays = [np.full(4096, 1, np.uint8) for _ in range(signature.count("p"))]

    def call(sizes: int, pointers: list) -> int:
        remaining = iter(pointers)
        return function(
            *[next(remaining) if letter == "p" else 0.0 if letter == "f" else sizes for letter in signature]
        )

    assert call(-1, [pointer(a) for a in arrays]) == c.INVALID_ARGUMENT
    assert c.last_error(ours).startswith(f"{name}: ")
    assert call(-(1 << 31), [pointer(a) for a in arrays]) == c.INVALID_ARGUMENT
    assert call(4, [None] * len(arrays)) == c.INVALID_ARGUMENT
    assert c.last_error(ours).startswith(f"{name}: ")
    assert all((a == 1).all() for a in arrays)


@pytest.mark.parametrize("blocksize", [0, -1, -64])
@pytest.mark.parametrize("name", [n for n in c.SIGNATURES if "blockwise" in n])
def test_bad_block_sizes(ours: ctypes.CDLL, name: str, blocksize: int) -> None:
    code, a = c.dynamic_map(ours), np.ones(64, np.float32)
    absmax, out = np.full(64, 5, np.float32), np.full(64, 5, np.float32)
    function = getattr(ours, name)
    arguments = [pointer(x) for x in (code, a, absmax, out)]
    signature = c.SIGNATURES[name]
    if signature == "pppqqq":
        status = function(*arguments[1:], blocksize, 1, 64)
    else:
        status = function(*arguments, blocksize, 64, *[None] * (len(signature) - 6))
    assert status == c.INVALID_ARGUMENT
    assert "blocksize" in c.last_error(ours)
    assert (absmax == 5).all()
    assert (out == 5).all()


def test_odd_block_sizes_are_an_error_in_4_bits_only(ours: ctypes.CDLL) -> None:
    code, a, out, absmax = c.dynamic_map(ours), np.ones(9, np.float32), np.zeros(9, np.uint8), np.zeros(3, np.float32)
    arguments = [pointer(x) for x in (code, a, absmax, out)]
    assert ours.cquantize_blockwise_fp32(*arguments, 3, 9) == c.OK
    assert ours.cquantize_blockwise_fp32_nf4(*arguments, 3, 9) == c.INVALID_ARGUMENT


def test_sizes_that_overflow(ours: ctypes.CDLL) -> None:
    a, absmax, out = np.ones(8, np.uint8), np.ones(8, np.float32), np.full(8, 5, np.float32)
    arrays = [pointer(x) for x in (a, absmax, out)]
    for rows, cols in ((1 << 40, 1 << 40), (-1, -1), (-1, 8), ((1 << 63) - 1, 1), (1 << 61, 2)):
        assert ours.cdequantize_blockwise_cpu_nf4_fp32(*arrays, 64, rows, cols) == c.INVALID_ARGUMENT
    code = c.dynamic_map(ours)
    for n in ((1 << 63) - 1, 1 << 62, -(1 << 63)):
        status = ours.cquantize_blockwise_cpu_fp32(pointer(code), arrays[2], arrays[1], arrays[0], 64, n)
        assert status == c.INVALID_ARGUMENT
    assert (out == 5).all()


def test_codes_that_are_none(ours: ctypes.CDLL) -> None:
    x, out, absmax = np.ones(4, np.float32), np.full(4, 5, np.uint8), np.full(1, 5, np.float32)
    for position, value in ((7, np.nan), (255, np.inf), (100, 2.0)):
        code = c.dynamic_map(ours)
        code[position] = value
        arrays = [pointer(a) for a in (code, x, absmax, out)]
        assert ours.cquantize_blockwise_cpu_fp32(*arrays, 4, 4) == c.INVALID_ARGUMENT
        assert ours.cquantize(arrays[0], arrays[1], arrays[3], 4) == c.INVALID_ARGUMENT
        assert "code[" in c.last_error(ours)
    assert (out == 5).all()


def test_overlap_is_an_error(ours: ctypes.CDLL) -> None:
    buffer, code, absmax = np.ones(64, np.float32), c.dynamic_map(ours), np.ones(1, np.float32)
    inside = pointer(buffer[10:])
    assert ours.cquantize_blockwise_fp32(pointer(code), pointer(buffer), pointer(absmax), inside, 64, 64) == 1
    assert ours.c_mul_fp32(pointer(buffer), inside, 0.0, 50) == c.INVALID_ARGUMENT
    assert "overlaps" in c.last_error(ours)
    assert (buffer == 1).all()
