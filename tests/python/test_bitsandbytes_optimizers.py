# SPDX-License-Identifier: MIT
"""bitsandbytes' C names for optimizer steps, against the formulas in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import c_symbols as c

N = 1000
LR, BETA1, BETA2, BETA3, ALPHA, EPS, DECAY, GNORM, STEP = 0.01, 0.9, 0.99, 0.999, 4.0, 1e-6, 0.05, 0.5, 3
FAMILIES = ("adam", "lion", "ademamix", "momentum", "rmsprop", "adagrad")
TWO_STATES, DECOUPLED = ("adam", "ademamix"), ("adam", "ademamix", "lion")
NAMES_32BIT = [(family, t, t) for family in ("adam", "lion", "ademamix") for t in c.FLOATS]
NAMES_32BIT += [(family, t, t[2:]) for family in ("momentum", "rmsprop", "adagrad") for t in ("fp32", "fp16")]


@pytest.fixture(scope="module")
def ours() -> ctypes.CDLL:
    return c.load_ours()


def widen(x: np.ndarray, t: str) -> np.ndarray:
    return c.widen(x, t).astype(np.float64)


def formula(
    family: str, g: np.ndarray, p: np.ndarray, s1: np.ndarray, s2: np.ndarray, slow: np.ndarray
) -> tuple[np.ndarray, ...]:
    """p, state1, state2 and AdEMAMix's second average after the step."""
    g = GNORM * g + (0.0 if family in DECOUPLED else DECAY * p)
    if family in DECOUPLED:
        p = p * (1 - LR * DECAY)
    c1, c2 = 1 - BETA1**STEP, np.sqrt(1 - BETA2**STEP)
    if family in TWO_STATES:
        s1, s2 = BETA1 * s1 + (1 - BETA1) * g, BETA2 * s2 + (1 - BETA2) * g * g
        slow = BETA3 * slow + (1 - BETA3) * g
        mixed = s1 / c1 + (ALPHA * slow if family == "ademamix" else 0.0)
        return p - LR * mixed / (np.sqrt(s2) / c2 + EPS), s1, s2, slow
    if family == "lion":
        return p - LR * np.sign(BETA1 * s1 + (1 - BETA1) * g), BETA2 * s1 + (1 - BETA2) * g, s2, slow
    if family == "momentum":
        s1 = BETA1 * s1 + g
        return p - LR * s1, s1, s2, slow
    s1 = BETA1 * s1 + (1 - BETA1) * g * g if family == "rmsprop" else s1 + g * g
    return p - LR * g / (np.sqrt(s1) + EPS), s1, s2, slow


def close(t: str, got: np.ndarray, want: np.ndarray) -> bool:
    ulp = {"fp32": 2.0**-23, "fp16": 2.0**-11, "bf16": 2.0**-8}[t]
    return bool((np.abs(got - want) <= ulp * np.abs(want) + 1e-6).all())


