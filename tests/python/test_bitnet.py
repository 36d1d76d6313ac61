# SPDX-License-Identifier: MIT
"""BitLinear, its adapter and its straight-through estimators, against the formulas in PyTorch's own operations."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from libbnb import InvalidArgument  # noqa: E402
from libbnb.nn import (  # noqa: E402
    BitLinear,
    BitNetAdapter,
    BitNetConfig,
    int8_ste,
    pack_model,
    replace_with_bitlinear,
    ternary_ste,
)

pytestmark = pytest.mark.torch

CONFIGS = {
    "default": BitNetConfig(),
    "groups": BitNetConfig(group_size=32),
    "per-tensor": BitNetConfig(per_token=False),
    "4-bit": BitNetConfig(activation_bits=4),
    "no-norm": BitNetConfig(rms_norm=False),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)


def layer(config: BitNetConfig | None = None, bias: bool = True, dtype: Any = torch.float32) -> Any:
    torch.manual_seed(0)
    return BitLinear(128, 48, bias, config, dtype=dtype)


def activations(*shape: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(*shape, 128, generator=torch.Generator().manual_seed(1)).to(dtype)


def quantized_weight(weight: Any, group_size: int | None) -> Any:
    """AbsMean, in float64 where the sum is concerned."""
    groups = weight.float().reshape(1 if group_size is None else -1, group_size or weight.numel())
    scale = groups.abs().double().mean(1, keepdim=True).float()
    return ((groups * (1 / scale)).round().clamp(-1, 1) * scale).reshape(weight.shape)


def quantized_activations(x: Any, config: BitNetConfig) -> Any:
    rows = x.float().reshape(-1, x.shape[-1] if config.per_token else x.numel())
    largest = 2 ** (config.activation_bits - 1) - 1
    absmax = rows.abs().amax(1, keepdim=True)
    return ((rows * (largest / absmax)).round() * absmax / largest).reshape(x.shape)


def expected(made: Any, x: Any, weight: Any) -> Any:
    """What the layer computes, in float64 behind the rounding."""
    if made.config.rms_norm:
        x = torch.nn.functional.rms_norm(x, (x.shape[-1],), eps=made.config.eps)
    values = quantized_activations(x, made.config).double()
    y = values @ quantized_weight(weight, made.config.group_size).double().t()
    return y if made.bias is None else y + made.bias.double()


@each_config
@each_dtype
def test_forward(config: BitNetConfig, dtype: Any) -> None:
    made = layer(config)
    x = activations(3, 7, dtype=dtype)
    y = made(x)
    assert y.dtype == dtype and y.shape == (3, 7, 48)
    want = expected(made, x, made.weight.detach())
    # One rounding to the dtype, and those of fp32: K products and their sum, the scales.
    scale = want.abs().max()
    assert (y.double() - want).abs().max() <= scale * (torch.finfo(dtype).eps + 136 * 2.0**-24)


@each_config
@each_dtype
def test_packed_is_the_same(config: BitNetConfig, dtype: Any) -> None:
    """Training's forward pass, the packed product with gradients and the one without have the same bits."""
    made = layer(config)
    x = activations(5, dtype=dtype)
    trained = made(x)
    assert made.pack() is made and made.packed and made.weight.dtype == torch.uint8 and made.weight.shape == (48, 32)
    assert torch.equal(made(x.clone().requires_grad_()), trained)
    with torch.no_grad():
        assert torch.equal(made(x), trained)
    assert torch.equal(made.pack()(x), trained)  # a second time changes nothing


@each_config
def test_gradients(config: BitNetConfig) -> None:
    """Those of a product of the quantized numbers, as if they were what is learned."""
    made, x = layer(config), activations(6).requires_grad_()
    out = torch.randn(6, 48, generator=torch.Generator().manual_seed(2))
    made(x).backward(out)
    other = x.detach().clone().requires_grad_()
    normed = torch.nn.functional.rms_norm(other, (128,), eps=config.eps) if config.rms_norm else other
    values = normed + (quantized_activations(normed.detach(), config) - normed.detach())
    weight = made.weight.detach().clone().requires_grad_()
    used = weight + (quantized_weight(weight.detach(), config.group_size) - weight.detach())
    torch.nn.functional.linear(values, used, made.bias.detach()).backward(out)
    for ours, theirs in ((x.grad, other.grad), (made.weight.grad, weight.grad), (made.bias.grad, out.sum(0))):
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()  # fp32 sums in another order


