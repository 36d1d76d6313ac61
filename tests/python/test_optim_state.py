# SPDX-License-Identifier: MIT
"""Optimizer states: checkpoints with bitsandbytes both ways, copies, pages, GradScaler, unusual gradients, bad
input."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import libbnb  # noqa: E402
import libbnb.optim as optim  # noqa: E402
from libbnb.optim import _states  # noqa: E402
from test_optim import copies, furthest, give_gradients, parameters, run  # noqa: E402

pytestmark = pytest.mark.torch

CLASSES: list[tuple[str, dict[str, Any]]] = [
    ("Adam8bit", {}),
    ("AdamW", {}),
    ("AdEMAMix8bit", {}),
    ("AdEMAMix", {}),
    ("Lion8bit", {}),
    ("SGD8bit", {"lr": 1e-3, "momentum": 0.9}),
    ("RMSprop8bit", {}),
    ("Adagrad8bit", {}),
    ("LAMB", {}),
    ("LARS", {"lr": 1e-3, "momentum": 0.9}),
]


@pytest.mark.parametrize(("name", "arguments"), CLASSES)
def test_checkpoints_of_bitsandbytes(name: str, arguments: dict[str, Any]) -> None:
    theirs = pytest.importorskip("bitsandbytes").optim
    params = parameters((80, 80), (10,), dtype=torch.bfloat16)
    others = copies(params)
    ours, other = getattr(optim, name)(params, **arguments), getattr(theirs, name)(others, **arguments)
    run(3, (other, others))
    ours.load_state_dict(other.state_dict())
    assert same(ours.state_dict(), other.state_dict())
    run(1, (ours, params))
    back = getattr(theirs, name)(others, **arguments)
    back.load_state_dict(ours.state_dict())
    assert same(back.state_dict(), ours.state_dict())
    run(1, (back, others))


def test_states_of_new_optimizers_look_like_those_of_bitsandbytes() -> None:
    theirs = pytest.importorskip("bitsandbytes").optim
    for name, arguments in CLASSES:
        params = parameters((80, 80), (10,))
        others = copies(params)
        ours, other = getattr(optim, name)(params, **arguments), getattr(theirs, name)(others, **arguments)
        run(1, (ours, params), (other, others))
        assert shapes(ours.state_dict()) == shapes(other.state_dict())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def shapes(a: Any) -> Any:
    if isinstance(a, torch.Tensor):
        return a.dtype, a.shape
    if isinstance(a, dict):
        return {key: shapes(value) for key, value in a.items()}
    return [shapes(x) for x in a] if isinstance(a, list) else a


@pytest.mark.parametrize("name", ["AdamW8bit", "AdEMAMix", "Lion8bit", "PagedAdamW"])
def test_saved_loaded_copied_and_pickled(name: str) -> None:
    params = parameters((400, 300), (10,))
    optimizer = getattr(optim, name)(params, nonfinite="skip_element")
    run(2, (optimizer, params))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    loaded_params = copies(params)
    loaded = getattr(optim, name)(loaded_params)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    copied_params, copied = copy.deepcopy((params, optimizer))
    pickled_params, pickled = pickle.loads(pickle.dumps((params, optimizer)))
    assert pickled.nonfinite == copied.nonfinite == "skip_element"
    run(2, (optimizer, params), (loaded, loaded_params), (copied, copied_params), (pickled, pickled_params))
    for others, other in ((loaded_params, loaded), (copied_params, copied), (pickled_params, pickled)):
        assert furthest(params, others) == 0
        assert same(other.state_dict()["state"], optimizer.state_dict()["state"])


def test_loading_does_not_share_memory_and_keeps_dtypes() -> None:
    params = parameters((5000,), dtype=torch.bfloat16)
    optimizer = optim.AdamW(params)
    run(2, (optimizer, params))
    saved = copy.deepcopy(optimizer.state_dict())
    other_params = copies(params)
    other = optim.AdamW(other_params)
    other.load_state_dict(optimizer.state_dict())
    run(1, (other, other_params))
    assert same(optimizer.state_dict(), saved)
    state = other.state[other_params[0]]
    assert state["state1"].dtype == torch.float32 and state["step"] == 3
    saved["param_groups"][0]["params"].append(7)
    with pytest.raises(ValueError, match="doesn't match the size"):
        other.load_state_dict(saved)
    saved["param_groups"] *= 2
    with pytest.raises(ValueError, match="different number of parameter groups"):
        other.load_state_dict(saved)


def test_block_size_of_old_checkpoints() -> None:
    """bitsandbytes had blocks of 2048 before 0.44."""
    params = parameters((5000,))
    optimizer = optim.Lion8bit(params)
    run(1, (optimizer, params))
    values = torch.randn(5000)
    codes, state = libbnb.quantize_blockwise(values, blocksize=2048)
    optimizer.state[params[0]].update(state1=codes, absmax1=state.absmax)
    run(1, (optimizer, params))
    mine = optimizer.state[params[0]]
    assert mine["absmax1"].numel() == 3
    after = libbnb.dequantize_blockwise(mine["state1"], absmax=mine["absmax1"], blocksize=2048)
    assert float((after - values).abs().mean()) < 0.05


# -- pages ------------------------------------------------------------------------------------------------------------


def test_pages_are_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for how in ("argument", "environment"):
        params = parameters((400, 300), (10,))
        others = copies(params)
        if how == "environment":
            monkeypatch.setenv("BNB_PAGED_DIRECTORY", str(tmp_path))
        options = {"paged_directory": str(tmp_path)} if how == "argument" else {}
        paged, plain = optim.PagedAdamW(params, **options), optim.AdamW(others)
        run(3, (paged, params), (plain, others))
        assert furthest(params, others) == 0
        states = [paged.state[p]["state1"] for p in params]
        assert [_states.is_paged(state) for state in states] == [True, False]
        assert os.listdir(tmp_path) == []
        maps = Path("/proc/self/maps")
        if maps.exists():
            assert str(tmp_path) in maps.read_text()
        del paged, states
        if maps.exists():
            assert str(tmp_path) not in maps.read_text()


def test_pages_come_back_from_checkpoints(tmp_path: Path) -> None:
    params = parameters((400, 300))
    optimizer = optim.PagedAdamW8bit(params, paged_directory=str(tmp_path))
    run(2, (optimizer, params))
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    assert _states.is_paged(optimizer.state[params[0]]["state1"])
    assert same(optimizer.state_dict(), saved)
    run(1, (optimizer, params))


def test_states_on_a_mac_are_no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    p: Any = SimpleNamespace(shape=(200_000,), numel=lambda: 200_000, device=torch.device("mps"))
    made: list[Any] = []
    monkeypatch.setattr(torch, "zeros", lambda shape, dtype, device: made.append((shape, dtype, device)))
    _states.zeros(p, 1, torch.uint8, paged=True, directory=None)
    assert made == [((200_000,), torch.uint8, p.device)]


def test_paged_steps_are_cut_and_fetched_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from libbnb.optim import optimizer as module

    monkeypatch.setattr(module, "_PAGED_BYTES_PER_CALL", 2_000_000)
    fetched: list[Any] = []
    prefetch = _states.prefetch
    monkeypatch.setattr(_states, "prefetch", lambda p, state: (fetched.append(state), prefetch(p, state)))
    params = parameters(*[(400, 300)] * 4)
    others = copies(params)
    paged, plain = optim.PagedAdam(params, paged_directory=str(tmp_path)), optim.Adam(others)
    run(2, (paged, params), (plain, others))
    assert furthest(params, others) == 0
    assert len(paged._plans[0].batches) == 2  # two parameters each: a parameter has states of 2 x 480,000 bytes
    assert len(fetched) == 2 * 8


def test_no_such_directory() -> None:
    params = parameters((400, 300))
    optimizer = optim.PagedLion(params, paged_directory="/no/such/place")
    with pytest.raises(ValueError, match="there is no directory /no/such/place"):
        run(1, (optimizer, params))


def test_managed_memory_of_a_device() -> None:
    """The CPU's is ordinary memory; that of a GPU comes from the same calls."""
    p = torch.zeros(10)
    memory = _states.managed(p, 4000)
    state = torch.frombuffer(memory, dtype=torch.float32)
    assert state.numel() == 1000 and not bool(state.any())
    _states._pages[state] = memory
    _states.prefetch(p, state)


