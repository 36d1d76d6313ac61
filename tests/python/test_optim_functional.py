# SPDX-License-Identifier: MIT
"""optimizer_update_32bit, optimizer_update_8bit_blockwise and gradient_norm on arrays, against the definition in
NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import libbnb
import oracle
from kinds import BF16, Exporter, Kind
from optim_oracle import NAMES, TWO_STATES, Quantized, Settings, step, zeros

Array = Any
SIGNED, UNSIGNED = libbnb.create_dynamic_map(), libbnb.create_dynamic_map(signed=False)


def arguments(name: str, s: Settings) -> dict[str, Any]:
    return {
        "optimizer_name": name, "beta1": s.beta1, "beta2": s.beta2, "beta3": s.beta3, "alpha": s.alpha, "eps": s.eps,
        "lr": s.lr, "weight_decay": s.weight_decay, "gnorm_scale": s.gnorm_scale, "max_unorm": s.max_unorm,
        "skip_zeros": s.skip_zeros,
    }  # fmt: skip


def update_32bit(name: str, s: Settings, t: int, g: Array, p: Array, state1: Array, state2: Array | None) -> None:
    libbnb.optimizer_update_32bit(g=g, p=p, state1=state1, state2=state2, step=t, **arguments(name, s))


def joined(state: dict[str, Any]) -> tuple[Any, Any]:
    """state1 and state2 as the library has them."""
    first = np.concatenate([state["first"], state["slow"]]) if "slow" in state else state["first"]
    return first, state.get("second")


def settings_of(name: str) -> Settings:
    return Settings(weight_decay=0.1, gnorm_scale=0.5, max_unorm=0.02 if name in ("lamb", "lars") else 0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_32bit_step_is_the_definition(name: str, dtype: Any, rng: np.random.Generator) -> None:
    n, s = 1000, settings_of(name)
    p = rng.standard_normal(n).astype(dtype)
    want_p, want = p.copy(), zeros(name, n)
    state1, state2 = (None if x is None else x.copy() for x in joined(want))
    for t in (1, 2, 3):
        g = rng.standard_normal(n).astype(dtype)
        update_32bit(name, s, t, g, p, state1, state2)
        want_p = step(name, s, t, g, want_p, want).astype(dtype)
        want1, want2 = joined(want)
        np.testing.assert_array_equal(state1, want1)
        if want2 is not None:
            np.testing.assert_array_equal(state2, want2)
        np.testing.assert_array_equal(p, want_p)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "blocksize"), [(1000, 256), (100, 64), (513, 2048)])
def test_8bit_step_is_the_definition(name: str, n: int, blocksize: int, rng: np.random.Generator) -> None:
    s, nb = settings_of(name), -(-n // blocksize)
    p = rng.standard_normal(n).astype(np.float32)
    maps = {"first": UNSIGNED if name in ("rmsprop", "adagrad") else SIGNED, "second": UNSIGNED, "slow": SIGNED}
    want_p = p.copy()
    keys = zeros(name, n)
    want = Quantized(
        {key: np.full(n, 7, np.uint8) for key in keys}, {key: np.zeros(nb, np.float32) for key in keys}, maps, blocksize
    )
    averages = 2 if name == "ademamix" else 1
    two = name in TWO_STATES
    codes1, codes2 = np.zeros(averages * n, np.uint8), np.zeros(n, np.uint8) if two else None
    absmax1, absmax2 = np.zeros(averages * nb, np.float32), np.zeros(nb, np.float32) if two else None
    for t in (1, 2, 3):
        g = rng.standard_normal(n).astype(np.float32)
        libbnb.optimizer_update_8bit_blockwise(
            g=g, p=p, state1=codes1, state2=codes2, step=t, qmap1=maps["first"], qmap2=UNSIGNED if two else None,
            absmax1=absmax1, absmax2=absmax2, blocksize=blocksize, **arguments(name, s),
        )  # fmt: skip
        want_p = want.step(name, s, t, g, want_p)
        want1, want2 = joined(want.codes)
        np.testing.assert_array_equal(codes1, want1)
        np.testing.assert_array_equal(absmax1, joined(want.absmax)[0])
        if two:
            np.testing.assert_array_equal(codes2, want2)
            np.testing.assert_array_equal(absmax2, want.absmax["second"])
        np.testing.assert_array_equal(p, want_p)


@settings(max_examples=40)
@given(n=st.integers(0, 700), t=st.integers(1, 1000), name=st.sampled_from(NAMES), seed=st.integers(0, 9))
def test_any_size_and_step(n: int, t: int, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, g = rng.standard_normal((2, n)).astype(np.float32)
    state = zeros(name, n)
    for key in state:
        state[key][:] = np.abs(rng.standard_normal(n))
    state1, state2 = (None if x is None else x.copy() for x in joined(state))
    want = step(name, Settings(), t, g, p, state)
    update_32bit(name, Settings(), t, g, p, state1, state2)
    np.testing.assert_array_equal(p, want)
    np.testing.assert_array_equal(state1, joined(state)[0])


def test_writes_into_arrays_of_every_library_that_can_be_written(kind: Kind) -> None:
    g = kind.make(np.ones(10, np.float32))
    p, state = kind.make(np.zeros(10, np.float32)), kind.make(np.zeros(10, np.float32))
    try:
        update_32bit("lion", Settings(lr=0.5), 1, g, p, state, None)
    except (ValueError, TypeError) as error:  # libraries whose arrays cannot be changed say so
        assert kind.name not in ("numpy", "torch", "dlpack") and "p " in str(error)
        want = np.float32(0)
    else:
        want = np.float32(-0.5)
    np.testing.assert_array_equal(p.array if isinstance(p, Exporter) else kind.host(p), np.full(10, want))


@pytest.mark.torch
def test_torch_parameters_that_require_grad() -> None:
    torch = pytest.importorskip("torch")
    p = torch.nn.Parameter(torch.zeros(5))
    update_32bit("lion", Settings(lr=0.5), 1, torch.ones(5), p, torch.zeros(5), None)
    assert torch.equal(p.detach(), torch.full((5,), -0.5))


def test_unusual_gradients() -> None:
    def run(**options: Any) -> tuple[Any, Any, Any]:
        p, state = np.ones(4, np.float32), np.full(4, 0.5, np.float32)
        found = np.zeros(1, np.float32)
        g = np.array([1, np.nan, np.inf, 0], np.float32)
        libbnb.optimizer_update_32bit("momentum", g, p, state, 0.5, 0, 2, 1.0, found_inf=found, **options)
        return p, state, found

    p, _, found = run()
    assert np.isnan(p[1]) and np.isinf(p[2]) and found == 1
    p, state, found = run(nonfinite="skip_element")
    np.testing.assert_array_equal(p, [-0.25, 1, 1, 0.75])
    np.testing.assert_array_equal(state, [1.25, 0.5, 0.5, 0.25])
    p, state, found = run(nonfinite="skip_step")
    assert (p == 1).all() and (state == 0.5).all() and found == 1
    p, _, _ = run(nonfinite="skip_element", skip_zeros=True)
    np.testing.assert_array_equal(p, [-0.25, 1, 1, 1])


def test_skip_zeros_leaves_8bit_states_defined() -> None:
    """A block that is skipped as a whole keeps its codes; a skipped element of another keeps its value but for
    rounding."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal(512).astype(np.float32)
    codes, absmax = oracle.quantize_blockwise(values, SIGNED, 256)
    before = oracle.dequantize_blockwise(codes, absmax, SIGNED, 256, np.float32)
    state, scales, p = codes.copy(), absmax.copy(), np.zeros(512, np.float32)
    g = np.zeros(512, np.float32)
    g[0] = 1.0
    libbnb.optimizer_update_8bit_blockwise(
        "lion", g, p, state, None, 0.9, 0.99, 0, 0, 0, 1, 1e-3, SIGNED, None, scales, None, skip_zeros=True
    )
    np.testing.assert_array_equal(state[256:], codes[256:])
    assert scales[1] == absmax[1] and p[0] != 0 and (p[1:] == 0).all()
    after = oracle.dequantize_blockwise(state, scales, SIGNED, 256, np.float32)
    np.testing.assert_allclose(after[1:256], before[1:256], atol=0.02 * absmax[0])


