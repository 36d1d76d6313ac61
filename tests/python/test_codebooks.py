# SPDX-License-Identifier: MIT
"""The tables of codes."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

import libbnb
import oracle
from libbnb import codebooks


def sha(table: np.ndarray) -> str:
    return hashlib.sha256(table.tobytes()).hexdigest()


def test_defect_34_the_dynamic_map_is_the_same_everywhere() -> None:
    """Defect 34: entries that depend on the host's linspace. These are the bits of hosts with FMA."""
    signed, unsigned = libbnb.create_dynamic_map(), libbnb.create_dynamic_map(signed=False)
    assert sha(signed) == "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"
    assert sha(unsigned) == "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398"
    # The formula for other arguments gives the same table for the usual ones.
    for table, is_signed in ((signed, True), (unsigned, False)):
        np.testing.assert_array_equal(codebooks.compute_dynamic_map(is_signed, 7, 8), table)


@pytest.mark.torch
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("total_bits", range(2, 9))
def test_dynamic_maps_are_those_of_bitsandbytes(signed: bool, total_bits: int) -> None:
    """Within the ulps by which theirs vary with the host."""
    pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    for exponent_bits in range(1, total_bits):
        ours = libbnb.create_dynamic_map(signed, exponent_bits, total_bits)
        assert ours.dtype == np.float32 and ours.shape == (256,) and (np.diff(ours) >= 0).all()
        if signed or exponent_bits == total_bits - 1:  # theirs fails for the rest
            np.testing.assert_allclose(ours, theirs.create_dynamic_map(signed, exponent_bits, total_bits), rtol=3e-7)


@pytest.mark.parametrize("arguments", [(True, 0, 8), (True, 8, 8), (True, 3, 9), (False, 1, 1)])
def test_dynamic_map_of_impossible_bits(arguments: tuple[bool, int, int]) -> None:
    with pytest.raises(ValueError, match="total_bits"):
        libbnb.create_dynamic_map(*arguments)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("total_bits", range(2, 9))
@pytest.mark.parametrize("add_zero", [True, False])
def test_linear_map(signed: bool, total_bits: int, add_zero: bool) -> None:
    table = libbnb.create_linear_map(signed, total_bits, add_zero)
    assert table.dtype == np.float32 and table.shape == (256,) and (np.diff(table) >= 0).all()
    assert table[0] == (-1 if signed else 0) and table[-1] == 1
    count = 2**total_bits - (1 if signed and (add_zero or total_bits < 8) else 0)
    values = np.linspace(-1 if signed else 0, 1, count)
    padded = np.sort(np.concatenate([values, np.zeros(256 - count)]))
    np.testing.assert_allclose(table, padded, atol=6e-8)


@pytest.mark.torch
def test_linear_map_is_that_of_bitsandbytes() -> None:
    pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    for signed in (True, False):
        for add_zero in (True, False):
            want = theirs.create_linear_map(signed, 8, add_zero).numpy()
            np.testing.assert_allclose(libbnb.create_linear_map(signed, 8, add_zero), want, atol=6e-8)


def test_normal_map_is_nf4() -> None:
    table = libbnb.create_normal_map()
    np.testing.assert_array_equal(table[table != 0], oracle.NF4[oracle.NF4 != 0])
    assert (table == 0).sum() == 241 and (np.diff(table) >= 0).all()


