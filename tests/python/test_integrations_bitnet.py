# SPDX-License-Identifier: MIT
"""BitNet checkpoints of transformers: written by us and loaded by it, and loaded models on our kernels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")
pytest.importorskip("accelerate")

from libbnb import InvalidArgument  # noqa: E402
from libbnb.integrations import bitnet  # noqa: E402
from libbnb.nn import BitLinear, BitNetConfig, pack_model, replace_with_bitlinear  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """transformers compiles what its layers do, which takes longer than all the rest."""
    with torch.compiler.set_stance("force_eager"):
        yield


def model(config: BitNetConfig | None = None, tied: bool = True) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    made = transformers.BitNetForCausalLM(
        transformers.BitNetConfig(vocab_size=48, num_hidden_layers=2, tie_word_embeddings=tied, **sizes)
    )
    return replace_with_bitlinear(made, config or BitNetConfig(rms_norm=False)).eval()


def tokens() -> Any:
    return torch.arange(12)[None] * 3 % 48


def close(ours: Any, theirs: Any) -> bool:
    """What transformers computes with floats differs by roundings of fp32, in sums of up to 96 products."""
    return bool((ours - theirs).abs().max() <= 1e-4 * theirs.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rms_norm", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_round_trip(tmp_path: Path, packed: bool, rms_norm: bool, tied: bool) -> None:
    source = model(BitNetConfig(rms_norm=rms_norm, eps=1e-6), tied)
    want = source(tokens()).logits
    bitnet.save_pretrained(pack_model(source) if packed else source, tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    layer = loaded.model.layers[0].mlp.up_proj
    assert type(layer).__name__ == "AutoBitLinear" and set(layer.weight.unique().tolist()) == {-1, 0, 1}
    assert close(loaded(tokens()).logits, want)
    converted = bitnet.convert_layers(loaded)
    assert isinstance(converted.model.layers[0].mlp.up_proj, BitLinear) and converted.model.layers[1].mlp.up_proj.packed
    assert torch.equal(converted(tokens()).logits, want)


@torch.no_grad()
def test_the_older_class(tmp_path: Path) -> None:
    """`BitLinear` of transformers keeps its weights packed, and divides by its scale."""
    source = model()
    want = source(tokens()).logits
    bitnet.save_pretrained(source, tmp_path)
    from safetensors import torch as tensors

    path = tmp_path / "model.safetensors"
    state = tensors.load_file(path)
    state = {name: 1 / value if name.endswith("weight_scale") else value for name, value in state.items()}
    tensors.save_file(state, path, {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["linear_class"] = "bitlinear"
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(loaded.model.layers[0].mlp.up_proj).__name__ == "BitLinear"
    # The reciprocal of a reciprocal is off by an ulp; activations that it pushes over a half move a whole step.
    got = bitnet.convert_layers(loaded)(tokens()).logits
    assert (got - want).abs().max() <= 0.02 * want.abs().max()


def test_what_checkpoints_cannot_say(tmp_path: Path) -> None:
    for config, message in (
        (BitNetConfig(group_size=32, rms_norm=False), "group_size is 32"),
        (BitNetConfig(activation_bits=4, rms_norm=False), "activation_bits is 4"),
        (BitNetConfig(per_token=False, rms_norm=False), "per_token is False"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            bitnet.save_pretrained(model(config), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidArgument, match="has no BitLinear"):
        bitnet.save_pretrained(torch.nn.Linear(4, 4), tmp_path / "out")
    with pytest.raises(InvalidArgument, match="BitNet layers"):
        bitnet.convert_layers(model())


def test_layers_that_quantize_as_they_go() -> None:
    from transformers.integrations.bitnet import AutoBitLinear

    made = torch.nn.Sequential(AutoBitLinear(8, 8, online_quant=True))
    with pytest.raises(InvalidArgument, match="replace_with_bitlinear"):
        bitnet.convert_layers(made)
