# SPDX-License-Identifier: MIT
"""quantize_blockwise and dequantize_blockwise: exact nearest codes, codes of the caller, nesting, special values."""

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
DYNAMIC = libbnb.create_dynamic_map()
CODES = {
    "dynamic": DYNAMIC,
    "unsigned": libbnb.create_dynamic_map(signed=False),
    "linear": libbnb.create_linear_map(),
    "fp8": libbnb.create_fp8_map(),
    "normal": libbnb.create_normal_map(),
}


@pytest.mark.parametrize("shape", [(), (1,), (2,), (255,), (4, 96), (3, 5, 11), (64, 128)])
@pytest.mark.parametrize("blocksize", [1, 3, 64, 4096])
def test_round_trip_on_every_library(
    kind: Kind, shape: tuple[int, ...], blocksize: int, rng: np.random.Generator
) -> None:
    for dtype in kind.dtypes:
        x = np.asarray(rng.standard_normal(shape)).astype(dtype)
        codes, state = libbnb.quantize_blockwise(kind.make(x), blocksize=blocksize)
        assert kind.is_mine(codes) and codes.shape == shape
        want, absmax = oracle.quantize_blockwise(x, DYNAMIC, blocksize)
        np.testing.assert_array_equal(kind.host(codes), want)
        np.testing.assert_array_equal(kind.host(state.absmax), absmax)
        back = libbnb.dequantize_blockwise(codes, state)
        assert kind.is_mine(back) and back.shape == shape
        want_back = oracle.dequantize_blockwise(want, absmax, DYNAMIC, blocksize, dtype)
        np.testing.assert_array_equal(kind.host(back), want_back)


@given(
    x=npst.arrays(np.float32, npst.array_shapes(max_dims=3, min_side=0, max_side=40), elements=st.floats(width=32)),
    dtype=st.sampled_from(FLOATS),
    blocksize=st.integers(1, 300),
    code=st.sampled_from(sorted(CODES)),
)
def test_any_values_shapes_and_blocks(x: Any, dtype: Any, blocksize: int, code: str) -> None:
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
    codes, state = libbnb.quantize_blockwise(x, blocksize=blocksize, code=CODES[code])
    want, absmax = oracle.quantize_blockwise(x, CODES[code], blocksize)
    np.testing.assert_array_equal(codes, want)
    np.testing.assert_array_equal(state.absmax, absmax)
    back = libbnb.dequantize_blockwise(codes, state)
    assert_same_bits(back, oracle.dequantize_blockwise(want, absmax, CODES[code], blocksize, dtype))


@given(
    table=npst.arrays(np.float32, 256, elements=st.floats(-4, 4, width=32)).map(np.sort),
    x=npst.arrays(np.float32, st.integers(0, 500), elements=st.floats(-10, 10, width=32)),
)
def test_any_sorted_code(table: Any, x: Any) -> None:
    codes, _ = libbnb.quantize_blockwise(x, code=table, blocksize=64)
    want, _ = oracle.quantize_blockwise(x, table, 64)
    np.testing.assert_array_equal(codes, want)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("blocksize", [64, 100, 4096])
