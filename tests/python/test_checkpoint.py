# SPDX-License-Identifier: MIT
"""Quantizing, dequantizing and reading checkpoints: right bytes, right files, and only whole results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save_file

import libbnb
from checkpoints import BFLOAT16, CONFIG, save_model, small_model
from libbnb.checkpoint import (
    Checkpoint,
    CheckpointError,
    compare_formats,
    dequantize_checkpoint,
    describe_checkpoint,
    make_format,
    quantize_checkpoint,
)
from libbnb.checkpoint.formats import FORMAT_NAMES, parse_format

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": BFLOAT16}
_SPECS = ("nf4", "nf4:128", "nf4:6", "nf4+dq", "fp4", "fp4:32+dq", "int8", "fp8", "fp8-e5m2")


def _expected(spec: str, weight: Any) -> Any:
    """What the functional API makes of a weight and gives back, in the weight's dtype."""
    name, _, rest = spec.partition(":")
    blocksize = int(rest.removesuffix("+dq")) if rest.removesuffix("+dq") else 64
    name = name.removesuffix("+dq")
    if name in ("nf4", "fp4"):
        state = libbnb.quantize_4bit(weight, None, None, blocksize, spec.endswith("+dq"), name)
        return libbnb.dequantize_4bit(*state)
    if name == "int8":
        codes, stats, _ = libbnb.int8_vectorwise_quant(weight)
        return libbnb.int8_vectorwise_dequant(codes, stats, np.empty_like(weight))
    quant_type = "fp8_e5m2" if name.endswith("e5m2") else "fp8_e4m3fn"
    codes, scale = libbnb.quantize_fp8(weight, quant_type=quant_type)
    return libbnb.dequantize_fp8(codes, scale, np.empty_like(weight), quant_type=quant_type)


