# SPDX-License-Identifier: MIT
"""Layers of libbnb beside those of bitsandbytes: the same bits in quantized weights, and each other's state dicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("bitsandbytes")

from layers import linear, save_and_load, stock_bitsandbytes, x  # noqa: E402
from libbnb import nn  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True, scope="module")
def stock() -> Iterator[None]:
    with stock_bitsandbytes():
        yield


STORAGES = [torch.uint8, torch.bfloat16, torch.float32]


def _theirs_4bit(source: Any, quant_type: str, nested: bool, storage: Any = torch.uint8) -> Any:
    made = theirs.nn.Linear4bit(
        source.in_features, source.out_features, source.bias is not None, None, nested, quant_type, storage
    )
    made.load_state_dict(source.state_dict())
    return made.to("cpu").train()  # in eval mode their CPU forward repacks the weight in place


def _ours_4bit(source: Any, quant_type: str, nested: bool, storage: Any = torch.uint8) -> Any:
    made = nn.Linear4bit(
        source.in_features, source.out_features, source.bias is not None, None, nested, quant_type, storage
    )
    made.load_state_dict(source.state_dict())
    return made.to("cpu")


def _same_entries(ours: dict[str, Any], others: dict[str, Any], nested: bool) -> None:
    assert list(ours) == list(others)
    for key, value in ours.items():
        other = others[key]
        assert value.dtype == other.dtype and value.shape == other.shape, key
        if nested and "absmax" in key:  # their mean is summed in fp32, their codes are looked up in a table
            continue
        if key.startswith("weight.quant_state.") and nested:
            continue
        assert torch.equal(value.view(torch.uint8), other.view(torch.uint8)), key


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_dicts_4bit(nested: bool, dtype: Any, storage: Any) -> None:
    """NF4: the same entries in the same order, the same bits but for a nested absmax; each loads the other's."""
    source = linear(dtype=dtype)
    ours, other = _ours_4bit(source, "nf4", nested, storage), _theirs_4bit(source, "nf4", nested, storage)
    _same_entries(ours.state_dict(), other.state_dict(), nested)
    a = x(dtype=dtype)
    with torch.no_grad():
        # Ours loads theirs.
        loaded = nn.Linear4bit(128, 96, quant_type="fp4", quant_storage=storage)  # the dict decides on the format
        loaded.load_state_dict(save_and_load(other.state_dict(), True))
        assert torch.equal(
            loaded.dequantized_weight(), theirs.functional.dequantize_4bit(other.weight.data, other.weight.quant_state)
        )
        # Theirs loads ours, the way transformers does it.
        saved = save_and_load(ours.state_dict(), True)
        back = theirs.nn.Linear4bit(128, 96)
        stats = {key.removeprefix("weight."): value for key, value in saved.items() if key.startswith("weight.")}
        back.weight = theirs.nn.Params4bit.from_prequantized(saved["weight"], stats, device="cpu", module=back)
        back.bias = torch.nn.Parameter(saved["bias"])
        weights = theirs.functional.dequantize_4bit(back.weight.data, back.weight.quant_state)
        assert torch.equal(weights, ours.dequantized_weight())
        y, expected = ours(a).double(), back.train()(a).double()
        assert float((y - expected).abs().max()) <= (1e-5 if dtype == torch.float32 else 0.02) * float(y.abs().max())


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_outputs_4bit(quant_type: str) -> None:
    """On the same codes, both give the same product, up to the rounding of its sum."""
    source = linear()
    other = _theirs_4bit(source, quant_type, False)
    ours = nn.Linear4bit(128, 96)
    ours.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert torch.allclose(ours(x()), other(x()), rtol=1e-5, atol=1e-5)


def test_compute_dtype_rules() -> None:
    """The first input of float32 or bfloat16 decides, float16 does not; the result has the input's dtype."""
    for first in (torch.float32, torch.bfloat16, torch.float16):
        ours, other = (make(linear(), "nf4", False) for make in (_ours_4bit, _theirs_4bit))
        with torch.no_grad():
            for dtype in (first, torch.float32, torch.float16, torch.bfloat16):
                y, expected = ours(x(dtype=dtype)), other(x(dtype=dtype))
                assert y.dtype == expected.dtype == dtype
                assert ours.compute_dtype == other.compute_dtype
                assert torch.allclose(y.float(), expected.float(), rtol=0.02, atol=0.02)
    given = nn.Linear4bit(128, 96, compute_dtype=torch.bfloat16)
    with torch.no_grad():
        assert given(x()).dtype == torch.float32 and given.compute_dtype == torch.bfloat16


