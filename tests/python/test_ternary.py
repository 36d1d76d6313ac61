# SPDX-License-Identifier: MIT
"""Ternary weights: both rules and all layouts against NumPy and GGUF's own quantizers, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import libbnb
import oracle
from kinds import BF16, Kind
from oracle import assert_same_bits

LAYOUTS = ("ternary", "tq1_0", "tq2_0")
RULES = ("absmean", "absmax")
FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)


def want(x: Any, blocksize: int, quant_type: str, rule: str) -> tuple[Any, Any, Any]:
    """Bytes, scales and the values that come back, by the oracle."""
    trits, scale = oracle.quantize_ternary(x, blocksize, rule)
    if quant_type == "ternary":
        codes = oracle.pack_ternary(trits)
        each = np.repeat(scale, blocksize)[: x.size]
    else:
        halves = np.repeat(scale, blocksize // 256)[: x.size // 256].astype(np.float16)
        codes = oracle.pack_tq(trits, halves, quant_type)
        each = np.repeat(halves.astype(np.float32), 256)
    with np.errstate(all="ignore"):
        return codes, scale, (trits * each).reshape(x.shape)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("quant_type", LAYOUTS)
def test_on_every_library(kind: Kind, quant_type: str, rule: str, rng: np.random.Generator) -> None:
    for dtype in kind.dtypes:
        x = rng.standard_normal((3, 512)).astype(dtype)
        codes, want_scale, values = want(x, 256, quant_type, rule)
        q, scale = libbnb.quantize_ternary(kind.make(x), 256, quant_type, rule)
        assert kind.is_mine(q) and q.shape == (3, codes.size // 3)
        np.testing.assert_array_equal(kind.host(q).ravel(), codes)
        assert (scale is None) == (quant_type != "ternary")
        if scale is not None:
            assert kind.is_mine(scale)
            np.testing.assert_array_equal(kind.host(scale), want_scale)
        back = libbnb.dequantize_ternary(q, scale, 256, quant_type)
        assert kind.is_mine(back)
        assert_same_bits(kind.host(back), values.astype(np.float32))


@given(
    x=npst.arrays(
        np.float32,
        npst.array_shapes(max_dims=3, min_side=0, max_side=40),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    dtype=st.sampled_from(FLOATS),
    blocksize=st.integers(1, 200) | st.none(),
    rule=st.sampled_from(RULES),
)
def test_blocks_of_anything(x: Any, dtype: Any, blocksize: int | None, rule: str) -> None:
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        x = np.where(np.isfinite(x), x, np.asarray(1, dtype))
    q, scale = libbnb.quantize_ternary(x, blocksize, scale_rule=rule)
    codes, want_scale, values = want(x, blocksize or max(x.size, 1), "ternary", rule)
    np.testing.assert_array_equal(scale, want_scale)
    np.testing.assert_array_equal(q.ravel(), codes)
    back = libbnb.dequantize_ternary(q, scale, blocksize, shape=x.shape)
    assert_same_bits(back, values.astype(np.float32))


@given(
    x=npst.arrays(
        np.float32,
        st.integers(1, 4).map(lambda blocks: (256 * blocks,)),
        elements=st.floats(-(2.0**14), 2.0**14, width=32),
    ),
    quant_type=st.sampled_from(("tq1_0", "tq2_0")),
    rule=st.sampled_from(RULES),
    blocks=st.integers(1, 3),
)
def test_blocks_of_gguf(x: Any, quant_type: str, rule: str, blocks: int) -> None:
    scale = np.empty(-(-x.size // (256 * blocks)), np.float32)
    q, same = libbnb.quantize_ternary(x, 256 * blocks, quant_type, rule, scale=scale)
    codes, want_scale, values = want(x, 256 * blocks, quant_type, rule)
    assert same is scale
    np.testing.assert_array_equal(scale, want_scale)
    np.testing.assert_array_equal(q, codes)
    assert_same_bits(libbnb.dequantize_ternary(q, quant_type=quant_type), values.astype(np.float32))


@pytest.mark.parametrize("quant_type", ["tq1_0", "tq2_0"])
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e3])
def test_bits_of_the_gguf_package(quant_type: str, magnitude: float, rng: np.random.Generator) -> None:
    gguf = pytest.importorskip("gguf")
    kind = getattr(gguf.GGMLQuantizationType, quant_type.upper())
    x = (rng.standard_normal((40, 512)) * magnitude).astype(np.float32)
    x[0], x[1], x[2] = 0, np.rint(x[1]), np.sign(x[2]) * magnitude
    x[3, ::2] = 0.5 * np.abs(x[3]).max()  # halves
    codes = gguf.quants.quantize(x, kind)
    q, _ = libbnb.quantize_ternary(x, 256, quant_type, "absmax")
    np.testing.assert_array_equal(q, codes)
    np.testing.assert_array_equal(
        libbnb.dequantize_ternary(q, quant_type=quant_type), gguf.quants.dequantize(codes, kind)
    )


@pytest.mark.parametrize("quant_type", ["tq1_0", "tq2_0"])
def test_any_bytes_are_what_the_gguf_package_reads(quant_type: str, rng: np.random.Generator) -> None:
    gguf = pytest.importorskip("gguf")
    size = 54 if quant_type == "tq1_0" else 66
    codes = rng.integers(0, 256, (500, size), np.uint8)
    codes[:, -2:] = rng.standard_normal(500).astype(np.float16).view(np.uint8).reshape(500, 2)
    theirs = gguf.quants.dequantize(codes, getattr(gguf.GGMLQuantizationType, quant_type.upper()))
    np.testing.assert_array_equal(libbnb.dequantize_ternary(codes, quant_type=quant_type), theirs)


def test_the_rule_of_bitnet(rng: np.random.Generator) -> None:
    """round(W / mean |W|) to nearest even, limited to one, as in the paper."""
    w = rng.standard_normal((50, 60)).astype(np.float32)
    q, scale = libbnb.quantize_ternary(w)
    assert scale is not None and scale.shape == (1,)
    np.testing.assert_allclose(scale[0], np.abs(w, dtype=np.float64).mean(), rtol=2e-7)
    trits = np.clip(np.rint(w.astype(np.float64) / scale[0]), -1, 1)
    np.testing.assert_array_equal(libbnb.dequantize_ternary(q, scale), trits * scale[0])


def test_the_order_of_sums(rng: np.random.Generator) -> None:
    """2^30 + 2^6 is a tie between two scales; only those 2^-23 break it that are added up before they come to 2^30."""
    seen = set()
    for n in (64, 1024, 4096, 2**17):
        for _ in range(20):
            x = np.zeros(n, np.float32)
            x[rng.integers(0, n, 2)] = 2.0**-23
            x[rng.choice(n, 2, replace=False)] = -(2.0**30), 2.0**6
            _, scale = libbnb.quantize_ternary(x)
            assert scale is not None
            assert scale[0] == np.float32(oracle.sum_of_magnitudes(x) / n)
            seen.add(float(scale[0]) * n)
    assert len(seen) == 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_halves(dtype: str) -> None:
    x = np.array([1, 0.5, -0.5, -1, 0.5, 0.5, 1.5, 2.5], BF16 if dtype == "bfloat16" else dtype)  # mean 1, max 2.5
    codes, scale = libbnb.quantize_ternary(x)
    assert scale is not None and scale[0] == 1
    np.testing.assert_array_equal(libbnb.dequantize_ternary(codes, scale), [1, 0, 0, -1, 0, 0, 1, 1])
    x[-1] = 1
    codes, scale = libbnb.quantize_ternary(x[:6], scale_rule="absmax")
    np.testing.assert_array_equal(libbnb.dequantize_ternary(codes, scale, shape=(6,)), [1, 1, -1, -1, 1, 1])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_byte_decodes(dtype: str) -> None:
    codes, scale = np.arange(256, dtype=np.uint8), np.array([0.3], np.float32)
    values = (codes[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).astype(np.float32) - 1
    expected = (values.ravel() * scale[0]).astype(BF16 if dtype == "bfloat16" else dtype)
    for array in (codes, codes.view(np.int8)):
        assert_same_bits(libbnb.dequantize_ternary(array, scale, dtype=dtype), expected)


@pytest.mark.parametrize("rule", RULES)
def test_special_blocks(rule: str) -> None:
    x = np.ones((4, 256), np.float32)
    x[1], x[2, 3], x[3, 4] = 0, np.nan, -np.inf
    for quant_type in LAYOUTS:
        q, scale = libbnb.quantize_ternary(x, 256, quant_type, rule)
        if scale is not None:
            np.testing.assert_array_equal(scale, [1, 0, np.nan, np.inf])
        back = libbnb.dequantize_ternary(q, scale, 256, quant_type)
        np.testing.assert_array_equal(back[0], 1)
        np.testing.assert_array_equal(back[1], 0)
        assert np.isnan(back[2]).all()
        assert back[3, 4] == -np.inf and np.isnan(np.delete(back[3], 4)).all()


def test_a_scale_that_fp16_does_not_have() -> None:
    x = np.full(256, 1e5, np.float32)
    q, _ = libbnb.quantize_ternary(x, quant_type="tq2_0")
    assert np.isposinf(libbnb.dequantize_ternary(q, quant_type="tq2_0")).all()  # as in GGUF
    x *= np.float32(1e-13)
    scale = np.empty(1, np.float32)
    q, _ = libbnb.quantize_ternary(x, quant_type="tq2_0", scale=scale)
    assert scale[0] == x[0] and (libbnb.dequantize_ternary(q, quant_type="tq2_0") == 0).all()


def test_outputs_of_the_caller(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 10)).astype(np.float32)
    codes, want_scale = libbnb.quantize_ternary(x, 8)
    assert codes.shape == (10,)
    for dtype in (np.uint8, np.int8):
        out, scale = np.empty((2, 5), dtype), np.empty(5, np.float32)
        got = libbnb.quantize_ternary(x, 8, out=out, scale=scale)
        assert got[0] is out and got[1] is scale
        np.testing.assert_array_equal(out.view(np.uint8).ravel(), codes)
        np.testing.assert_array_equal(scale, want_scale)
    values = np.empty((4, 10), np.float16)
    assert libbnb.dequantize_ternary(out, scale, 8, out=values) is values
    np.testing.assert_array_equal(values, libbnb.dequantize_ternary(codes, scale, 8, shape=(4, 10), dtype="float16"))


@pytest.mark.parametrize("quant_type", LAYOUTS)
@pytest.mark.parametrize("shape", [(0,), (0, 256), (5, 0), (2, 0, 256)])
def test_empty(shape: tuple[int, ...], quant_type: str) -> None:
    q, scale = libbnb.quantize_ternary(np.empty(shape, np.float32), quant_type=quant_type)
    assert q.size == 0 and (scale is None or scale.size == 0)
    assert libbnb.dequantize_ternary(q, scale, quant_type=quant_type, shape=shape).shape == shape


def test_missing_weights_are_zeros() -> None:
    for n in range(1, 9):
        codes, scale = libbnb.quantize_ternary(np.full(n, -2, np.float32))
        scales = np.full(-(-codes.size * 4 // n), 2, np.float32)
        back = libbnb.dequantize_ternary(codes, scales, n)
        np.testing.assert_array_equal(back, [-2] * n + [0] * (-n % 4))
        np.testing.assert_array_equal(libbnb.dequantize_ternary(codes, scale, shape=(n,)), [-2] * n)


def test_arrays_that_are_not_compact(rng: np.random.Generator) -> None:
    x = rng.standard_normal((256, 512)).astype(np.float32)
    for part in (x.T, x[::2, ::2], np.asfortranarray(x)):
        for quant_type in LAYOUTS:
            got, expected = (
                libbnb.quantize_ternary(a, quant_type=quant_type)[0] for a in (part, np.ascontiguousarray(part))
            )
            np.testing.assert_array_equal(got, expected)


X = np.ones((3, 256), np.float32)
CODES, SCALE = libbnb.quantize_ternary(X, 256)
TQ = libbnb.quantize_ternary(X, quant_type="tq1_0")[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: libbnb.quantize_ternary(X[:, :255], quant_type="tq2_0"), r"shape \[3, 255\].*multiple of 256"),
        (lambda: libbnb.quantize_ternary(X.reshape(6, 128), quant_type="tq1_0"), "rows must be a multiple of 256"),
        (lambda: libbnb.quantize_ternary(np.float32(1), quant_type="tq1_0"), "multiple of 256"),
        (lambda: libbnb.quantize_ternary(X, 128, "tq1_0"), "blocksize is 128, must be a multiple of 256"),
        (lambda: libbnb.quantize_ternary(X, 0), "blocksize is 0"),
        (lambda: libbnb.quantize_ternary(X, -1), "blocksize is -1"),
        (lambda: libbnb.quantize_ternary(X, 2**63), "blocksize is"),
        (lambda: libbnb.quantize_ternary(X, quant_type="nf4"), "quant_type is 'nf4', must be 'ternary' or 'tq1_0' or"),
        (lambda: libbnb.quantize_ternary(X, quant_type=5), "quant_type is 5"),
        (lambda: libbnb.quantize_ternary(X, scale_rule="mean"), "scale_rule is 'mean', must be 'absmean' or 'absmax'"),
        (lambda: libbnb.quantize_ternary(X, scale_rule=0), "scale_rule is 0"),
        (lambda: libbnb.quantize_ternary(X.astype(np.int32)), "A is int32, must be float32"),
        (lambda: libbnb.quantize_ternary(X.astype(np.float64)), "A is float64, must be float32"),
        (lambda: libbnb.quantize_ternary(X, out=np.empty(192, np.float32)), "out is float32, must be uint8 or int8"),
        (lambda: libbnb.quantize_ternary(X, out=np.empty(191, np.uint8)), "out has 191 elements, must have 192"),
        (lambda: libbnb.quantize_ternary(X, None, "tq1_0", out=np.empty(162, np.int8)), "out is int8, must be uint8"),
        (lambda: libbnb.quantize_ternary(X, None, "tq1_0", out=np.empty(161, np.uint8)), "out has 161 .*54 bytes for"),
        (lambda: libbnb.quantize_ternary(X, scale=np.empty(2, np.float32)), "scale has 2 elements, must have 1"),
        (lambda: libbnb.quantize_ternary(X, 256, "tq2_0", scale=np.empty(2, np.float32)), "scale has 2 .* must have 3"),
        (lambda: libbnb.quantize_ternary(X, scale=np.empty(1, np.float16)), "scale is float16"),
        (lambda: libbnb.dequantize_ternary(CODES), "scale is NULL"),
        (lambda: libbnb.dequantize_ternary(CODES, SCALE), "scale has 3 elements, must have 1"),
        (lambda: libbnb.dequantize_ternary(CODES, SCALE, 256, shape=(3, 252)), "A has 192 elements, must have 189"),
        (lambda: libbnb.dequantize_ternary(CODES, SCALE, 256, shape=(3, -1)), r"shape is \[3, -1\]"),
        (lambda: libbnb.dequantize_ternary(CODES, SCALE, 256, dtype="int8"), "out is int8"),
        (lambda: libbnb.dequantize_ternary(CODES.astype(np.int32), SCALE, 256), "A is int32, must be uint8 or int8"),
        (lambda: libbnb.dequantize_ternary(np.uint8(1), SCALE), "A has no dimensions"),
        (lambda: libbnb.dequantize_ternary(TQ, SCALE, quant_type="tq1_0"), "scale is not NULL"),
        (lambda: libbnb.dequantize_ternary(TQ, quant_type="tq2_0"), "rows of 54 bytes, must have a multiple of 66"),
        (lambda: libbnb.dequantize_ternary(TQ, quant_type="tq1_0", shape=(3, 255)), "rows of 765.*multiple of 256"),
        (lambda: libbnb.dequantize_ternary(TQ, quant_type="tq1_0", shape=(2, 256)), "A has 162 elements, must have"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(libbnb.InvalidArgument, match=message):
        call()


def test_wrong_types() -> None:
    for call in (
        lambda: libbnb.quantize_ternary([1.0]),
        lambda: libbnb.quantize_ternary(X, "all"),
        lambda: libbnb.quantize_ternary(X, 2.5),
        lambda: libbnb.quantize_ternary(X, True),
        lambda: libbnb.quantize_ternary(X, out=[0]),
        lambda: libbnb.dequantize_ternary("codes"),
        lambda: libbnb.dequantize_ternary(CODES, [1.0]),
    ):
        with pytest.raises(TypeError):
            call()
