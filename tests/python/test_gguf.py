# SPDX-License-Identifier: MIT
"""The types of GGUF tensors: bits of the gguf package and of ggml, golden vectors, numbers that no type holds."""

from __future__ import annotations

import ctypes
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")

import gguf

import libbnb
from libbnb.integrations.gguf import TYPE_NAMES, GGUFError, dequantize, quantize

BLOCKS = {"f32": 1, "f16": 1, "bf16": 1, "q8_0": 32, "q4_0": 32, "iq4_nl": 32, "mxfp4": 32, "tq1_0": 256, "tq2_0": 256}
WITH_GGUF = [name for name in TYPE_NAMES if name != "iq4_nl"]

# First 16 digits of SHA-256 and first 8 bytes of the vector x_i = (((7919 i + 13) mod 20011) - 10005) / 4096, i < 2560,
# made with gguf 0.19
GOLDEN = {
    "q4_0": ("aee54c5a4e75c338", "e13450c62d83f95f"),
    "q8_0": ("fc0db0d92fc7ecd0", "eb2481e64ab1157a"),
    "tq1_0": ("b3395a3b77f752b7", "2e62cf456cd862cf"),
    "tq2_0": ("d283b95807ffed97", "9451861861965186"),
    "mxfp4": ("8bfa5a78bcdd64f0", "7ebe4ae50d62c64a"),
}


