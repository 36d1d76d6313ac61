# SPDX-License-Identifier: MIT
"""Layers that mix int8 and floats: outlier columns that are known beforehand, and SwitchBack."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from layers import linear, pickled, x  # noqa: E402
from libbnb import nn  # noqa: E402

pytestmark = pytest.mark.torch


def _with_outliers() -> Any:
    source = linear()
    with torch.no_grad():
        source.weight[:, [3, 70]] *= 30
    return source


def _error(y: Any, expected: Any) -> float:
    return float(((y - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outlier_aware(dtype: Any) -> None:
    """Columns with large weights stay floats, and the rest is closer for it."""
    source = _with_outliers()
    layer = nn.OutlierAwareLinear.from_linear(source)
    assert layer.outlier_indices.tolist() == [3, 70] and layer.weight_int8.dtype == torch.int8
    assert not layer.weight_int8[:, [3, 70]].any()
    a = x(8, dtype=dtype)
    with torch.no_grad():
        expected = source(a.float())
        y = layer(a)
        plain = nn.Linear8bitLt.from_linear(source)(a)
    assert y.dtype == dtype and _error(y.float(), expected) < 0.012
    if dtype == torch.float32:
        assert _error(y, expected) < 0.6 * _error(plain, expected)


def test_outlier_aware_life() -> None:
    """Quantized by the first call, copied, pickled, saved and loaded."""
    source = _with_outliers()
    layer = nn.OutlierAwareLinear(128, 96)
    layer.load_state_dict(source.state_dict())
    assert not layer.is_quantized
    with torch.no_grad():
        y = layer(x())
        assert layer.is_quantized and torch.equal(y, nn.OutlierAwareLinear.from_linear(source)(x()))
        other = nn.OutlierAwareLinear(128, 96)
        other.load_state_dict(layer.state_dict())
        for copied in (copy.deepcopy(layer), pickled(layer), other):
            assert torch.equal(copied(x()), y)
    a = x().requires_grad_()
    layer(a).sum().backward()
    weight = source.weight.sum(0).expand_as(a)
    assert _error(a.grad, weight) < 0.02
    none = nn.OutlierAwareLinear.from_linear(linear(), threshold=1e9)
    assert none.outlier_indices.numel() == 0 and _error(none(x()), linear()(x())) < 0.02


def test_outlier_tracer() -> None:
    """One forward pass tells which columns; layers made afterwards use them."""
    model = torch.nn.Sequential(linear(), torch.nn.ReLU(), linear(96, 64))
    with torch.no_grad():
        model[2].weight[:, 11] *= 40
    tracer = nn.OutlierTracer.get_instance()
    tracer.initialize(model)
    try:
        a = x(16)
        a[0, 5] = 7.0
        model(a)
        assert tracer.is_initialized() and 5 in tracer.get_outliers(model[0].weight).tolist()
        assert tracer.get_outliers(model[2].weight).tolist() == [11]
        assert nn.OutlierAwareLinear.from_linear(model[2]).outlier_indices.tolist() == [11]
        model(a)
        assert not tracer.hooks
        assert tracer.get_outliers(torch.empty(2, 2)) is None
    finally:
        tracer.initialize(torch.nn.Module())
    with pytest.raises(RuntimeError, match="get_instance"):
        nn.OutlierTracer()


def test_find_outlier_dims() -> None:
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    weight[:, 9] *= 20
    assert nn.find_outlier_dims(weight).tolist() == [9]
    assert nn.find_outlier_dims(weight.t(), reduction_dim=1).tolist() == [9]
    assert nn.find_outlier_dims(weight, topk=1).tolist() == [9]


SWITCHBACK = {
    "global": nn.SwitchBackLinearGlobal,
    "vectorwise": nn.SwitchBackLinearVectorwise,
}


@pytest.mark.parametrize("mem_efficient", [False, True])
@pytest.mark.parametrize("name", SWITCHBACK)
def test_switchback(name: str, mem_efficient: bool) -> None:
    """Close to a float layer, forwards and backwards; the gradient of the weight is that of floats."""
    source = linear()
    layer = SWITCHBACK[name].from_linear(copy.deepcopy(source), mem_efficient=mem_efficient).train()
    results: list[Any] = []
    for module in (source, layer):
        a = x(6).view(2, 3, 128).requires_grad_()
        y = module(a)
        (y * torch.linspace(-1, 1, 96)).sum().backward()
        results.append((y, a.grad, module.weight.grad, module.bias.grad))
    (y0, a0, w0, b0), (y1, a1, w1, b1) = results
    assert _error(y1, y0) < 0.03 and _error(a1, a0) < 0.03
    assert _error(w1, w0) < (0.01 if mem_efficient else 1e-5) and torch.allclose(b1, b0)
    layer.eval()
    layer.prepare_for_eval()
    with torch.no_grad():
        assert torch.equal(layer(x(6)), y1.view(6, 96))
    layer.train()
    assert layer._codes is None


def test_switchback_learns() -> None:
    """A few steps bring the loss down as they do in floats."""
    losses: list[list[float]] = []
    target = x(64) @ torch.randn(128, 96, generator=torch.Generator().manual_seed(4))
    for make in (lambda s: s, nn.SwitchBackLinear.from_linear):
        layer = make(linear())
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        found: list[float] = []
        for _ in range(30):
            loss = (layer(x(64)) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        losses.append(found)
    floats, int8 = losses
    assert int8[-1] < 0.1 * int8[0] and abs(int8[-1] - floats[-1]) < 0.05 * floats[0]
