# SPDX-License-Identifier: MIT
"""The operators torch.ops.libbnb: PyTorch's own checks of them, shapes without memory, torch.compile, and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import libbnb

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

pytest.importorskip("libbnb.autograd")  # defines the operators

ops = torch.ops.libbnb
F = libbnb.functional
N, K = 24, 64
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu)


def weights(dtype: Any = torch.float32) -> Any:
    torch.manual_seed(N)
    return torch.randn(N, K).to(dtype)


def packed(nested: bool = False, quant_type: str = "nf4") -> Any:
    return F.quantize_4bit(weights(), compress_statistics=nested, quant_type=quant_type)


def nested_arguments(state: Any) -> tuple[Any, ...]:
    return state.absmax, state.state2.code, state.offset


def rows(*shape: int, dtype: Any = torch.float32, grad: bool = False) -> Any:
    torch.manual_seed(sum(shape))
    return torch.randn(*shape).to(dtype).requires_grad_(grad)


def of_4bit() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    codes, state = packed()
    nested_codes, nested = packed(nested=True)
    table = libbnb.get_4bit_type("nf4", device="cpu")
    tail = (nested.state2.absmax, 64, "nf4")
    code = state.absmax, table, 64
    return {
        "quantize_4bit": (ops.quantize_4bit, (weights(), 64, "nf4", torch.uint8)),
        "quantize_4bit storage": (ops.quantize_4bit, (weights(torch.bfloat16), 32, "fp4", torch.int32)),
        "dequantize_4bit": (ops.dequantize_4bit, (codes, state.absmax, 64, "nf4", (N, K), torch.float16)),
        "dequantize_4bit nested": (
            ops.dequantize_4bit,
            (nested_codes, *tail, (N, K), torch.float32, *nested_arguments(nested)),
        ),
        "dequantize_4bit.out": (
            ops.dequantize_4bit.out,
            (codes, state.absmax, 64, "nf4", (N, K), torch.float16, torch.empty(N, K, dtype=torch.float16)),
        ),
        "gemm_4bit": (ops.gemm_4bit, (rows(3, K), codes, (N, K), state.absmax, 64, "nf4")),
        "gemm_4bit gradients": (
            ops.gemm_4bit,
            (rows(2, 3, K, grad=True), codes, (N, K), state.absmax, 64, "nf4", rows(N, grad=True)),
        ),
        "gemm_4bit nested": (
            ops.gemm_4bit,
            (rows(3, K, grad=True), nested_codes, (N, K), *tail, None, *nested_arguments(nested)),
        ),
        "gemv_4bit": (ops.gemv_4bit, (rows(1, K), codes, (N, K), *code)),
        "gemv_4bit.out": (ops.gemv_4bit.out, (rows(1, K), codes, (N, K), *code, torch.empty(1, N))),
    }


def of_8bit() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    code = torch.from_numpy(libbnb.create_dynamic_map())
    codes, state = F.quantize_blockwise(weights(), blocksize=100)
    CB, SCB, _ = F.int8_vectorwise_quant(weights())
    A = rows(5, K, dtype=torch.float16) * 3
    CA, SCA, cols = F.int8_vectorwise_quant(A, 6.0)
    assert cols.numel()
    scaled = (CA, CB, SCA, SCB)
    tail = (codes, state.absmax, code, 100, torch.bfloat16)
    return {
        "quantize_blockwise": (ops.quantize_blockwise, (weights(), code, 100)),
        "dynamic_map": (ops.dynamic_map, (weights(),)),
        "dynamic_map unsigned": (ops.dynamic_map, (weights(), False)),
        "quantize_nested": (ops.quantize_nested, (state.absmax, 7)),
        "dequantize_blockwise": (ops.dequantize_blockwise, tail),
        "dequantize_blockwise.out": (ops.dequantize_blockwise.out, (*tail, torch.empty(N, K, dtype=torch.bfloat16))),
        "int8_vectorwise_quant": (ops.int8_vectorwise_quant, (A,)),
        "int8_vectorwise_quant outliers": (ops.int8_vectorwise_quant, (A, 6.0)),
        "int8_vectorwise_dequant": (ops.int8_vectorwise_dequant, (CB, SCB)),
        "int8_vectorwise_dequant dtype": (ops.int8_vectorwise_dequant, (CB, SCB, torch.bfloat16)),
        "int8_double_quant": (ops.int8_double_quant, (A,)),
        "int8_double_quant outliers": (ops.int8_double_quant, (A, 6.0)),
        "int8_mm_dequant": (ops.int8_mm_dequant, (CA.int() @ CB.int().t(), SCA, SCB, torch.float32)),
        "int8_linear_matmul": (ops.int8_linear_matmul, (CA, CB)),
        "int8_linear_matmul.out": (ops.int8_linear_matmul.out, (CA, CB, torch.empty(5, N, dtype=torch.int32))),
        "int8_scaled_mm": (ops.int8_scaled_mm, (*scaled, rows(N), torch.bfloat16)),
        "int8_mixed_scaled_mm": (ops.int8_mixed_scaled_mm, (A, *scaled)),
        "int8_mixed_scaled_mm outliers": (ops.int8_mixed_scaled_mm, (A, *scaled, cols, rows(N))),
        "linear_int8": (ops.linear_int8, (rows(3, K), CB, SCB)),
        "linear_int8 gradients": (ops.linear_int8, (rows(2, 3, K, grad=True), CB, SCB, 2.0, rows(N, grad=True))),
    }


def of_fp8() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    codes, scale = F.quantize_fp8(weights())
    block_codes, block_scale = F.quantize_fp8(weights(), blocksize=32, quant_type="fp8_e5m2")
    return {
        "quantize_fp8": (ops.quantize_fp8, (weights(),)),
        "quantize_fp8 blocks": (ops.quantize_fp8, (weights(torch.float16), 32, "fp8_e5m2")),
        "dequantize_fp8 bytes": (ops.dequantize_fp8, (codes.view(torch.uint8), scale)),
        "dequantize_fp8": (ops.dequantize_fp8, (codes, scale)),
        "dequantize_fp8 blocks": (ops.dequantize_fp8, (block_codes, block_scale, 32, "fp8_e5m2", torch.float16)),
        "gemm_fp8": (ops.gemm_fp8, (rows(3, K), codes, scale)),
        "gemm_fp8 gradients": (ops.gemm_fp8, (rows(2, 3, K, grad=True), codes, scale, rows(N, grad=True))),
        "gemm_fp8 blocks": (
            ops.gemm_fp8,
            (rows(3, K), block_codes.view(torch.uint8), block_scale, None, 32, "fp8_e5m2"),
        ),
    }


def of_ternary() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    codes, scale = F.quantize_ternary(weights(), 32)
    blocks, _ = F.quantize_ternary(rows(2, 512), 256, "tq1_0")
    a, stats, _ = F.int8_vectorwise_quant(rows(3, K))
    a_blocks, blocks_stats, _ = F.int8_vectorwise_quant(rows(3, 512))
    return {
        "quantize_ternary": (ops.quantize_ternary, (weights(),)),
        "quantize_ternary blocks": (ops.quantize_ternary, (weights(torch.float16), 30, "ternary", "absmax")),
        "quantize_ternary tq": (ops.quantize_ternary, (rows(2, 512), 256, "tq2_0")),
        "dequantize_ternary": (ops.dequantize_ternary, (codes, scale, 32)),
        "dequantize_ternary shape": (ops.dequantize_ternary, (codes, scale, 32, "ternary", (N * K,), torch.float16)),
        "dequantize_ternary tq": (ops.dequantize_ternary, (blocks, None, None, "tq1_0")),
        "gemm_ternary": (ops.gemm_ternary, (a, codes, stats, scale, None, 32)),
        "gemm_ternary half": (
            ops.gemm_ternary,
            (a, codes, stats, scale, rows(N), 32, "ternary", torch.float16, (N, K)),
        ),
        "gemm_ternary tq": (ops.gemm_ternary, (a_blocks, blocks, blocks_stats, None, None, None, "tq1_0")),
        "linear_ternary": (ops.linear_ternary, (rows(3, K), codes, scale, None, 32)),
        "linear_ternary gradients": (
            ops.linear_ternary,
            (rows(2, 3, K, grad=True), codes, scale, rows(N, grad=True), 32, "ternary", True),
        ),
    }


def of_mx() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    fours, fives = F.quantize_mx(rows(N, 96)), F.quantize_mx(rows(N, 96), "mxfp8_e5m2", "rceil")
    nvfp4 = F.quantize_mx(rows(N, 96), "nvfp4")
    return {
        "quantize_mx": (ops.quantize_mx, (rows(5, 64),)),
        "quantize_mx bytes": (ops.quantize_mx, (rows(2, 3, 64, dtype=torch.bfloat16), "mxfp8_e4m3fn", "even")),
        "quantize_mx nvfp4": (ops.quantize_mx, (rows(5, 48), "nvfp4")),
        "quantize_mx one level": (ops.quantize_mx, (rows(48), "nvfp4", "floor", False)),
        "dequantize_mx": (ops.dequantize_mx, (fours[0], fours[1])),
        "dequantize_mx dtype": (ops.dequantize_mx, (fives[0], fives[1], None, "mxfp4", torch.float16)),
        "dequantize_mx nvfp4": (ops.dequantize_mx, (*nvfp4, "nvfp4", torch.bfloat16)),
        "gemm_mx": (ops.gemm_mx, (rows(3, 96), fours[0], fours[1])),
        "gemm_mx bytes": (ops.gemm_mx, (rows(3, 96, dtype=torch.bfloat16), fives[0], fives[1], None, "mxfp8_e5m2")),
        "gemm_mx gradients": (ops.gemm_mx, (rows(2, 3, 96, grad=True), *nvfp4, "nvfp4", rows(N, grad=True))),
    }


MAKERS: tuple[Callable[[], dict[str, tuple[Any, tuple[Any, ...]]]], ...] = (of_4bit, of_8bit, of_fp8, of_ternary, of_mx)
SAMPLES = {name: sample for make in MAKERS for name, sample in make().items()}


def test_every_operator_has_a_sample() -> None:
    defined = {name.removeprefix("libbnb::") for name in torch._C._dispatch_get_all_op_names() if "libbnb::" in name}
    assert defined == {name.split(" ")[0] for name in SAMPLES}


@pytest.mark.parametrize("name", SAMPLES)
def test_opcheck(name: str) -> None:
    operator, arguments = SAMPLES[name]
    checks = ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]
    if any(isinstance(x, torch.Tensor) and x.dtype in FLOAT8 for x in arguments):
        checks.remove("test_schema")  # its way to compare tensors does arithmetic that PyTorch does not have for float8
    torch.library.opcheck(getattr(operator, "default", operator), arguments, test_utils=checks)


def same(got: Any, want: Any) -> None:
    for a, b in zip(torch.utils._pytree.tree_leaves(got), torch.utils._pytree.tree_leaves(want), strict=True):
        if isinstance(a, torch.Tensor):
            assert a.shape == b.shape and a.dtype == b.dtype
            assert torch.equal(a.view(torch.uint8) if a.dim() else a, b.view(torch.uint8) if b.dim() else b)
        else:
            assert a == b


@pytest.mark.parametrize("name", SAMPLES)
def test_compiled_as_one_graph(name: str) -> None:
    operator, arguments = SAMPLES[name]
    torch._dynamo.reset()
    with torch.no_grad(), torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(lambda *a: operator(*a), fullgraph=True, backend="aot_eager")
        same(compiled(*arguments), operator(*arguments))


@pytest.mark.parametrize("name", [name for name in SAMPLES if "outliers" not in name])
def test_on_the_meta_device(name: str) -> None:
    operator, arguments = SAMPLES[name]
    with torch.no_grad():
        want = operator(*arguments)
        moved = torch.utils._pytree.tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, arguments)
        got = operator(*moved)
    for a, b in zip(torch.utils._pytree.tree_leaves(got), torch.utils._pytree.tree_leaves(want), strict=True):
        if isinstance(a, torch.Tensor):
            assert a.is_meta and a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride()


def int8_chain(A: Any) -> Any:
    CA, SCA, _ = F.int8_vectorwise_quant(A)
    CB, SCB, _ = F.int8_vectorwise_quant(A * 2)
    rows, cols, row_stats, col_stats, _ = F.int8_double_quant(A)
    exact = F.int8_linear_matmul(CA, CB)
    mixed, _ = F.int8_mixed_scaled_mm(A, CA, CB, SCA, SCB)
    scaled = F.int8_scaled_mm(CA, CB, SCA, SCB, dtype="float32", bias=A[0, :5])
    back = F.int8_vectorwise_dequant(CA, SCA)
    return rows, cols, row_stats, col_stats, exact, mixed, scaled, back, F.int8_mm_dequant(exact, SCA, SCB)


def ternary_chain(A: Any) -> Any:
    codes, scale = F.quantize_ternary(A * 2, 32)
    CA, SCA, _ = F.int8_vectorwise_quant(A)
    exact = F.gemm_ternary(CA, codes, SCA, scale, 32, bias=A[0, :5], dtype="float16")
    return exact, F.linear_ternary(A, codes, scale, 32, out=torch.empty(5, 5))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "4bit": lambda A: F.dequantize_4bit(*F.quantize_4bit(A, quant_type="nf4")),
    "4bit nested": lambda A: F.dequantize_4bit(*F.quantize_nf4(A, compress_statistics=True)),
    "4bit storage": lambda A: F.dequantize_fp4(*F.quantize_fp4(A, quant_storage="bfloat16", blocksize=32)),
    "4bit out": lambda A: F.dequantize_4bit(*F.quantize_fp4(A), out=torch.empty(A.shape)),
    "blockwise": lambda A: F.dequantize_blockwise(*F.quantize_blockwise(A, blocksize=100)),
    "blockwise nested": lambda A: F.dequantize_blockwise(*F.quantize_blockwise(A, blocksize=10, nested=True)),
    "fp8": lambda A: F.dequantize_fp8(*F.quantize_fp8(A)),
    "fp8 blocks": lambda A: F.dequantize_fp8(*F.quantize_fp8(A, blocksize=32, quant_type="fp8_e5m2"), blocksize=32),
    "int8": int8_chain,
    "mx": lambda A: F.dequantize_mx(*F.quantize_mx(A, scale_rule="even")),
    "mx out": lambda A: F.quantize_mx(
        A, "mxfp8_e4m3fn", out=torch.empty(A.shape, dtype=torch.uint8), scale=torch.empty((5, 2), dtype=torch.uint8)
    ),
    "nvfp4 out": lambda A: F.dequantize_mx(
        *F.quantize_mx(A, "nvfp4", tensor_scale=torch.empty(1)), "nvfp4", out=torch.empty(A.shape, dtype=torch.float16)
    ),
    "ternary": lambda A: F.dequantize_ternary(*F.quantize_ternary(A)),
    "ternary out": lambda A: F.dequantize_ternary(*F.quantize_ternary(A, 10), 10, out=torch.empty(A.shape)),
    "ternary products": ternary_chain,
    "ternary tq": lambda A: F.dequantize_ternary(
        *F.quantize_ternary(A.repeat(1, 4), quant_type="tq2_0"), None, "tq2_0"
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_compile_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    function, A = FUNCTIONS[name], rows(5, K)
    same(torch.compile(function, fullgraph=True, backend="aot_eager")(A), function(A))


def test_a_state_that_was_made_in_a_graph_works_outside() -> None:
    torch._dynamo.reset()
    for quantize, dequantize in (
        (lambda A: F.quantize_nf4(A, compress_statistics=True), F.dequantize_4bit),
        (lambda A: F.quantize_blockwise(A, nested=True, blocksize=16), F.dequantize_blockwise),
    ):
        A = rows(40, K)
        codes, state = torch.compile(quantize, fullgraph=True, backend="aot_eager")(A)
        want_codes, want = quantize(A)
        assert torch.equal(codes, want_codes) and state == want
        assert torch.equal(dequantize(codes, state), dequantize(want_codes, want))


def test_operators_give_what_the_functions_give() -> None:
    codes, state = packed(nested=True)
    A, bias = rows(3, K), rows(N)
    out = ops.gemm_4bit(
        A, codes, (N, K), state.state2.absmax, 64, "nf4", bias, state.absmax, state.state2.code, state.offset
    )
    assert torch.equal(out, libbnb.matmul_4bit(A, codes, state, bias=bias))
    without_code = ops.gemm_4bit(
        A, codes, (N, K), state.state2.absmax, 64, "nf4", bias, state.absmax, None, state.offset
    )
    assert torch.equal(out, without_code)
    CB, SCB, _ = F.int8_vectorwise_quant(weights())
    assert torch.equal(ops.linear_int8(A, CB, SCB, 2.0, bias), F.linear_int8(A, CB, SCB, 2.0, bias))
    fp8, scale = F.quantize_fp8(weights())
    assert torch.equal(ops.gemm_fp8(A, fp8, scale, bias), F.matmul_fp8(A, fp8, scale, bias=bias))


def test_operators_take_the_arguments_of_bitsandbytes() -> None:
    """Every argument that an operator of theirs has, ours has in the same place."""
    pytest.importorskip("bitsandbytes")
    compared = 0
    for name in sorted({name.split(" ")[0] for name in SAMPLES}):
        operator, _, overload = name.partition(".")
        if not hasattr(torch.ops.bitsandbytes, operator):
            continue
        theirs = getattr(getattr(torch.ops.bitsandbytes, operator), overload or "default")._schema
        ours = getattr(getattr(ops, operator), overload or "default")._schema
        for mine, other in zip(ours.arguments, theirs.arguments, strict=False):
            assert (mine.name, str(mine.type), mine.default_value) == (other.name, str(other.type), other.default_value)
        assert len(ours.arguments) >= len(theirs.arguments)
        assert [str(r.type) for r in ours.returns] == [str(r.type) for r in theirs.returns]
        compared += 1
    assert compared >= 16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c, s: ops.gemm_4bit(rows(3, 65), c, (N, K), s.absmax, 64, "nf4"),
            r"A has shape \[3, 65\] and B \[24, 64\]",
        ),
        (
            lambda c, s: ops.gemm_4bit(rows(3, N), c, (N, K), s.absmax, 64, "nf4"),
            r"A has shape \[3, 24\] and B \[24, 64\]",
        ),
        (lambda c, s: ops.gemm_4bit(rows(3, K), c, (N * K,), s.absmax, 64, "nf4"), r"B has shape \[1536\], must be"),
        (
            lambda c, s: ops.gemm_4bit(rows(3, K), c, (N, K), s.absmax, 32, "nf4"),
            "absmax has 24 elements, must have 48",
        ),
        (lambda c, s: ops.gemm_4bit(rows(3, K), c, (N, K), s.absmax, 64, "int4"), "quant_type is 'int4'"),
        (lambda c, s: ops.gemm_4bit(rows(3, K), c, (N, K), s.absmax, 63, "nf4"), "blocksize is 63, must be even"),
        (lambda c, s: ops.gemm_4bit(rows(3, K), c, (N, K), s.absmax, 64, "nf4", rows(5)), "bias has 5 elements"),
        (lambda c, s: ops.gemm_4bit(rows(3, K).int(), c, (N, K), s.absmax, 64, "nf4"), "A is (torch.)?int32"),
        (
            lambda c, s: ops.gemv_4bit(rows(1, K), c, (N, K), s.absmax, torch.ones(16), 64),
            "code is the table of none of fp4, nf4",
        ),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_wrong_arguments_with_memory_and_without(call: Any, message: str, device: str) -> None:
    codes, state = packed()
    if device == "meta":
        if "code is" in message:
            pytest.skip("values have no meaning on the meta device")
        codes, state.absmax = codes.to("meta"), state.absmax.to("meta")
    with pytest.raises(libbnb.InvalidArgument, match=message), torch.device(device):
        call(codes, state)