def special_rows(rng: np.random.Generator, columns: int = 512) -> Any:
    """Rows of all sorts: normal, tiny, large, of widely different magnitudes, whole, ternary, zero, one number only."""
    normal = rng.standard_normal((8, columns)).astype(np.float32)
    one_hot = np.zeros((1, columns), np.float32)
    one_hot[0, columns // 2 + 3] = -0.75
    return np.concatenate(
        [
            normal,
            normal * np.float32(1e-6),
            normal * np.float32(5e3),
            normal * np.exp(2 * rng.standard_normal((8, columns))).astype(np.float32),
            np.round(normal * 4),
            np.round(np.clip(normal, -1, 1)) * np.float32(0.37),
            np.zeros((1, columns), np.float32),
            np.full((1, columns), -0.0, np.float32),
            one_hot,
        ]
    ).astype(np.float32)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_vectors(name: str) -> None:
    numbers = np.arange(2560, dtype=np.int64)
    x = ((((numbers * 7919 + 13) % 20011) - 10005) / 4096).astype(np.float32)
    packed = quantize(x, name)
    assert (hashlib.sha256(packed.tobytes()).hexdigest()[:16], packed[:8].tobytes().hex()) == GOLDEN[name]


def test_types() -> None:
    assert set(TYPE_NAMES) == set(BLOCKS)


@pytest.mark.parametrize("name", WITH_GGUF)
def test_the_bits_of_the_gguf_package(name: str, rng: np.random.Generator) -> None:
    rows = special_rows(rng)
    ggml = gguf.GGMLQuantizationType[name.upper()]
    packed = quantize(rows, name)
    assert packed.dtype == np.uint8
    assert packed.tobytes() == gguf.quantize(rows, ggml).tobytes()
    assert packed.shape == (len(rows), gguf.GGML_QUANT_SIZES[ggml][1] * rows.shape[1] // BLOCKS[name])
    assert dequantize(packed, name).tobytes() == gguf.dequantize(packed, ggml).tobytes()


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_shapes_and_kinds(name: str, rng: np.random.Generator) -> None:
    """Any number of leading dimensions, any float dtype, views; the result does not depend on how rows are grouped."""
    array = rng.standard_normal((2, 3, 512))
    packed = quantize(array, name)
    assert packed.shape[:2] == (2, 3)
    assert (packed[1, 2] == quantize(array.astype(np.float32)[1, 2], name)).all()
    assert (packed[:, ::2] == quantize(array[:, ::2], name)).all()
    assert dequantize(packed, name).shape == array.shape
    assert quantize(np.empty((0, 512), np.float32), name).shape == (0, packed.shape[-1])


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_threads_do_not_matter(name: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((1025, 512)).astype(np.float32)  # enough for two threads
    before = libbnb.get_num_threads()
    try:
        libbnb.set_num_threads(1)
        one = quantize(rows, name)
        libbnb.set_num_threads(2)
        assert (quantize(rows, name) == one).all()
    finally:
        libbnb.set_num_threads(0)
    assert libbnb.get_num_threads() == before


@pytest.mark.parametrize("name", ["tq1_0", "tq2_0"])
def test_ternary_weights_come_back(name: str, rng: np.random.Generator) -> None:
    """What is ternary, with a scale that float16 has, loses nothing."""
    weights = (rng.integers(-1, 2, (64, 512)) * np.float32(0.0625 * 1.5)).astype(np.float32)
    weights[3] = 0
    assert (dequantize(quantize(weights, name), name) == weights).all()


# ---------------------------------------------------------------------------------------------------------------------
# IQ4_NL, which the gguf package does not quantize to

KVALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
f32 = np.float32


def nearest(x: Any) -> int:
    """The code of the nearest value, by search; the upper one of two that are equally far."""
    if x <= KVALUES[0]:
        return 0
    if x >= KVALUES[-1]:
        return 15
    upper = next(code for code, value in enumerate(KVALUES) if x < value)
    return upper - 1 if x - f32(KVALUES[upper - 1]) < f32(KVALUES[upper]) - x else upper


def scalar_iq4_nl(block: Any) -> bytes:
    """The formulas of the format, one number at a time."""
    largest = f32(0)
    for x in block:
        if abs(x) > abs(largest):
            largest = x
    scale = f32(0)
    if abs(largest) >= f32(1e-15):

        def sums(reciprocal: Any) -> tuple[Any, Any]:
            qx = qq = f32(0)
            for x in block:
                value = f32(KVALUES[nearest(reciprocal * x)])
                qx += x * x * value * x
                qq += x * x * value * value
            return qx, qq

        qx, qq = sums(f32(1) / (-largest / f32(KVALUES[0])))
        scale = qx / qq if qq > 0 else f32(0)
        best = scale * qx
        for step in range(-7, 8):
            qx, qq = sums(f32(step + KVALUES[0]) / largest)
            if qq > 0 and qx * qx > best * qq:
                scale = qx / qq
                best = scale * qx
    reciprocal = f32(1) / scale if scale else f32(0)
    codes = [nearest(reciprocal * x) for x in block]
    return scale.astype(np.float16).tobytes() + bytes(codes[j] | codes[j + 16] << 4 for j in range(16))


def test_iq4_nl_is_the_scalar_rule(rng: np.random.Generator) -> None:
    rows = special_rows(rng, 64)[::3]
    with np.errstate(all="ignore"):
        want = b"".join(scalar_iq4_nl(block) for block in rows.reshape(-1, 32))
    assert quantize(rows, "iq4_nl").tobytes() == want


def test_iq4_nl_zero_block() -> None:
    assert quantize(np.zeros(32), "iq4_nl").tobytes() == bytes(2) + b"\x88" * 16


def test_iq4_nl_takes_the_best_of_its_starts(rng: np.random.Generator) -> None:
    """A block of the format's own values comes back exactly."""
    values = np.array(KVALUES * 2, np.float32) * np.float32(0.5)
    packed = quantize(rng.permutation(values), "iq4_nl")
    assert np.sort(dequantize(packed, "iq4_nl")).tolist() == np.sort(values).tolist()


def ggml_library() -> Any:
    """ggml's C library, if llama-cpp-python brought it."""
    package = pytest.importorskip("llama_cpp")
    found = sorted(Path(package.__file__).parent.glob("lib/*ggml-base*"))
    if not found:
        pytest.skip("llama-cpp-python has no ggml-base library beside it")
    return ctypes.CDLL(str(found[0]))


@pytest.mark.parametrize("name", ["iq4_nl", "q4_0", "q8_0", "tq1_0", "tq2_0", "mxfp4"])
def test_the_bits_of_ggml(name: str, rng: np.random.Generator) -> None:
    """The same bytes as ggml's C functions write, but for the sign of q4_0's scale in blocks of negative zeros."""
    function = getattr(ggml_library(), f"quantize_{name}")
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    rows = np.concatenate([special_rows(rng) for _ in range(8)])
    rows = rows[~np.signbit(rows).all(1)] if name == "q4_0" else rows
    packed = quantize(rows, name)
    want = np.zeros_like(packed)
    assert function(rows.ctypes.data, want.ctypes.data, *rows.shape, None) == want.nbytes
    assert (packed == want).all()


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(("name", "block"), [(name, block) for name, block in BLOCKS.items() if block > 1])
def test_rows_that_do_not_fit(name: str, block: int) -> None:
    with pytest.raises(GGUFError, match=rf"rows of {block + 8} elements; {name} needs rows of a multiple of {block}"):
        quantize(np.zeros((2, block + 8)), name)
    with pytest.raises(GGUFError, match="a scalar"):
        quantize(np.float32(1), name)
    with pytest.raises(GGUFError, match=f"blocks of {name}"):
        dequantize(np.zeros(5, np.uint8), name)


@pytest.mark.parametrize("name", [name for name, block in BLOCKS.items() if block > 1])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity(name: str, bad: float) -> None:
    rows = np.ones((4, 256), np.float32)
    rows[2, 100] = bad
    with pytest.raises(GGUFError, match="NaN or infinity"):
        quantize(rows, name)


def test_floats_keep_nan_and_infinity() -> None:
    rows = np.array([math.nan, math.inf, -math.inf, 1.0], np.float32)
    for name in ("f32", "f16", "bf16"):
        assert np.array_equal(dequantize(quantize(rows, name), name), rows, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "large"), [("f16", 7e4), ("q8_0", 1e7), ("q4_0", 6e5), ("iq4_nl", 1e7), ("tq2_0", 7e4)]
)
def test_magnitudes_beyond_float16(name: str, large: float) -> None:
    rows = np.ones((1, 256), np.float32)
    rows[0, 0] = large
    with pytest.raises(GGUFError, match=f"beyond what {name} holds"):
        quantize(rows, name)
    assert np.isfinite(dequantize(quantize(rows / 2 if name != "iq4_nl" else rows / 4, name), name)).all()


def test_unknown_type() -> None:
    with pytest.raises(GGUFError, match="quant_type is 'q9', must be one of f32"):
        quantize(np.zeros(32), "q9")
