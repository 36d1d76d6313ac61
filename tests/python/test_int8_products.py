# SPDX-License-Identifier: MIT
"""Products of int8 matrices and LLM.int8(): exact integers, float64, every array library; and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
import oracle
from kinds import BF16, Kind
from products import ROUNDING, rms

FLOATS = (np.dtype(np.float32), np.dtype(np.float16), BF16)


def codes(shape: Any, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def activations(shape: Any, dtype: Any, seed: int = 2, outliers: bool = False) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if outliers and x.size:
        x[..., rng.integers(0, shape[-1], 3)] *= 20
    return x.astype(dtype)


def weights(n: int, k: int) -> tuple[Any, Any]:
    w = np.random.default_rng(n + k).standard_normal((n, k)).astype(np.float32)
    CB, SCB, _ = libbnb.int8_vectorwise_quant(w)
    return CB, SCB


@given(m=st.integers(0, 40), n=st.integers(1, 40), k=st.integers(1, 200), lead=st.integers(0, 3))
def test_linear_matmul_is_exact(m: int, n: int, k: int, lead: int) -> None:
    shape = (lead, m, k) if lead else (m, k)
    a, b = codes(shape), codes((n, k), 2)
    got = libbnb.int8_linear_matmul(a, b)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, a.astype(np.int32) @ b.astype(np.int32).T)


def test_linear_matmul_on_every_library(kind: Kind) -> None:
    for shape in ((70,), (3, 70), (2, 5, 70), (0, 70)):
        a, b = codes(shape), codes((9, 70), 2)
        want = a.astype(np.int32) @ b.astype(np.int32).T
        got = libbnb.int8_linear_matmul(kind.make(a), kind.make(b))
        assert kind.is_mine(got)
        np.testing.assert_array_equal(kind.host(got), want)
        if kind.name not in ("jax", "mlx"):
            out = kind.make(np.empty(want.shape, np.int32))
            assert libbnb.int8_linear_matmul(kind.make(a), kind.make(b), out) is out
            np.testing.assert_array_equal(out.array if kind.name == "dlpack" else kind.host(out), want)


def test_defect_15_long_sums_are_exact() -> None:
    """Defect 15: sums beyond 2^24 in fp32."""
    k = 8193
    a, b = np.full((2, k), -128, np.int8), np.full((3, k), 127, np.int8)
    b[:, ::7] = 125
    np.testing.assert_array_equal(libbnb.int8_linear_matmul(a, b), a.astype(np.int64) @ b.astype(np.int64).T)


def test_rows_that_are_apart() -> None:
    a, b = codes((12, 200)), codes((9, 200), 2)
    for left, right in (
        (a[:, :70], b[:, :70]),
        (a[::2, 3:73], b[::2, 5:75]),
        (a[:, ::2], b[:, ::2]),
        (a[::-1], b[::-1]),
    ):
        want = left.astype(np.int32) @ right.astype(np.int32).T
        np.testing.assert_array_equal(libbnb.int8_linear_matmul(left, right), want)


@pytest.mark.parametrize("dtype", [None, *FLOATS])
@pytest.mark.parametrize("bias", [None, *FLOATS])
def test_scaled_mm_is_the_product_scaled_by_int8_mm_dequant(dtype: Any, bias: Any) -> None:
    CA, SCA, _ = libbnb.int8_vectorwise_quant(activations((2, 7, 96), np.float32))
    CB, SCB = weights(30, 96)
    b = None if bias is None else activations((30,), bias)
    got = libbnb.int8_scaled_mm(CA, CB, SCA, SCB, b, None if dtype is None else dtype.name)
    assert got.dtype == (np.float16 if dtype is None else dtype) and got.shape == (2, 7, 30)
    out = np.empty((2, 7, 30), got.dtype)
    want = libbnb.int8_mm_dequant(libbnb.int8_linear_matmul(CA, CB), SCA, SCB, out, b)
    np.testing.assert_array_equal(got.view("u1"), want.view("u1"))
    out = np.empty_like(got)
    assert libbnb.int8_scaled_mm(CA, CB, SCA, SCB, b, out=out) is out
    np.testing.assert_array_equal(got.view("u1"), out.view("u1"))


def test_scaled_mm_on_every_library(kind: Kind) -> None:
    CA, SCA, _ = libbnb.int8_vectorwise_quant(activations((7, 96), np.float32))
    CB, SCB = weights(30, 96)
    want = libbnb.int8_scaled_mm(CA, CB, SCA, SCB, dtype="float32")
    got = libbnb.int8_scaled_mm(*(kind.make(x) for x in (CA, CB, SCA, SCB)), dtype="float32")
    assert kind.is_mine(got)
    np.testing.assert_array_equal(kind.host(got), want)


def exact_linear(a: Any, CB: Any, SCB: Any, threshold: float, bias: Any) -> tuple[Any, Any]:
    """LLM.int8() with sums in float64, and the sum of the magnitudes of everything that is added."""
    flat = a.astype(np.float32).reshape(-1, a.shape[-1])
    q, stats, outlier = oracle.int8_rows(flat, threshold)
    q[:, outlier] = 0
    scale = (stats[:, None] * SCB).astype(np.float64) / (127 * 127)
    product = q.astype(np.float64) @ CB.astype(np.float64).T * scale
    w = (CB * SCB[:, None] * np.float32(1 / 127)).astype(np.float64)[:, outlier]
    kept = flat[:, outlier].astype(np.float64)
    b = np.zeros(len(CB)) if bias is None else bias.astype(np.float64)
    total = np.abs(product) + np.abs(kept) @ np.abs(w).T + np.abs(b)
    shape = (*a.shape[:-1], len(CB))
    return (product + kept @ w.T + b).reshape(shape), total.reshape(shape)


def assert_linear(got: Any, a: Any, CB: Any, SCB: Any, threshold: float, bias: Any) -> None:
    want, total = exact_linear(a, CB, SCB, threshold, bias)
    k = a.shape[-1]
    unit, _ = ROUNDING[got.dtype]
    # 2^-22 for the scale of the int8 product, which is rounded three times.
    bound = unit * np.abs(got.astype(np.float64)) + ((k + 8) * 2.0**-24 + 2.0**-22) * total + 2.0**-24
    assert (np.abs(got.astype(np.float64) - want) <= bound).all()


@pytest.mark.parametrize("threshold", [0.0, 6.0])
@pytest.mark.parametrize("shape", [(96,), (1, 96), (7, 96), (2, 3, 96), (0, 96)])
def test_linear_on_every_library(kind: Kind, shape: tuple[int, ...], threshold: float) -> None:
    CB, SCB = weights(30, 96)
    for dtype in kind.dtypes:
        a, bias = activations(shape, dtype, outliers=True), activations((30,), dtype, 5)
        for b in (None, bias):
            made = None if b is None else kind.make(b)
            out = libbnb.linear_int8(kind.make(a), kind.make(CB), kind.make(SCB), threshold, made)
            assert kind.is_mine(out) and tuple(out.shape) == (*shape[:-1], 30)
            got = kind.host(out)
            assert got.dtype == dtype
            assert_linear(got, a, CB, SCB, threshold, b)


@given(
    m=st.integers(0, 30),
    n=st.integers(1, 40),
    k=st.integers(1, 150),
    dtype=st.sampled_from(FLOATS),
    threshold=st.sampled_from([0.0, 1.0, 6.0, 100.0]),
    bias=st.booleans(),
)
def test_linear_in_any_shape(m: int, n: int, k: int, dtype: Any, threshold: float, bias: bool) -> None:
    CB, SCB = weights(n, k)
    a = activations((m, k), dtype, outliers=True)
    b = activations((n,), dtype, 5) if bias else None
    assert_linear(libbnb.linear_int8(a, CB, SCB, threshold, b), a, CB, SCB, threshold, b)


@pytest.mark.parametrize("threshold", [0.0, 6.0, 100.0])
def test_mixed_scaled_mm_is_the_second_half_of_linear(kind: Kind, threshold: float) -> None:
    CB, SCB = weights(30, 96)
    a, bias = activations((2, 7, 96), np.float32, outliers=True), activations((30,), np.float32, 5)
    CA, SCA, outlier_cols = libbnb.int8_vectorwise_quant(kind.make(a), threshold)
    got, subA = libbnb.int8_mixed_scaled_mm(
        kind.make(a), CA, kind.make(CB), SCA, kind.make(SCB), outlier_cols, kind.make(bias)
    )
    want = libbnb.linear_int8(a, CB, SCB, threshold, bias)
    np.testing.assert_array_equal(kind.host(got), want)
    if threshold == 0.0:
        assert subA is None
    else:
        assert kind.is_mine(subA)
        np.testing.assert_array_equal(kind.host(subA), a.reshape(14, 96)[:, kind.host(outlier_cols)])


@pytest.mark.parametrize("threshold", [0.0, 6.0])
def test_matmul_quantizes_the_weights_into_its_state(kind: Kind, threshold: float) -> None:
    w = np.random.default_rng(8).standard_normal((30, 96)).astype(np.float32)
    a = activations((5, 96), np.float32, outliers=True)
    state = libbnb.MatmulLtState()
    got = libbnb.matmul(kind.make(a), kind.make(w), state=state, threshold=threshold)
    CB, SCB, _ = libbnb.int8_vectorwise_quant(w)
    np.testing.assert_array_equal(kind.host(state.CB), CB)
    assert state.threshold == threshold
    np.testing.assert_array_equal(kind.host(got), libbnb.linear_int8(a, CB, SCB, threshold))
    state.has_fp16_weights = False  # from here on the codes are the weights
    again = libbnb.matmul(kind.make(a), None, state=state)
    np.testing.assert_array_equal(kind.host(again), kind.host(got))


@pytest.mark.torch
def test_matmul_without_weights() -> None:
    torch = pytest.importorskip("torch")
    a = activations((5, 96), np.float32)
    for A in (a, torch.from_numpy(a), torch.from_numpy(a).requires_grad_()):
        with pytest.raises(libbnb.InvalidArgument, match="B is None, and state has no quantized weights"):
            libbnb.matmul(A, None)
    CB, SCB = (torch.from_numpy(x) for x in weights(30, 96))
    state = libbnb.MatmulLtState(CB=CB, SCB=SCB, has_fp16_weights=False)
    A.grad = None
    libbnb.matmul(A, None, state=state).sum().backward()
    torch.testing.assert_close(A.grad[0], libbnb.int8_vectorwise_dequant(CB, SCB).sum(0))


def test_matmul_with_its_own_state_and_a_bias() -> None:
    w, a = activations((30, 96), np.float32, 4), activations((5, 96), np.float32)
    bias, out = activations((30,), np.float32), np.empty((5, 30), np.float32)
    assert libbnb.matmul(a, w, out, bias=bias) is out
    CB, SCB, _ = libbnb.int8_vectorwise_quant(w)
    np.testing.assert_array_equal(out, libbnb.linear_int8(a, CB, SCB, bias=bias))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("threshold", [0.0, 6.0])
def test_no_worse_than_bitsandbytes(dtype: str, threshold: float) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes")
    torch.manual_seed(1)
    a = torch.randn(40, 256)
    a[:, [3, 77]] *= 20
    a = a.to(getattr(torch, dtype))
    w, bias = torch.randn(64, 256).half(), torch.randn(64).to(a.dtype)
    CB, SCB, _ = theirs.functional.int8_vectorwise_quant(w)
    results: dict[str, Any] = {}
    for name, library in (("theirs", theirs), ("ours", libbnb)):
        state = library.MatmulLtState()
        state.CB, state.SCB, state.is_training, state.has_fp16_weights = CB, SCB, False, False
        results[name] = library.matmul(a, CB, state=state, threshold=threshold, bias=bias).double().numpy()
    # What one gets with the dequantized weights, which both approximate by quantizing activations.
    dense = a.double() @ (CB.double() * SCB.double()[:, None] / 127).T + bias.double()
    assert rms(results["ours"], dense.numpy()) <= 1.02 * rms(results["theirs"], dense.numpy())


# ---------------------------------------------------------------------------------------------------------------------
# igemm


@pytest.mark.parametrize("transposed_A", [False, True])
@pytest.mark.parametrize("transposed_B", [False, True])
def test_igemm(kind: Kind, transposed_A: bool, transposed_B: bool) -> None:
    a, b = codes((5, 70)), codes((70, 9), 2)
    want = a.astype(np.int32) @ b.astype(np.int32)
    left = np.ascontiguousarray(a.T) if transposed_A else a
    right = np.ascontiguousarray(b.T) if transposed_B else b
    got = libbnb.igemm(kind.make(left), kind.make(right), None, transposed_A, transposed_B)
    assert kind.is_mine(got)
    np.testing.assert_array_equal(kind.host(got), want)
    np.testing.assert_array_equal(
        libbnb.igemm(left.T if transposed_A else left, right.T if transposed_B else right), want
    )


def test_igemm_of_three_dimensions(kind: Kind) -> None:
    a, b = codes((4, 6, 70)), codes((70, 9), 2)
    np.testing.assert_array_equal(
        kind.host(libbnb.igemm(kind.make(a), kind.make(b))), a.astype(np.int32) @ b.astype(np.int32)
    )
    c = codes((4, 70, 9), 3)
    want = a.astype(np.int32) @ c.astype(np.int32)
    for function in (libbnb.igemm, libbnb.batched_igemm):
        np.testing.assert_array_equal(kind.host(function(kind.make(a), kind.make(c))), want)
    if kind.name not in ("jax", "mlx"):
        out = kind.make(np.empty((4, 6, 9), np.int32))
        assert libbnb.batched_igemm(kind.make(a), kind.make(c), out) is out
        np.testing.assert_array_equal(out.array if kind.name == "dlpack" else kind.host(out), want)
    gradient = codes((4, 6, 11), 4)
    want = np.einsum("bmi,bmo->io", a.astype(np.int32), gradient.astype(np.int32))
    np.testing.assert_array_equal(kind.host(libbnb.igemm(kind.make(a), kind.make(gradient))), want)


@pytest.mark.parametrize(
    ("a", "b"),
    [((5, 70), (71, 9)), ((5, 70), (70,)), ((5,), (5, 9)), ((2, 5, 70), (3, 70, 9)), ((2, 5, 70), (2, 6, 9))],
)
def test_igemm_of_shapes_that_do_not_fit(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(
        libbnb.InvalidArgument, match=rf"A has shape \[{a[0]}.* and B \[{b[0]}.*\]: A @ B does not exist"
    ):
        libbnb.igemm(codes(a), codes(b))


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


def linear(**changes: Any) -> dict[str, Any]:
    CB, SCB = weights(20, 64)
    return {
        "A": activations((3, 64), np.float32),
        "CB": CB,
        "SCB": SCB,
        "threshold": 6.0,
        "bias": activations((20,), np.float32),
        "out": np.full((3, 20), -7, np.float32),
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": np.ones((3, 65), np.float32)}, r"A has shape \[3, 65\] and CB \[20, 64\]"),
        ({"A": np.ones((3, 64), np.int8)}, "A is int8"),
        ({"CB": np.ones((20, 64), np.uint8)}, "CB is uint8"),
        ({"CB": np.ones(1280, np.int8)}, r"CB has shape \[1280\], must have 2 dimensions"),
        ({"SCB": np.ones(19, np.float32)}, "SCB has 19 elements, must have 20"),
        ({"SCB": np.ones(20, np.float16)}, "SCB is float16"),
        ({"threshold": -1.0}, "threshold is -1.0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"bias": np.ones(21, np.float32)}, "bias has 21 elements, must have 20"),
        ({"out": np.full((3, 21), -7, np.float32)}, r"out has shape \[3, 21\], must have shape \[3, 20\]"),
        ({"out": np.full((3, 20), -7, np.float16)}, "out is float16, must be float32"),
    ],
)
def test_wrong_arguments_of_linear(changes: dict[str, Any], message: str) -> None:
    given = linear(**changes)
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.linear_int8(**given)
    assert (given["out"] == -7).all()


def test_the_right_arguments_are_right() -> None:
    given = linear()
    assert libbnb.linear_int8(**given) is given["out"]


def test_wrong_arguments_of_the_others() -> None:
    a, b = codes((3, 64)), codes((20, 64), 2)
    with pytest.raises(libbnb.InvalidArgument, match="dtype is 'int8', must be int32"):
        libbnb.int8_linear_matmul(a, b, dtype="int8")
    with pytest.raises(libbnb.InvalidArgument, match=r"A has shape \[3, 63\] and B \[20, 64\]"):
        libbnb.int8_linear_matmul(a[:, :63], b)
    with pytest.raises(libbnb.InvalidArgument, match=r"out has shape \[20, 3\], must have shape \[3, 20\]"):
        libbnb.int8_linear_matmul(a, b, np.empty((20, 3), np.int32))
    with pytest.raises(libbnb.InvalidArgument, match="out is float32"):
        libbnb.int8_linear_matmul(a, b, np.empty((3, 20), np.float32))
    one, many = np.ones(3, np.float32), np.ones(20, np.float32)
    with pytest.raises(libbnb.InvalidArgument, match="row_stats has 20 elements, must have 3"):
        libbnb.int8_scaled_mm(a, b, many, many)
    with pytest.raises(libbnb.InvalidArgument, match=r"CA has shape \[3, 64\], must have that of A, \[4, 64\]"):
        libbnb.int8_mixed_scaled_mm(np.ones((4, 64), np.float32), a, b, one, many)
    for wrong in ([64], [-1], [5, 3]):
        with pytest.raises(libbnb.InvalidArgument, match="outlier_cols"):
            libbnb.int8_mixed_scaled_mm(np.ones((3, 64), np.float32), a, b, one, many, np.array(wrong))


def test_an_output_that_overlaps() -> None:
    memory = np.ones((6, 64), np.float32)
    given = linear(A=memory[:3], out=memory.reshape(-1)[32:92].reshape(3, 20))
    with pytest.raises(libbnb.InvalidArgument, match="out overlaps A"):
        libbnb.linear_int8(**given)
    assert (memory == 1).all()
