# SPDX-License-Identifier: MIT
"""libbnb.integrations.jax: traced calls give what libbnb gives on arrays; transformations, both ways to the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax.ffi")

import jax
import jax.numpy as jnp

import libbnb
from libbnb.integrations import jax as traced
from libbnb.integrations.jax import _xla

N, K, ROWS = 48, 64, 5
DTYPES = ("float32", "float16", "bfloat16")


@pytest.fixture(params=["ffi", "callback"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """XLA's FFI, which CPUs have, and the callback that other devices need; both run on this CPU."""
    if request.param == "callback":
        monkeypatch.setattr(jax, "default_backend", lambda: "another device")
    return request.param


@pytest.fixture
def weights(rng: np.random.Generator) -> Any:
    return jnp.asarray(rng.standard_normal((N, K), np.float32))


@pytest.fixture
def x(rng: np.random.Generator) -> Any:
    return jnp.asarray(rng.standard_normal((ROWS, K), np.float32))


def _same(got: Any, expected: Any) -> None:
    """Same structure, dtypes and bits."""
    got_leaves, got_tree = jax.tree.flatten(got)
    leaves, tree = jax.tree.flatten(expected)
    assert got_tree == tree
    for one, other in zip(got_leaves, leaves, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_quantize_4bit(weights: Any, dtype: str, nested: bool, quant_type: str) -> None:
    arguments = {"blocksize": 32, "compress_statistics": nested, "quant_type": quant_type}
    a = weights.astype(dtype)[:7, :37]  # an odd number of elements
    packed, state = jax.jit(lambda a: traced.quantize_4bit(a, **arguments))(a)
    _same((packed, state), libbnb.quantize_4bit(a, **arguments))
    _same(jax.jit(traced.dequantize_4bit)(packed, state), libbnb.dequantize_4bit(packed, state))
    _same(traced.dequantize_4bit(packed, state), libbnb.dequantize_4bit(packed, state))


def test_quant_storage(weights: Any) -> None:
    a = weights[:3, :5]
    got = jax.jit(lambda a: traced.quantize_4bit(a, quant_storage="bfloat16"))(a)
    assert got[0].shape == (4, 1) and got[0].dtype == jnp.bfloat16
    back = jax.jit(traced.dequantize_4bit)(*got)
    _same(back, libbnb.dequantize_4bit(*libbnb.quantize_4bit(a)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_matmul_4bit(weights: Any, x: Any, dtype: str, nested: bool, with_bias: bool) -> None:
    packed, state = libbnb.quantize_nf4(weights, compress_statistics=nested)
    x, bias = x.astype(dtype), jnp.arange(N, dtype=dtype) if with_bias else None
    got = jax.jit(traced.matmul_4bit)(x, packed, state, bias)
    _same(got, libbnb.matmul_4bit(x, packed, state, bias=bias))
    _same(jax.jit(traced.matmul_4bit)(x[0], packed, state), libbnb.matmul_4bit(x[0], packed, state))


def test_states_of_checkpoints(weights: Any, x: Any) -> None:
    """A state that was loaded brings its own tables: they are leaves, and checked."""
    packed, state = libbnb.quantize_nf4(weights, compress_statistics=True)
    loaded = libbnb.QuantState.from_dict(state.as_dict(packed=True))
    assert len(jax.tree.leaves(loaded)) == 5 and len(jax.tree.leaves(libbnb.quantize_nf4(weights)[1])) == 1
    _same(jax.jit(traced.matmul_4bit)(x, packed, loaded), libbnb.matmul_4bit(x, packed, loaded))
    loaded.code = jnp.linspace(-1, 1, 16)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the state's code is not that of it"):
        jax.block_until_ready(jax.jit(traced.matmul_4bit)(x, packed, loaded))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("blocksize", [None, 16])
@pytest.mark.parametrize("quant_type", ["fp8_e4m3fn", "fp8_e5m2"])
def test_fp8(weights: Any, x: Any, dtype: str, blocksize: int | None, quant_type: str) -> None:
    codes, scale = jax.jit(lambda a: traced.quantize_fp8(a, blocksize, quant_type))(weights.astype(dtype))
    _same((codes, scale), libbnb.quantize_fp8(weights.astype(dtype), blocksize=blocksize, quant_type=quant_type))
    back = jax.jit(lambda c, s: traced.dequantize_fp8(c, s, blocksize, dtype))(codes, scale)
    _same(back, libbnb.dequantize_fp8(codes, scale, blocksize=blocksize, dtype=dtype))
    x, bias = x.astype(dtype), jnp.ones(N)
    got = jax.jit(lambda *given: traced.matmul_fp8(*given, blocksize))(x, codes, scale, bias)
    _same(got, libbnb.matmul_fp8(x, codes, scale, bias=bias, blocksize=blocksize))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.0, 2.5])
def test_int8(weights: Any, x: Any, dtype: str, threshold: float) -> None:
    x = x.astype(dtype)
    CB, SCB, none = jax.jit(traced.int8_vectorwise_quant)(weights)
    _same((CB, SCB, none), libbnb.int8_vectorwise_quant(weights))
    _same(jax.jit(traced.int8_vectorwise_dequant)(CB, SCB), libbnb.int8_vectorwise_dequant(CB, SCB))
    bias = jnp.ones(N, dtype)
    got = jax.jit(lambda *given: traced.linear_int8(*given, threshold, bias))(x, CB, SCB)
    _same(got, libbnb.linear_int8(x, CB, SCB, threshold, bias))
    CA, SCA, _ = libbnb.int8_vectorwise_quant(x)
    _same(jax.jit(traced.int8_linear_matmul)(CA, CB), libbnb.int8_linear_matmul(CA, CB))
    scaled = jax.jit(lambda *given: traced.int8_scaled_mm(*given, bias, dtype))(CA, CB, SCA, SCB)
    _same(scaled, libbnb.int8_scaled_mm(CA, CB, SCA, SCB, bias, dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Transformations


def _products(weights: Any) -> dict[str, tuple[Callable[..., Any], Any]]:
    """Products as functions of activations and a bias, and the weights they multiply by."""
    packed, state = libbnb.quantize_nf4(weights, compress_statistics=True)
    codes, scale = libbnb.quantize_fp8(weights)
    CB, SCB, _ = libbnb.int8_vectorwise_quant(weights)
    return {
        "4bit": (lambda x, b: traced.matmul_4bit(x, packed, state, b), libbnb.dequantize_4bit(packed, state)),
        "fp8": (lambda x, b: traced.matmul_fp8(x, codes, scale, b), libbnb.dequantize_fp8(codes, scale)),
        "int8": (lambda x, b: traced.linear_int8(x, CB, SCB, 0.0, b), libbnb.int8_vectorwise_dequant(CB, SCB)),
    }


@pytest.mark.parametrize("format", ["4bit", "fp8", "int8"])
def test_gradients(weights: Any, x: Any, format: str) -> None:
    """Those of the dense product with the dequantized weights."""
    product, dense = _products(weights)[format]
    bias = jnp.ones(N)
    weight_of_output = jnp.asarray(np.random.default_rng(1).standard_normal((ROWS, N), np.float32))

    def loss(x: Any, bias: Any) -> Any:
        return (product(x, bias) * weight_of_output).sum()

    of_x, of_bias = jax.jit(jax.grad(loss, (0, 1)))(x, bias)
    expected = weight_of_output @ dense
    # Sums of the same terms, which XLA may put in another order inside jit: n eps times the sum of magnitudes.
    eps = np.finfo(np.float32).eps
    bound = N * eps * np.abs(weight_of_output) @ np.abs(dense)
    assert np.all(np.abs(of_x - expected) <= bound)
    assert np.all(np.abs(of_bias - weight_of_output.sum(0)) <= ROWS * eps * np.abs(weight_of_output).sum(0))
    without = jax.grad(lambda x: (product(x, None) * weight_of_output).sum())(x)
    assert np.all(np.abs(without - expected) <= bound)
    low = jax.jit(jax.grad(lambda x: product(x, None).astype(jnp.float32).sum()))(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16


def test_quantized_things_have_no_gradient(weights: Any, x: Any) -> None:
    def through_codes(a: Any) -> Any:
        packed, state = traced.quantize_4bit(a)
        return (traced.matmul_4bit(x, packed, state) + traced.dequantize_4bit(packed, state).sum()).sum()

    assert not np.any(jax.grad(through_codes)(weights))
    packed, state = libbnb.quantize_nf4(weights)
    of_state = jax.grad(lambda state: traced.matmul_4bit(x, packed, state).sum())(state)
    assert isinstance(of_state, libbnb.QuantState) and not np.any(of_state.absmax)


@pytest.mark.parametrize("format", ["4bit", "fp8", "int8"])
def test_vmap_over_activations_is_one_product(weights: Any, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    product, _ = _products(weights)[format]
    x = jnp.asarray(np.random.default_rng(2).standard_normal((3, 2, ROWS, K), np.float32))
    calls: list[str] = []
    for name in ("matmul_4bit", "matmul_fp8", "linear_int8"):
        real = getattr(libbnb.functional, name)
        monkeypatch.setattr(
            libbnb.functional, name, lambda *args, _real=real, **kw: (calls.append(""), _real(*args, **kw))[1]
        )
    mapped = jax.jit(jax.vmap(jax.vmap(lambda x: product(x, None))))(x)
    assert len(calls) == 1
    np.testing.assert_array_equal(mapped, product(x, None))
    over_second = jax.vmap(lambda x: product(x, None), in_axes=1, out_axes=1)(x)
    np.testing.assert_array_equal(over_second, product(x, None))


def test_vmap_over_everything(weights: Any) -> None:
    """Stacked weights: quantized, multiplied, differentiated, one by one."""
    generator = np.random.default_rng(3)
    stack = jnp.asarray(generator.standard_normal((4, N, K), np.float32))
    x = jnp.asarray(generator.standard_normal((4, ROWS, K), np.float32))
    packed, states = jax.vmap(lambda a: traced.quantize_4bit(a, 64, True, "nf4"))(stack)
    assert packed.shape == (4, N * K // 2, 1) and states.shape == (N, K) and states.offset.shape == (4,)
    biases = jnp.arange(4.0 * N).reshape(4, N)
    got = jax.jit(jax.vmap(traced.matmul_4bit))(x, packed, states, biases)
    shared_x = jax.vmap(traced.matmul_4bit, in_axes=(None, 0, 0, None))(x[0], packed, states, None)
    for i in range(4):
        one = libbnb.quantize_nf4(stack[i], compress_statistics=True)
        _same((packed[i], jax.tree.map(lambda leaf, i=i: leaf[i], states)), one)
        np.testing.assert_array_equal(got[i], libbnb.matmul_4bit(x[i], *one, bias=biases[i]))
        np.testing.assert_array_equal(shared_x[i], libbnb.matmul_4bit(x[0], *one))


def test_outliers_of_a_batch_are_its_own(weights: Any) -> None:
    """A threshold looks at all rows of a call, so rows of other elements of a batch must not be among them."""
    CB, SCB, _ = libbnb.int8_vectorwise_quant(weights)
    x = np.ones((2, ROWS, K), np.float32)
    x[1, 0, 3] = 20.0
    x = jnp.asarray(x)
    got = jax.vmap(lambda x: traced.linear_int8(x, CB, SCB, 6.0))(x)
    for i in range(2):
        np.testing.assert_array_equal(got[i], libbnb.linear_int8(x[i], CB, SCB, 6.0))
    codes, stats, _ = jax.vmap(traced.int8_vectorwise_quant)(x)
    assert stats.shape == (2, ROWS)
    np.testing.assert_array_equal(codes[1], libbnb.int8_vectorwise_quant(x[1])[0])


def test_scan_over_layers_and_remat(x: Any) -> None:
    stack = jnp.asarray(np.random.default_rng(4).standard_normal((3, K, K), np.float32)) / 8
    layers = [libbnb.quantize_nf4(one) for one in stack]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)

    def forward(x: Any) -> Any:
        @jax.checkpoint
        def step(x: Any, layer: Any) -> Any:
            return jnp.tanh(traced.matmul_4bit(x, *layer)), None

        return jax.lax.scan(step, x, stacked)[0]

    def dense(x: Any) -> Any:
        for packed, state in layers:
            x = jnp.tanh(x @ libbnb.dequantize_4bit(packed, state).T)
        return x

    # The bound of a product's error in docs/kernels.md grows with K, and three layers pass it on: 3 K eps.
    bound = 3 * K * np.finfo(np.float32).eps
    np.testing.assert_allclose(jax.jit(forward)(x), dense(x), rtol=0, atol=bound)
    gradient = jax.jit(jax.grad(lambda x: forward(x).sum()))(x)
    np.testing.assert_allclose(gradient, jax.grad(lambda x: dense(x).sum())(x), rtol=0, atol=10 * bound)


def test_large_operands_and_empty_ones() -> None:
    """Megabytes do not make the host wait for itself; no rows are no call with a null pointer."""
    w = jnp.asarray(np.random.default_rng(5).standard_normal((1024, 2048), np.float32))
    packed, state = libbnb.quantize_nf4(w)
    x = jnp.ones((3, 2048))
    repeated = jax.jit(lambda x: jax.lax.fori_loop(0, 5, lambda i, y: traced.matmul_4bit(x, packed, state) + 0 * y,
                                                   jnp.zeros((3, 1024))))  # fmt: skip
    np.testing.assert_array_equal(repeated(x), libbnb.matmul_4bit(x, packed, state))
    assert jax.jit(traced.matmul_4bit)(x[:0], packed, state).shape == (0, 1024)


# ---------------------------------------------------------------------------------------------------------------------
# Errors


def test_mistakes_are_found_while_tracing(weights: Any, x: Any) -> None:
    packed, state = libbnb.quantize_nf4(weights)
    codes, scale = libbnb.quantize_fp8(weights)
    CB, SCB, _ = libbnb.int8_vectorwise_quant(weights)
    flat = libbnb.quantize_nf4(weights.reshape(-1))
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: traced.matmul_4bit(x[:, :32], packed, state), r"A has shape \[5, 32\] and B \[48, 64\]"),
        (lambda: traced.matmul_4bit(x, packed[:-1], state), "B has 1535 bytes, must have 1536"),
        (lambda: traced.matmul_4bit(x, *flat), r"quant_state.shape is \[3072\], must be \[N, K\]"),
        (lambda: traced.matmul_4bit(x.astype(int), packed, state), "A has dtype int32, must be float32 or"),
        (lambda: traced.matmul_4bit(x, packed, state, jnp.ones(3)), "bias has 3 elements, must have 48"),
        (lambda: traced.matmul_fp8(x, CB, scale), "B has dtype int8, must be float8_e4m3fn or"),
        (lambda: traced.matmul_fp8(x, codes, scale, None, 16), "scale has 48 elements, must have 192"),
        (lambda: traced.linear_int8(x, CB[0], SCB), "CB has shape .* must have 2 dimensions"),
        (lambda: traced.linear_int8(x, CB, SCB[1:]), "SCB has 47 elements, must have 48"),
        (lambda: traced.int8_vectorwise_quant(x, 6.0), "must be 0 under jit"),
        (lambda: traced.quantize_4bit(x, 7), "must be even"),
        (lambda: traced.quantize_4bit(x, quant_type="nf5"), "quant_type is 'nf5'"),
        (lambda: traced.dequantize_4bit(packed, state, "int8"), "dtype is int8, must be float32"),
    ]
    for wrong, words in mistakes:
        with pytest.raises(libbnb.InvalidArgument, match=words):
            jax.jit(wrong)()


def test_what_only_values_tell_is_found_when_it_runs(weights: Any, x: Any) -> None:
    packed, state = libbnb.quantize_nf4(weights)
    state.absmax = state.absmax[:-1]
    with pytest.raises(jax.errors.JaxRuntimeError, match="absmax has 47 elements, must have 48"):
        jax.block_until_ready(jax.jit(traced.matmul_4bit)(x, packed, state))


def test_another_version_of_the_interface_is_refused(way: str) -> None:
    """The handler looks at nothing else of a frame that says it has another layout."""
    if way == "callback":
        return
    ffi = _xla._ffi
    said: list[str] = []

    @ffi.callback("void *(error_arguments *)")
    def create(arguments: Any) -> Any:
        said.append(ffi.string(arguments.message).decode())
        return ffi.NULL

    functions = ffi.new("api *", {"create_error": create})
    functions.version.major_version = 1
    _xla._handle(ffi.new("call_frame *", {"functions": functions}))
    assert said == ["XLA's FFI has version 1, not 0"]
