# SPDX-License-Identifier: MIT
"""libbnb.optim against PyTorch's optimizers, a float64 reference and bitsandbytes, over many steps."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import libbnb.optim as optim  # noqa: E402
import optim_oracle  # noqa: E402
from optim_oracle import Settings  # noqa: E402

pytestmark = pytest.mark.torch
STEPS = 200


def parameters(*shapes: tuple[int, ...], dtype: Any = torch.float32, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def copies(params: list[Any]) -> list[Any]:
    return [torch.nn.Parameter(p.detach().clone()) for p in params]


def give_gradients(step: int, *lists: list[Any]) -> None:
    """The same pseudo-random gradients to several lists of parameters: a target that moves about, plus noise."""
    generator = torch.Generator().manual_seed(1000 + step)
    for alike in zip(*lists, strict=True):
        g = torch.randn(alike[0].shape, generator=generator) + math.cos(step / 20)
        for p in alike:
            p.grad = g.to(p.dtype, copy=True)


def run(steps: int, *pairs: tuple[Any, list[Any]]) -> None:
    for step in range(steps):
        give_gradients(step, *(params for _, params in pairs))
        for optimizer, _ in pairs:
            optimizer.step()


def furthest(a: list[Any], b: list[Any]) -> float:
    return max(float((x.detach().double() - y.detach().double()).abs().max()) for x, y in zip(a, b, strict=True))


# Decoupled decay stands where PyTorch has it. PyTorch divides the step by c1 and the square root by c2, and rounds in
# another order: about an ulp of the update each step, of which 200 add up. Values are around 1, updates up to lr.
PYTORCH: list[tuple[str, dict[str, Any], Any, dict[str, Any]]] = [
    ("Adam", {"lr": 1e-2}, torch.optim.Adam, {"lr": 1e-2}),
    ("AdamW", {"lr": 1e-2, "weight_decay": 0.1}, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
    ("SGD", {"lr": 1e-2, "momentum": 0.9}, torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    (
        "SGD",
        {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1},
        torch.optim.SGD,
        {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1},
    ),
    ("RMSprop", {"lr": 1e-2}, torch.optim.RMSprop, {"lr": 1e-2}),
    ("RMSprop", {"lr": 1e-2, "weight_decay": 0.1}, torch.optim.RMSprop, {"lr": 1e-2, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 1e-2}, torch.optim.Adagrad, {"lr": 1e-2}),
    ("Adagrad", {"lr": 1e-2, "weight_decay": 0.1}, torch.optim.Adagrad, {"lr": 1e-2, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("ours", "arguments", "theirs", "their_arguments"), PYTORCH)
def test_200_steps_like_pytorch(
    ours: str, arguments: dict[str, Any], theirs: Any, their_arguments: dict[str, Any]
) -> None:
    params = parameters((64, 33), (17,), (3, 5, 7))
    exact = [torch.nn.Parameter(p.detach().double()) for p in params]
    run(STEPS, (getattr(optim, ours)(params, **arguments), params), (theirs(exact, **their_arguments), exact))
    assert furthest(params, exact) < 2e-5


@pytest.mark.parametrize("name", ["Lion", "LAMB", "LARS", "AdEMAMix", "AdamW", "SGD"])
def test_200_steps_like_the_formulas_in_float64(name: str) -> None:
    params = parameters((40, 30), (25,))
    values = [p.detach().double().numpy().copy() for p in params]
    arguments: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.1}
    s = Settings(lr=1e-3, weight_decay=0.1, beta2=0.999)
    formula = {"AdamW": "adam", "SGD": "momentum"}.get(name, name.lower())
    if name in ("LARS", "SGD"):
        arguments["momentum"] = 0.9
    if name == "Lion":
        s.beta2 = 0.99
    if name == "AdEMAMix":
        s.beta2, s.beta3 = 0.999, 0.9999
    s.max_unorm = {"LAMB": 1.0, "LARS": 0.02}.get(name, 0.0)
    optimizer = getattr(optim, name)(params, **arguments)
    states = [optim_oracle.zeros(formula, v.size, np.float64) for v in values]
    for t in range(1, STEPS + 1):
        give_gradients(t, params)
        optimizer.step()
        for p, v, state in zip(params, values, states, strict=True):
            g = p.grad.double().numpy().ravel()
            v[...] = optim_oracle.step(formula, s, t, g, v.ravel(), state, np.float64).reshape(v.shape)
    worst = max(float(np.abs(p.detach().numpy() - v).max()) for p, v in zip(params, values, strict=True))
    # A sign of Lion's that is a matter of rounding moves a parameter by 2 lr; no seed here has one.
    assert worst < 2e-5


def test_schedules_of_ademamix() -> None:
    params = parameters((50,))
    value = params[0].detach().double().numpy().copy()
    optimizer = optim.AdEMAMix(params, lr=1e-3, weight_decay=0.0, t_alpha=10, t_beta3=10)
    state = optim_oracle.zeros("ademamix", 50, np.float64)
    for t in range(1, 21):
        give_gradients(t, params)
        optimizer.step()
        log1, log3, done = math.log(0.9), math.log(0.9999), t / 10
        beta3 = min(math.exp(log1 * log3 / ((1 - done) * log3 + done * log1)), 0.9999)
        s = Settings(lr=1e-3, beta2=0.999, beta3=beta3, alpha=min(t * 5.0 / 10, 5.0))
        value = optim_oracle.step("ademamix", s, t, params[0].grad.double().numpy(), value, state, np.float64)
    assert np.abs(params[0].detach().numpy() - value).max() < 1e-6


@pytest.mark.parametrize("name", ["Adam", "AdamW", "AdEMAMix", "Lion", "RMSprop", "Adagrad", "SGD", "LAMB", "LARS"])
def test_8_bits_find_the_minimum_that_32_bits_find(name: str) -> None:
    """A quadratic: both end up at the target, within what the learning rate allows (arXiv:2110.02861: same end
    points)."""
    target = torch.linspace(-1, 1, 8192).view(64, 128)
    arguments: dict[str, Any] = {"lr": 0.04}
    if name in ("SGD", "LARS"):
        arguments |= {"momentum": 0.9, "lr": 0.2 if name == "SGD" else 2.0}
    if name == "Adagrad":
        arguments["lr"] = 0.5
    if name == "Lion":
        arguments["lr"] = 0.08
    if name in ("AdamW", "AdEMAMix"):
        arguments["weight_decay"] = 0.0
    if name == "AdEMAMix":
        arguments["betas"] = (0.9, 0.999, 0.99)
        arguments["alpha"] = 1.0
    ends: list[float] = []
    for bits in ("32bit", "8bit"):
        p = torch.nn.Parameter(torch.ones(64, 128))
        optimizer = getattr(optim, name + bits)([p], **arguments)
        for t in range(150):
            optimizer.param_groups[0]["lr"] = arguments["lr"] * (1 - t / 150)
            p.grad = p.detach() - target
            optimizer.step()
        assert optimizer.state[p]["state1"].dtype == (torch.uint8 if bits == "8bit" else torch.float32)
        ends.append(float(((p.detach() - target) ** 2).mean()))
    start = float(((1 - target) ** 2).mean())
    assert max(ends) < 0.02 * start
    assert ends[1] < 2 * ends[0] + 1e-3 * start


# What one step from the same 8-bit state may differ from bitsandbytes' CPU library by, as a multiple of lr: its codes
# come from a table of 65536 entries, so that states around zero differ by up to an entry; the fp32 arithmetic differs
# by rounding only.
@pytest.mark.parametrize("name", ["AdamW8bit", "Lion8bit", "SGD8bit"])
def test_one_step_beside_bitsandbytes(name: str) -> None:
    theirs = pytest.importorskip("bitsandbytes").optim
    arguments: dict[str, Any] = {"lr": 1e-2} | ({"momentum": 0.9} if name == "SGD8bit" else {})
    params = parameters((64, 128))
    others = copies(params)
    ours, other = getattr(optim, name)(params, **arguments), getattr(theirs, name)(others, **arguments)
    run(10, (other, others))
    with torch.no_grad():
        params[0].copy_(others[0])
    ours.load_state_dict(other.state_dict())
    run(1, (ours, params), (other, others))
    # The step reads the same states, so that only arithmetic differs; what is written differs by one code.
    assert furthest(params, others) < 1e-6
    mine, its = ours.state[params[0]], other.state[others[0]]
    assert torch.allclose(mine["absmax1"], its["absmax1"], rtol=1e-6)
    apart = (mine["state1"].int() - its["state1"].int()).abs()
    assert int(apart.max()) <= 1 or float((apart > 1).float().mean()) < 0.01


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Lion", "SGD", "RMSprop", "Adagrad", "LARS", "AdEMAMix"])
def test_20_steps_beside_bitsandbytes(name: str) -> None:
    theirs = pytest.importorskip("bitsandbytes").optim
    arguments: dict[str, Any] = {"weight_decay": 0.1, "lr": 1e-3} | (
        {"momentum": 0.9} if name in ("SGD", "LARS") else {}
    )
    params = parameters((60, 70), (9,))
    others = copies(params)
    ours, other = getattr(optim, name)(params, **arguments), getattr(theirs, name)(others, **arguments)
    run(20, (ours, params), (other, others))
    assert furthest(params, others) < 2e-6


def test_classes_and_arguments_are_those_of_bitsandbytes() -> None:
    theirs = pytest.importorskip("bitsandbytes").optim
    names = [name for name in dir(theirs) if isinstance(getattr(theirs, name), type)]
    assert len(names) >= 41
    for name in names:
        mine = inspect.signature(getattr(optim, name).__init__).parameters
        its = inspect.signature(getattr(theirs, name).__init__).parameters
        assert [(p, q.default) for p, q in mine.items() if p != "options"] == [(p, q.default) for p, q in its.items()]


def test_all_dtypes_and_mixed_lists() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        params = [*parameters((300,), (80, 80), dtype=dtype), *parameters((80, 80), (5,), seed=1)]
        exact = [torch.nn.Parameter(p.detach().double()) for p in params]
        theirs = torch.optim.AdamW(exact, lr=1e-2)
        optimizer = optim.AdamW(params, lr=1e-2)
        give_gradients(0, params)
        for p, q in zip(params, exact, strict=True):
            q.grad = p.grad.double()
        optimizer.step()
        theirs.step()
        for p, q in zip(params, exact, strict=True):
            assert torch.equal(p.detach(), q.detach().to(p.dtype)) or furthest([p], [q]) < 2e-2


def test_strides_of_parameters_and_gradients() -> None:
    base = torch.randn(30, 40, generator=torch.Generator().manual_seed(3))
    plain, turned = torch.nn.Parameter(base.clone()), torch.nn.Parameter(base.t().contiguous().t())
    assert not turned.is_contiguous()
    first, second = optim.Adam([plain], lr=0.1), optim.Adam([turned], lr=0.1)
    for step in range(3):
        give_gradients(step, [plain])
        turned.grad = plain.grad.t().contiguous().t()
        first.step()
        second.step()
    assert torch.equal(plain, turned) and not turned.is_contiguous()


def test_parameters_that_change_between_steps() -> None:
    """New gradients, missing gradients, new memory, another dtype, new groups, overrides: the descriptors follow."""
    params = parameters((50,), (5000,), (7,))
    exact = [torch.nn.Parameter(p.detach().double()) for p in params]
    ours, theirs = optim.Adam(params, lr=1e-2), torch.optim.Adam(exact, lr=1e-2)
    for step in range(6):
        give_gradients(step, params, exact)
        if step in (1, 2):
            params[step].grad = exact[step].grad = None
        if step == 3:
            params[1].data = params[1].data.clone()
        if step == 4:
            ours.state[params[0]]["state1"] = ours.state[params[0]]["state1"].clone()
            more = parameters((12,), seed=5)
            ours.add_param_group({"params": more, "lr": 1e-1})
            params += more
            exact.append(torch.nn.Parameter(more[0].detach().double()))
            theirs.add_param_group({"params": exact[-1:], "lr": 1e-1})
            give_gradients(step, params, exact)
        if step == 5:
            ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 1e-3
        ours.step()
        theirs.step()
    assert furthest(params, exact) < 1e-5


def test_gradients_are_not_kept_alive() -> None:
    import weakref

    params = parameters((100,), (5000,))
    optimizer = optim.Adam8bit(params)
    give_gradients(0, params)
    alive = [weakref.ref(p.grad) for p in params]
    optimizer.step()
    optimizer.zero_grad()
    assert [ref() for ref in alive] == [None, None]


def test_overrides_of_single_parameters() -> None:
    manager = optim.GlobalOptimManager.get_instance()
    with pytest.raises(RuntimeError, match="get_instance"):
        optim.GlobalOptimManager()
    try:
        layer = torch.nn.Linear(100, 100, bias=False)
        big, other = parameters((100, 100), (90, 90))
        manager.register_parameters([big, other])
        manager.override_config(big, "optim_bits", 32)
        manager.override_config([other], key_value_dict={"lr": 0.0})
        manager.register_module_override(layer, "weight", {"optim_bits": 32})
        optimizer = optim.Adam([big, other, layer.weight], lr=0.1, optim_bits=8)
        before = other.detach().clone()
        run(1, (optimizer, [big, other, layer.weight]))
        assert optimizer.state[big]["state1"].dtype == torch.float32
        assert optimizer.state[other]["state1"].dtype == torch.uint8
        assert optimizer.state[layer.weight]["state1"].dtype == torch.float32
        assert torch.equal(other.detach(), before)
        manager.override_config(other, "lr", 0.1)
        run(1, (optimizer, [big, other, layer.weight]))
        assert not torch.equal(other.detach(), before)
    finally:
        manager.initialize()


def test_small_parameters_have_states_in_fp32() -> None:
    params = parameters((4095,), (4096,), (10,))
    optimizer = optim.AdamW8bit(params)
    run(1, (optimizer, params))
    assert [optimizer.state[p]["state1"].dtype for p in params] == [torch.float32, torch.uint8, torch.float32]
    optimizer = optim.AdamW8bit(params, min_8bit_size=1)
    run(1, (optimizer, params))
    assert all(optimizer.state[p]["state1"].dtype == torch.uint8 for p in params)


def test_second_moments_use_all_codes() -> None:
    for name in ("RMSprop8bit", "Adagrad8bit"):
        params = parameters((5000,))
        optimizer = getattr(optim, name)(params)
        run(3, (optimizer, params))
        state = optimizer.state[params[0]]
        assert float(state["qmap1"].min()) >= 0  # the unsigned map
        assert int(state["state1"].min()) < 128


@pytest.mark.parametrize("name", ["LAMB8bit", "LARS8bit"])
def test_trust_ratio_with_8bit_states(name: str) -> None:
    params = [torch.nn.Parameter(0.1 * p.detach()) for p in parameters((100, 100))]
    arguments: dict[str, Any] = {"momentum": 0.9} if name == "LARS8bit" else {}
    before = params[0].detach().clone()
    optimizer = getattr(optim, name)(params, lr=1.0, **arguments)
    run(1, (optimizer, params))
    moved = float((params[0].detach() - before).norm() / before.norm())
    limit = 0.02 if name == "LARS8bit" else 1.0
    assert moved == pytest.approx(limit, rel=1e-3)
    assert float(optimizer.state[params[0]]["unorm_vec"]) > 0


def test_update_norms_of_lion_are_of_this_step() -> None:
    params = parameters((10, 10))
    optimizer = optim.Optimizer1State("lion", params, lr=1e-3, betas=(0.9, 0.99), max_unorm=1e-3)
    run(3, (optimizer, params))
    assert float(optimizer.state[params[0]]["unorm_vec"]) == 10.0  # 100 signs


@pytest.mark.parametrize("name", ["AdEMAMix32bit", "PagedAdEMAMix32bit", "PagedAdEMAMix", "PagedAdEMAMix8bit"])
def test_every_variant_of_ademamix_works(name: str) -> None:
    params = parameters((400, 300), (10,))
    optimizer = getattr(optim, name)(params)
    run(2, (optimizer, params))
    assert optimizer.state[params[0]]["state1"].shape == (2, 400, 300)


def test_zero_gradients_do_not_move_parameters() -> None:
    params = parameters((5000,))
    optimizer = optim.Adam8bit(params, lr=1e-1)
    for _ in range(3):
        params[0].grad = torch.zeros(5000)
        before = params[0].detach().clone()
        optimizer.step()
        assert torch.equal(params[0].detach(), before)
    params[0].grad[0] = 1.0  # one element moves; those beside it in the block stay
    optimizer.step()
    assert torch.equal(params[0].detach()[1:], before[1:]) and params[0][0] != before[0]


def test_skip_zeros() -> None:
    for bits in (8, 32):
        params = parameters((5000,))
        optimizer = optim.Optimizer2State("adam", params, lr=0.1, optim_bits=bits, skip_zeros=True)
        run(1, (optimizer, params))
        before = params[0].detach().clone()
        params[0].grad[:2500] = 0
        optimizer.step()
        assert torch.equal(params[0].detach()[:2500], before[:2500])
        assert not bool((params[0].detach()[2500:] == before[2500:]).any())


def test_gradients_are_clipped_without_being_written() -> None:
    params = parameters((300, 30), (40,))
    others = copies(params)
    ours, theirs = (
        optim.SGD(params, lr=0.1, momentum=0.9, max_grad_norm=1.0),
        torch.optim.SGD(others, lr=0.1, momentum=0.9),
    )
    for step in range(3):
        give_gradients(step, params, others)
        before = params[0].grad.clone()
        ours.step()
        norm = torch.nn.utils.clip_grad_norm_(others, 1.0)
        theirs.step()
        assert torch.equal(params[0].grad, before) and ours.grad_norm == pytest.approx(float(norm), rel=1e-6)
    assert furthest(params, others) < 1e-6


def test_pytorch_lars_is_lars() -> None:
    params = parameters((20, 30), (5,))
    others = copies(params)
    ours = optim.PytorchLARS(params, lr=0.1, momentum=0.9, weight_decay=0.1)
    run(10, (ours, params), (optim.LARS(others, lr=0.1, momentum=0.9, weight_decay=0.1), others))
    assert furthest(params, others) < 1e-5


def test_closure_and_lr_schedule() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 3.0
    schedule.step()
    optimizer.step(closure)
    assert optimizer.param_groups[0]["lr"] == 0.05
    torch.testing.assert_close(p.detach(), torch.full((3,), 0.8 - 0.05 * (0.9 * 2 + 1.6)))