# -- GradScaler, NaN and infinity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[(5000,)], [(5000,), (10,)]])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_unusual_gradients_are_reported_and_skipped(sizes: list[tuple[int, ...]], bad: float) -> None:
    params = parameters(*sizes)
    before = copies(params)
    optimizer = optim.AdamW8bit(params, nonfinite="skip_step")
    give_gradients(0, params)
    params[-1].grad[3] = bad
    optimizer.step()
    assert optimizer.found_nonfinite and furthest(params, before) == 0
    assert all(optimizer.state[p]["step"] == 0 for p in params)
    run(1, (optimizer, params))
    assert not optimizer.found_nonfinite and furthest(params, before) > 0
    assert all(optimizer.state[p]["step"] == 1 for p in params)
    for mode in ("propagate", "skip_element"):
        params = parameters(*sizes)
        before = copies(params)
        optimizer = optim.AdamW8bit(params, nonfinite=mode)
        give_gradients(0, params)
        params[-1].grad[3] = bad
        optimizer.step()
        assert optimizer.found_nonfinite
        assert torch.equal(params[-1][3], before[-1][3]) is (mode == "skip_element")
        assert bool(params[-1][3].isnan()) is (mode == "propagate")


def test_grad_scaler() -> None:
    params = parameters((5000,), (10,))
    others = copies(params)
    optimizer, plain = optim.AdamW8bit(params, lr=1e-2), optim.AdamW8bit(others, lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    for step in range(4):
        give_gradients(step, params, others)
        for p in params:
            p.grad *= 1024.0
        if step == 1:
            params[1].grad[0] = float("inf")
        elif step != 2:
            plain.step()
        if step == 2:  # unscaled by the caller; and the scale has been halved
            for p in params:
                p.grad /= 2
            scaler.unscale_(optimizer)
            plain.step()
        elif step == 3:
            for p in params:
                p.grad /= 2
        scaler.scale(torch.ones(()))
        scaler.step(optimizer)
        assert optimizer.found_nonfinite is (step == 1)
        scaler.update()
    assert scaler.get_scale() == 512.0
    assert furthest(params, others) == 0
    assert not hasattr(optimizer, "grad_scale") and optimizer.state[params[0]]["step"] == 3


# -- bad input --------------------------------------------------------------------------------------------------------


def test_arguments_that_are_wrong() -> None:
    p = parameters((10,))
    for name in ("Adam", "AdamW8bit", "Lion", "RMSprop", "Adagrad", "LAMB", "AdEMAMix"):
        cls = getattr(optim, name)
        with pytest.raises(ValueError, match="Invalid learning rate: -1"):
            cls(p, lr=-1.0)
        with pytest.raises(ValueError, match="Invalid weight_decay value: -1"):
            cls(p, weight_decay=-1.0)
        with pytest.raises(TypeError, match="momentun"):
            cls(p, momentun=0.9)
        with pytest.raises(ValueError, match="nonfinite is 'ignore'"):
            cls(p, nonfinite="ignore")
    with pytest.raises(ValueError, match="Invalid beta parameter at index 1: 1"):
        optim.Adam(p, betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="Invalid beta parameter at index 0: -0"):
        optim.Lion(p, betas=(-0.1, 0.9))
    with pytest.raises(ValueError, match="Invalid epsilon"):
        optim.Adam(p, eps=-1.0)
    assert optim.Optimizer2State("adam", p, betas="(0.8, 0.9)").param_groups[0]["betas"] == [0.8, 0.9]
    with pytest.raises(ValueError, match="three numbers"):
        optim.AdEMAMix(p, betas=(0.9, 0.99))
    for make, message in (
        (lambda: optim.Adam8bit(p, amsgrad=True), "Adam8bit does not support amsgrad=True"),
        (lambda: optim.PagedAdam8bit(p, optim_bits=8), "only supports optim_bits=32"),
        (lambda: optim.Adagrad8bit(p, optim_bits=32), "only supports optim_bits=8"),
        (lambda: optim.Adagrad(p, lr_decay=0.1), "lr_decay"),
        (lambda: optim.Adagrad32bit(p, initial_accumulator_value=0.1), "initial_accumulator_value"),
        (lambda: optim.LAMB8bit(p, max_unorm=0.5), "only supports max_unorm"),
        (lambda: optim.Optimizer2State("adamax", p), "optimizer_name is 'adamax'"),
        (lambda: optim.Optimizer1State("adam", p), "belongs to Optimizer2State"),
        (lambda: optim.Adam(p, max_grad_norm=-1.0), "max_grad_norm"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    for make in (
        lambda: optim.SGD(p, lr=0.1),
        lambda: optim.LARS8bit(p, lr=0.1),
        lambda: optim.RMSprop(p, alpha=0),
        lambda: optim.RMSprop8bit(p, centered=True),
        lambda: optim.Adam(p, optim_bits=4),
    ):
        with pytest.raises(NotImplementedError):
            make()
    with pytest.warns(UserWarning, match="nesterov is ignored"):
        optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)


def test_steps_that_cannot_be_made_change_nothing() -> None:
    def attempt(change: Callable[[Any, list[Any]], None], message: str, dtype: Any = torch.float32) -> None:
        params = parameters((5000,), (10,), dtype=dtype)  # two batches: the second one is at fault
        optimizer = optim.AdamW8bit(params)
        run(1, (optimizer, params))
        before, saved = copies(params), copy.deepcopy(optimizer.state_dict()["state"])
        give_gradients(1, params)
        change(optimizer, params)
        with pytest.raises(libbnb.InvalidArgument, match=message):
            optimizer.step()
        assert furthest(params[:1], before[:1]) == 0
        assert same(optimizer.state_dict()["state"][0], saved[0])

    def shorten(optimizer: Any, params: list[Any]) -> None:
        state = optimizer.state[params[1]]
        state["state2"] = state["state2"][:9].clone()

    def lose(optimizer: Any, params: list[Any]) -> None:
        del optimizer.state[params[1]]["state2"]

    def narrow(optimizer: Any, params: list[Any]) -> None:
        params[1].data = params[1].data[:5]  # the same address

    def set_lr(optimizer: Any, params: list[Any]) -> None:
        optimizer.param_groups[0]["lr"] = -1.0

    def set_betas(optimizer: Any, params: list[Any]) -> None:
        optimizer.param_groups[0]["betas"] = (0.9, 1.5)

    def sparse(optimizer: Any, params: list[Any]) -> None:
        params[1].grad = params[1].grad.to_sparse()

    attempt(shorten, "parameter 1 of group 0: state2 has shape")
    attempt(lose, "parameter 1 of group 0: its state has no state2")
    attempt(narrow, "parameter 1 of group 0.grad has shape")
    attempt(set_lr, "lr is -1")
    attempt(set_betas, "beta2 is 1.5")
    attempt(sparse, "must be dense")
    p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    p.grad = torch.ones(3, dtype=torch.float64)
    with pytest.raises(libbnb.InvalidArgument, match="float64"):
        optim.Adam([p]).step()


def test_without_torch(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = "import sys; sys.modules['torch'] = None\nimport libbnb\nimport libbnb.optim"
    result = python(code)
    assert "libbnb.optim needs PyTorch: pip install libbnb[torch]" in result.stderr


def test_import_of_libbnb_does_not_import_torch(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert python("import libbnb, sys; assert 'torch' not in sys.modules").returncode == 0
