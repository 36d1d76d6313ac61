# SPDX-License-Identifier: MIT
"""The plug-in for bitsandbytes: each operator against bitsandbytes' own kernel, and how it is turned on and off."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oracle
import products

torch = pytest.importorskip("torch")
bitsandbytes = pytest.importorskip("bitsandbytes")

import plugin_cases  # noqa: E402
from libbnb.integrations import bitsandbytes as plugin  # noqa: E402

pytestmark = pytest.mark.torch
Tensor = Any
ops = torch.ops.bitsandbytes
ACTIVE = "import bitsandbytes; from libbnb.integrations.bitsandbytes import status; assert status().active"


@pytest.fixture(scope="module", autouse=True)
def plugin_is_active() -> Iterator[None]:
    was_active = plugin.status().active
    plugin.activate()
    yield
    if not was_active:
        plugin.deactivate()


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What bitsandbytes' own kernels return, from a process without the plug-in."""
    file = tmp_path_factory.mktemp("stock") / "results.pt"
    script = Path(plugin_cases.__file__)
    environment = dict(os.environ, LIBBNB_PLUGIN="0")
    done = subprocess.run(
        [sys.executable, script, file], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return torch.load(file)


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    assert plugin.status().active
    return plugin_cases.results()


def pairs(ours: dict[str, Any], stock: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    names = [name for name in stock if name.startswith(prefix)]
    assert names and names == [name for name in ours if name.startswith(prefix)]
    for name in names:
        yield name, ours[name], stock[name]


def assert_same(got: Tensor, want: Tensor, name: str) -> None:
    """The same bits."""
    assert got.dtype == want.dtype and got.shape == want.shape, name
    oracle.assert_same_bits(as_numpy(got), as_numpy(want))


def as_numpy(tensor: Tensor) -> Any:
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


# ---------------------------------------------------------------------------------------------------------------------
# Operators against stock kernels


def test_nf4_codes_and_scales_are_those_of_stock(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    for name, (packed, absmax, _), (stock_packed, stock_absmax, _) in pairs(ours, stock, "quantize_4bit-nf4"):
        assert_same(packed.view(torch.uint8), stock_packed.view(torch.uint8), name)
        assert_same(absmax, stock_absmax, name)


def test_fp4_scales_are_those_of_stock_and_values_as_near(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    """Codes differ between the two zeros (negative is what was negative, as on GPUs), and in the middle of two values
    (the smaller magnitude, as on GPUs; stock takes the lower value)."""
    for name, (packed, absmax, x), (stock_packed, stock_absmax, _) in pairs(ours, stock, "quantize_4bit-fp4"):
        assert_same(absmax, stock_absmax, name)
        blocksize = 64 if name.endswith("storage") else int(name.split("-")[3])
        scales = np.repeat(absmax.numpy(), blocksize)[: x.numel()].astype(np.float64)
        codes = [oracle_codes(either, x.numel()) for either in (packed, stock_packed)]
        miss = [np.abs(oracle.FP4[one] * scales - x.double().numpy().ravel()) for one in codes]
        differ = oracle.FP4[codes[0]] != oracle.FP4[codes[1]]
        assert differ.mean() < 0.001, name
        np.testing.assert_allclose(miss[0][differ], miss[1][differ], rtol=1e-5, err_msg=name)


def oracle_codes(packed: Tensor, count: int) -> Any:
    halves = packed.view(torch.uint8).numpy().ravel()
    return np.stack([halves >> 4, halves & 15], -1).ravel()[:count]


@pytest.mark.parametrize("operator", ["dequantize_4bit-nf4", "dequantize_blockwise"])
def test_dequantized_values_are_those_of_stock(ours: dict[str, Any], stock: dict[str, Any], operator: str) -> None:
    for name, got, want in pairs(ours, stock, operator):
        assert_same(got, want, name)


def test_dequantized_fp4_values_are_those_of_stock(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    """But for the sign of zero: code 8 is -0, as on GPUs."""
    for name, got, want in pairs(ours, stock, "dequantize_4bit-fp4"):
        assert got.dtype == want.dtype and torch.equal(got, want), name


@pytest.mark.parametrize("operator", ["gemm_4bit", "gemv_4bit"])
def test_products(ours: dict[str, Any], stock: dict[str, Any], operator: str) -> None:
    """Ours within the bound of the header; stock's no nearer to the product than its dtype allows, and near ours."""
    for name, (out, a, packed, absmax, bias), (stock_out, *_) in pairs(ours, stock, operator):
        scales = absmax
        if operator == "gemv_4bit":  # stock rounds scales to bfloat16 there, and the case hands us the rounded ones
            scales = absmax.bfloat16().float()
        quant_type = name.split("-")[1]
        weights = products.weights_4bit(packed.numpy(), scales.numpy(), 64, quant_type, (96, 128))
        assert out.dtype == a.dtype and out.shape == (*a.shape[:-1], 96), name
        added = None if bias is None else as_numpy(bias)
        products.assert_product(as_numpy(out), as_numpy(a), weights, added, float(absmax.max()))
        total = np.abs(as_numpy(a).astype(np.float64).reshape(-1, 128)) @ np.abs(weights).T.astype(np.float64)
        unit = products.ROUNDING[as_numpy(out).dtype][0]
        far = 4 * unit if name.endswith("nested") is False else 4 * unit + 1e-3  # nested codes differ: see below
        off = (out - stock_out).double().abs().reshape(total.shape).numpy()
        assert (off <= far * total + 1e-6).all(), name


def test_blockwise_codes_are_the_nearest(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    """Stock looks them up in a table of 65536 entries: its codes are those or a neighbour, never nearer."""
    for name, (codes, absmax, x, code), (stock_codes, stock_absmax, *_) in pairs(ours, stock, "quantize_blockwise"):
        assert_same(absmax, stock_absmax, name)
        want, _ = oracle.quantize_blockwise(as_numpy(x), code.numpy(), 256)
        assert (codes.numpy() == want.reshape(codes.shape)).all(), name
        differ = codes != stock_codes
        assert differ.float().mean() < 0.01, name
        scale = absmax.repeat_interleave(256)[: x.numel()][differ].double()

        def miss(chosen: Tensor, x: Tensor = x, code: Tensor = code, differ: Any = differ, scale: Any = scale) -> Any:
            return (code[chosen[differ].long()].double() * scale - x[differ].double()).abs()

        assert (miss(codes) <= miss(stock_codes) + 1e-7 * scale).all(), name


def test_int8(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    for name in ("int8_linear_matmul", "int8_vectorwise_dequant"):
        assert_same(ours[name], stock[name], name)
    # Stock has 6.200124e-05 for 1 / (127 * 127), which is 1.8e-5 too little.
    got, want = ours["int8_mm_dequant"], stock["int8_mm_dequant"]
    assert got.dtype == want.dtype and (got - want).abs().max() < 2e-5 * want.abs().max()
    for name, got, want in pairs(ours, stock, "int8_vectorwise_quant"):
        codes, stats, columns = got
        stock_codes, stock_stats, stock_columns = want
        assert_same(stats, stock_stats, name)
        assert (columns is None and stock_columns is None) or torch.equal(columns, stock_columns), name
        off = (codes.int() - stock_codes.int()).abs()  # stock rounds 127 / absmax before it multiplies
        assert off.max() <= 1 and off.sum() <= 5, name
    for name, got, want in pairs(ours, stock, "int8_scaled_mm"):
        assert torch.allclose(got.float(), want.float(), rtol=0.0, atol=0.01 + 0.005 * float(want.abs().max())), name
    for name, (got, part), (want, stock_part) in pairs(ours, stock, "int8_mixed_scaled_mm"):
        assert torch.allclose(got.float(), want.float(), rtol=0.0, atol=0.01 + 0.01 * float(want.abs().max())), name
        if name.endswith("2.5"):
            assert_same(part, stock_part, name)
        else:
            assert part is None and stock_part.numel() == 0, name


@pytest.mark.parametrize("optimizer", plugin_cases.OPTIMIZERS)
def test_optimizers(ours: dict[str, Any], stock: dict[str, Any], optimizer: str) -> None:
    """The same formulas: states and parameters to a few ulp; in 8 bits to what a neighbouring code is worth."""
    for name, got, want in pairs(ours, stock, f"optimizer_update_32bit-{optimizer}-"):
        for tensor, wanted in zip(got, want, strict=True):
            if tensor is not None:
                ulp = torch.finfo(tensor.dtype).eps
                assert torch.allclose(tensor.float(), wanted.float(), rtol=2 * ulp, atol=3e-7), name
    for name, p, wanted in pairs(ours, stock, f"optimizer_update_8bit_blockwise-{optimizer}-"):
        ulp = torch.finfo(p.dtype).eps
        steps = plugin_cases.STEPS * plugin_cases.LR
        assert torch.allclose(p.float(), wanted.float(), rtol=ulp, atol=0.1 * steps), name
        assert (p == wanted).float().mean() > 0.8, name


# ---------------------------------------------------------------------------------------------------------------------
# What stock cannot do, or does wrong


def test_every_operator_has_our_kernel() -> None:
    """Operators and overloads that bitsandbytes defines: none is left to its own CPU kernels."""
    defined = {
        name.removeprefix("bitsandbytes::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("bitsandbytes::")
    }
    assert defined == set(plugin.status().operators)
    assert not plugin.status().skipped


def test_out_variants() -> None:
    x = torch.randn(4, 64)
    packed, absmax = ops.quantize_4bit(x, 64, "nf4", torch.uint8)
    out = torch.empty(4, 64)
    ops.dequantize_4bit.out(packed, absmax, 64, "nf4", [4, 64], torch.float32, out)
    assert_same(out, ops.dequantize_4bit(packed, absmax, 64, "nf4", [4, 64], torch.float32), "dequantize_4bit")
    a, result = torch.randn(3, 64), torch.empty(3, 4)
    code = bitsandbytes.functional.get_4bit_type("nf4", "cpu")
    ops.gemv_4bit.out(a, packed, [4, 64], absmax, code, 64, result)
    assert_same(result, ops.gemv_4bit(a, packed, [4, 64], absmax, code, 64), "gemv_4bit")
    codes, scales = ops.quantize_blockwise(x, bitsandbytes.functional.create_dynamic_map(), 64)
    back = bitsandbytes.functional.dequantize_blockwise(
        codes, absmax=scales, code=bitsandbytes.functional.create_dynamic_map(), blocksize=64, out=out
    )
    assert back is out and (out - x).abs().max() < 0.1
    left, right = torch.ones(3, 8, dtype=torch.int8), torch.ones(5, 8, dtype=torch.int8)
    product = torch.empty(3, 5, dtype=torch.int32)
    ops.int8_linear_matmul.out(left, right, product)
    assert (product == 8).all()


def test_shapes_where_stock_goes_wrong() -> None:
    x = torch.randn(3, 97)  # blocks do not end with rows
    packed, absmax = ops.quantize_4bit(x, 64, "nf4", torch.uint8)
    flat = oracle.dequantize_4bit(packed.numpy().ravel(), absmax.numpy(), 64, "nf4", x.numel(), np.float32)
    for shape in ([3, 97], [97, 3], [291], [1, 291]):
        assert_same(
            ops.dequantize_4bit(packed, absmax, 64, "nf4", shape, torch.float32),
            torch.from_numpy(flat.reshape(shape)),
            str(shape),
        )
    row_codes, col_codes, row_stats, col_stats, columns = ops.int8_double_quant(x, 0.0)
    assert torch.equal(row_stats, x.abs().amax(1)) and torch.equal(col_stats, x.abs().amax(0)) and columns is None
    assert row_codes.abs().amax(1).eq(127).all() and col_codes.abs().amax(0).eq(127).all()
    with pytest.raises(ValueError):
        ops.dequantize_4bit(packed, absmax, 0, "nf4", [3, 97], torch.float32)


def test_other_dtypes_as_in_stock() -> None:
    x = torch.randn(128, dtype=torch.float64)
    packed, absmax = ops.quantize_4bit(x, 64, "nf4", torch.uint8)
    assert_same(packed, ops.quantize_4bit(x.float(), 64, "nf4", torch.uint8)[0], "float64")
    half = ops.dequantize_4bit(packed, absmax.bfloat16(), 64, "nf4", [128], torch.float32)
    assert_same(half, ops.dequantize_4bit(packed, absmax.bfloat16().float(), 64, "nf4", [128], torch.float32), "absmax")
    assert ops.dequantize_4bit(packed, absmax, 64, "nf4", [128], torch.float64).dtype == torch.float64
    code = bitsandbytes.functional.create_dynamic_map()
    codes, scales = ops.quantize_blockwise(x, code.double(), 64)
    assert ops.dequantize_blockwise(codes, scales, code, 64, torch.float64).dtype == torch.float64
    p, state = torch.ones(8, dtype=torch.float64), torch.zeros(8)
    gradient = torch.ones(8, dtype=torch.float64)
    ops.optimizer_update_32bit(
        "momentum", gradient, p, state, None, None, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 1, 0.5, 1.0
    )
    assert (p == 0.5).all() and (state == 1).all()


def test_trust_ratio_uses_the_norm_that_it_is_given() -> None:
    norm = torch.zeros(1)
    p, g, state = torch.full((4,), 2.0), torch.ones(4), torch.zeros(4)
    arguments = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1, 1.0, 1.0)
    ops.optimizer_update_32bit("lars", g, p, state, None, norm, 0.5, 4.0, *arguments)
    assert norm.item() == 2.0 and torch.equal(p, torch.full((4,), 1.0))  # the update has norm 2 = 0.5 * 4
    p, state = torch.full((4,), 2.0), torch.zeros(4)
    ops.optimizer_update_32bit("lars", g, p, state, None, norm, 0.5, 1.0, *arguments)
    assert torch.equal(p, torch.full((4,), 1.75))  # scaled down to 0.5 * 1


def test_arguments_that_require_grad() -> None:
    """Kernels run below autograd: what they are given may require gradients that they do not make."""
    x = torch.randn(64, 64, requires_grad=True)
    packed, absmax = ops.quantize_4bit(x, 64, "nf4", torch.uint8)
    assert ops.gemm_4bit(x, packed, [64, 64], absmax, 64, "nf4").shape == (64, 64)


def test_errors_have_words() -> None:
    packed, absmax = ops.quantize_4bit(torch.randn(64, 64), 64, "nf4", torch.uint8)
    with pytest.raises(ValueError, match="absmax has 3 elements"):
        ops.gemm_4bit(torch.randn(1, 64), packed, [64, 64], absmax[:3], 64, "nf4")
    with pytest.raises(ValueError, match=r"out is torch.float32 \[3\], must be"):
        ops.dequantize_4bit.out(packed, absmax, 64, "nf4", [64, 64], torch.float32, torch.empty(3))


# ---------------------------------------------------------------------------------------------------------------------
# On and off


def test_off_and_on_again() -> None:
    x = torch.zeros(64)
    code = bitsandbytes.functional.create_dynamic_map()
    assert (ops.quantize_blockwise(x, code, 64)[0] == 127).all()
    has_avx512bf16 = bitsandbytes.nn.modules.has_avx512bf16
    plugin.deactivate()
    try:
        assert not plugin.status().active and not plugin.status().operators
        assert bitsandbytes.nn.modules.has_avx512bf16 is bitsandbytes.functional.has_avx512bf16
        with pytest.raises(NotImplementedError):
            ops.int8_double_quant(torch.randn(2, 2), 0.0)
    finally:
        plugin.activate()
    plugin.activate()  # changes nothing
    assert plugin.status().active and bitsandbytes.nn.modules.has_avx512bf16 is has_avx512bf16
    assert (ops.quantize_blockwise(x, code, 64)[0] == 127).all()


def test_the_import_is_silent_and_turns_it_on(python: Callable[..., Any]) -> None:
    done = python(
        f"import warnings, torch, torch._inductor.compile_fx; warnings.simplefilter('error'); {ACTIVE}",
        LIBBNB_PLUGIN="1",
    )
    assert done.returncode == 0, done.stderr
    assert "libbnb" not in done.stderr


def test_turned_off_by_the_environment(python: Callable[..., Any]) -> None:
    code = "import sys, bitsandbytes; assert not [name for name in sys.modules if name.partition('.')[0] == 'libbnb']"
    done = python(code, LIBBNB_PLUGIN="0")
    assert done.returncode == 0, done.stderr


BROKEN = {
    "library": ("", {"BNB_LIB_PATH": "/nowhere/lib.so"}, "there is no file /nowhere/lib.so"),
    "instruction set": ("", {"BNB_CPU_ISA": "nonsense"}, "no instruction set can be used"),
    "package": ("sys.modules['cffi'] = sys.modules['_cffi_backend'] = None; ", {}, "ImportError|ModuleNotFoundError"),
    "operator": (
        "from libbnb.integrations.bitsandbytes import _kernels; _kernels.KERNELS['gemm_4bit'] = 1; ",
        {},
        "not a callable",
    ),
}


@pytest.mark.parametrize(("what", "strict"), [*((what, False) for what in BROKEN), ("library", True)])
def test_a_broken_plugin_does_not_break_the_import(python: Callable[..., Any], what: str, strict: bool) -> None:
    breaks, variables, words = BROKEN[what]
    code = (
        "import sys, warnings, torch, torch._inductor.compile_fx; "
        f"warnings.simplefilter('{'error' if strict else 'always'}'); {breaks}import bitsandbytes; "
        "x = torch.ones(64, 64); q, s = bitsandbytes.functional.quantize_4bit(x, quant_type='nf4'); "
        "assert torch.equal(bitsandbytes.functional.dequantize_4bit(q, s), x); "
        "assert bitsandbytes.nn.modules.has_avx512bf16 is bitsandbytes.functional.has_avx512bf16; print('works')"
    )
    done = python(code, LIBBNB_PLUGIN="1", **variables)
    assert done.returncode == 0 and "works" in done.stdout, done.stderr
    assert done.stderr.count("libbnb's kernels are not used by bitsandbytes") == 1, done.stderr
    assert any(word in done.stderr for word in words.split("|")), done.stderr


def test_operators_of_other_versions_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    from libbnb.integrations.bitsandbytes import _kernels

    def other_arguments(A: Any, blocksize: int, new: int) -> None: ...

    plugin.deactivate()
    monkeypatch.setitem(_kernels.KERNELS, "quantize_4bit", other_arguments)
    monkeypatch.setitem(_kernels.KERNELS, "not_an_operator.out", other_arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plugin.activate()
        skipped = plugin.status().skipped
        assert skipped == {
            "quantize_4bit": "its arguments are (A, blocksize, quant_type, quant_storage)",
            "not_an_operator.out": "this bitsandbytes does not have it",
        }
        assert ops.quantize_4bit(torch.randn(64), 64, "nf4", torch.uint8)[0].shape == (32, 1)  # stock's
    finally:
        plugin.deactivate()
        monkeypatch.undo()
        plugin.activate()
    assert not plugin.status().skipped
