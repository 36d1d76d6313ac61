# SPDX-License-Identifier: MIT
"""MXFP4, MXFP8 and NVFP4: every rule against plain NumPy and torchao, every library, unusual values, bad input."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
import oracle
from kinds import BF16, Kind
from oracle import assert_same_bits

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
RULES = ("floor", "ceil", "even", "rceil")
MX = ("mxfp4", "mxfp8_e4m3fn", "mxfp8_e5m2")
BLOCK = {"mxfp4": 32, "mxfp8_e4m3fn": 32, "mxfp8_e5m2": 32, "nvfp4": 16}
PER_BYTE = {"mxfp4": 2, "mxfp8_e4m3fn": 1, "mxfp8_e5m2": 1, "nvfp4": 2}


def numbers(shape: Any, dtype: Any, rng: np.random.Generator) -> Any:
    """Blocks of different magnitudes."""
    x = rng.standard_normal(shape)
    return (x * np.exp2(rng.integers(-6, 7, (*shape[:-1], 1)))).astype(dtype)


def expected(x: Any, quant_type: str, rule: str = "floor", two_level: bool = True) -> tuple[Any, Any, Any]:
    """Bytes of codes and scales, and the scale of the tensor, by the oracle."""
    if quant_type == "nvfp4":
        codes, scale, tensor = oracle.quantize_nvfp4(x, two_level)
    else:
        (codes, scale), tensor = oracle.quantize_mx(x, quant_type, rule), None
    return (oracle.packed_low_first(codes) if PER_BYTE[quant_type] == 2 else codes).ravel(), scale, tensor


@pytest.mark.parametrize("quant_type", BLOCK)
def test_every_library(kind: Kind, quant_type: str, rng: np.random.Generator) -> None:
    for dtype in kind.dtypes:
        x = numbers((3, 5, 96), dtype, rng)
        codes, scale, tensor = libbnb.quantize_mx(kind.make(x), quant_type)
        want_codes, want_scale, want_tensor = expected(x, quant_type)
        assert kind.is_mine(codes) and codes.shape == (3, 5, 96 // PER_BYTE[quant_type])
        assert kind.is_mine(scale) and scale.shape == (3, 5, 96 // BLOCK[quant_type])
        np.testing.assert_array_equal(kind.host(codes).view(np.uint8).ravel(), want_codes)
        np.testing.assert_array_equal(kind.host(scale).view(np.uint8).ravel(), want_scale)
        if want_tensor is None:
            assert tensor is None
        else:
            np.testing.assert_array_equal(kind.host(tensor), want_tensor)
        back = libbnb.dequantize_mx(codes, scale, tensor, quant_type)
        assert kind.is_mine(back) and back.shape == (3, 5, 96)
        singles, _, _ = (
            oracle.quantize_nvfp4(x, True)
            if quant_type == "nvfp4"
            else (*oracle.quantize_mx(x, quant_type, "floor"), 0)
        )
        want = oracle.dequantize_mx(singles, want_scale, 1.0 if want_tensor is None else want_tensor[0], quant_type)
        np.testing.assert_array_equal(kind.host(back).ravel(), want.ravel())


def test_dtypes_of_the_library(kind: Kind, rng: np.random.Generator) -> None:
    plain = kind.name in ("mlx", "array_api_strict")
    x = kind.make(numbers((2, 64), np.float32, rng))
    for quant_type, codes_dtype, scale_dtype in (
        ("mxfp4", "uint8", "float8_e8m0fnu"),
        ("mxfp8_e4m3fn", "float8_e4m3fn", "float8_e8m0fnu"),
        ("mxfp8_e5m2", "float8_e5m2", "float8_e8m0fnu"),
        ("nvfp4", "uint8", "float8_e4m3fn"),
    ):
        codes, scale, _ = libbnb.quantize_mx(x, quant_type)
        assert str(codes.dtype).rsplit(".", 1)[-1] == ("uint8" if plain else codes_dtype)
        assert str(scale.dtype).rsplit(".", 1)[-1] == ("uint8" if plain else scale_dtype)


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(0, 5),
    blocks=st.integers(0, 9),
    dtype=st.sampled_from(FLOATS),
    quant_type=st.sampled_from(sorted(BLOCK)),
    rule=st.sampled_from(RULES),
    two_level=st.booleans(),
    power=st.integers(-12, 12),
    special=st.sampled_from(["normal", "ties", "zeros", "wide"]),
)
def test_anything_finite(
    seed: int, rows: int, blocks: int, dtype: Any, quant_type: str, rule: str, two_level: bool, power: int, special: str
) -> None:
    rng = np.random.default_rng(seed)
    shape = (rows, blocks * BLOCK[quant_type])
    x = rng.standard_normal(shape) * 2.0**power
    if special == "ties":
        x = np.ldexp(rng.integers(-64, 65, shape) / 16.0, power)
    if special == "zeros":
        x = np.where(rng.random(shape) < 0.98, np.copysign(0.0, x), x)
        x[:, ::3] = -0.0
    if special == "wide":
        x = x * np.exp2(rng.integers(-3, 4, shape))
    x = x.astype(dtype)
    if quant_type == "nvfp4" and two_level and not x.any():
        return  # a tensor of zeros has no scale: see below
    codes, scale, tensor = libbnb.quantize_mx(x, quant_type, rule, tensor_scale=two_level)
    want_codes, want_scale, want_tensor = expected(x, quant_type, rule, two_level)
    np.testing.assert_array_equal(scale.view(np.uint8).ravel(), want_scale)
    np.testing.assert_array_equal(codes.view(np.uint8).ravel(), want_codes)
    if tensor is not None:
        np.testing.assert_array_equal(tensor, want_tensor)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("quant_type", MX)
def test_every_scale(quant_type: str, rule: str) -> None:
    mantissas = np.array(
        [1, 1.125, 1.1875, 1.25, 1.4375, 1.5, 1.5625, 1.75, 1.8125, 1.875, 1.9375, 1.9999999], np.float32
    )
    absmax = np.ldexp(mantissas, np.arange(-126, 128)[:, None]).astype(np.float32)
    absmax = np.concatenate([absmax.ravel(), np.float32([0, 1e-45, 2e-39, 5.8e-39, 5.9e-39, 1.1e-38, 3.4028235e38])])
    x = np.zeros((len(absmax), 32), np.float32)
    x[:, 7] = -absmax
    codes, scale, _ = libbnb.quantize_mx(x, quant_type, rule)
    want_codes, want_scale, _ = expected(x, quant_type, rule)
    np.testing.assert_array_equal(scale.view(np.uint8).ravel(), want_scale)
    np.testing.assert_array_equal(codes.view(np.uint8).ravel(), want_codes)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("quant_type", BLOCK)
def test_every_code_and_scale_decodes(quant_type: str, dtype: str) -> None:
    per_byte, block = PER_BYTE[quant_type], BLOCK[quant_type]
    blocks_of_codes = 256 * per_byte // block
    packed = np.tile(np.arange(256, dtype=np.uint8), 256).reshape(256, -1)
    scale = np.repeat(np.arange(256, dtype=np.uint8), blocks_of_codes).reshape(256, -1)
    singles = np.stack([packed & 15, packed >> 4], -1).reshape(256, -1) if per_byte == 2 else packed
    tensor = np.float32([0.37]) if quant_type == "nvfp4" else None
    got = libbnb.dequantize_mx(packed, scale, tensor, quant_type, dtype)
    if per_byte == 2:
        values = np.concatenate([oracle.E2M1, -oracle.E2M1])[singles]
    else:
        values = singles.view(getattr(ml_dtypes, quant_type.replace("mxfp8", "float8"))).astype(np.float32)
    scale_dtype = ml_dtypes.float8_e4m3fn if quant_type == "nvfp4" else ml_dtypes.float8_e8m0fnu
    scales = scale.view(scale_dtype).astype(np.float32) * np.float32(1 if tensor is None else tensor[0])
    with np.errstate(all="ignore"):
        want = values * np.repeat(scales, block, axis=1)
        want = want.astype(BF16 if dtype == "bfloat16" else dtype)
    assert_same_bits(got, want)


@pytest.mark.parametrize("quant_type", MX)
def test_unusual_blocks_of_mx(quant_type: str) -> None:
    x = np.ones((6, 32), np.float32)
    x[1], x[2, 3], x[3, 4], x[4] = 0, np.nan, -np.inf, -0.0
    for rule in RULES:
        codes, scale, _ = libbnb.quantize_mx(x, quant_type, rule)
        assert scale.view(np.uint8)[1, 0] == scale.view(np.uint8)[4, 0] == 0
        assert (scale.view(np.uint8)[2:4] == 0xFF).all() and not codes.view(np.uint8)[2:4].any()
        back = libbnb.dequantize_mx(codes, scale, quant_type=quant_type)
        assert (back[[0, 5]] == 1).all() and not back[[1, 4]].any() and np.isnan(back[2:4]).all()
        assert not np.signbit(back[1]).any() and np.signbit(back[4]).all()


def test_unusual_tensors_of_nvfp4() -> None:
    def quantized(x: Any, two_level: bool = True) -> tuple[Any, Any, Any]:
        codes, scale, tensor = libbnb.quantize_mx(x, "nvfp4", tensor_scale=two_level)
        return libbnb.dequantize_mx(codes, scale, tensor, "nvfp4"), scale.astype(np.float32), tensor

    x = np.zeros((4, 32), np.float32)
    back, scale, tensor = quantized(x)
    assert not back.any() and (scale == 2.0**-6).all() and tensor == 0
    back, scale, tensor = quantized(np.full_like(x, 1e-44))  # whose tensor scale is below the smallest fp32 number
    assert not back.any() and tensor == 0
    x = np.full((4, 32), 1.5, np.float32)
    x[1, 20] = np.nan
    back, _, tensor = quantized(x)
    assert np.isnan(back).all() and np.isnan(tensor)
    back, scale, tensor = quantized(x, False)
    assert tensor is None and np.isnan(back[1, 16:]).all() and np.isnan(scale[1, 1])
    assert (np.delete(back.ravel(), np.s_[48:64]) == 1.5).all()
    x[1, 20] = -np.inf
    back, _, tensor = quantized(x)
    assert tensor == np.inf and back[1, 20] == -np.inf and np.isnan(np.delete(back.ravel(), 52)).all()
    tiny = np.full((1, 32), 2.0**-120, np.float32)  # 1 / tensor_scale overflows
    tiny[0, 3] = -(2.0**-119)
    back, _, _ = quantized(tiny)
    np.testing.assert_allclose(back, tiny, rtol=2.0**-18)  # tensor_scale is above 2^-131, in steps of 2^-149


def test_outputs_of_the_caller(rng: np.random.Generator) -> None:
    x = numbers((4, 32), np.float32, rng)
    for quant_type, block in BLOCK.items():
        want, want_scale, want_tensor = libbnb.quantize_mx(x, quant_type)
        out = np.empty(128 // PER_BYTE[quant_type], np.uint8)
        scale = np.empty((4, 32 // block), np.uint8)
        tensor: Any = np.empty(1, np.float32) if quant_type == "nvfp4" else True
        got = libbnb.quantize_mx(x, quant_type, out=out, scale=scale, tensor_scale=tensor)
        assert got[0] is out and got[1] is scale
        np.testing.assert_array_equal(out, want.view(np.uint8).ravel())
        np.testing.assert_array_equal(scale, want_scale.view(np.uint8))
        if quant_type == "nvfp4":
            assert got[2] is tensor
            np.testing.assert_array_equal(tensor, want_tensor)
        values = np.empty((2, 64), np.float16)
        assert libbnb.dequantize_mx(want, scale, want_tensor, quant_type, out=values) is values


def test_a_float8_dtype_says_the_format_itself(rng: np.random.Generator) -> None:
    codes, scale, _ = libbnb.quantize_mx(numbers((2, 64), np.float32, rng), "mxfp8_e5m2")
    want = libbnb.dequantize_mx(codes.view(np.uint8), scale, quant_type="mxfp8_e5m2")
    np.testing.assert_array_equal(libbnb.dequantize_mx(codes, scale), want)


@pytest.mark.parametrize("shape", [(0,), (0, 32), (5, 0), (2, 0, 32)])
def test_empty(shape: tuple[int, ...]) -> None:
    for quant_type in BLOCK:
        codes, scale, tensor = libbnb.quantize_mx(np.empty(shape, np.float32), quant_type)
        assert codes.size == scale.size == 0
        assert libbnb.dequantize_mx(codes, scale, tensor, quant_type).shape == shape


def test_float4_of_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this PyTorch has no float4_e2m1fn_x2")
    x = torch.from_numpy(numbers((3, 64), np.float32, rng))
    want, scale, _ = libbnb.quantize_mx(x)
    out = torch.empty((3, 32), dtype=torch.float4_e2m1fn_x2)
    assert libbnb.quantize_mx(x, out=out)[0] is out
    assert torch.equal(out.view(torch.uint8), want)
    assert torch.equal(libbnb.dequantize_mx(out, scale), libbnb.dequantize_mx(want, scale))
    assert torch.equal(libbnb.gemm_mx(x, out, scale), libbnb.gemm_mx(x, want, scale))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.ones((2, 48), np.float32),),
            "A has rows of 48 elements, must have a multiple of 32, the block of the format",
        ),
        ((np.ones((2, 40), np.float32), "nvfp4"), "A has rows of 40 elements, must have a multiple of 16"),
        ((np.ones((32, 2), np.float32),), "A has rows of 2 elements"),
        ((np.float32(1.0),), "A has no dimensions"),
        ((np.ones(32, np.int32),), "A is int32"),
        ((np.ones(32, np.float32), "nf4"), "quant_type is 'nf4', must be 'mxfp4' or"),
        (
            (np.ones(32, np.float32), "mxfp4", "round"),
            "scale_rule is 'round', must be 'floor', 'ceil', 'even', 'rceil'",
        ),
        ((np.ones(32, np.float32), "mxfp4", "floor", np.empty(32, np.uint8)), "out has 32 elements, must have 16"),
        ((np.ones(32, np.float32), "mxfp4", "floor", None, np.empty(2, np.uint8)), "scale has 2 elements, must have 1"),
        ((np.ones(32, np.float32), "mxfp4", "floor", None, None, np.empty(1, np.float32)), "only BNB_NVFP4"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.quantize_mx(*arguments)


def test_wrong_arguments_of_dequantize() -> None:
    codes, scale = np.zeros((2, 16), np.uint8), np.zeros(2, np.uint8)
    for arguments, message in (
        ((codes, scale[:1]), "scale has 1 elements, must have 2"),
        ((codes, scale.view(np.int8)), "scale is int8, must be uint8 or float8_e8m0fnu"),
        ((codes, scale, np.ones(1, np.float32)), "tensor_scale is not NULL"),
        ((codes[:, :15], scale), "out has 60 elements, must have a multiple of 32"),
        ((codes, scale, None, "nvfp4"), "scale has 2 elements, must have 4"),
        ((codes, np.zeros(4, np.uint8), np.ones(2, np.float32), "nvfp4"), "tensor_scale has 2 elements"),
    ):
        with pytest.raises(libbnb.InvalidArgument, match=message):
            libbnb.dequantize_mx(*arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Other implementations


@pytest.fixture(scope="module")
def torchao_mx() -> Any:
    """torchao's reference quantizers."""
    pytest.importorskip("torch")
    pytest.importorskip("torchao")
    return pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("quant_type", MX)