def _theirs_int8(source: Any, threshold: float = 0.0) -> Any:
    made = theirs.nn.Linear8bitLt(
        source.in_features, source.out_features, source.bias is not None, has_fp16_weights=False, threshold=threshold
    )
    made.load_state_dict(source.state_dict())
    return made.to("cpu").eval()


def _ours_int8(source: Any, threshold: float = 0.0) -> Any:
    made = nn.Linear8bitLt(
        source.in_features, source.out_features, source.bias is not None, has_fp16_weights=False, threshold=threshold
    )
    made.load_state_dict(source.state_dict())
    return made.to("cpu").eval()


def test_state_dicts_int8() -> None:
    """The same entries; the same bits of weights that float16 holds; each loads the other's."""
    source = linear()
    source.weight.data = source.weight.data.half().float()
    ours, other = _ours_int8(source), _theirs_int8(source)
    first, second = ours.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert torch.equal(first["SCB"], second["SCB"]) and torch.equal(first["weight_format"], second["weight_format"])
    # Their scale is 127 * (1 / absmax): a code may differ by one where the product is halfway.
    assert int((first["weight"].int() - second["weight"].int()).abs().max()) <= 1
    assert float((first["weight"] != second["weight"]).float().mean()) < 1e-3
    mixed = _ours_int8(linear(seed=4))
    mixed.load_state_dict(save_and_load(second, True))
    assert torch.equal(mixed.weight.data, other.weight.data) and torch.equal(mixed.weight.SCB, second["SCB"])
    back = _theirs_int8(linear(seed=4))
    back.load_state_dict(save_and_load(first, True))
    assert torch.equal(back.weight.data, ours.weight.data) and torch.equal(back.weight.SCB, ours.weight.SCB)


@pytest.mark.parametrize("threshold", [0.0, 6.0])
def test_outputs_int8(threshold: float) -> None:
    """On the same codes; they quantize activations rounded to float16."""
    other = _theirs_int8(linear(), threshold)
    ours = _ours_int8(linear(seed=4), threshold)
    ours.load_state_dict(other.state_dict())
    a = x(8, outliers=True).half().float()
    with torch.no_grad():
        y, expected = ours(a), other(a)
    assert float((y - expected).abs().max()) <= 2e-3 * float(expected.abs().max())


@pytest.mark.parametrize("fp16_weights", [False, True])
def test_training_int8(fp16_weights: bool) -> None:
    """In training mode both multiply by dequantized weights, and their gradients agree."""
    results: list[Any] = []
    source = linear()
    for module in (nn, theirs.nn):
        layer = module.Linear8bitLt(128, 96, has_fp16_weights=fp16_weights)
        layer.load_state_dict(source.state_dict())
        layer = layer.to("cpu").train()
        a = x().requires_grad_()
        y = layer(a)
        y.square().sum().backward()
        results.append((y.detach(), a.grad, layer.bias.grad, layer.weight.grad))
    for ours, other in zip(*results, strict=True):
        assert (ours is None) == (other is None)
        if ours is not None:
            assert float((ours - other).abs().max()) <= 5e-3 * float(other.abs().max())


def test_signatures() -> None:
    """Constructors take bitsandbytes' arguments, in their order and with their defaults."""
    import inspect

    for name in (
        "Linear4bit", "LinearNF4", "LinearFP4", "Linear8bitLt", "Embedding", "StableEmbedding", "Embedding4bit",
        "EmbeddingNF4", "EmbeddingFP4", "Embedding8bit", "OutlierAwareLinear",
    ):  # fmt: skip
        ours, other = (list(inspect.signature(getattr(module, name)).parameters.values()) for module in (nn, theirs.nn))
        assert [(p.name, p.default) for p in ours[: len(other)]] == [(p.name, p.default) for p in other], name
    for name in ("Params4bit", "Int8Params"):
        ours, other = (
            list(inspect.signature(getattr(module, name).__new__).parameters.values()) for module in (nn, theirs.nn)
        )
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in other], name