@pytest.mark.parametrize(("family", "t", "suffix"), NAMES_32BIT)
def test_32bit(ours: ctypes.CDLL, family: str, t: str, suffix: str) -> None:
    rng = np.random.default_rng(1)
    g, p = (
        c.narrow(rng.standard_normal(N).astype(np.float32), t),
        c.narrow(rng.standard_normal(N).astype(np.float32), t),
    )
    first = rng.standard_normal((2 if family == "ademamix" else 1, N)).astype(np.float32) * 0.1
    if family in ("rmsprop", "adagrad"):
        first = np.abs(first)
    second = rng.random(N).astype(np.float32) * 0.1
    want = formula(
        family, widen(g, t), widen(p, t), first[0].astype(float), second.astype(float), first[-1].astype(float)
    )
    function = getattr(ours, f"c{family}32bit_grad_{suffix}")
    unused = None if family not in TWO_STATES else c.pointer(second)
    status = function(
        *(c.pointer(g), c.pointer(p), c.pointer(first), unused, None, 0.0, 0.0),
        *(BETA1, BETA2, BETA3, ALPHA, EPS, DECAY, STEP, LR, GNORM, False, N),
    )
    assert status == c.OK, ours.bnb_last_error()
    assert close(t, widen(p, t), want[0])
    assert close("fp32", first[0], want[1])
    assert family not in TWO_STATES or close("fp32", second, want[2])
    assert family != "ademamix" or close("fp32", first[1], want[3])


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_8bit(ours: ctypes.CDLL, family: str, t: str) -> None:
    rng = np.random.default_rng(2)
    g, p = (
        c.narrow(rng.standard_normal(N).astype(np.float32), t),
        c.narrow(rng.standard_normal(N).astype(np.float32), t),
    )
    averages, nb = (2 if family == "ademamix" else 1), -(-N // 256)
    code1, code2 = c.dynamic_map(ours, signed=True), c.dynamic_map(ours, signed=False)
    low = 127 if family in ("rmsprop", "adagrad") else 0  # squares
    codes1 = rng.integers(low, 256, (averages, N)).astype(np.uint8)
    codes2 = rng.integers(0, 256, N).astype(np.uint8)
    absmax1, absmax2 = rng.random((averages, nb)).astype(np.float32) * 0.1, rng.random(nb).astype(np.float32) * 0.1

    def decode(code: np.ndarray, codes: np.ndarray, absmax: np.ndarray) -> np.ndarray:
        return (code[codes] * np.repeat(absmax, 256)[:N]).astype(np.float64)

    want = formula(
        family,
        *(widen(g, t), widen(p, t), decode(code1, codes1[0], absmax1[0]), decode(code2, codes2, absmax2)),
        decode(code1, codes1[-1], absmax1[-1]),
    )
    function = getattr(ours, f"c{family}_8bit_blockwise_grad_{t}")
    status = function(
        *(c.pointer(p), c.pointer(g), c.pointer(codes1), c.pointer(codes2), BETA1, BETA2, BETA3, ALPHA, EPS, STEP, LR),
        *(c.pointer(code1), c.pointer(code2), c.pointer(absmax1), c.pointer(absmax2), DECAY, GNORM, False, N),
    )
    assert status == c.OK, ours.bnb_last_error()
    assert close(t, widen(p, t), want[0])

    def check_state(code: np.ndarray, codes: np.ndarray, absmax: np.ndarray, state: np.ndarray) -> None:
        scale = np.array([np.abs(state[i : i + 256]).max() for i in range(0, N, 256)])
        assert np.allclose(absmax, scale, rtol=1e-6)
        distances = np.abs(code[None, :] - (state / np.repeat(scale, 256)[:N])[:, None])
        assert (distances[np.arange(N), codes] <= distances.min(1) + 1e-6).all()

    check_state(code1, codes1[0], absmax1[0], want[1])
    if family in TWO_STATES:
        check_state(code2, codes2, absmax2, want[2])
    if family == "ademamix":
        check_state(code1, codes1[1], absmax1[1], want[3])


def test_errors_name_the_symbol_and_change_nothing(ours: ctypes.CDLL) -> None:
    p, state = np.ones(4, np.float32), np.zeros(4, np.float32)
    for n, step, lr in ((-1, 1, 0.1), (4, 0, 0.1), (4, 1, -0.1)):
        status = ours.clion32bit_grad_fp32(
            *(c.pointer(state.copy()), c.pointer(p), c.pointer(state), None, None, 0.0, 0.0),
            *(0.9, 0.99, 0.0, 0.0, 0.0, 0.0, step, lr, 1.0, False, n),
        )
        assert status == c.INVALID_ARGUMENT
        assert ours.bnb_last_error().startswith(b"clion32bit_grad_fp32: ")
        assert (p == 1).all() and (state == 0).all()


def test_adam_steps_over_bad_gradients(ours: ctypes.CDLL) -> None:
    """As bitsandbytes' GPU kernels do."""
    g, p = np.full(300, 0.5, np.float32), np.ones(300, np.float32)
    g[7], g[299] = np.nan, np.inf
    codes = np.zeros((2, 300), np.uint8)
    absmax = np.zeros((2, 2), np.float32)
    code1, code2 = c.dynamic_map(ours, signed=True), c.dynamic_map(ours, signed=False)
    status = ours.cadam_8bit_blockwise_grad_fp32(
        *(c.pointer(p), c.pointer(g), c.pointer(codes[0]), c.pointer(codes[1]), 0.9, 0.999, 0.0, 0.0, 1e-8, 1, 0.1),
        *(c.pointer(code1), c.pointer(code2), c.pointer(absmax[0]), c.pointer(absmax[1]), 0.0, 1.0, False, 300),
    )
    assert status == c.OK
    assert p[7] == 1 and p[299] == 1 and (np.delete(p, [7, 299]) < 1).all()
    assert np.isfinite(absmax).all()