def _same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", _SPECS)
def test_same_numbers_as_the_functional_api(spec: str, dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = small_model(rng, DTYPES[dtype])
    folder = save_model(tmp_path / "model", tensors, config=CONFIG | {"dtype": dtype})
    summary = quantize_checkpoint(folder, tmp_path / "out", parse_format(spec))
    checkpoint = Checkpoint(tmp_path / "out")
    assert set(checkpoint) == set(tensors) and len(checkpoint) == len(tensors)
    quantized = {"model.layers.0.attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"}
    quantized.add("model.layers.1.mlp.down_proj.weight")
    assert set(checkpoint.packed) == quantized and summary.converted == 3
    for name, tensor in tensors.items():
        expected = _expected(spec, tensor) if name in quantized else tensor
        assert _same(checkpoint[name], expected), name
    dequantize_checkpoint(tmp_path / "out", tmp_path / "plain")
    plain = Checkpoint(tmp_path / "plain")
    assert not plain.packed and all(_same(plain[name], checkpoint[name]) for name in tensors)


@pytest.mark.parametrize("spec", ["nf4", "nf4+dq", "int8", "fp8"])
def test_weights_of_several_chunks(spec: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Weights larger than the buffers, of a size that no chunk divides."""
    weight = rng.standard_normal((5003, 2003), np.float32)  # 40 MB
    save_file({"x.weight": weight, "x.norm": weight}, tmp_path / "in.safetensors")
    quantize_checkpoint(tmp_path / "in.safetensors", tmp_path / "out.safetensors", parse_format(spec))
    checkpoint = Checkpoint(tmp_path / "out.safetensors")
    assert _same(checkpoint["x.weight"], _expected(spec, weight))
    assert _same(checkpoint["x.norm"], weight)


def test_transposed_weights_of_several_chunks(tmp_path: Path, rng: np.random.Generator) -> None:
    """transformers' Conv1D stores [in, out] and quantizes [out, in]; dequantizing turns it back."""
    weight = rng.standard_normal((2003, 5003), np.float32)
    config = {"model_type": "gpt2"}
    folder = save_model(tmp_path / "m", {"h.0.mlp.c_fc.weight": weight, "h.0.x.weight": weight[:64].copy()}, 1, config)
    quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    turned = np.ascontiguousarray(weight.T)
    assert _same(Checkpoint(tmp_path / "out")["h.0.mlp.c_fc.weight"], _expected("nf4", turned))
    dequantize_checkpoint(tmp_path / "out", tmp_path / "plain")
    plain = Checkpoint(tmp_path / "plain")
    assert _same(plain["h.0.mlp.c_fc.weight"], np.ascontiguousarray(_expected("nf4", turned).T))
    assert plain["h.0.x.weight"].shape == (64, 5003)
    quantize_checkpoint(folder, tmp_path / "fp8", make_format("fp8"))
    assert _same(Checkpoint(tmp_path / "fp8")["h.0.mlp.c_fc.weight"], _expected("fp8", weight))


@given(data=st.data())
def test_any_shape_and_values(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Zeros, infinities, NaN and odd shapes survive a round trip exactly as in the functional API."""
    rows, cols = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    dtype = DTYPES[data.draw(st.sampled_from(sorted(DTYPES)))]
    spec = data.draw(st.sampled_from(_SPECS))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    weight = rng.standard_normal((rows, cols)) * 10.0 ** data.draw(st.integers(-8, 4))
    for value in data.draw(st.lists(st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf]), max_size=3)):
        weight[rng.integers(0, rows), rng.integers(0, cols)] = value
    if data.draw(st.booleans()):
        weight[rng.integers(0, rows)] = 0.0
    with np.errstate(all="ignore"):
        weight = weight.astype(dtype)
    folder = tmp_path_factory.mktemp("any")
    tensors = {"a.weight": weight, "b": np.zeros(1, dtype)}
    save_model(folder / "in", tensors, config={"dtype": dtype.name})
    quantize_checkpoint(folder / "in", folder / "out", parse_format(spec))
    assert _same(Checkpoint(folder / "out")["a.weight"], _expected(spec, weight))
    shutil.rmtree(folder)


def test_file_is_what_safetensors_writes(tmp_path: Path, rng: np.random.Generator) -> None:
    """Header, order and alignment of our streamed files are those of the safetensors package, byte for byte.

    (Its order of several metadata entries is random, so there is one.)
    """
    tensors = small_model(rng) | {
        "scalar": np.array(1.5, np.float64),
        "empty": np.zeros((0, 3), np.float32),
        "bool": np.array([True, False, True]),
        'ümlaut "quoted"\n': np.arange(3, dtype=np.int8),
        "half.weight": rng.standard_normal((3, 3)).astype(BFLOAT16),
        "fp8": np.arange(5, dtype=np.uint8).view(ml_dtypes.float8_e5m2),
        "wide": np.arange(3, dtype=np.complex64),
    }
    source = tmp_path / "in.safetensors"
    save_file(tensors, source, {"format": "pt"})
    quantize_checkpoint(
        source, tmp_path / "out.safetensors", make_format("nf4"), include=["model.layers.0.attn.q_proj"]
    )
    dequantize_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors")
    name = "model.layers.0.attn.q_proj.weight"
    save_file(tensors | {name: _expected("nf4", tensors[name])}, source, {"format": "pt"})
    assert (tmp_path / "back.safetensors").read_bytes() == source.read_bytes()


def test_names_and_texts_are_those_of_bitsandbytes(tmp_path: Path, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((128, 256)).astype(BFLOAT16)
    save_file({"fc.weight": weight}, tmp_path / "in.safetensors")
    quantize_checkpoint(tmp_path / "in.safetensors", tmp_path / "a.safetensors", make_format("nf4"))
    quantize_checkpoint(tmp_path / "in.safetensors", tmp_path / "b.safetensors", make_format("nf4", None, True))
    a, b = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "b.safetensors")
    described = {name: (array.dtype.name, array.shape) for name, array in a.items()}
    text = a["fc.weight.quant_state.bitsandbytes__nf4"].tobytes()
    assert text == b'{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 256]}'
    assert described == {
        "fc.weight": ("uint8", (16384, 1)),
        "fc.weight.absmax": ("float32", (512,)),
        "fc.weight.quant_map": ("float32", (16,)),
        "fc.weight.quant_state.bitsandbytes__nf4": ("uint8", (len(text),)),
    }
    nested = {name.removeprefix("fc."): (array.dtype.name, array.shape) for name, array in b.items()}
    nested_text = b["fc.weight.quant_state.bitsandbytes__nf4"].tobytes()
    assert nested == {
        "weight": ("uint8", (16384, 1)),
        "weight.absmax": ("uint8", (512,)),
        "weight.quant_map": ("float32", (16,)),
        "weight.nested_absmax": ("float32", (2,)),
        "weight.nested_quant_map": ("float32", (256,)),
        "weight.quant_state.bitsandbytes__nf4": ("uint8", (len(nested_text),)),
    }
    state = libbnb.quantize_4bit(weight, compress_statistics=True, quant_type="nf4")[1]
    ours = state.as_dict(packed=True)["quant_state.bitsandbytes__nf4"].tobytes()
    assert nested_text.rstrip(b" ") == ours


# ---------------------------------------------------------------------------------------------------------------------
# Files


def test_folder_is_copied_and_config_extended(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng), config=CONFIG)
    for name in ("tokenizer.json", "LICENSE", "1_Pooling/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"text of {name}")
    for name in (
        "pytorch_model.bin",
        "tf_model.h5",
        ".gitattributes",
        "onnx/model.onnx",
        ".cache/x",
        "extra.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"model.safetensors", "config.json", "tokenizer.json", "LICENSE", "1_Pooling/config.json"}
    assert (tmp_path / "out/1_Pooling/config.json").read_text() == "text of 1_Pooling/config.json"
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config.pop("quantization_config")["load_in_4bit"] is True
    assert config == CONFIG | {"dtype": "float32"}
    dequantize_checkpoint(tmp_path / "out", tmp_path / "plain", dtype="bfloat16")
    assert json.loads((tmp_path / "plain/config.json").read_text()) == CONFIG | {"dtype": "bfloat16"}
    plain = Checkpoint(tmp_path / "plain")
    assert {plain[name].dtype.name for name in plain} == {"bfloat16", "int64"}


def test_shards(tmp_path: Path, rng: np.random.Generator) -> None:
    """Many shards in, many out: none above the limit that could be below it, and the same tensors as in one file."""
    folder = save_model(tmp_path / "model", small_model(rng), shards=3, config=CONFIG)
    quantize_checkpoint(folder, tmp_path / "one", make_format("int8"))
    summary = quantize_checkpoint(folder, tmp_path / "many", make_format("int8"), max_shard_bytes=20_000)
    index = json.loads((tmp_path / "many/model.safetensors.index.json").read_text())
    shards = sorted((tmp_path / "many").glob("*.safetensors"))
    assert [path.name for path in shards] == summary.files and len(shards) >= 3
    assert summary.files[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    one = load_file(tmp_path / "one/model.safetensors")
    for path in shards:
        tensors = load_file(path)
        assert sum(array.nbytes for array in tensors.values()) <= 20_000 or len(tensors) == 1
        for name, array in tensors.items():
            assert index["weight_map"].pop(name) == path.name
            assert _same(array, one.pop(name))
    assert not one and not index["weight_map"]
    assert index["metadata"]["total_size"] == summary.bytes_after


def test_single_file_to_folder(tmp_path: Path, rng: np.random.Generator) -> None:
    save_file(small_model(rng), tmp_path / "weights.safetensors")
    quantize_checkpoint(tmp_path / "weights.safetensors", tmp_path / "out", make_format("nf4"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    "make", [lambda p: p.mkdir() or (p / "x").touch(), Path.touch, lambda p: p.symlink_to("nowhere")]
)
def test_destination_that_exists(make: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng))
    make(tmp_path / "out")
    with pytest.raises(CheckpointError, match="out: already exists"):
        quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_destination_that_may_be_used(tmp_path: Path, rng: np.random.Generator, monkeypatch: Any) -> None:
    folder = save_model(tmp_path / "model", small_model(rng))
    (tmp_path / "empty").mkdir()
    quantize_checkpoint(folder, tmp_path / "empty", make_format("nf4"))
    quantize_checkpoint(folder, tmp_path / "new/parents/out", make_format("nf4"))
    monkeypatch.chdir(tmp_path)
    quantize_checkpoint("model", "relative", make_format("nf4"))
    for name in ("empty", "new/parents/out", "relative"):
        assert Checkpoint(tmp_path / name).packed


def test_destination_that_cannot_be(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng))
    with pytest.raises(CheckpointError, match="is a folder, so this must be"):
        quantize_checkpoint(folder, tmp_path / "out.safetensors", make_format("nf4"))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="not a directory"):
        quantize_checkpoint(folder, tmp_path / "file/out", make_format("nf4"))
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/mine").touch()
    for resume in (False, True):
        with pytest.raises(CheckpointError, match="is in the way, and not made by libbnb"):
            quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"), resume=resume)
    assert (tmp_path / "out.partial/mine").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is chosen


def test_quantized_already(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng), config=CONFIG)
    for name in ("nf4", "int8", "fp8"):
        quantize_checkpoint(folder, tmp_path / name, make_format(name))
        with pytest.raises(CheckpointError, match=f"quantized already \\({name}\\)"):
            quantize_checkpoint(tmp_path / name, tmp_path / "twice", make_format("nf4"))
    (tmp_path / "model/config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match=r"quantized already \(gptq\)"):
        quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    with pytest.raises(CheckpointError, match="nothing in it is quantized"):
        dequantize_checkpoint(folder, tmp_path / "out")


def test_include_and_exclude(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng), config=CONFIG)

    def chosen(**patterns: list[str]) -> set[str]:
        quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"), **patterns)
        names = set(Checkpoint(tmp_path / "out").packed)
        shutil.rmtree(tmp_path / "out")
        return {name.removeprefix("model.").removesuffix(".weight") for name in names}

    everything = {"embed_tokens", "layers.0.attn.q_proj", "layers.1.mlp.up_proj", "layers.1.mlp.down_proj", "lm_head"}
    assert chosen(include=["*"]) == everything
    assert chosen(include=["lm_head", "*up_proj.weight"]) == {"lm_head", "layers.1.mlp.up_proj"}
    assert chosen(include=["*"], exclude=["*embed*"]) == everything - {"embed_tokens"}
    assert chosen(exclude=["*layers.0*"]) == {"layers.1.mlp.up_proj", "layers.1.mlp.down_proj"}
    with pytest.raises(CheckpointError, match=r"no tensor to quantize .*5 excluded"):
        chosen(exclude=["*"])
    with pytest.raises(CheckpointError, match="no tensor to quantize"):
        chosen(include=["nothing"])


def test_names_that_would_collide(tmp_path: Path) -> None:
    weight = np.ones((4, 4), np.float32)
    save_file({"a.weight": weight, "a.weight.absmax": weight[0]}, tmp_path / "in.safetensors")
    with pytest.raises(CheckpointError, match=r"two tensors 'a\.weight\.absmax'"):
        quantize_checkpoint(tmp_path / "in.safetensors", tmp_path / "out.safetensors", make_format("nf4"))


def test_fp8_blocks(tmp_path: Path, rng: np.random.Generator) -> None:
    """Blocks that do not divide a row: that weight is left alone, and the reason is told."""
    tensors = small_model(rng)
    folder = save_model(tmp_path / "model", tensors, config=CONFIG)
    summary = quantize_checkpoint(folder, tmp_path / "out", make_format("fp8", 32))
    assert set(Checkpoint(tmp_path / "out").packed) == {"model.layers.0.attn.q_proj.weight"}
    assert any("not a multiple of the block size" in reason for reason in summary.kept)
    scale = Checkpoint(tmp_path / "out").source.tensors["model.layers.0.attn.q_proj.weight_scale"]
    assert scale.shape == (128, 2)
    weight = tensors["model.layers.0.attn.q_proj.weight"]
    codes, scales = libbnb.quantize_fp8(weight, blocksize=32)
    expected = libbnb.dequantize_fp8(codes, scales, blocksize=32)
    assert _same(Checkpoint(tmp_path / "out")["model.layers.0.attn.q_proj.weight"], expected)


@pytest.mark.parametrize(
    ("name", "blocksize", "double_quant", "words"),
    [
        ("nf5", None, False, "must be one of nf4, fp4"),
        ("nf4", 0, False, "at least 1"),
        ("nf4", -64, False, "at least 1"),
        ("nf4", 2**63, False, "below"),
        ("nf4", 33, False, "must be even"),
        ("int8", 64, False, "no block size"),
        ("int8", None, True, "no double quantization"),
        ("fp8", None, True, "no double quantization"),
    ],
)
def test_formats_that_do_not_exist(name: str, blocksize: int | None, double_quant: bool, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        make_format(name, blocksize, double_quant)


@pytest.mark.parametrize("text", ["nf4:", "nf4:x", "nf4:64:2", "nf4+", "+dq", "", "int8:64", "NF4"])
def test_words_that_are_no_format(text: str) -> None:
    if text == "nf4:":
        assert parse_format(text).name == "nf4"
        return
    with pytest.raises(CheckpointError):
        parse_format(text)


def test_every_format_has_a_name() -> None:
    names = ["nf4", "fp4", "int8", "fp8", "fp8-e5m2", "mxfp4", "mxfp8", "nvfp4"]
    assert [make_format(name).name for name in FORMAT_NAMES] == [*names, "fp8"]


# ---------------------------------------------------------------------------------------------------------------------
# Looking


def test_describe(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng), config=CONFIG)
    quantize_checkpoint(folder, tmp_path / "out", make_format("nf4", None, True))
    entries = {entry.name: entry for entry in describe_checkpoint(tmp_path / "out")}
    assert set(entries) == set(small_model(rng))
    weight = entries["model.layers.0.attn.q_proj.weight"]
    assert (weight.format, weight.detail, weight.shape) == ("nf4", "block 64, nested", (128, 64))
    state = libbnb.quantize_4bit(np.ones((128, 64), np.float32), compress_statistics=True, quant_type="nf4")[1]
    scales = state.as_dict(packed=True)
    extra = sum(array.nbytes for array in scales.values())
    assert 0 <= weight.nbytes - (128 * 64 // 2 + extra) < 24
    assert weight.bits_per_weight == 8 * weight.nbytes / (128 * 64)
    assert (entries["model.layers.1.positions"].format, entries["lm_head.weight"].quantized) == ("I64", False)
    assert sum(entry.nbytes for entry in entries.values()) == Checkpoint(tmp_path / "out").nbytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_compare(dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Errors are those of the functional API, computed in double precision."""
    tensors = small_model(rng, DTYPES[dtype])
    folder = save_model(tmp_path / "model", tensors, shards=2, config=CONFIG)
    specs = ("nf4", "nf4:128+dq", "int8", "fp8")
    results = compare_formats(folder, {spec: parse_format(spec) for spec in specs})
    assert {(result.name, result.format) for result in results} == {
        (name, spec) for name in tensors if name.endswith("proj.weight") for spec in specs
    }
    for result in results:
        weight = tensors[result.name].astype(np.float32)
        x = weight.astype(np.float64)
        error = x - _expected(result.format, weight).astype(np.float64)
        relative = np.sqrt((error**2).sum() / (x**2).sum())
        assert np.isclose(result.relative_error, relative, rtol=1e-5)
        assert np.isclose(result.max_error, np.abs(error).max(), rtol=1e-5)
        assert np.isclose(result.sqnr_db, -20 * np.log10(relative), rtol=1e-4)
        assert result.elements == weight.size and result.nbytes > 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_compare_of_transposed_and_exact_weights(tmp_path: Path, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((64, 96)).astype(np.float32)
    tensors = {"h.0.c_fc.weight": weight, "h.1.c_fc.weight": np.zeros((8, 8), np.float32)}
    folder = save_model(tmp_path / "m", tensors, config={"model_type": "gpt2"})
    first, second = compare_formats(folder, {"nf4": make_format("nf4")})
    error = weight.T - _expected("nf4", np.ascontiguousarray(weight.T))
    assert np.isclose(first.max_error, np.abs(error).max(), rtol=1e-6)
    assert (second.relative_error, second.max_error, second.as_dict()["sqnr_db"]) == (0.0, 0.0, None)


def test_checkpoint_is_a_mapping(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng), config=CONFIG)
    quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    checkpoint = Checkpoint(tmp_path / "out", dtype="float16")
    assert checkpoint["model.layers.0.attn.q_proj.weight"].dtype == np.float16
    assert checkpoint["lm_head.weight"].dtype == np.float32
    assert checkpoint.parameters == sum(array.size for array in small_model(rng).values())
    for name in ("nothing", "model.layers.0.attn.q_proj.weight.absmax"):
        with pytest.raises(KeyError):
            checkpoint[name]


@pytest.mark.parametrize("spec", ["nf4+dq", "int8", "fp8", "fp8:16"])
def test_stored_weights(spec: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Codes first, then what belongs to them: all that a product with packed weights needs."""
    tensors = small_model(rng, BFLOAT16)
    name, x = "model.layers.0.attn.q_proj.weight", rng.standard_normal((3, 64), np.float32)
    source = save_model(tmp_path / "in", tensors, shards=2)
    quantize_checkpoint(source, tmp_path / "out", parse_format(spec))
    checkpoint = Checkpoint(tmp_path / "out", dtype="float32")
    codes, *rest = (stored := checkpoint.stored(name)).values()
    assert (
        next(iter(stored)) == name and sum(array.nbytes for array in stored.values()) == checkpoint.packed[name].nbytes
    )
    if spec == "nf4+dq":
        y = libbnb.matmul_4bit(x, codes, libbnb.QuantState.from_dict({k: v for k, v in stored.items() if k != name}))
    elif spec == "int8":
        y = x @ libbnb.int8_vectorwise_dequant(codes, rest[0]).T
    else:
        y = libbnb.matmul_fp8(x, codes, rest[0], blocksize=16 if spec == "fp8:16" else None)
    expected = x @ checkpoint[name].T
    bound = 64 * np.finfo(np.float32).eps * np.abs(x) @ np.abs(checkpoint[name]).T
    assert np.all(np.abs(y - expected) <= bound)
    plain = checkpoint.stored("lm_head.weight")
    assert list(plain) == ["lm_head.weight"] and _same(plain["lm_head.weight"], tensors["lm_head.weight"])
    with pytest.raises(KeyError):
        checkpoint.stored(name + ".absmax")