@pytest.mark.parametrize("offset", [0.6, 0.9677083, 0.99])
@pytest.mark.parametrize("use_extra_value", [True, False])
def test_normal_map(offset: float, use_extra_value: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    table = libbnb.create_normal_map(offset, use_extra_value)
    positive = stats.norm.ppf(np.linspace(offset, 0.5, 9 if use_extra_value else 8)[:-1])
    negative = -stats.norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    want = np.sort(np.concatenate([positive, negative])) / positive.max()
    np.testing.assert_allclose(table[table != 0], want, atol=5e-7)  # probabilities are fp32, near 0.5 that shows


@pytest.mark.torch
@pytest.mark.parametrize("offset", [0.6, 0.9677083, 0.99])
@pytest.mark.parametrize("use_extra_value", [True, False])
def test_normal_maps_are_those_of_bitsandbytes(offset: float, use_extra_value: bool) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    theirs = pytest.importorskip("bitsandbytes").functional
    want = theirs.create_normal_map(offset, use_extra_value).numpy()
    np.testing.assert_allclose(libbnb.create_normal_map(offset, use_extra_value), want, rtol=2e-7)


@pytest.mark.parametrize("offset", [0.5, 1.0, -1.0, float("nan")])
def test_normal_map_of_impossible_offset(offset: float) -> None:
    with pytest.raises(ValueError, match="offset"):
        libbnb.create_normal_map(offset)


@pytest.mark.torch
@pytest.mark.parametrize("bits", [(5, 2), (4, 3), (3, 4), (2, 5), (6, 1)])
def test_fp8_maps_are_those_of_bitsandbytes(bits: tuple[int, int]) -> None:
    pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    ours = libbnb.create_fp8_map(True, *bits)
    np.testing.assert_array_equal(ours, theirs.create_fp8_map(True, *bits).numpy())
    assert not np.signbit(ours[127]) and np.signbit(ours[128])
    unsigned = libbnb.create_fp8_map(False, bits[0], bits[1] + 1)
    assert unsigned[0] == 0 and unsigned[-1] == 1 and (np.diff(unsigned) > 0).all()


@pytest.mark.parametrize("arguments", [(True, 5, 3, 8), (True, 5, 2, 7), (True, 0, 7, 8), (True, 6, 5, 12)])
def test_fp8_map_of_impossible_bits(arguments: tuple[bool, int, int, int]) -> None:
    with pytest.raises(ValueError, match="total_bits"):
        libbnb.create_fp8_map(*arguments)


def test_defect_36_4bit_types() -> None:
    """Defect 36: a map said to be FP4 that is not, "int4" that raises, "af4" that nothing can use."""
    np.testing.assert_array_equal(libbnb.get_4bit_type("nf4"), oracle.NF4)
    fp4 = libbnb.get_4bit_type("fp4")
    np.testing.assert_array_equal(fp4, oracle.FP4)
    assert not np.signbit(fp4[8])
    np.testing.assert_array_equal(libbnb.get_4bit_type("int4")[[0, 7, 15]], [1, 0, -1])
    af4 = libbnb.get_4bit_type("af4")
    assert af4[0] == 1 and af4[15] == -1 and (np.diff(af4) < 0).all()
    # As an 8-bit code, which has to ascend, af4 is usable:
    code = np.sort(np.concatenate([af4, np.zeros(240, np.float32)]))
    codes, state = libbnb.quantize_blockwise(af4 * 3, code=code)
    np.testing.assert_array_equal(libbnb.dequantize_blockwise(codes, state), af4 * 3)
    with pytest.raises(NotImplementedError, match="blocks of 64"):
        libbnb.get_4bit_type("af4", blocksize=128)
    with pytest.raises(NotImplementedError, match="typename is 'fp5'"):
        libbnb.get_4bit_type("fp5")
    # The map of 2 exponent bits and 1 precision bit has other values than FP4, and its description says so.
    assert not np.isin(fp4, libbnb.create_fp8_map(True, 2, 1, 4)).all()
    assert "FP4" in (libbnb.create_fp8_map.__doc__ or "")


@pytest.mark.torch
def test_4bit_types_are_those_of_bitsandbytes() -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    for name in ("nf4", "fp4", "af4"):
        ours = libbnb.get_4bit_type(name, device="cpu")
        assert torch.equal(ours, theirs.get_4bit_type(name, device="cpu"))


def test_tables_need_neither_torch_nor_scipy(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = (
        "import sys, libbnb as b; b.create_normal_map(); b.create_fp8_map(); b.create_linear_map(); "
        "b.get_4bit_type('nf4'); b.create_dynamic_map(); assert not {'torch', 'scipy'} & sys.modules.keys()"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
