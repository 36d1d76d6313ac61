# SPDX-License-Identifier: MIT
"""What the operations must give, in plain NumPy: written from the formulas, not from the library."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NF4 = np.array(
    [0xBF800000, 0xBF3239B1, 0xBF066B30, 0xBECA32A0, 0xBE91A24D, 0xBE3D353F, 0xBDBA7871, 0x00000000,
     0x3DA2FAFF, 0x3E24CAE3, 0x3E7C04DD, 0x3EAD033A, 0x3EE1A4B8, 0x3F1007AB, 0x3F3913B3, 0x3F800000],
    np.uint32,
).view(np.float32)  # fmt: skip
FP4 = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
FP4 = np.concatenate([FP4, -FP4])
FP4_BY_MAGNITUDE = np.array([0, 1, 6, 7, 4, 5, 2, 3], np.uint8)
TABLES = {"nf4": NF4, "fp4": FP4}


def bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def assert_same_bits(got: Array, want: Array) -> None:
    """Equal bit by bit, but for NaNs, of which any will do."""
    assert got.dtype == want.dtype and got.shape == want.shape
    nan = np.isnan(want)
    assert np.array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(bits(got)[~nan], bits(want)[~nan])


def normalise(x: Array, blocksize: int) -> tuple[Array, Array]:
    """x / absmax of its block, and the absmax of each block, all in fp32."""
    x = x.astype(np.float32).ravel()
    scaled = np.empty_like(x)
    absmax = np.empty(-(-len(x) // blocksize), np.float32)
    with np.errstate(all="ignore"):
        for b, start in enumerate(range(0, len(x), blocksize)):
            block = x[start : start + blocksize]
            m = np.float32(np.abs(block).max())
            absmax[b] = m
            inverse = np.float32(1) / m
            value = block / m if np.isinf(inverse) else block * inverse
            if m == 0:
                value = np.zeros_like(block)
            elif np.isinf(m):
                value = np.where(np.isinf(block), np.sign(block), np.float32(0))
            scaled[start : start + blocksize] = value
    return scaled, absmax


def midpoints(table: Array) -> Array:
    return (table[:-1] + table[1:]) * np.float32(0.5)


def quantize_4bit(x: Array, blocksize: int, quant_type: str) -> tuple[Array, Array]:
    """The packed bytes and the absmax."""
    scaled, absmax = normalise(x, blocksize)
    if quant_type == "nf4":
        codes = np.searchsorted(midpoints(NF4), scaled, side="left").astype(np.uint8)
        zero = 7
    else:
        magnitudes = FP4[FP4_BY_MAGNITUDE]
        rank = np.searchsorted(midpoints(magnitudes), np.abs(scaled), side="left")
        codes = FP4_BY_MAGNITUDE[rank] | np.where(scaled < 0, 8, 0).astype(np.uint8)
        zero = 0
    codes[np.isnan(np.repeat(absmax, blocksize)[: len(codes)])] = 0
    if len(codes) % 2:
        codes = np.append(codes, np.uint8(zero))
    return codes[0::2] << 4 | codes[1::2], absmax


def dequantize_4bit(packed: Array, absmax: Array, blocksize: int, quant_type: str, n: int, dtype: Any) -> Array:
    codes = np.stack([packed >> 4, packed & 15], axis=1).ravel()[:n]
    with np.errstate(all="ignore"):
        return (TABLES[quant_type][codes] * np.repeat(absmax, blocksize)[:n]).astype(dtype)


def quantize_blockwise(x: Array, code: Array, blocksize: int) -> tuple[Array, Array]:
    scaled, absmax = normalise(x, blocksize)
    codes = np.searchsorted(midpoints(code), scaled, side="left").astype(np.uint8)
    codes[np.isnan(np.repeat(absmax, blocksize)[: len(codes)])] = 0
    return codes.reshape(x.shape), absmax


def dequantize_blockwise(codes: Array, absmax: Array, code: Array, blocksize: int, dtype: Any) -> Array:
    with np.errstate(all="ignore"):
        flat = code[codes.ravel()] * np.repeat(absmax, blocksize)[: codes.size]
        return flat.astype(dtype).reshape(codes.shape)


def int8_rows(x: Array, threshold: float) -> tuple[Array, Array, Array]:
    """Codes (outlier columns not yet cleared), statistics, and which columns have outliers."""
    x = x.astype(np.float32)
    outlier = np.abs(x) >= threshold if threshold else np.zeros(x.shape, bool)
    kept = np.where(outlier, np.float32(0), x)
    stats = np.abs(kept).max(axis=1, initial=0).astype(np.float32)
    with np.errstate(all="ignore"):
        scale = np.where(stats == 0, np.float32(0), np.float32(127) / stats).astype(np.float32)
        codes = np.rint(kept * scale[:, None]).astype(np.int8)
    return codes, stats, outlier.any(axis=0)


def quantize_fp8(x: Array, blocksize: int, dtype: Any) -> tuple[Array, Array]:
    """Codes by the conversion of ml_dtypes, after saturating."""
    import ml_dtypes

    largest = np.float32(ml_dtypes.finfo(dtype).max)
    x = x.astype(np.float32).ravel()
    scale = np.empty(-(-len(x) // blocksize), np.float32)
    codes = np.empty(len(x), dtype)
    with np.errstate(all="ignore"):
        for b, start in enumerate(range(0, len(x), blocksize)):
            block = x[start : start + blocksize]
            scale[b] = np.abs(block).max() / largest
            inverse = np.float32(1) / scale[b]
            value = (
                np.zeros_like(block) if scale[b] == 0 else block / scale[b] if np.isinf(inverse) else block * inverse
            )
            codes[start : start + blocksize] = np.clip(value, -largest, largest).astype(dtype)
    return codes, scale


def sum_of_magnitudes(block: Array) -> np.float64:
    """In float64: 16 lanes for each 1024 elements, halved until one is left; 64 of them, then all, in order."""
    total = np.float64(0)
    for section in range(0, len(block), 65536):
        part = np.float64(0)
        for piece in range(section, min(section + 65536, len(block)), 1024):
            elements = np.abs(block[piece : min(piece + 1024, section + 65536)].astype(np.float64))
            rows = np.zeros((64, 16))
            rows.ravel()[: len(elements)] = elements
            lanes = np.zeros(16)
            for row in rows:
                lanes = lanes + row
            while len(lanes) > 1:
                lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
            part += lanes[0]
        total += part
    return total


def quantize_ternary(x: Array, blocksize: int, rule: str) -> tuple[Array, Array]:
    """-1, 0 or 1 for each element, and the scales."""
    x = x.astype(np.float32).ravel()
    trits, scale = np.zeros(len(x), np.int8), np.empty(-(-len(x) // blocksize), np.float32)
    with np.errstate(all="ignore"):
        for b, start in enumerate(range(0, len(x), blocksize)):
            block = x[start : start + blocksize]
            m = np.float32(sum_of_magnitudes(block) / len(block)) if rule == "absmean" else np.abs(block).max()
            scale[b] = m
            if m == 0:
                continue
            inverse = np.float32(1) / m
            unit = block / m if np.isinf(inverse) else block * inverse
            rounded = np.rint(unit) if rule == "absmean" else np.sign(unit) * np.floor(np.abs(unit) + np.float64(0.5))
            trits[start : start + blocksize] = np.clip(rounded, -1, 1)
    return trits, scale


def pack_ternary(trits: Array) -> Array:
    """Four codes a byte, the first in the lowest bits, zeros behind the last."""
    codes = np.ones(-(-len(trits) // 4) * 4, np.uint8)
    codes[: len(trits)] = trits + 1
    return (codes.reshape(-1, 4) << np.array([0, 2, 4, 6], np.uint8)).sum(1).astype(np.uint8)


def pack_tq(trits: Array, scale: Array, quant_type: str) -> Array:
    """Blocks of GGUF: codes, then the float16 scale."""
    codes = (trits + 1).astype(np.int64).reshape(-1, 256)
    if quant_type == "tq2_0":
        quarters = codes.reshape(-1, 2, 4, 32)
        body = (quarters << np.array([0, 2, 4, 6])[:, None]).sum(2).reshape(-1, 64)
    else:
        digits = [
            codes[:, :160].reshape(-1, 5, 32),
            codes[:, 160:240].reshape(-1, 5, 16),
            codes[:, 240:].reshape(-1, 4, 4),
        ]
        weights = np.array([81, 27, 9, 3, 1])
        numbers = np.concatenate([(d * weights[: d.shape[1], None]).sum(1) for d in digits], axis=1)
        body = -(-numbers * 256 // 243)
    return np.concatenate([body.astype(np.uint8), scale.view(np.uint8).reshape(-1, 2)], axis=1).ravel()


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def nearest_code(x: Array, table: Array) -> Array:
    """Codes of a small float: the nearest of its magnitudes in ascending order, ties to the even code; no sign."""
    magnitude = np.minimum(np.abs(x).astype(np.float64), table[-1])
    above = np.clip(np.searchsorted(table, magnitude), 1, len(table) - 1)
    low, high = magnitude - table[above - 1], table[above] - magnitude
    up = (high < low) | ((high == low) & (above % 2 == 0))
    return np.where(up, above, above - 1).astype(np.uint8)


def magnitudes(quant_type: str) -> Array:
    """The finite magnitudes of the elements of a format, by code."""
    if "fp8" not in quant_type:
        return E2M1
    import ml_dtypes

    dtype = ml_dtypes.float8_e4m3fn if "e4m3" in quant_type else ml_dtypes.float8_e5m2
    values = np.arange(128, dtype=np.uint8).view(dtype).astype(np.float32)
    return values[np.isfinite(values)]


def mx_exponents(absmax: Array, quant_type: str, rule: str) -> Array:
    """e of the scale 2**e of each block, from logarithms of fp32 numbers in float64."""
    table = magnitudes(quant_type)
    largest = np.floor(np.log2(np.float64(table[-1])))
    with np.errstate(divide="ignore"):
        logarithm = np.log2(absmax.astype(np.float64))
        if rule == "floor":
            e = np.floor(logarithm) - largest
        elif rule == "ceil":
            e = np.ceil(logarithm) - largest
        elif rule == "rceil":
            e = np.ceil(np.log2((absmax / table[-1]).astype(np.float64)))
        else:
            steps = {"mxfp4": 2.0, "mxfp8_e4m3fn": 8.0, "mxfp8_e5m2": 4.0}[quant_type]
            unit = np.exp2(np.floor(logarithm))
            rounded = np.floor(absmax.astype(np.float64) / np.where(unit == 0, 1, unit) * steps + 0.5) / steps * unit
            e = np.floor(np.log2(rounded)) - largest
    return np.clip(np.where(absmax == 0, -127, e), -127, 127)


def quantize_mx(x: Array, quant_type: str, rule: str) -> tuple[Array, Array]:
    """Codes, one a byte, and the codes of scales, of finite elements. x has whole blocks."""
    blocks = x.astype(np.float32).reshape(-1, 32)
    absmax = np.abs(blocks).max(axis=1, initial=0)
    e = mx_exponents(absmax, quant_type, rule)
    scaled = np.ldexp(blocks.astype(np.float64), -e.astype(int)[:, None])
    table = magnitudes(quant_type)
    sign = np.where(np.signbit(blocks), np.uint8(8 if quant_type == "mxfp4" else 128), np.uint8(0))
    return nearest_code(scaled, table.astype(np.float64)) | sign, (e + 127).astype(np.uint8)


def quantize_nvfp4(x: Array, two_level: bool) -> tuple[Array, Array, Array]:
    """Codes, one a byte, the bytes of scales, and the scale of the tensor, of finite elements that are not tiny."""
    import ml_dtypes

    blocks = x.astype(np.float32).reshape(-1, 16)
    absmax = np.abs(blocks).max(axis=1, initial=0)
    tensor = np.float32(absmax.max(initial=0) / np.float32(448 * 6)) if two_level else np.float32(1)
    scale = np.clip(absmax / np.float32(6) / tensor, np.float32(2.0**-6), np.float32(448)).astype(
        ml_dtypes.float8_e4m3fn
    )
    factor = np.float32(1) / tensor / scale.astype(np.float32)
    codes = nearest_code(blocks * factor[:, None], E2M1) | np.where(np.signbit(blocks), np.uint8(8), np.uint8(0))
    return codes, scale.view(np.uint8), tensor.reshape(1)


def packed_low_first(codes: Array) -> Array:
    """Two codes of 4 bits a byte, the first in the low half."""
    flat = codes.reshape(-1, 2)
    return flat[:, 0] | flat[:, 1] << 4


def dequantize_mx(codes: Array, scale: Array, tensor: float, quant_type: str) -> Array:
    """fp32 values of codes, one a byte, and bytes of scales."""
    import ml_dtypes

    table = magnitudes(quant_type)
    sign_bit, block = (8, 32) if quant_type == "mxfp4" else (8, 16) if quant_type == "nvfp4" else (128, 32)
    values = table[np.minimum(codes & (sign_bit - 1), len(table) - 1)]
    values = np.where(codes & sign_bit, -values, values).reshape(-1, block)
    dtype = ml_dtypes.float8_e4m3fn if quant_type == "nvfp4" else ml_dtypes.float8_e8m0fnu
    scales = scale.view(dtype).astype(np.float32) * np.float32(tensor)
    with np.errstate(over="ignore"):
        return (values * scales[:, None]).astype(np.float32)
