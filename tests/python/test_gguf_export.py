# SPDX-License-Identifier: MIT
"""Checkpoints as GGUF files: names, types, metadata and bytes, read back with the gguf package; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

from checkpoints import save_model
from gguf_models import (
    BITNET_CONFIG,
    CONFIG,
    VOCABULARY,
    as_written,
    llama_cpp_name,
    model_folder,
    read_gguf,
    save_bpe,
    tensors,
    ternary,
)
from libbnb.checkpoint import make_format, quantize_checkpoint
from libbnb.checkpoint.load import Checkpoint
from libbnb.integrations.gguf import TYPE_NAMES, GGUFError, GGUFFile, export_gguf, quantize

# llama.cpp refuses a model without these (src/llama-model.cpp, and models/*.cpp for the norm's epsilon).
REQUIRED_KEYS = (
    "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)  # fmt: skip
REQUIRED_OF_BPE = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.merges")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.gguf"


CONFIGS = {
    "llama": CONFIG,
    "mistral": CONFIG | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "qwen2": CONFIG | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True},
    "bitnet": BITNET_CONFIG,
}
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "bitnet": "bitnet"}


@pytest.mark.parametrize("family", CONFIGS)
def test_complete_files(family: str, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    """Every tensor under llama.cpp's name, bit for bit; every required key, with the config's numbers."""
    config = CONFIGS[family]
    folder = model_folder(tmp_path / "model", rng, config)
    summary = export_gguf(folder, out, "q8_0")
    assert summary.complete and summary.notes == [] and summary.architecture == ARCHITECTURES[family]
    metadata, found = read_gguf(out)
    weights = Checkpoint(folder)
    assert set(found) == {llama_cpp_name(name) for name in weights}
    for name in weights:
        weight = as_written(name, weights[name], config)
        one = found[llama_cpp_name(name)]
        assert one.tensor_type.name == ("F32" if weight.ndim == 1 else "Q8_0")
        want = weight if weight.ndim == 1 else quantize(weight, "q8_0")
        assert one.data.tobytes() == want.tobytes(), name
        assert tuple(reversed(one.shape.tolist())) == weight.shape
    values = {key: metadata[f"{summary.architecture}.{key}"] for key in REQUIRED_KEYS}
    assert list(values.values()) == [256, 256, 2, 512, 4, pytest.approx(1e-5)]
    assert metadata[f"{summary.architecture}.attention.head_count_kv"] == 2
    assert metadata[f"{summary.architecture}.rope.freq_base"] == 10000
    assert metadata[f"{summary.architecture}.vocab_size"] == VOCABULARY
    assert metadata["general.architecture"] == summary.architecture and metadata["general.file_type"] == 7
    assert all(key in metadata for key in REQUIRED_OF_BPE)


@pytest.mark.parametrize("name", TYPE_NAMES)
def test_types(name: str, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    """Weights of linear layers have the type; the embedding never a ternary one; vectors are float32."""
    content = tensors(rng, BITNET_CONFIG)
    linear = [key for key in content if content[key].ndim == 2 and key.startswith("model.layers.")]
    for key in linear:
        content[key] = ternary(rng, content[key].shape, 0.02)
    folder = save_model(tmp_path / "model", content, config=BITNET_CONFIG)
    summary = export_gguf(folder, out, name)
    _, found = read_gguf(out)
    for key, weight in content.items():
        one = found[llama_cpp_name(key)]
        wanted = (
            name if key in linear else "f32" if weight.ndim == 1 else name if name in ("f32", "f16", "bf16") else "q8_0"
        )
        assert one.tensor_type.name == wanted.upper()
        assert one.data.tobytes() == quantize(weight, wanted).tobytes()
    assert sum(summary.types.values()) == len(content) == summary.tensors
    assert summary.parameters == sum(weight.size for weight in content.values())
    assert summary.bytes_after == out.stat().st_size


def test_embedding_type_and_fallback(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    config = CONFIG | {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 256}
    folder = save_model(tmp_path / "model", tensors(rng, config), config=config)
    with pytest.raises(GGUFError, match=r"weight: its rows have 96 elements, not a multiple of 256 as tq2_0 needs; "):
        export_gguf(folder, out, "tq2_0", ternarize=True)
    with pytest.raises(GGUFError, match="fallback is tq1_0: ternary types are for"):
        export_gguf(folder, out, "tq2_0", ternarize=True, fallback="tq1_0")
    assert not out.exists()
    summary = export_gguf(folder, out, "tq2_0", ternarize=True, fallback="q4_0", embedding_type="f16")
    _, found = read_gguf(out)
    assert found["blk.0.attn_q.weight"].tensor_type.name == "Q4_0"
    assert found["blk.0.ffn_down.weight"].tensor_type.name == "TQ2_0"
    assert found["token_embd.weight"].tensor_type.name == found["output.weight"].tensor_type.name == "F16"
    assert summary.types == {"F16": 2, "Q4_0": 12, "TQ2_0": 2, "F32": 5}


def test_embedding_rows_that_do_not_fit_q8_0(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    config = CONFIG | {"hidden_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1}
    folder = save_model(tmp_path / "model", tensors(rng, config), config=config)
    export_gguf(folder, out, "q4_0", fallback="bf16")
    _, found = read_gguf(out)
    assert found["token_embd.weight"].tensor_type.name == "F16"
    assert found["blk.0.attn_q.weight"].tensor_type.name == "BF16"


# ---------------------------------------------------------------------------------------------------------------------
# Sources


@pytest.mark.parametrize("source_format", ["nf4", "int8", "fp8"])
def test_quantized_sources(source_format: str, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    """They are dequantized to float32, and that is what is quantized."""
    plain = model_folder(tmp_path / "plain", rng)
    quantize_checkpoint(plain, tmp_path / "model", make_format(source_format))
    summary = export_gguf(tmp_path / "model", out, "q4_0")
    assert summary.complete
    weights = Checkpoint(tmp_path / "model", "float32")
    assert len(weights.packed) == 14
    _, found = read_gguf(out)
    for name in weights:
        weight = as_written(name, weights[name], CONFIG)
        if weight.ndim == 2 and "layers" in name:
            assert found[llama_cpp_name(name)].data.tobytes() == quantize(weight, "q4_0").tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_and_shards(dtype: Any, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = tensors(rng, CONFIG, dtype)
    folder = save_model(tmp_path / "model", content, shards=3, config=CONFIG)
    export_gguf(folder, out, "iq4_nl")
    _, found = read_gguf(out)
    assert set(found) == {llama_cpp_name(name) for name in content}
    weight = content["model.layers.1.mlp.up_proj.weight"].astype(np.float32)
    assert found["blk.1.ffn_up.weight"].data.tobytes() == quantize(weight, "iq4_nl").tobytes()


def test_large_tensors_come_in_pieces(
    tmp_path: Path, out: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces that end within rows give the same bytes."""
    folder = model_folder(tmp_path / "plain", rng)
    quantize_checkpoint(folder, tmp_path / "model", make_format("nf4"))
    export_gguf(tmp_path / "model", out, "q8_0")
    monkeypatch.setattr("libbnb.checkpoint.formats.fourbit.CHUNK_BYTES", 10_000)
    monkeypatch.setattr("libbnb.checkpoint.step.CHUNK_BYTES", 10_000)
    export_gguf(tmp_path / "model", tmp_path / "pieces.gguf", "q8_0")
    ours, other = GGUFFile(out), GGUFFile(tmp_path / "pieces.gguf")
    assert all((ours.read(name) == other.read(name)).all() for name in ours.tensors)


