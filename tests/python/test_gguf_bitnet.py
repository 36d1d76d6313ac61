# SPDX-License-Identifier: MIT
"""Ternary weights as GGUF files: refused, rounded, and BitNet checkpoints as transformers stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")

from checkpoints import save_model
from gguf_models import (
    BITNET_CONFIG,
    LAYER_NAMES,
    linear_shapes,
    llama_cpp_name,
    model_folder,
    read_gguf,
    tensors,
    ternary,
)
from libbnb.checkpoint.load import Checkpoint
from libbnb.integrations.gguf import GGUFError, GGUFFile, export_gguf, quantize, sparsity


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.gguf"


def test_weights_that_are_not_ternary(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng, BITNET_CONFIG)
    with pytest.raises(GGUFError, match=r"_proj.weight: is not ternary .* --ternarize"):
        export_gguf(folder, out, "tq2_0")
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(GGUFError, match="ternarize is for ternary types, not for q8_0"):
        export_gguf(folder, out, "q8_0", ternarize=True)
    with pytest.raises(GGUFError, match="embedding_type is tq1_0"):
        export_gguf(folder, out, "tq1_0", ternarize=True, embedding_type="tq1_0")


def test_ternarize_is_absmean(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = tensors(rng, BITNET_CONFIG)
    content["model.layers.0.mlp.up_proj.weight"][:] = 0
    folder = save_model(tmp_path / "model", content, config=BITNET_CONFIG)
    export_gguf(folder, out, "tq1_0", ternarize=True)
    file = GGUFFile(out)
    for name in linear_shapes(BITNET_CONFIG):
        weight = content[f"model.layers.0.{name}.weight"]
        mean = np.float32(np.abs(weight.astype(np.float64)).mean())
        trits = np.clip(np.rint(weight * (1 / mean)), -1, 1) if mean else weight
        want = (trits * np.float32(np.float16(mean))).astype(np.float32)
        assert (file.dequantize(f"blk.0.{LAYER_NAMES[name]}.weight") == want).all()


def bitnet_packed(trits: Any) -> Any:
    """Rows r, r + n, r + 2n, r + 3n of -1, 0, 1 in the bits of row r, from the lowest."""
    planes = (trits + 1).astype(np.uint8).reshape(4, -1, trits.shape[1])
    return planes[0] | planes[1] << 2 | planes[2] << 4 | planes[3] << 6


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
@pytest.mark.parametrize("name", ["tq2_0", "f32"])
def test_packed_bitnet_checkpoints(
    name: str, linear_class: str, tmp_path: Path, out: Path, rng: np.random.Generator
) -> None:
    """As transformers stores them: four rows to a byte; BitLinear divides by the scale, AutoBitLinear multiplies."""
    content, values = tensors(rng, BITNET_CONFIG), {}
    for key in [key for key in content if "proj" in key]:
        trits = rng.integers(-1, 2, content[key].shape)
        scale = np.array([rng.uniform(0.5, 2)], ml_dtypes.bfloat16)
        factor = scale.astype(np.float32)[0] if linear_class == "autobitlinear" else 1 / scale.astype(np.float32)[0]
        content[key], content[key + "_scale"] = bitnet_packed(trits), scale
        values[key] = (trits * np.float32(factor)).astype(np.float32)
    settings = {"quant_method": "bitnet", "linear_class": linear_class, "quantization_mode": "offline"}
    folder = save_model(tmp_path / "model", content, config=BITNET_CONFIG | {"quantization_config": settings})
    assert {one.format for one in Checkpoint(folder).packed.values()} == {"bitnet"}
    export_gguf(folder, out, name)
    file = GGUFFile(out)
    for key, value in values.items():
        assert file.read(llama_cpp_name(key)).tobytes() == quantize(value, name).tobytes()


def test_bitnet_models_that_become_ternary_as_they_compute(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    """The file has the weights that the model computes with, whatever the type."""
    settings = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
    content = tensors(rng, BITNET_CONFIG)
    folder = save_model(tmp_path / "model", content, config=BITNET_CONFIG | {"quantization_config": settings})
    summary = export_gguf(folder, out, "f32")
    assert any("ternary as it computes" in note for note in summary.notes)
    file = GGUFFile(out)
    weight = content["model.layers.1.mlp.down_proj.weight"]
    found = file.dequantize("blk.1.ffn_down.weight")
    assert len(np.unique(found)) == 3
    assert np.abs(found).max() == pytest.approx(np.abs(weight).mean(), rel=1e-6)
    assert (file.dequantize("token_embd.weight") == content["model.embed_tokens.weight"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_scale": None}, "there is no"),
        ({"weight_scale": np.ones(2, np.float32)}, "not one number"),
        ({"weight_scale": np.zeros(1, np.float32)}, "is 0.0"),
        ({"weight": np.full((64, 256), 255, np.uint8)}, "codes of 3"),
    ],
)
def test_corrupt_bitnet_checkpoints(
    change: dict[str, Any], words: str, tmp_path: Path, out: Path, rng: np.random.Generator
) -> None:
    content = tensors(rng, BITNET_CONFIG)
    key = "model.layers.0.self_attn.o_proj.weight"
    content[key] = bitnet_packed(rng.integers(-1, 2, (256, 256)))
    content[key + "_scale"] = np.ones(1, np.float32)
    for suffix, value in change.items():
        content.pop(key.replace("weight", suffix))
        if value is not None:
            content[key.replace("weight", suffix)] = value
    config = BITNET_CONFIG | {"quantization_config": {"quant_method": "bitnet"}}
    folder = save_model(tmp_path / "model", content, config=config)
    with pytest.raises(ValueError, match=words):
        export_gguf(folder, out, "f16")
    assert not out.exists() and not list(tmp_path.glob("*.partial"))


def test_relu2_gets_another_name(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng, BITNET_CONFIG, hidden_act="relu2")
    summary = export_gguf(folder, out, "f16")
    assert summary.architecture == "bitnet-b1.58" and "relu2" in summary.notes[0]
    metadata, _ = read_gguf(out)
    assert metadata["bitnet-b1.58.block_count"] == 2


def test_sparsity_counts_blocks_of_scale_zero(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    weight = ternary(rng, (8, 512), 0.5)
    weight[3] = 0
    weight[5, :256] = 0
    folder = save_model(tmp_path / "model", {"layer.weight": weight, "other.bias": np.ones(4, np.float32)}, config={})
    for name in ("tq1_0", "tq2_0"):
        export_gguf(folder, out, name, force=True)
        file = GGUFFile(out)
        assert sparsity(file, "layer.weight") == (weight == 0).mean()
        assert sparsity(file, "other.bias") is None