def test_dequantizes_what_bitsandbytes_wrote(dtype: str, blocksize: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(1)
    A = torch.randn(100, 333).to(getattr(torch, dtype))
    codes, state = theirs.quantize_blockwise(A, blocksize=blocksize)
    assert torch.equal(libbnb.dequantize_blockwise(codes, state), theirs.dequantize_blockwise(codes, state))
    ours, our_state = libbnb.quantize_blockwise(A, blocksize=blocksize, code=theirs.create_dynamic_map())
    assert torch.equal(our_state.absmax, state.absmax) and torch.equal(our_state.code, state.code)
    assert torch.equal(libbnb.dequantize_blockwise(ours, our_state), theirs.dequantize_blockwise(ours, our_state))
    nested, nested_state = theirs.quantize_blockwise(A, blocksize=blocksize, nested=True)
    got = libbnb.dequantize_blockwise(nested, nested_state)
    assert torch.equal(got, theirs.dequantize_blockwise(nested, nested_state))


def test_nested_uses_the_same_block_size(kind: Kind, rng: np.random.Generator) -> None:
    x = rng.standard_normal(5000).astype(np.float32)
    codes, state = libbnb.quantize_blockwise(kind.make(x), blocksize=32, nested=True)
    assert state.nested and state.blocksize == state.state2.blocksize == 32
    _, absmax = oracle.quantize_blockwise(x, DYNAMIC, 32)
    offset = np.float32(absmax.astype(np.float64).mean())
    inner, inner_absmax = oracle.quantize_blockwise(absmax - offset, DYNAMIC, 32)
    np.testing.assert_array_equal(kind.host(state.absmax), inner)
    expanded = oracle.dequantize_blockwise(inner, inner_absmax, DYNAMIC, 32, np.float32) + offset
    want = oracle.dequantize_blockwise(kind.host(codes), expanded, DYNAMIC, 32, np.float32)
    np.testing.assert_array_equal(kind.host(libbnb.dequantize_blockwise(codes, state)), want)


def test_outputs_of_the_caller(rng: np.random.Generator) -> None:
    x = rng.standard_normal((10, 33)).astype(np.float32)
    want, want_state = libbnb.quantize_blockwise(x, blocksize=50)
    out, absmax = np.full(x.shape, 9, np.uint8), np.full(7, 9, np.float32)
    got, state = libbnb.quantize_blockwise(x, out=out, absmax=absmax, blocksize=50)
    assert got is out and state.absmax is absmax
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(absmax, want_state.absmax)
    values = np.empty(x.shape, np.float32)
    assert libbnb.dequantize_blockwise(out, state, out=values) is values
    plain = libbnb.dequantize_blockwise(out, absmax=absmax, blocksize=50)
    np.testing.assert_array_equal(plain, values)
    with_code = libbnb.dequantize_blockwise(out, absmax=absmax, code=DYNAMIC, blocksize=50)
    np.testing.assert_array_equal(with_code, values)
    with pytest.raises(ValueError, match="quant_state or absmax"):
        libbnb.dequantize_blockwise(out)


def test_the_state_keeps_its_code_when_the_caller_changes_his(kind: Kind, rng: np.random.Generator) -> None:
    """Defect 8: a cache of codes by pointer that goes stale when the caller writes to the code."""
    x = rng.standard_normal(100).astype(np.float32)
    code = libbnb.create_linear_map()
    codes, state = libbnb.quantize_blockwise(kind.make(x), code=code, blocksize=10)
    before = kind.host(libbnb.dequantize_blockwise(codes, state)).copy()
    code *= 2
    np.testing.assert_array_equal(kind.host(libbnb.dequantize_blockwise(codes, state)), before)
    again, _ = libbnb.quantize_blockwise(kind.make(x), code=code, blocksize=10)
    np.testing.assert_array_equal(kind.host(again), oracle.quantize_blockwise(x, code, 10)[0])


def test_changing_the_code_of_a_state_changes_that_state_only(rng: np.random.Generator) -> None:
    x = rng.standard_normal(100).astype(np.float32)
    codes, state = libbnb.quantize_blockwise(x)
    want = libbnb.dequantize_blockwise(codes, state)
    state.code[:] = 0
    assert not libbnb.dequantize_blockwise(codes, state).any()
    codes, state = libbnb.quantize_blockwise(x)
    np.testing.assert_array_equal(libbnb.dequantize_blockwise(codes, state), want)


@pytest.mark.parametrize("code", sorted(CODES))
def test_defect_7_zeros_stay_zeros_and_codes_round_trip(code: str) -> None:
    """Defect 7: a table of 65536 entries in place of the nearest code, which moves zeros and small values."""
    table = CODES[code]
    x = np.append(np.zeros(63, np.float32), np.float32(1))
    codes, state = libbnb.quantize_blockwise(x, code=table, blocksize=64)
    nearest = np.abs(table[codes[:-1]])
    assert (nearest == np.abs(table).min()).all()
    every = table * np.float32(3)
    codes, state = libbnb.quantize_blockwise(every, code=table, blocksize=256)
    np.testing.assert_array_equal(libbnb.dequantize_blockwise(codes, state), every)


def test_defect_44_the_callers_code_is_not_written_to(rng: np.random.Generator) -> None:
    """Defect 44: code[0] = -1 in the caller's array."""
    code = libbnb.create_dynamic_map()
    before = code.copy()
    code.flags.writeable = False
    libbnb.quantize_blockwise(rng.standard_normal(1000).astype(np.float32), code=code)
    np.testing.assert_array_equal(code, before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_do_not_become_ordinary_numbers(dtype: Any) -> None:
    ones = np.ones(8, dtype)
    nan, inf = ones.copy(), ones.copy()
    nan[3], inf[2] = np.nan, np.inf
    x = np.concatenate([ones, np.zeros(8, dtype), nan, inf, ones])
    codes, state = libbnb.quantize_blockwise(x, blocksize=8)
    back = libbnb.dequantize_blockwise(codes, state).astype(np.float32).reshape(5, 8)
    np.testing.assert_array_equal(state.absmax, [1, 0, np.nan, np.inf, 1])
    np.testing.assert_array_equal(back[[0, 4]], 1)
    np.testing.assert_array_equal(back[1], 0)
    assert np.isnan(back[2]).all()
    assert back[3][2] == np.inf and np.isnan(np.delete(back[3], 2)).all()