def test_norm_of_the_update_is_reported() -> None:
    p, g = np.full(4, 0.5, np.float32), np.full(4, 3, np.float32)
    unorm = np.zeros(1, np.float32)
    libbnb.optimizer_update_32bit(
        "lion", g, p, np.zeros(4, np.float32), 0.9, 0, 1, 1.0, beta2=0.99, unorm_vec=unorm, max_unorm=0.5
    )
    assert unorm == 2.0  # four signs
    np.testing.assert_array_equal(p, np.full(4, 0.25, np.float32))  # us = 0.5 * 1 / 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({"optimizer_name": "adamax"}, "optimizer_name is 'adamax'"),
    ({"optimizer_name": None}, "optimizer_name is None"),
    ({"lr": -1e-3}, "lr is -0.001"),
    ({"lr": float("nan")}, "lr is"),
    ({"beta1": 1.0}, r"beta1 is 1, must be in \[0, 1\)"),
    ({"beta2": -0.1}, "beta2 is -0.1"),
    ({"eps": -1.0}, "eps is -1"),
    ({"weight_decay": -1.0}, "weight_decay is -1"),
    ({"step": 0}, "step is 0"),
    ({"g": np.ones(9, np.float32)}, "p has 10 elements"),
    ({"p": np.ones(11, np.float32)}, "p has 11 elements"),
    ({"p": np.ones(10, np.float64)}, "p is float64, must be"),
    ({"state1": np.ones(9, np.float32)}, "state1 has 9 elements"),
    ({"state2": np.ones(10, np.uint8)}, "state2 is uint8, must be"),
    ({"state2": None}, "state2"),
    ({"nonfinite": "ignore"}, "nonfinite is 'ignore'"),
    ({"nonfinite": "skip_step"}, "found_inf"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=lambda x: str(x)[:30])