def test_torchao_has_the_same_bits(torchao_mx: Any, quant_type: str, rule: str, rng: np.random.Generator) -> None:
    import torch

    element = {"mxfp4": torch.float4_e2m1fn_x2, "mxfp8_e4m3fn": torch.float8_e4m3fn, "mxfp8_e5m2": torch.float8_e5m2}
    modes = torchao_mx.ScaleCalculationMode
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.from_numpy(numbers((64, 256), np.float32, rng)).to(dtype)
        x[3], x[5, :32], x[6, 40] = 0, -0.0, float("nan")
        scale, codes = torchao_mx.to_mx(x, element[quant_type], 32, getattr(modes, rule.upper()))
        got, got_scale, _ = libbnb.quantize_mx(x, quant_type, rule)
        assert torch.equal(got_scale.view(torch.uint8), scale.view(torch.uint8))
        ours, theirs = got.view(torch.uint8), codes.view(torch.uint8).clone()
        block = slice(32 // PER_BYTE[quant_type], 64 // PER_BYTE[quant_type])
        theirs[6, block] = 0  # beside a NaN theirs are anything
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("two_level", [False, True])
def test_torchao_has_the_same_nvfp4(torchao_mx: Any, two_level: bool, rng: np.random.Generator) -> None:
    import torch

    nvfp4 = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.from_numpy(numbers((64, 256), np.float32, rng)).to(dtype)
        x[3], x[5, :16] = 0, -0.0
        tensor = nvfp4.per_tensor_amax_to_scale(x.abs().max()) if two_level else None
        scale, codes = nvfp4.nvfp4_quantize(x, 16, tensor)
        got, got_scale, got_tensor = libbnb.quantize_mx(x, "nvfp4", tensor_scale=two_level)
        assert tensor is None or torch.equal(got_tensor[0], tensor)
        assert torch.equal(got_scale.view(torch.uint8), scale.view(torch.uint8).reshape(got_scale.shape))
        assert torch.equal(got, codes)
        values = nvfp4.NVFP4Tensor(codes, scale.reshape(64, 16), 16, dtype, per_tensor_scale=tensor).dequantize(
            torch.float32
        )
        assert torch.equal(libbnb.dequantize_mx(got, got_scale, got_tensor, "nvfp4"), values)


def test_gguf_decodes_the_same_values(rng: np.random.Generator) -> None:
    gguf = pytest.importorskip("gguf")
    x = numbers((6, 96), np.float32, rng)
    codes, scale, _ = libbnb.quantize_mx(x)
    singles = np.stack([codes & 15, codes >> 4], -1).reshape(-1, 32)
    # A block of GGUF: the scale, then bytes with element i in the low half and element 16 + i in the high one.
    blocks = np.concatenate([scale.view(np.uint8).reshape(-1, 1), singles[:, :16] | singles[:, 16:] << 4], axis=1)
    values = gguf.quants.dequantize(blocks.reshape(6, -1), gguf.GGMLQuantizationType.MXFP4)
    np.testing.assert_array_equal(libbnb.dequantize_mx(codes, scale), values)
