# SPDX-License-Identifier: MIT
"""matmul_4bit and gemv_4bit: against float64, on every array library, in every shape; and what is refused."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
from kinds import BF16, Kind
from products import assert_product, rms, weights_4bit

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)
TYPES = ("nf4", "fp4")


def quantized(n: int, k: int, quant_type: str = "nf4", blocksize: int = 64, nested: bool = False) -> Any:
    """Packed weights, their state, and what they are dequantized."""
    w = np.random.default_rng(n * 1000 + k).standard_normal((n, k)).astype(np.float32)
    packed, state = libbnb.quantize_4bit(w, quant_type=quant_type, blocksize=blocksize, compress_statistics=nested)
    return packed, state, libbnb.dequantize_4bit(packed, state)


def rows(shape: Any, dtype: Any, seed: int = 3) -> Any:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def on(kind: Kind, state: Any) -> Any:
    """A state with the arrays of a library."""
    make = kind.make
    state2 = state.state2
    if state2 is not None:
        state2 = libbnb.QuantState(make(state2.absmax), None, None, state2.blocksize, None, state2.dtype)
    offset = None if state.offset is None else make(state.offset)
    return libbnb.QuantState(
        make(state.absmax), state.shape, None, state.blocksize, state.quant_type, state.dtype, offset, state2
    )


@pytest.mark.parametrize("quant_type", TYPES)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(128,), (1, 128), (5, 128), (2, 3, 128), (0, 128), (2, 0, 128), (40, 128)])
def test_every_library(kind: Kind, shape: tuple[int, ...], nested: bool, quant_type: str) -> None:
    packed, state, weights = quantized(48, 128, quant_type, nested=nested)
    for dtype in kind.dtypes:
        a, bias = rows(shape, dtype), rows(48, dtype, 4)
        for b in (None, bias):
            out = libbnb.matmul_4bit(
                kind.make(a), kind.make(packed), on(kind, state), bias=None if b is None else kind.make(b)
            )
            assert kind.is_mine(out) and tuple(out.shape) == (*shape[:-1], 48)
            got = kind.host(out)
            assert got.dtype == dtype
            assert_product(got, a, weights, b, np.abs(weights).max())


@given(
    m=st.integers(0, 70),
    n=st.integers(1, 70),
    k=st.integers(1, 300),
    half=st.sampled_from([1, 2, 7, 16, 32, 64, 128]),
    dtype=st.sampled_from(FLOATS),
    quant_type=st.sampled_from(TYPES),
    nested=st.booleans(),
    bias=st.booleans(),
)
def test_any_shape(m: int, n: int, k: int, half: int, dtype: Any, quant_type: str, nested: bool, bias: bool) -> None:
    packed, state, weights = quantized(n, k, quant_type, 2 * half, nested)
    a = rows((m, k), dtype)
    b = rows(n, dtype, 5) if bias else None
    out = libbnb.matmul_4bit(a, packed, state, bias=b)
    assert out.shape == (m, n) and out.dtype == dtype
    assert_product(out, a, weights, b, np.abs(weights).max())


def test_the_weights_are_those_of_the_independent_oracle() -> None:
    packed, state, weights = quantized(6, 96, "fp4", 32)
    np.testing.assert_array_equal(weights, weights_4bit(packed, state.absmax, 32, "fp4", (6, 96)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bias_dtype", FLOATS)
def test_a_bias_of_any_float_dtype(dtype: Any, bias_dtype: Any) -> None:
    packed, state, weights = quantized(20, 64)
    a, bias = rows((3, 64), dtype), rows(20, bias_dtype, 7)
    assert_product(libbnb.matmul_4bit(a, packed, state, bias=bias), a, weights, bias, np.abs(weights).max())


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_that_are_apart_and_other_strides(dtype: Any) -> None:
    packed, state, _ = quantized(20, 64)
    wide = rows((12, 200), dtype)
    for part in (wide[:, :64], wide[::2, 7:71], wide[:, ::3][:, :64], np.asfortranarray(wide[:, :64]), wide[::-1, :64]):
        want = libbnb.matmul_4bit(np.ascontiguousarray(part), packed, state)
        np.testing.assert_array_equal(libbnb.matmul_4bit(part, packed, state), want)
    deep = rows((4, 64, 3), dtype).swapaxes(1, 2)
    want = libbnb.matmul_4bit(np.ascontiguousarray(deep), packed, state)
    np.testing.assert_array_equal(libbnb.matmul_4bit(deep, packed, state), want)


@pytest.mark.torch
def test_strides_of_torch() -> None:
    torch = pytest.importorskip("torch")
    w = torch.randn(20, 64)
    packed, state = libbnb.quantize_nf4(w)
    wide = torch.randn(12, 200)
    for part in (wide[:, :64], wide[::2, 7:71], wide[:, ::3][:, :64], wide.t()[:64].t()[:5], wide[:, :64].unsqueeze(1)):
        want = libbnb.matmul_4bit(part.contiguous(), packed, state)
        assert torch.equal(libbnb.matmul_4bit(part, packed, state), want)
    assert torch.equal(
        libbnb.matmul_4bit(wide[:, :64], packed.t(), state), libbnb.matmul_4bit(wide[:, :64], packed, state)
    )


@pytest.mark.parametrize("storage", ["uint8", "float16", "bfloat16", "float32", "float64"])
def test_quant_storage(storage: str) -> None:
    w = rows((24, 64), np.float32)
    plain, state = libbnb.quantize_nf4(w)
    stored, _ = libbnb.quantize_nf4(w, quant_storage=storage)
    a = rows((3, 64), np.float32)
    np.testing.assert_array_equal(libbnb.matmul_4bit(a, stored, state), libbnb.matmul_4bit(a, plain, state))


def test_an_output_of_the_caller(kind: Kind) -> None:
    packed, state, _ = quantized(20, 64)
    a = rows((2, 3, 64), np.float32)
    want = libbnb.matmul_4bit(a, packed, state)
    buffer = np.full((2, 3, 20), 9, np.float32)
    out = kind.make(buffer)
    arguments = [kind.make(a), kind.make(packed), on(kind, state)]
    if kind.name in ("jax", "mlx"):
        with pytest.raises(libbnb.InvalidArgument, match=r"out is an? .* array"):
            libbnb.matmul_4bit(*arguments, out=out)
        return
    assert libbnb.matmul_4bit(*arguments, out=out) is out
    np.testing.assert_array_equal(out.array if kind.name == "dlpack" else kind.host(out), want)


def test_gemv_4bit_is_matmul_4bit(kind: Kind) -> None:
    packed, state, _ = quantized(20, 64, "fp4")
    a = rows((1, 64), np.float32)
    want = libbnb.matmul_4bit(a, packed, state)
    got = libbnb.gemv_4bit(kind.make(a), kind.make(packed), state=on(kind, state))
    np.testing.assert_array_equal(kind.host(got), want)
    np.testing.assert_array_equal(libbnb.gemv_4bit(a[0], packed.T, transposed_B=True, state=state), want[0])
    out = np.empty((1, 20), np.float32)
    assert libbnb.gemv_4bit(a, packed, out, state=state) is out
    np.testing.assert_array_equal(out, want)


def test_results_do_not_depend_on_threads_or_on_each_other() -> None:
    packed, state, _ = quantized(256, 512)
    a = rows((33, 512), BF16)
    want = libbnb.matmul_4bit(a, packed, state)
    results: list[Any] = []

    def work() -> None:
        for _ in range(20):
            results.append(libbnb.matmul_4bit(a, packed, state))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    for result in results:
        np.testing.assert_array_equal(result.view(np.uint16), want.view(np.uint16))


@pytest.mark.torch
@pytest.mark.parametrize("m", [1, 2, 5, 40, 200])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("quant_type", TYPES)
def test_no_worse_than_bitsandbytes(quant_type: str, dtype: str, m: int) -> None:
    """On the same codes, and for states of theirs as for ours."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes")
    torch.manual_seed(m)
    dtype = getattr(torch, dtype)
    w = torch.randn(192, 512, dtype=dtype)
    a, bias = torch.randn(m, 512, dtype=dtype), torch.randn(192, dtype=dtype)
    for nested in (False, True):
        packed, state = theirs.functional.quantize_4bit(w, quant_type=quant_type, compress_statistics=nested)
        theirs_out = theirs.matmul_4bit(a, packed, state, bias=bias)
        ours_out = libbnb.matmul_4bit(a, packed, state, bias=bias)
        assert ours_out.shape == theirs_out.shape and ours_out.dtype == theirs_out.dtype
        weights = libbnb.dequantize_4bit(packed, state, out=torch.empty(192, 512)).double()
        want = (a.double() @ weights.T + bias.double()).numpy()
        # Both round their result; what comes before must not be worse but for chance. In fp32 that is the sum itself: a
        # BLAS that adds up K in p parts has errors of 1 / sqrt(p), and in how many depends on the CPU.
        chance = 2.0 if dtype == torch.float32 else 1.02
        assert rms(ours_out.double().numpy(), want) <= chance * rms(theirs_out.double().numpy(), want)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


