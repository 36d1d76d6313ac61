# SPDX-License-Identifier: MIT
"""PEFT's LoRA on BitLinear: adapters beside packed ternary weights, learned, saved and loaded by PEFT itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import libbnb.integrations.peft  # noqa: E402
from libbnb.nn import BitLinear, BitNetAdapter, BitNetConfig, replace_with_bitlinear  # noqa: E402

pytestmark = pytest.mark.torch

X = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))


def model() -> Any:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    return replace_with_bitlinear(made, BitNetConfig(rms_norm=False), [])


def adapted(**settings: Any) -> Any:
    return peft.get_peft_model(model(), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0", "2"], **settings))


def learn(made: Any, steps: int = 30) -> list[float]:
    target = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    losses: list[float] = []
    for _ in range(steps):
        loss = (made(X) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_adapters_learn_beside_packed_weights() -> None:
    made = adapted()
    layer = made.base_model.model[0]
    assert isinstance(layer, libbnb.integrations.peft.LoraBitLinear) and layer.get_base_layer().packed
    plain = model()
    for part in (plain[0], plain[2]):
        part.pack()
    assert torch.equal(made(X), plain(X))
    codes = layer.get_base_layer().weight.clone()
    losses = learn(made)
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(layer.get_base_layer().weight, codes)
    with made.disable_adapter():
        assert torch.equal(made(X), plain(X))


def test_is_a_bitnet_adapter() -> None:
    """The layer that PEFT makes computes what libbnb's own adapter does."""
    made = adapted()
    learn(made, 3)
    layer = made.base_model.model[0]
    own = BitNetAdapter(model()[0], r=4, lora_alpha=8)
    with torch.no_grad():
        own.lora_A.copy_(layer.lora_A["default"].weight)
        own.lora_B.copy_(layer.lora_B["default"].weight)
    assert torch.allclose(own(X), layer(X), rtol=0, atol=2.0**-20)


def test_saved_by_peft(tmp_path: Path) -> None:
    made = adapted()
    learn(made, 3)
    made.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(model(), tmp_path)
    assert torch.equal(loaded(X), made(X))


def test_no_merging() -> None:
    made = adapted()
    with pytest.raises(ValueError, match="not ternary"):
        made.merge_adapter()
    with pytest.raises(ValueError, match="not ternary"):
        made.merge_and_unload()
    assert isinstance(adapted().unload()[0], BitLinear)
    with pytest.raises(ValueError, match="would not be ternary"):
        adapted(init_lora_weights="pissa")