def test_no_gradients_through_rounding() -> None:
    made, x = layer(BitNetConfig(use_ste=False)), activations(2).requires_grad_()
    made(x).sum().backward()
    assert (made.weight.grad is None and x.grad is None) or not x.grad.any()
    assert made.bias.grad is not None


def test_packed_gradients() -> None:
    """Packed weights do not learn; what comes before them does."""
    made, x = layer().pack(), activations(2).requires_grad_()
    made(x).sum().backward()
    assert made.weight.grad is None and x.grad.abs().sum() > 0 and made.bias.grad is not None


@each_dtype
def test_straight_through(dtype: Any) -> None:
    x = activations(4, dtype=dtype).requires_grad_()
    for function, want in (
        (lambda: ternary_ste(x), quantized_weight(x.detach(), None)),
        (lambda: ternary_ste(x, 32), quantized_weight(x.detach(), 32)),
        (lambda: int8_ste(x), quantized_activations(x.detach(), BitNetConfig())),
        (lambda: int8_ste(x, per_token=False), quantized_activations(x.detach(), BitNetConfig(per_token=False))),
        (lambda: int8_ste(x, activation_bits=3), quantized_activations(x.detach(), BitNetConfig(activation_bits=3))),
    ):
        x.grad = None
        y = function()
        assert y.dtype == dtype and (y.float() - want).abs().max() <= torch.finfo(dtype).eps * want.abs().max()
        y.backward(torch.full_like(y, 2.0))
        assert torch.equal(x.grad, torch.full_like(x, 2.0))


def test_training_learns() -> None:
    """A layer finds a ternary matrix from examples."""
    torch.manual_seed(3)
    target = torch.randint(-1, 2, (8, 32)).float()
    made = BitLinear(32, 8, bias=False, config=BitNetConfig(rms_norm=False))
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    losses = []
    for _ in range(300):
        x = torch.randn(64, 32)
        loss = (made(x) - x @ target.t()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]
    assert (made.dequantized_weight().sign() == target).float().mean() > 0.98


def test_from_linear() -> None:
    linear = torch.nn.Linear(128, 48)
    made = BitLinear.from_linear(linear, BitNetConfig(rms_norm=False))
    assert made.weight is linear.weight and made.bias is linear.bias and not made.packed
    made.pack()
    assert linear.weight.dtype == torch.float32  # packing replaces a parameter, it does not change it


def test_size_and_zeros() -> None:
    made = layer()
    weight = quantized_weight(made.weight.detach(), None)
    zeros = float((weight == 0).float().mean())
    assert made.sparsity() == pytest.approx(zeros, abs=0) and 0.2 < zeros < 0.5
    ratio = 128 * 48 * 4 / (128 * 48 / 4 + 4)
    assert made.compression_ratio() == ratio and made.pack().compression_ratio() == ratio
    assert made.sparsity() == zeros and made.compression_ratio(torch.bfloat16) == ratio / 2
    assert layer(BitNetConfig(group_size=32)).compression_ratio() == 128 * 48 * 4 / (128 * 48 / 4 + 4 * 4 * 48)


def test_zero_weights() -> None:
    made = layer(BitNetConfig(group_size=32), bias=False)
    with torch.no_grad():
        made.weight[3] = 0
    y = made.pack()(activations(2))
    assert not y[:, 3].any() and torch.isfinite(y).all()
    zero = made(torch.zeros(2, 128))
    assert not zero.any()


def test_nan_weights() -> None:
    made = layer(BitNetConfig(group_size=32), bias=False)
    with torch.no_grad():
        made.weight[3, 40] = float("nan")
    y = made.pack()(activations(2))
    assert y[:, 3].isnan().all() and torch.isfinite(y[:, :3]).all()


def test_state_dicts() -> None:
    """Packed or not, a layer becomes what it has loaded."""
    x = activations(2)
    for config in CONFIGS.values():
        source = layer(config)
        for packed in (False, True):
            if packed:
                source.pack()
            state = source.state_dict()
            assert set(state) == ({"weight", "bias", "weight_scale"} if packed else {"weight", "bias"})
            for target in (layer(config), layer(config).pack()):
                torch.nn.init.zeros_(target.bias)
                target.load_state_dict(state)
                assert target.packed == packed and torch.equal(target(x), source(x))
                target = layer(config)
                target.load_state_dict(copy.deepcopy(state), assign=True)
                assert torch.equal(target(x), source(x))


def test_wrong_state_dicts() -> None:
    state = layer(BitNetConfig(group_size=32)).pack().state_dict()
    with pytest.raises(RuntimeError, match="weight_scale"):
        layer().load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        BitLinear(64, 48).load_state_dict(state)