PACKED, STATE, _ = quantized(20, 64)


def arguments(**changes: Any) -> dict[str, Any]:
    return {
        "A": rows((3, 64), np.float32),
        "B": PACKED,
        "quant_state": STATE,
        "out": np.full((3, 20), -7, np.float32),
        "bias": rows(20, np.float32),
    } | changes


def state_with(**changes: Any) -> Any:
    fields = {"absmax": STATE.absmax, "shape": STATE.shape, "blocksize": 64, "quant_type": "nf4", "dtype": np.float32}
    return libbnb.QuantState(**(fields | changes))


STRIDED_OUT = np.full((3, 40), -7, np.float32)[:, ::2]
READ_ONLY = np.full((3, 20), -7, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": np.ones((3, 65), np.float32)}, r"A has shape \[3, 65\] and B \[20, 64\]"),
        ({"A": np.ones((3, 20), np.float32)}, r"A has shape \[3, 20\] and B \[20, 64\]"),
        ({"A": np.ones((), np.float32)}, "A has no dimensions"),
        ({"A": np.ones((3, 64), np.float64)}, "A is float64"),
        ({"A": np.ones((3, 64), np.int32)}, "A is int32"),
        ({"B": PACKED[:-1]}, "B has 639 bytes"),
        ({"quant_state": None}, "quant_state is None"),
        ({"quant_state": state_with(absmax=STATE.absmax[:-1])}, "absmax has 19 elements, must have 20"),
        ({"quant_state": state_with(absmax=STATE.absmax.astype(np.float16))}, "absmax is float16"),
        ({"quant_state": state_with(quant_type="int4")}, "quant_type is 'int4'"),
        ({"quant_state": state_with(quant_type=None)}, "quant_type is None"),
        ({"quant_state": state_with(code=libbnb.get_4bit_type("fp4"))}, "quant_type is 'nf4', but the state's code"),
        ({"quant_state": state_with(code=libbnb.create_dynamic_map())}, "quant_type is 'nf4', but the state's code"),
        ({"quant_state": state_with(shape=(1280,))}, r"quant_state.shape is \[1280\], must be \[N, K\]"),
        ({"quant_state": state_with(shape=None)}, "quant_state.shape is None"),
        ({"quant_state": state_with(blocksize=7)}, "blocksize is 7, must be even"),
        ({"bias": np.ones(19, np.float32)}, "bias has 19 elements, must have 20"),
        ({"bias": np.ones(20, np.float64)}, "bias is float64"),
        ({"out": np.full((3, 19), -7, np.float32)}, r"out has shape \[3, 19\], must have shape \[3, 20\]"),
        ({"out": np.full((20, 3), -7, np.float32)}, r"out has shape \[20, 3\], must have shape \[3, 20\]"),
        ({"out": np.full(60, -7, np.float32)}, r"out has shape \[60\], must have shape \[3, 20\]"),
        ({"out": np.full((3, 20), -7, np.float16)}, "out is float16, must be float32"),
        ({"out": STRIDED_OUT}, "out is not compact"),
        ({"out": READ_ONLY}, "out is read-only"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    given = arguments(**changes)
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.matmul_4bit(**given)
    assert (given["out"] == -7).all()


def test_the_right_arguments_are_right() -> None:
    given = arguments()
    assert libbnb.matmul_4bit(**given) is given["out"]


@pytest.mark.parametrize("name", ["A", "B", "out", "bias"])
@pytest.mark.parametrize("value", ["text", 3, object(), np.ndarray])
def test_what_is_no_array(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        libbnb.matmul_4bit(**arguments(**{name: value}))


@pytest.mark.torch
def test_arrays_of_another_library() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"B is a ndarray, must be a torch\.Tensor"):
        libbnb.matmul_4bit(torch.ones(3, 64), PACKED, STATE)


def test_an_output_that_overlaps() -> None:
    memory = np.ones((6, 64), np.float32)
    overlapping = memory.reshape(-1)[32:92].reshape(3, 20)
    with pytest.raises(libbnb.InvalidArgument, match="out overlaps A"):
        libbnb.matmul_4bit(memory[:3], PACKED, STATE, out=overlapping)
    assert (memory == 1).all()


def test_gemv_without_a_state() -> None:
    with pytest.raises(libbnb.InvalidArgument, match="state is None"):
        libbnb.gemv_4bit(np.ones((1, 64), np.float32), PACKED)


def test_a_code_that_a_loader_has_cast_is_still_the_code() -> None:
    code = libbnb.get_4bit_type("nf4").astype(BF16)
    a = rows((3, 64), np.float32)
    np.testing.assert_array_equal(
        libbnb.matmul_4bit(a, PACKED, state_with(code=code)), libbnb.matmul_4bit(a, PACKED, STATE)
    )


def test_infinity_and_nan_are_not_lost() -> None:
    a = np.ones((3, 64), np.float32)
    a[1, 5], a[2, 7] = np.nan, np.inf
    out = libbnb.matmul_4bit(a, PACKED, STATE)
    assert np.isfinite(out[0]).all() and not np.isfinite(out[1:]).any()
