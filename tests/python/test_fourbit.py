# SPDX-License-Identifier: MIT
"""quantize_4bit and dequantize_4bit: bits, shapes, storage, special values."""

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

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
TYPES = ("nf4", "fp4")
SHAPES = [(), (1,), (2,), (3,), (64,), (65,), (7, 9), (4, 96), (3, 5, 11), (128, 64)]


@pytest.mark.parametrize("quant_type", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_on_every_library(
    kind: Kind, rng: np.random.Generator, shape: tuple[int, ...], quant_type: str
) -> None:
    for dtype in kind.dtypes:
        x = np.asarray(rng.standard_normal(shape)).astype(dtype)
        A = kind.make(x)
        packed, state = libbnb.quantize_4bit(A, quant_type=quant_type, blocksize=64)
        n = x.size
        assert packed.shape == ((n + 1) // 2, 1)
        assert tuple(state.shape) == shape
        assert state.blocksize == 64 and state.quant_type == quant_type and not state.nested
        want_packed, want_absmax = oracle.quantize_4bit(x, 64, quant_type)
        np.testing.assert_array_equal(kind.host(packed).ravel(), want_packed)
        assert_same_bits(kind.host(state.absmax), want_absmax)
        back = libbnb.dequantize_4bit(packed, state)
        assert kind.is_mine(back) and kind.is_mine(packed) and kind.is_mine(state.absmax)
        assert tuple(back.shape) == shape
        want = oracle.dequantize_4bit(want_packed, want_absmax, 64, quant_type, n, dtype).reshape(shape)
        assert_same_bits(kind.host(back), want)


@given(
    x=npst.arrays(np.float32, npst.array_shapes(max_dims=3, min_side=0, max_side=40), elements=st.floats(width=32)),
    dtype=st.sampled_from(FLOATS),
    blocksize=st.integers(1, 100).map(lambda half: 2 * half),
    quant_type=st.sampled_from(TYPES),
)
def test_any_values_shapes_and_blocks(x: Any, dtype: Any, blocksize: int, quant_type: str) -> None:
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
    packed, state = libbnb.quantize_4bit(x, blocksize=blocksize, quant_type=quant_type)
    want_packed, want_absmax = oracle.quantize_4bit(x, blocksize, quant_type)
    np.testing.assert_array_equal(packed.ravel(), want_packed)
    assert_same_bits(state.absmax, want_absmax)
    back = libbnb.dequantize_4bit(packed, state)
    want = oracle.dequantize_4bit(want_packed, want_absmax, blocksize, quant_type, x.size, dtype)
    assert_same_bits(back, want.reshape(x.shape))


@pytest.mark.torch
@pytest.mark.parametrize("blocksize", [32, 64, 128, 256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_nf4_has_the_bits_of_bitsandbytes(dtype: str, blocksize: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(blocksize)
    A = torch.randn(64, 4096).to(getattr(torch, dtype))
    packed, state = libbnb.quantize_4bit(A, quant_type="nf4", blocksize=blocksize)
    their_packed, their_state = theirs.quantize_4bit(A, quant_type="nf4", blocksize=blocksize)
    assert torch.equal(packed, their_packed) and packed.shape == their_packed.shape
    assert torch.equal(state.absmax, their_state.absmax) and state.absmax.dtype == their_state.absmax.dtype
    back, their_back = libbnb.dequantize_4bit(packed, state), theirs.dequantize_4bit(their_packed, their_state)
    assert torch.equal(back, their_back) and back.dtype == their_back.dtype
    assert torch.equal(libbnb.dequantize_4bit(their_packed, their_state), their_back)  # a state of theirs, too


@pytest.mark.torch
def test_fp4_has_the_values_of_bitsandbytes() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(4)
    A = torch.randn(256, 1024)
    packed, state = libbnb.quantize_4bit(A, quant_type="fp4")
    their_packed, their_state = theirs.quantize_4bit(A, quant_type="fp4")
    assert torch.equal(state.absmax, their_state.absmax)
    assert torch.equal(libbnb.dequantize_4bit(packed, state), theirs.dequantize_4bit(their_packed, their_state))


@pytest.mark.torch
def test_nested_has_the_form_of_bitsandbytes() -> None:
    """Their 8-bit codes of absmax are approximate (some are neighbours of the nearest); everything else is equal."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(5)
    A = torch.randn(300, 1024)
    packed, state = libbnb.quantize_nf4(A, compress_statistics=True)
    their_packed, their_state = theirs.quantize_nf4(A, compress_statistics=True)
    assert torch.equal(packed, their_packed)
    assert state.nested and state.absmax.dtype == torch.uint8 and state.state2.blocksize == 256
    assert state.absmax.shape == their_state.absmax.shape
    assert state.state2.absmax.shape == their_state.state2.absmax.shape
    assert state.offset.shape == their_state.offset.shape == ()
    torch.testing.assert_close(state.offset, their_state.offset, rtol=1e-6, atol=0)
    distance = (state.absmax.int() - their_state.absmax.int()).abs()
    assert (distance > 0).float().mean() < 0.01 and distance.max() <= 4
    torch.testing.assert_close(state.state2.absmax, their_state.state2.absmax, rtol=1e-6, atol=0)
    # What they wrote, we read as they do.
    theirs_back = theirs.dequantize_4bit(their_packed, their_state)
    assert torch.equal(libbnb.dequantize_4bit(their_packed, their_state), theirs_back)


def test_nested_is_the_blockwise_quantization_of_absmax_without_its_mean(kind: Kind, rng: np.random.Generator) -> None:
    x = rng.standard_normal((130, 1024)).astype(np.float32)
    packed, state = libbnb.quantize_nf4(kind.make(x), compress_statistics=True)
    _, absmax = oracle.quantize_4bit(x, 64, "nf4")
    offset = np.float32(absmax.astype(np.float64).mean())
    assert kind.host(state.offset) == offset
    code = libbnb.create_dynamic_map()
    codes, nested_absmax = oracle.quantize_blockwise(absmax - offset, code, 256)
    np.testing.assert_array_equal(kind.host(state.absmax), codes)
    assert_same_bits(kind.host(state.state2.absmax), nested_absmax)
    expanded = oracle.dequantize_blockwise(codes, nested_absmax, code, 256, np.float32) + offset
    want = oracle.dequantize_4bit(kind.host(packed).ravel(), expanded, 64, "nf4", x.size, np.float32)
    assert_same_bits(kind.host(libbnb.dequantize_4bit(packed, state)), want.reshape(x.shape))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 64, 130])
@pytest.mark.parametrize("storage", ["uint8", "int8", "float16", "bfloat16", "int32", "float32", "float64", "int64"])
def test_quant_storage(n: int, storage: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal(n).astype(np.float32)
    plain, _ = libbnb.quantize_nf4(x, blocksize=2)
    packed, state = libbnb.quantize_nf4(x, blocksize=2, quant_storage=storage)
    itemsize = packed.dtype.itemsize
    assert packed.dtype.name == storage
    assert packed.shape == (-(-len(plain) // itemsize), 1)  # bitsandbytes fails if the bytes do not divide
    stored = packed.view(np.uint8).ravel()
    np.testing.assert_array_equal(stored[: len(plain)], plain.ravel())
    assert not stored[len(plain) :].any()
    np.testing.assert_array_equal(libbnb.dequantize_4bit(packed, state), libbnb.dequantize_nf4(plain, state))


@pytest.mark.torch
def test_quant_storage_as_dtype_objects_of_torch() -> None:
    torch = pytest.importorskip("torch")
    A = torch.randn(128, 64)
    for storage in (torch.uint8, torch.bfloat16, torch.float16, torch.float32):
        packed, state = libbnb.quantize_4bit(A, quant_storage=storage)
        assert packed.dtype == storage and packed.shape == (A.numel() // 2 // storage.itemsize, 1)
        assert torch.equal(
            libbnb.dequantize_4bit(packed, state), libbnb.dequantize_4bit(packed.view(torch.uint8), state)
        )


@pytest.mark.parametrize("quant_type", TYPES)
def test_outputs_of_the_caller(quant_type: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((10, 33)).astype(np.float32)
    want, want_state = libbnb.quantize_4bit(x, quant_type=quant_type)
    packed, absmax = np.full((165, 1), 99, np.uint8), np.full(6, 99, np.float32)
    got, state = libbnb.quantize_4bit(x, out=packed, absmax=absmax, quant_type=quant_type)
    assert got is packed and state.absmax is absmax
    np.testing.assert_array_equal(packed, want)
    np.testing.assert_array_equal(absmax, want_state.absmax)
    for dtype in FLOATS:  # the output decides its dtype
        out = np.full(x.shape, 99, dtype)
        assert libbnb.dequantize_4bit(packed, state, out=out) is out
        np.testing.assert_array_equal(out, libbnb.dequantize_4bit(packed, state).astype(dtype))


def test_nested_outputs_of_the_caller(rng: np.random.Generator) -> None:
    x = rng.standard_normal((10, 33)).astype(np.float32)
    _, want = libbnb.quantize_4bit(x, compress_statistics=True)
    absmax = np.full(6, 99, np.uint8)
    _, state = libbnb.quantize_4bit(x, absmax=absmax, compress_statistics=True)
    assert state.absmax is absmax
    np.testing.assert_array_equal(absmax, want.absmax)


def test_dequantize_without_a_state(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 50)).astype(np.float32)
    packed, state = libbnb.quantize_nf4(x, blocksize=20)
    out = np.empty(x.shape, np.float32)
    got = libbnb.dequantize_4bit(packed, absmax=state.absmax, out=out, blocksize=20, quant_type="nf4")
    assert got is out
    np.testing.assert_array_equal(out, libbnb.dequantize_nf4(packed, state))
    libbnb.dequantize_nf4(packed, absmax=state.absmax, out=out, blocksize=20)
    with pytest.raises(ValueError, match="absmax and out"):
        libbnb.dequantize_4bit(packed, absmax=state.absmax)
    with pytest.raises(ValueError, match="absmax and out"):
        libbnb.dequantize_4bit(packed, out=out)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("quant_type", TYPES)
def test_special_values_do_not_become_ordinary_numbers(quant_type: str, dtype: Any) -> None:
    ones = np.ones(8, dtype)
    nan, inf = ones.copy(), ones.copy()
    nan[3], inf[2], inf[5] = np.nan, np.inf, -np.inf
    x = np.concatenate([ones, np.zeros(8, dtype), nan, inf, ones])
    packed, state = libbnb.quantize_4bit(x, blocksize=8, quant_type=quant_type)
    back = libbnb.dequantize_4bit(packed, state).astype(np.float32).reshape(5, 8)
    np.testing.assert_array_equal(state.absmax, [1, 0, np.nan, np.inf, 1])
    np.testing.assert_array_equal(back[0], 1)
    np.testing.assert_array_equal(back[1], 0)
    assert np.isnan(back[2]).all()
    assert back[3][2] == np.inf and back[3][5] == -np.inf and np.isnan(np.delete(back[3], [2, 5])).all()
    np.testing.assert_array_equal(back[4], 1)


@pytest.mark.parametrize("value", [1e-45, 1e-40, 5e-39, 1.2e-38, 3.4e38])
def test_extreme_scales(value: float) -> None:
    x = np.array([value, -value, value / 2, 0], np.float32)
    packed, state = libbnb.quantize_nf4(x, blocksize=4)
    assert state.absmax[0] == x[0]
    back = libbnb.dequantize_nf4(packed, state)
    assert back[0] == x[0] and back[1] == x[1] and back[3] == 0


@pytest.mark.slow
def test_defect_1_sizes_are_64_bit() -> None:
    """Defect 1: element counts in 32 bits. Here an array of 2^31 + 6 elements, most of them in memory never touched."""
    n = 2**31 + 6
    try:
        x = np.zeros(n, np.float16)
        out = np.empty((n // 2, 1), np.uint8)
    except MemoryError:
        pytest.skip("needs 5 GiB of address space")
    x[-6:] = [1, -1, 0.5, -0.5, 0.25, 0]
    packed, state = libbnb.quantize_nf4(x, out=out, blocksize=2**30)
    assert state.absmax.shape == (3,)
    np.testing.assert_array_equal(state.absmax, [0, 0, 1])
    np.testing.assert_array_equal(packed[-3:].ravel(), oracle.quantize_4bit(x[-6:], 6, "nf4")[0])
    assert (packed[: -3 : 2**20] == 0x77).all()


@pytest.mark.parametrize("blocksize", [64, 2048])
@pytest.mark.parametrize("quant_type", TYPES)
@pytest.mark.parametrize("shape", [(4, 96), (8, 80), (3, 1040), (5, 48)])
def test_defect_9_rows_that_are_no_multiple_of_a_block(shape: tuple[int, int], quant_type: str, blocksize: int) -> None:
    """Defect 9: wrong scales if the row length is no multiple of the block size."""
    x = np.random.default_rng(9).standard_normal(shape).astype(np.float32)
    packed, state = libbnb.quantize_4bit(x, quant_type=quant_type, blocksize=blocksize)
    want = oracle.dequantize_4bit(packed.ravel(), state.absmax, blocksize, quant_type, x.size, np.float32)
    assert_same_bits(libbnb.dequantize_4bit(packed, state), want.reshape(shape))


@pytest.mark.parametrize("quant_type", TYPES)
def test_defect_29_the_short_last_block_is_like_the_others(quant_type: str) -> None:
    """Defect 29: absmax 1e-38 for zeros, and division instead of the reciprocal, in the last block."""
    x = np.zeros(70, np.float32)
    assert (libbnb.quantize_4bit(x, quant_type=quant_type)[1].absmax == 0).all()
    tail = np.random.default_rng(29).standard_normal(1000).astype(np.float32)
    tail[-1] = 4.0  # the largest: the same block with and without padding has the same absmax
    for n in range(2, 64, 2):
        short = tail[-n:]
        alone = libbnb.quantize_4bit(short, quant_type=quant_type)[0]
        padded = libbnb.quantize_4bit(np.append(short, np.zeros(64 - n, np.float32)), quant_type=quant_type)[0]
        np.testing.assert_array_equal(alone, padded[: n // 2])


@pytest.mark.parametrize("n", range(1, 9))
def test_defect_30_shapes_come_back(kind: Kind, n: int) -> None:
    """Defect 30: (1, n) for an even number of elements in one dimension, and transposed results for one or two."""
    for shape in ((n,), (n, 1), (1, n), (1, n, 1)):
        A = kind.make(np.arange(1, n + 1, dtype=np.float32).reshape(shape))
        packed, state = libbnb.quantize_4bit(A)
        assert libbnb.dequantize_4bit(packed, state).shape == shape
        if n > 2 and kind.name in ("numpy", "torch"):
            assert libbnb.dequantize_4bit(packed.T, state).shape == shape


def test_fp4_sign_is_that_of_the_element() -> None:
    """Defect 28: tiny positive elements got the code of -0 on one backend and that of +0 on another."""
    x = np.array([1.0, 1e-6, -1e-6, 0.0, -0.0, 2e-3, -2e-3, -1.0], np.float32)
    packed, _ = libbnb.quantize_fp4(x, blocksize=8)
    codes = np.stack([packed.ravel() >> 4, packed.ravel() & 15], 1).ravel()
    np.testing.assert_array_equal(codes, [3, 0, 8, 0, 0, 0, 8, 11])
