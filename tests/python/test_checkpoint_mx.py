# SPDX-License-Identifier: MIT
"""Checkpoints in MXFP4, MXFP8 and NVFP4: the functional API's numbers, bytes that compressed-tensors reads alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import libbnb
from checkpoints import BFLOAT16, CONFIG, save_model
from libbnb.checkpoint import (
    Checkpoint,
    CheckpointError,
    compare_formats,
    dequantize_checkpoint,
    describe_checkpoint,
    make_format,
    quantize_checkpoint,
)

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": BFLOAT16}
TYPES = {"mxfp4": "mxfp4", "mxfp8": "mxfp8_e4m3fn", "nvfp4": "nvfp4"}
CODES = {"mxfp4": "weight_packed", "mxfp8": "weight", "nvfp4": "weight_packed"}
NAME = "model.layers.0.mlp.up_proj."


def model(rng: np.random.Generator, dtype: Any = np.float32) -> dict[str, Any]:
    return {
        "model.embed_tokens.weight": rng.standard_normal((50, 64)).astype(dtype),
        NAME + "weight": (rng.standard_normal((40, 96)) * 0.05).astype(dtype),
        "model.layers.0.mlp.odd_proj.weight": rng.standard_normal((8, 24)).astype(dtype),
        "model.layers.1.mlp.zero_proj.weight": np.zeros((8, 32), dtype),
        "model.layers.1.norm.weight": np.ones(64, dtype),
    }


def expected(format: str, weight: Any) -> Any:
    """What the functional API makes of a weight; a checkpoint has the reciprocal of the tensor scale."""
    codes, scale, tensor_scale = libbnb.quantize_mx(weight, TYPES[format], "even")
    if tensor_scale is not None:
        with np.errstate(divide="ignore"):
            tensor_scale = np.float32(1) / (np.float32(1) / tensor_scale)
    return libbnb.dequantize_mx(codes, scale, tensor_scale, TYPES[format], weight.dtype)


def same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("format", TYPES)
def test_same_numbers_as_the_functional_api(format: str, dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = model(rng, DTYPES[dtype])
    folder = save_model(tmp_path / "model", tensors, shards=2, config=CONFIG | {"dtype": dtype})
    summary = quantize_checkpoint(folder, tmp_path / "out", make_format(format))
    checkpoint = Checkpoint(tmp_path / "out")
    quantized = {NAME + "weight", "model.layers.1.mlp.zero_proj.weight"}
    assert set(checkpoint) == set(tensors) and set(checkpoint.packed) == quantized and summary.converted == 2
    assert any("rows of 24, not a multiple of" in reason for reason in summary.kept)
    for name, tensor in tensors.items():
        assert same(checkpoint[name], expected(format, tensor) if name in quantized else tensor), name
    entry = {entry.name: entry for entry in describe_checkpoint(tmp_path / "out")}[NAME + "weight"]
    assert entry.quantized and entry.format == format and entry.shape == (40, 96)
    dequantize_checkpoint(tmp_path / "out", tmp_path / "plain")
    plain = Checkpoint(tmp_path / "plain")
    assert not plain.packed and all(same(plain[name], checkpoint[name]) for name in tensors)


@pytest.mark.parametrize("format", TYPES)
def test_tensors_and_config(format: str, tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = model(rng)
    folder = save_model(tmp_path / "model", tensors, config=CONFIG)
    quantize_checkpoint(folder, tmp_path / "out", make_format(format))
    codes, scale, tensor_scale = libbnb.quantize_mx(tensors[NAME + "weight"], TYPES[format], "even")
    checkpoint = Checkpoint(tmp_path / "out")
    stored = checkpoint.stored(NAME + "weight")
    assert next(iter(stored)) == NAME + CODES[format]
    np.testing.assert_array_equal(stored[NAME + CODES[format]].view(np.uint8), codes.view(np.uint8))
    np.testing.assert_array_equal(stored[NAME + "weight_scale"].view(np.uint8), scale.view(np.uint8))
    if tensor_scale is not None:
        np.testing.assert_array_equal(stored[NAME + "weight_global_scale"], np.float32(1) / tensor_scale)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors" and config["format"].startswith(format)
    x = rng.standard_normal((3, 96), np.float32)
    y = libbnb.gemm_mx(x, *list(stored.values())[:2], tensor_scale, TYPES[format])
    np.testing.assert_allclose(y, x @ checkpoint[NAME + "weight"].T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", TYPES)
def test_weights_of_several_chunks(format: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Weights larger than the buffers, of a size that no chunk divides, the largest element in the last of them."""
    weight = rng.standard_normal((2503, 2016), np.float32)  # 20 MB
    weight[-1, 5] = -70
    save_file({"x.weight": weight}, tmp_path / "in.safetensors")
    quantize_checkpoint(tmp_path / "in.safetensors", tmp_path / "out.safetensors", make_format(format))
    assert same(Checkpoint(tmp_path / "out.safetensors")["x.weight"], expected(format, weight))


@pytest.mark.parametrize("format", TYPES)
def test_compressed_tensors_reads_the_same(format: str, tmp_path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file

    folder = save_model(tmp_path / "model", model(rng), config=CONFIG)
    quantize_checkpoint(folder, tmp_path / "out", make_format(format))
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    scheme = QuantizationConfig.model_validate(config).config_groups["group_0"]
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    state = {name.removeprefix(NAME): tensor for name, tensor in tensors.items() if name.startswith(NAME)}
    values = BaseCompressor.get_value_from_registry(config["format"]).decompress(state, scheme)["weight"]
    ours = torch.from_numpy(Checkpoint(tmp_path / "out")[NAME + "weight"])
    # Theirs are computed in bfloat16: the scale rounded, and the product.
    torch.testing.assert_close(values.float(), ours, rtol=2.0**-7, atol=0)


def test_scales_that_do_not_fit(tmp_path: Path) -> None:
    tensors = {"x.weight_packed": np.zeros((4, 16), np.uint8), "x.weight_scale": np.zeros((4, 2), np.uint8)}
    save_file(tensors, tmp_path / "in.safetensors")
    with pytest.raises(CheckpointError, match=r"weight_scale has shape \[4, 2\]: not one scale per 32 codes"):
        Checkpoint(tmp_path / "in.safetensors")


def test_options_that_do_not_exist() -> None:
    with pytest.raises(CheckpointError, match="mxfp4 has no block size: its blocks are as long as the format says"):
        make_format("mxfp4", 32)
    with pytest.raises(CheckpointError, match="nvfp4 has no double quantization"):
        make_format("nvfp4", None, True)


def test_compare(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", model(rng), config=CONFIG)
    formats = {name: make_format(name) for name in TYPES}
    errors = {error.format: error for error in compare_formats(folder, formats) if error.name == NAME + "weight"}
    assert errors["mxfp8"].relative_error < errors["nvfp4"].relative_error < errors["mxfp4"].relative_error < 0.2