def test_bad_arguments_change_nothing(change: dict[str, Any], message: str) -> None:
    values = {
        "optimizer_name": "adam", "g": np.ones(10, np.float32), "p": np.ones(10, np.float32),
        "state1": np.ones(10, np.float32), "beta1": 0.9, "eps": 1e-8, "step": 1, "lr": 1e-3,
        "state2": np.ones(10, np.float32), "beta2": 0.99,
    }  # fmt: skip
    values |= change
    with pytest.raises(libbnb.InvalidArgument, match=message):
        libbnb.optimizer_update_32bit(**values)
    for name in ("p", "state1", "state2"):
        assert values[name] is None or (values[name] == 1).all()


def test_gradient_norm(kind: Kind, rng: np.random.Generator) -> None:
    for dtype in kind.dtypes:
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((7, 300), (0,), (), (5000,))]
        want = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
        got = libbnb.gradient_norm([kind.make(a) for a in arrays])
        assert kind.is_mine(got) or kind.name == "dlpack"
        assert float(np.asarray(got)) == np.float32(want) or abs(float(np.asarray(got)) - want) <= 2e-7 * want


def test_gradient_norms_and_infinities() -> None:
    found, norms = np.zeros(1, np.float32), np.zeros(2)
    arrays = [np.array([3, 4], np.float32), np.full(4, 6, np.float32)]
    assert libbnb.gradient_norm(arrays, norms=norms, found_inf=found) == 13
    np.testing.assert_array_equal(norms, [5, 12])
    assert found == 0 and libbnb.gradient_norm(arrays[0]) == 5
    arrays[1][2] = np.nan
    assert np.isnan(libbnb.gradient_norm(arrays, found_inf=found)) and found == 1
    with pytest.raises(ValueError, match="tensors is empty"):
        libbnb.gradient_norm([])