def test_copies_and_casts() -> None:
    x = activations(2)
    for made in (layer(), layer().pack()):
        y = made(x)
        assert torch.equal(copy.deepcopy(made)(x), y)
        assert torch.equal(pickle.loads(pickle.dumps(made))(x), y)
    packed = layer(bias=False).pack()
    y = packed(x)
    assert packed.half().weight_scale.dtype == torch.float32 and packed.weight.dtype == torch.uint8
    assert torch.equal(packed(x), y)
    floats = packed.unpack()
    assert floats.weight.dtype == torch.float32 and floats.weight.requires_grad and not floats.packed
    assert torch.equal(floats.weight, layer().dequantized_weight())


def test_models() -> None:
    torch.manual_seed(0)
    shared = torch.nn.Linear(32, 32)
    model = torch.nn.ModuleDict(
        {"a": shared, "b": shared, "c": torch.nn.Linear(32, 16), "lm_head": torch.nn.Linear(32, 8)}
    )
    assert replace_with_bitlinear(model) is model
    assert isinstance(model["a"], BitLinear) and model["b"] is model["a"] and type(model["lm_head"]) is torch.nn.Linear
    assert pack_model(model) is model and model["c"].packed
    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 8))
    replace_with_bitlinear(model, BitNetConfig(group_size=8), ["1"])
    assert model[0].config.group_size == 8 and type(model[1]) is torch.nn.Linear
    assert isinstance(replace_with_bitlinear(torch.nn.Linear(32, 8)), BitLinear)


def test_adapter() -> None:
    """At first it adds nothing; then it learns, and its base does not."""
    linear = torch.nn.Linear(128, 48)
    made = BitNetAdapter.from_linear(linear, BitNetConfig(rms_norm=False), r=4, lora_alpha=8)
    x = activations(6)
    assert torch.equal(made(x), made.base(x)) and made.base.packed and linear.weight.dtype == torch.float32
    assert {name for name, p in made.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert made.num_parameters() == 4 * (128 + 48) and made.compression_ratio() < made.base.compression_ratio()
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    target = linear(x).detach()
    losses = []
    for _ in range(60):
        loss = (made(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    want = made.base(x) + x @ made.delta_weight().t()
    assert (made(x) - want).abs().max() < 1e-4 * want.abs().max()
    made.freeze()
    assert not any(p.requires_grad for p in made.parameters())
    made.unfreeze()
    assert made.lora_A.requires_grad and not made.base.weight.requires_grad
    other = BitNetAdapter.from_linear(torch.nn.Linear(128, 48), BitNetConfig(rms_norm=False), r=4, lora_alpha=8)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(x), made(x))


def test_bad_settings() -> None:
    for settings, error in (
        ({"group_size": 0}, "group_size"),
        ({"activation_bits": 1}, "activation_bits"),
        ({"activation_bits": 9}, "activation_bits"),
        ({"eps": -1.0}, "eps"),
        ({"eps": float("nan")}, "eps"),
    ):
        with pytest.raises(InvalidArgument, match=error):
            BitNetConfig(**settings)
    for settings in ({"per_token": 1}, {"use_ste": None}, {"group_size": 2.0}, {"activation_bits": True}):
        with pytest.raises(TypeError):
            BitNetConfig(**settings)
    with pytest.raises(InvalidArgument, match="must divide rows of 128"):
        BitLinear(128, 8, config=BitNetConfig(group_size=48))
    with pytest.raises(InvalidArgument, match="multiple of 4"):
        BitLinear(126, 8)
    with pytest.raises(InvalidArgument, match="must divide"):
        ternary_ste(torch.ones(2, 6), 4)
    with pytest.raises(InvalidArgument, match="no settings"):
        BitNetConfig.from_dict({"groupsize": 3})
    assert BitNetConfig.from_dict(BitNetConfig(group_size=64).to_dict()) == BitNetConfig(group_size=64)
    with pytest.raises(TypeError, match="must be a BitLinear"):
        BitNetAdapter(torch.nn.Linear(8, 8))  # type: ignore[arg-type]
    for settings in ({"r": 0}, {"lora_dropout": 1.0}):
        with pytest.raises(InvalidArgument):
            BitNetAdapter(layer(), **settings)
    with pytest.raises(RuntimeError):
        layer()(torch.ones(2, 64))


@pytest.mark.parametrize("packed", [False, True])
def test_compile(packed: bool) -> None:
    made = layer().pack() if packed else layer()
    x = activations(3)
    want = made(x)
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), want)
    with torch.no_grad():
        assert torch.equal(compiled(x), want)