def test_other_models_are_tensors_only(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = {
        "encoder.layer.0.attention.query.weight": rng.standard_normal((64, 32)).astype(np.float32),
        "encoder.layer.0.attention.query.bias": rng.standard_normal(64).astype(np.float16),
        "embeddings.word_embeddings.weight": rng.standard_normal((50, 32)).astype(np.float32),
        "embeddings.position_ids": np.arange(10),
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float16),
        "deep.weight": np.zeros((1, 1, 1, 1, 1), np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "mask": np.ones(3, bool),
        "scalar": np.array(2.5, np.float32),
    }
    folder = save_model(tmp_path / "model", content, config={"architectures": ["BertModel"], "model_type": "bert"})
    summary = export_gguf(folder, out, "q8_0")
    assert not summary.complete and summary.architecture == "generic"
    assert "BertModel" in summary.notes[0] and "not a model that llama.cpp runs" in summary.notes[0]
    assert summary.left_out == {
        "more than 4 dimensions": ["deep.weight"], "empty": ["empty"], "dtype BOOL": ["mask"]
    }  # fmt: skip
    _, found = read_gguf(out)
    kinds = {name: one.tensor_type.name for name, one in found.items()}
    assert kinds == {
        "encoder.layer.0.attention.query.weight": "Q8_0",
        "encoder.layer.0.attention.query.bias": "F32",
        "embeddings.word_embeddings.weight": "Q8_0",
        "embeddings.position_ids": "I64",
        "conv.weight": "F16",
        "scalar": "F32",
    }
    file = GGUFFile(out)
    assert (file.dequantize("embeddings.position_ids") == np.arange(10)).all()
    assert (file.dequantize("conv.weight") == content["conv.weight"]).all()
    assert (file.dequantize("scalar") == 2.5).all()


def test_generic_on_request_and_single_files(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng)
    for source, arguments in ((folder, {"generic": True}), (folder / "model.safetensors", {})):
        summary = export_gguf(source, tmp_path / "out.gguf", "q4_0", force=True, **arguments)
        assert not summary.complete
        assert set(GGUFFile(tmp_path / "out.gguf").tensors) == set(Checkpoint(folder))


# ---------------------------------------------------------------------------------------------------------------------
# Refusals: nothing is left behind


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', llama.cpp computes 'silu'; --generic"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope_type is 'longrope'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is None"),
        ({"rope_scaling": 3}, "rope_scaling is 3"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"num_hidden_layers": 3}, "the checkpoint has no blk.2.attn_q.weight"),
        ({"num_hidden_layers": 1}, r"model.layers.1.\S+: llama has no such tensor"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1, must be a number from 1 on"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ({"num_attention_heads": 3}, "head_dim is 85, which is odd"),
        ({"num_attention_heads": 8}, r"k_proj\.weight has shape 128 x 256, must be 64 x 256 by config.json"),
        ({"intermediate_size": 511}, "has shape 256 x 512, must be 256 x 511"),
        ({"vocab_size": 10}, None),
    ],
)
def test_configs_that_cannot_be(
    changes: dict[str, Any], words: str | None, tmp_path: Path, out: Path, rng: np.random.Generator
) -> None:
    folder = save_model(tmp_path / "model", tensors(rng, CONFIG), config=CONFIG | changes)
    if words is None:  # the embedding says how many tokens there are
        assert export_gguf(folder, out, "f16").complete
        return
    with pytest.raises(GGUFError, match=words):
        export_gguf(folder, out, "f16")
    assert list(tmp_path.iterdir()) == [folder]


