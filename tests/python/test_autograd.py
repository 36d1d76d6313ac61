# SPDX-License-Identifier: MIT
"""Gradients of products with quantized weights, against those of dense products; and products that are compiled.

Where a fixed tolerance stands, both sides are fp32 sums of the same products in different orders: 1e-5 for one such
sum, 1e-4 for sums of them. What is bounded by a formula has its tests in test_fourbit_products.py and its neighbours.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import libbnb

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
N, K = 48, 128


def rows(*shape: int, dtype: Any = torch.float32, grad: bool = False, seed: int = 0) -> Any:
    torch.manual_seed(sum(shape) + seed)
    return torch.randn(*shape).to(dtype).requires_grad_(grad)


def weights(dtype: Any = torch.float32) -> Any:
    return rows(N, K, dtype=dtype, seed=5)


class Dense:
    """The same product with dense weights in float64, and its gradients."""

    def __init__(self, a: Any, w: Any, bias: Any, grad: Any) -> None:
        self.a, self.w = a.detach().double().requires_grad_(), w.detach().double().requires_grad_()
        self.bias = None if bias is None else bias.detach().double().requires_grad_()
        self.out = torch.nn.functional.linear(self.a, self.w, self.bias)
        self.out.backward(grad.double())


TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def assert_near(got: Any, want: Any) -> None:
    """Equal but for roundings of the dtype, in units of what is in the row."""
    assert got.shape == want.shape
    scale = want.abs().amax(-1, keepdim=True).clamp_min(1e-30) if want.dim() else want.abs()
    assert ((got.double() - want).abs() <= TOLERANCE[got.dtype] * scale).all()


def four_bit(nested: bool = False) -> tuple[Callable[..., Any], Any]:
    packed, state = libbnb.quantize_nf4(weights(), compress_statistics=nested)
    return lambda a, bias: libbnb.matmul_4bit(a, packed, state, bias=bias), libbnb.dequantize_4bit(packed, state)


def fp8() -> tuple[Callable[..., Any], Any]:
    codes, scale = libbnb.quantize_fp8(weights())
    return lambda a, bias: libbnb.matmul_fp8(a, codes, scale, bias=bias), libbnb.dequantize_fp8(codes, scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(K,), (1, K), (5, K), (2, 3, K), (0, K)])
@pytest.mark.parametrize("make", [four_bit, lambda: four_bit(nested=True), fp8], ids=["4bit", "nested", "fp8"])
def test_gradients_of_activations_and_bias(make: Any, shape: tuple[int, ...], dtype: Any) -> None:
    multiply, dense_weights = make()
    a, bias = rows(*shape, dtype=dtype, grad=True), rows(N, dtype=dtype, grad=True)
    grad = rows(*shape[:-1], N, dtype=dtype, seed=9)
    out = multiply(a, bias)
    assert out.requires_grad and out.dtype == dtype
    with torch.no_grad():
        assert torch.equal(multiply(a, bias), out)  # the way without gradients gives the same
    out.backward(grad)
    dense = Dense(a, dense_weights, bias, grad)
    assert a.grad.dtype == bias.grad.dtype == dtype
    assert_near(a.grad, dense.a.grad)
    assert_near(bias.grad, dense.bias.grad)


@pytest.mark.parametrize(("needs_a", "needs_bias"), [(True, False), (False, True)])
def test_only_what_is_wanted(needs_a: bool, needs_bias: bool) -> None:
    multiply, _ = four_bit()
    a, bias = rows(3, K, grad=needs_a), rows(N, grad=needs_bias)
    multiply(a, bias).sum().backward()
    assert (a.grad is not None) == needs_a and (bias.grad is not None) == needs_bias


def test_a_bias_of_another_dtype_keeps_it() -> None:
    multiply, _ = four_bit()
    bias = rows(N, grad=True)
    multiply(rows(3, K, dtype=torch.bfloat16), bias).sum().backward()
    assert bias.grad.dtype == torch.float32


def test_gradcheck_like_differences() -> None:
    """The product is linear in A, so finite differences are gradients, however large the step."""
    multiply, _ = four_bit()
    a, direction = rows(2, K, grad=True), rows(2, K, seed=3)
    weight = rows(2, N, seed=4).double()
    (multiply(a, None) * weight).sum().backward()
    with torch.no_grad():
        difference = ((multiply(a + direction, None) - multiply(a - direction, None)).double() * weight).sum() / 2
    torch.testing.assert_close((a.grad * direction).sum().double(), difference, rtol=1e-4, atol=1e-4)


def test_gradients_of_gradients() -> None:
    multiply, _ = four_bit()
    a = rows(2, K, grad=True)
    (grad,) = torch.autograd.grad(multiply(a, None).square().sum(), a, create_graph=True)
    grad.sum().backward()
    assert a.grad is not None and torch.isfinite(a.grad).all()


def test_an_output_takes_part_in_the_graph() -> None:
    multiply, _ = four_bit()
    packed, state = libbnb.quantize_nf4(weights())
    a, out = rows(3, K, grad=True), torch.empty(3, N)
    got = libbnb.matmul_4bit(a, packed, state, out=out)
    got.sum().backward()
    want = rows(3, K, grad=True)
    multiply(want, None).sum().backward()
    assert torch.equal(a.grad, want.grad) and torch.equal(out, multiply(a.detach(), None))
    with pytest.raises(libbnb.InvalidArgument, match=r"out has shape \[3, 49\], must have \[3, 48\]"):
        libbnb.matmul_4bit(a, packed, state, out=torch.empty(3, N + 1))


def test_weights_quantized_as_k_n_are_still_taken() -> None:
    w = weights()
    packed, state = libbnb.quantize_nf4(w.t().contiguous())
    dense = libbnb.dequantize_4bit(packed, state)
    for a in (rows(3, K), rows(3, K, grad=True)):
        with pytest.warns(DeprecationWarning, match=r"\[K, N\]"):
            out = libbnb.matmul_4bit(a, packed, state)
        torch.testing.assert_close(out, a @ dense, rtol=1e-5, atol=1e-5)
    out.sum().backward()
    torch.testing.assert_close(a.grad, dense.sum(1).expand(3, K), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
def test_matmul4bit_has_the_form_of_bitsandbytes(transposed: bool) -> None:
    functions = pytest.importorskip("bitsandbytes.autograd._functions")
    w = rows(K, 64) if transposed else weights()  # they misread rows that are no whole blocks
    packed, state = libbnb.quantize_nf4(w)
    results = []
    for theirs in (False, True):
        a, bias = rows(3, K, grad=True), rows(64 if transposed else N, grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if theirs:
                multiply: Any = functions.matmul_4bit if transposed else functions.MatMul4Bit.apply
                out = multiply(a, packed, state, None, bias) if transposed else multiply(a, packed, None, bias, state)
            else:
                out = libbnb.autograd.MatMul4Bit.apply(a, packed, None, bias, state)
            out.square().sum().backward()
        results.append((out.detach(), a.grad, bias.grad))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# LLM.int8()


def int8_state(**changes: Any) -> Any:
    state = libbnb.MatmulLtState()
    for name, value in changes.items():
        setattr(state, name, value)
    return state


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, K), (5, K), (2, 3, K), (0, K)])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 2.5])
def test_frozen_int8_weights(shape: tuple[int, ...], dtype: Any, is_training: bool, threshold: float) -> None:
    CB, SCB, _ = libbnb.int8_vectorwise_quant(weights())
    state = int8_state(CB=CB, SCB=SCB, has_fp16_weights=False, is_training=is_training)
    dense_weights = libbnb.int8_vectorwise_dequant(CB, SCB)
    a, bias = rows(*shape, dtype=dtype, grad=True), rows(N, dtype=dtype, grad=True)
    grad = rows(*shape[:-1], N, dtype=dtype, seed=9)
    out = libbnb.matmul(a, CB, state=state, threshold=threshold, bias=bias)
    out.backward(grad)
    dense = Dense(a, dense_weights, bias, grad)
    assert_near(a.grad, dense.a.grad)
    assert_near(bias.grad, dense.bias.grad)
    if is_training:  # activations are not quantized
        assert_near(out, dense.out)
    else:
        assert torch.equal(out, libbnb.linear_int8(a.detach(), CB, SCB, threshold, bias.detach()))


@pytest.mark.parametrize("shape", [(5, K), (2, 3, K), (0, K)])
def test_training_of_int8_weights(shape: tuple[int, ...]) -> None:
    """The gradient of the weights is that of dense ones: quantization is as if it were not there."""
    w = weights().requires_grad_()
    a, bias = rows(*shape, grad=True), rows(N, grad=True)
    grad = rows(*shape[:-1], N, seed=9)
    state = int8_state()
    libbnb.matmul(a, w, state=state, bias=bias).backward(grad)
    CB, SCB, _ = libbnb.int8_vectorwise_quant(w.detach())
    dense = Dense(a, libbnb.int8_vectorwise_dequant(CB, SCB), bias, grad)
    assert torch.equal(state.CB, CB)
    assert_near(a.grad, dense.a.grad)
    assert_near(bias.grad, dense.bias.grad)
    assert_near(w.grad, dense.w.grad)


@pytest.mark.parametrize("threshold", [0.0, 2.5])
@pytest.mark.parametrize("shape", [(40, K), (4, 10, K), (0, K)])
def test_matmul8bitlt_quantizes_what_the_gradient_of_weights_needs(shape: tuple[int, ...], threshold: float) -> None:
    w = weights().requires_grad_()
    a, bias = rows(*shape, grad=True), rows(N, grad=True)
    grad = rows(*shape[:-1], N, seed=9)
    state = int8_state(threshold=threshold)
    out = libbnb.autograd.MatMul8bitLt.apply(a, w, None, bias, state)
    CB, SCB, _ = libbnb.int8_vectorwise_quant(w.detach())
    torch.testing.assert_close(
        out.detach(), libbnb.linear_int8(a.detach(), CB, SCB, threshold, bias.detach()), rtol=1e-6, atol=1e-5
    )
    out.backward(grad)
    dense = Dense(a, libbnb.int8_vectorwise_dequant(CB, SCB), bias, grad)
    assert_near(a.grad, dense.a.grad)
    assert_near(bias.grad, dense.bias.grad)
    assert w.grad.shape == w.shape
    if not a.numel():
        assert not w.grad.any()
        return
    # Both factors have 8 bits: half a step of each, for each of 40 rows.
    flat_a, flat_grad = a.detach().reshape(-1, K).double(), grad.reshape(-1, N).double()
    steps = flat_a.abs().amax(0) / 127, flat_grad.abs().amax(0) / 127
    bound = flat_grad.abs().sum(0)[:, None] * steps[0] + flat_a.abs().sum(0) * steps[1][:, None]
    assert ((w.grad.double() - dense.w.grad).abs() <= 0.51 * bound + 1e-4).all()
    if threshold:
        assert state.idx.numel()
        exact = dense.w.grad[:, state.idx]
        torch.testing.assert_close(w.grad.double()[:, state.idx], exact, rtol=1e-4, atol=1e-4)


def test_no_worse_than_bitsandbytes_in_training() -> None:
    theirs = pytest.importorskip("bitsandbytes")
    errors: dict[str, list[float]] = {}
    for name, library in (("theirs", theirs), ("ours", libbnb)):
        w = weights(torch.float16).requires_grad_()
        a = rows(40, K, dtype=torch.float16, grad=True)
        grad = rows(40, N, dtype=torch.float16, seed=9)
        state = library.MatmulLtState()
        out = library.matmul(a, w, state=state)
        out.backward(grad)
        dense = Dense(a, state.CB.double() * state.SCB.double()[:, None] / 127, None, grad)
        pairs = ((out, dense.out), (a.grad, dense.a.grad), (w.grad, dense.w.grad))
        errors[name] = [float((x.detach().double() - y.detach()).square().mean().sqrt()) for x, y in pairs]
    for mine, other in zip(errors["ours"], errors["theirs"], strict=True):
        assert mine <= 1.02 * other


def test_accumulated_gradients_keep_the_codes() -> None:
    """Weights cannot have changed while their gradients are accumulated; afterwards they may have."""
    w, state = weights().requires_grad_(), int8_state()
    libbnb.matmul(rows(3, K), w, state=state).sum().backward()
    first = state.CB
    libbnb.matmul(rows(3, K), w, state=state).sum().backward()
    assert state.CB is first
    w.grad = None
    libbnb.matmul(rows(3, K), w, state=state).sum().backward()
    assert state.CB is not first


def test_a_state_has_what_others_look_for() -> None:
    state = copy.copy(libbnb.MatmulLtState(CB=1, SCB=2))
    assert state.CxB is None and state.formatB is None
    state.reset_grads()
    assert state.CB is None and state.SCB is None
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = state.other
    assert libbnb.autograd.MatmulLtState is libbnb.MatmulLtState


# ---------------------------------------------------------------------------------------------------------------------
# torch.compile, transforms, tensors without memory


def compiled(function: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **options)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("make", [four_bit, lambda: four_bit(nested=True), fp8], ids=["4bit", "nested", "fp8"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_products(make: Any, grad: bool, backend: str) -> None:
    multiply, _ = make()
    function = compiled(lambda a, bias: multiply(a * 2, bias).relu(), backend=backend)
    for m in (3, 7, 8):  # the second shape makes lengths symbolic
        results = []
        for run in (function, lambda a, bias: multiply(a * 2, bias).relu()):
            a, bias = rows(m, K, grad=grad), rows(N, grad=grad)
            out = run(a, bias)
            if grad:
                out.sum().backward()
            results.append((out.detach(), a.grad, bias.grad))
        for mine, other in zip(*results, strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("threshold", [0.0, 2.5])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_compiled_int8(grad: bool, training: bool, threshold: float) -> None:
    CB, SCB, _ = libbnb.int8_vectorwise_quant(weights())
    state = int8_state(CB=CB, SCB=SCB, has_fp16_weights=False, is_training=training)

    def function(a: Any, bias: Any) -> Any:
        return libbnb.matmul(a, CB, state=state, threshold=threshold, bias=bias) * 2

    results = []
    for run in (compiled(function, backend="aot_eager"), function):
        a, bias = rows(3, K, grad=grad), rows(N, grad=grad)
        out = run(a, bias)
        if grad:
            out.sum().backward()
        results.append((out.detach(), a.grad, bias.grad))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other)


def test_compiled_training_of_int8_weights() -> None:
    def function(a: Any, w: Any) -> Any:
        return libbnb.matmul(a, w, state=libbnb.MatmulLtState()) * 2

    results = []
    for run in (compiled(function, backend="aot_eager"), function):
        a, w = rows(3, K, grad=True), weights().requires_grad_()
        out = run(a, w)
        out.sum().backward()
        results.append((out.detach(), a.grad, w.grad))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other)


def test_states_of_bitsandbytes_compile_too() -> None:
    theirs = pytest.importorskip("bitsandbytes").functional
    packed, state = theirs.quantize_4bit(weights(), quant_type="nf4", compress_statistics=True)
    function = compiled(lambda a: libbnb.matmul_4bit(a, packed, state), backend="aot_eager")
    a = rows(3, K)
    assert torch.equal(function(a), libbnb.matmul_4bit(a, packed, state))


def test_tensors_without_memory() -> None:
    packed, state = libbnb.quantize_nf4(weights())
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = libbnb.matmul_4bit(mode.from_tensor(rows(2, 3, K)), packed, state)
        assert out.shape == (2, 3, N)
    meta = libbnb.QuantState(state.absmax.to("meta"), state.shape, None, 64, "nf4", torch.float32)
    out = libbnb.matmul_4bit(rows(3, K).to("meta"), packed.to("meta"), meta)
    assert out.is_meta and out.shape == (3, N)


def test_operators_are_seen_by_dispatch_modes() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    multiply, _ = four_bit()
    with Watch():
        multiply(rows(3, K), None)
    assert "libbnb.gemm_4bit.default" in seen


def test_import_without_torch_says_what_to_install(python: Any) -> None:
    result = python(
        "import sys; sys.modules['torch'] = None\n"
        "import libbnb, numpy as np\n"
        "packed, state = libbnb.quantize_nf4(np.ones((4, 64), np.float32))\n"
        "print(libbnb.matmul_4bit(np.ones((1, 64), np.float32), packed, state)[0, 0])\n"
        "try:\n    import libbnb.autograd\nexcept ImportError as error:\n    print(error)\n"
    )
    assert result.stdout.splitlines() == ["64.0", "libbnb.autograd needs PyTorch: pip install libbnb[torch]"], (
        result.stderr
    )