def test_tensors_without_a_place(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = tensors(rng, CONFIG)
    extra = {
        "lm_head.bias": "lm_head.bias",
        "model.layers.0.self_attn.q_norm.weight": "q_norm",
        "model.layers.0.input_layernorm.bias": "computes without this bias",
    }
    for name, words in extra.items():
        folder = save_model(tmp_path / name, content | {name: np.ones(256, np.float32)}, config=CONFIG)
        with pytest.raises(GGUFError, match=words):
            export_gguf(folder, out, "f16")
    content["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(32, np.float32)
    summary = export_gguf(save_model(tmp_path / "old", content, config=CONFIG), out, "f16")
    assert list(summary.left_out.values()) == [["model.layers.0.self_attn.rotary_emb.inv_freq"]]


def test_output_heads(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = tensors(rng, CONFIG)
    tied = save_model(tmp_path / "tied", content, config=CONFIG | {"tie_word_embeddings": True})
    export_gguf(tied, out, "f16")
    assert "output.weight" not in GGUFFile(out).tensors
    del content["lm_head.weight"]
    with pytest.raises(GGUFError, match=r"there is no lm_head\.weight, and tie_word_embeddings is not true"):
        export_gguf(save_model(tmp_path / "headless", content, config=CONFIG), out, "f16", force=True)
    bitnet = BITNET_CONFIG | {"tie_word_embeddings": False}
    with pytest.raises(GGUFError, match="tie_word_embeddings is false"):
        export_gguf(save_model(tmp_path / "bitnet", tensors(rng, bitnet), config=bitnet), out, "f16", force=True)


@pytest.mark.parametrize(("name", "bad"), [("q8_0", np.nan), ("tq2_0", np.inf), ("f16", 1e6)])
def test_numbers_that_cannot_be(name: str, bad: float, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = {name: ternary(rng, one.shape, 1) for name, one in tensors(rng, CONFIG).items()}
    content["model.layers.1.mlp.gate_proj.weight"][7, 8] = bad
    folder = save_model(tmp_path / "model", content, config=CONFIG)
    with pytest.raises(GGUFError, match=r"model.layers.1.mlp.gate_proj.weight: contains"):
        export_gguf(folder, out, name)
    assert list(tmp_path.iterdir()) == [folder]


def test_all_zero_weights(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    content = {name: np.zeros_like(one) for name, one in tensors(rng, CONFIG).items()}
    folder = save_model(tmp_path / "model", content, config=CONFIG)
    for name in TYPE_NAMES:
        export_gguf(folder, out, name, force=True)
        file = GGUFFile(out)
        assert not any(file.dequantize(tensor).any() for tensor in file.tensors), name


def test_destinations(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "model", rng)
    monkeypatch.chdir(tmp_path)
    summary = export_gguf("model", quant_type="q4_0")
    assert Path(summary.destination) == tmp_path / "model-q4_0.gguf"
    before = (tmp_path / "model-q4_0.gguf").read_bytes()
    with pytest.raises(GGUFError, match="already exists; --force replaces it"):
        export_gguf(folder, quant_type="q4_0")
    with pytest.raises(GGUFError, match="is a folder"):
        export_gguf(folder, tmp_path, "q4_0", force=True)
    with pytest.raises(GGUFError, match="there is no folder"):
        export_gguf(folder, tmp_path / "no" / "out.gguf", "q4_0")
    with pytest.raises(GGUFError, match="quant_type is 'q5'"):
        export_gguf(folder, "other.gguf", "q5")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(GGUFError, match="no space left on device"):
        export_gguf(folder, "other.gguf", "q4_0")
    assert (tmp_path / "model-q4_0.gguf").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-q4_0.gguf"]


def test_force_keeps_the_old_file_until_the_new_one_is_complete(
    tmp_path: Path, out: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model", rng)
    out.write_text("precious")

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("libbnb.integrations.gguf._export.make", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_gguf(folder, out, "q4_0", force=True)
    assert out.read_text() == "precious" and sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.gguf"]
    export_gguf(folder, out, "q4_0", force=True)
    assert GGUFFile(out).tensors


def test_general_metadata(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "My-Model", rng)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nText\n")
    export_gguf(folder, out, "tq1_0", ternarize=True)
    metadata, _ = read_gguf(out)
    assert metadata["general.name"] == "My-Model" and metadata["general.type"] == "model"
    assert metadata["general.license"] == "apache-2.0" and metadata["general.file_type"] == 36
    assert metadata["general.quantization_version"] == 2
    (folder / "README.md").write_text("---\nlicense: [unclosed\n---\n")
    summary = export_gguf(folder, out, "f16", force=True)
    assert summary.notes == ["the head of README.md is not valid YAML: the licence is not in the file"]


def test_rotary_embeddings(tmp_path: Path, rng: np.random.Generator) -> None:
    """Old and new spellings of the config; the factors of llama3 are a tensor."""
    content = tensors(rng, CONFIG)
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"rope_scaling": {"type": "linear", "factor": 2}}, {"scaling.type": "linear", "scaling.factor": 2.0}),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, {"freq_base": 5e5}),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
            {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 64},
        ),
        ({"rope_scaling": {"rope_type": "llama3", **llama3}}, {"freq_base": 1e4}),
    ]
    for number, (changes, want) in enumerate(cases):
        folder = save_model(tmp_path / str(number), content, config=CONFIG | changes)
        export_gguf(folder, tmp_path / f"{number}.gguf", "f16")
        file = GGUFFile(tmp_path / f"{number}.gguf")
        assert {key: file.metadata[f"llama.rope.{key}"] for key in want} == want
        factors = file.dequantize("rope_freqs.weight") if "rope_freqs.weight" in file.tensors else None
        assert (factors is not None) == (number == 3)
        if factors is not None:
            assert factors.shape == (32,) and factors[0] == 1 and factors[-1] == 8 and (np.diff(factors) >= 0).all()


def test_tokenizer_is_optional(tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", tensors(rng, CONFIG), config=CONFIG)
    assert "there is no tokenizer" in export_gguf(folder, out, "f16").notes[0]
    assert GGUFFile(out).metadata["tokenizer.ggml.model"] == "no_vocab"
    save_bpe(folder)
    assert export_gguf(folder, out, "f16", tokenizer=False, force=True).notes == []
    assert GGUFFile(out).metadata["tokenizer.ggml.model"] == "no_vocab"
