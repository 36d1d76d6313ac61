# SPDX-License-Identifier: MIT
"""What `quantize_checkpoint` writes, read by transformers with bitsandbytes, beside what those two do themselves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libbnb.checkpoint import Checkpoint, dequantize_checkpoint, make_format, quantize_checkpoint

_NEEDED = ("torch", "transformers", "bitsandbytes", "accelerate")
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]

# Rows and columns are multiples of 64, because for a short last block bitsandbytes divides where libbnb multiplies.
_SIZES = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=320)
_VISION = dict(_SIZES, image_size=32, patch_size=8)


def _model(name: str) -> Any:
    import torch
    import transformers as t

    torch.manual_seed(7)
    llama = dict(_SIZES, num_key_value_heads=2)
    makers = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama)),
        "llama-tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama, tie_word_embeddings=True)),
        "llama-classifier": lambda: t.LlamaForSequenceClassification(
            t.LlamaConfig(**llama, num_labels=3, pad_token_id=0)
        ),
        "bert": lambda: t.BertModel(t.BertConfig(**_SIZES)),
        "bert-masked": lambda: t.BertForMaskedLM(t.BertConfig(**_SIZES)),
        "bert-classifier": lambda: t.BertForSequenceClassification(t.BertConfig(**_SIZES)),
        "roberta-masked": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**_SIZES)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=320)),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(
                d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=320, decoder_start_token_id=0
            )
        ),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(text_config=_SIZES, vision_config=_VISION, projection_dim=64)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**llama, num_local_experts=4)),
    }
    return makers[name]().eval()


def _save(model: Any, folder: Path, dtype: str = "float32", **kwargs: Any) -> None:
    import torch

    model.to(getattr(torch, dtype)).save_pretrained(folder, **kwargs)


def _inputs(name: str) -> dict[str, Any]:
    import torch

    tokens = torch.arange(2 * 16).reshape(2, 16) % 311 + 3
    if name == "clip":
        return {"input_ids": tokens, "pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)}
    return {"input_ids": tokens, "decoder_input_ids": tokens} if name == "t5" else {"input_ids": tokens}


def _output(model: Any, name: str) -> Any:
    import torch

    with torch.no_grad():
        out = model(**_inputs(name))
    for key in ("logits", "logits_per_text", "last_hidden_state"):
        if key in out:
            return out[key].float()
    raise AssertionError(out.keys())


def _configs() -> dict[str, Any]:
    import transformers as t

    return {
        "nf4": t.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        "nf4-nested": t.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        ),
        "fp4": t.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
        "int8": t.BitsAndBytesConfig(load_in_8bit=True),
    }


def _ours(folder: Path, result: Path, kind: str) -> None:
    quantize_checkpoint(folder, result, make_format(kind.split("-")[0], None, kind.endswith("nested")))


_MODELS = [
    "llama", "llama-tied", "llama-classifier", "bert", "bert-masked", "bert-classifier", "roberta-masked", "gpt2", "t5",
    "clip", "mixtral",
]  # fmt: skip


@pytest.mark.parametrize("name", _MODELS)
def test_loads_with_stock_transformers(name: str, tmp_path: Path) -> None:
    """Every model loads without missing, unexpected or newly initialised weights, and computes as if dequantized."""
    import torch

    model = _model(name)
    _save(model, tmp_path / "model")
    _ours(tmp_path / "model", tmp_path / "nf4", "nf4")
    loaded, info = type(model).from_pretrained(tmp_path / "nf4", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    dequantize_checkpoint(tmp_path / "nf4", tmp_path / "plain")
    expected = _output(type(model).from_pretrained(tmp_path / "plain").eval(), name)
    # bitsandbytes multiplies in bfloat16 on CPUs that have it; dequantized, the model is the same.
    scale = float(expected.abs().max())
    assert np.allclose(_output(loaded.eval(), name), expected, atol=0.02 * scale)
    again = type(model).from_pretrained(tmp_path / "nf4").dequantize(torch.float32).eval()
    assert np.allclose(_output(again, name), expected, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", ["nf4", "nf4-nested", "fp4", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "bert", "gpt2"])
def test_same_as_transformers_quantizing_itself(name: str, dtype: str, kind: str, tmp_path: Path) -> None:
    """Same names, shapes and dtypes of all tensors; the same bytes where both follow the same rule."""
    model = _model(name)
    _save(model, tmp_path / "model", dtype)
    theirs = type(model).from_pretrained(tmp_path / "model", quantization_config=_configs()[kind])
    theirs.save_pretrained(tmp_path / "theirs")
    _ours(tmp_path / "model", tmp_path / "ours", kind)
    a, b = _tensors(tmp_path / "theirs"), _tensors(tmp_path / "ours")
    assert {key: (x.dtype, x.shape) for key, x in a.items() if "quant_state" not in key} == {
        key: (x.dtype, x.shape) for key, x in b.items() if "quant_state" not in key
    }
    assert a.keys() == b.keys()
    for key in a:
        if "quant_state" in key:
            _same_text(a[key], b[key])
        elif kind == "int8" and a[key].dtype == "int8":
            # bitsandbytes rounds the weight to float16 first, and PyTorch turns 127 / absmax into a product with the
            # reciprocal: one step apart at most, and rarely.
            difference = a[key].astype(int) - b[key].astype(int)
            assert np.abs(difference).max() <= 1 and np.mean(difference != 0) < 0.02
        elif kind == "int8" and key.endswith("SCB"):
            assert np.allclose(a[key], b[key], rtol=2**-11)
        elif kind == "fp4" and a[key].dtype == "uint8":
            assert _fp4_values_agree(a[key], b[key])
        elif kind == "nf4-nested" and "absmax" in key:
            assert _nested_close(a[key], b[key])
        else:
            assert a[key].tobytes() == b[key].tobytes(), key
    assert _config(tmp_path / "theirs") == _config(tmp_path / "ours") | _compute_dtype(tmp_path / "theirs")


def _tensors(folder: Path) -> dict[str, Any]:
    source = Checkpoint(folder).source
    from libbnb.checkpoint import dtypes
    from libbnb.checkpoint.load import load_bytes

    return {
        name: np.frombuffer(load_bytes(tensor), dtypes.numpy_dtype(tensor.dtype)).reshape(tensor.shape)
        for name, tensor in source.tensors.items()
    }


def _same_text(theirs: Any, ours: Any) -> None:
    a, b = json.loads(theirs.tobytes()), json.loads(ours.tobytes())
    assert np.isclose(a.pop("nested_offset", 0.0), b.pop("nested_offset", 0.0), rtol=1e-6)
    assert a == b and list(a) == list(b)
    if "nested_absmax" not in a:
        assert len(ours) >= len(theirs)


def _fp4_values_agree(theirs: Any, ours: Any) -> bool:
    """FP4's two zeros are one value; ties of equal magnitude go different ways in 16-bit data, rarely."""
    a, b = (np.stack([x >> 4, x & 15]) for x in (theirs, ours))
    a, b = (np.where(x == 8, 0, x) for x in (a, b))
    return float(np.mean(a != b)) < 0.005


def _nested_close(theirs: Any, ours: Any) -> bool:
    """bitsandbytes sums the mean in float32 and looks codes up in a coarse table: a few codes are one or two apart."""
    if ours.dtype == "uint8":
        return bool(np.abs(theirs.astype(int) - ours.astype(int)).max() <= 4)
    return bool(np.allclose(theirs, ours, rtol=1e-5))


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def _compute_dtype(folder: Path) -> dict[str, Any]:
    """libbnb writes the dtype of the weights, transformers that of its caller, float32 by default."""
    return {"bnb_4bit_compute_dtype": _config(folder)["bnb_4bit_compute_dtype"]}


@pytest.mark.parametrize("kind", ["nf4", "nf4-nested", "fp4", "int8"])
def test_reads_what_transformers_wrote(kind: str, tmp_path: Path) -> None:
    """`Checkpoint` on a checkpoint that transformers and bitsandbytes saved gives their dequantized weights."""
    import torch

    model = _model("bert")
    _save(model, tmp_path / "model")
    theirs = type(model).from_pretrained(tmp_path / "model", quantization_config=_configs()[kind])
    theirs.save_pretrained(tmp_path / "theirs")
    plain = theirs.dequantize(torch.float32).state_dict()
    checkpoint = Checkpoint(tmp_path / "theirs", dtype="float32")
    assert len(checkpoint.packed) == 13
    for name, weight in checkpoint.items():
        assert np.allclose(weight, plain[name].float().numpy(), rtol=1e-6, atol=1e-9), name


def test_sharded_with_index(tmp_path: Path) -> None:
    """Several shards in, several out, and the index is right."""
    import torch

    model = _model("llama")
    _save(model, tmp_path / "model", max_shard_size="100KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 2
    quantize_checkpoint(tmp_path / "model", tmp_path / "out", make_format("nf4"), max_shard_bytes=50_000)
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2
    loaded = type(model).from_pretrained(tmp_path / "out")
    quantize_checkpoint(tmp_path / "model", tmp_path / "one", make_format("nf4"))
    whole = type(model).from_pretrained(tmp_path / "one")
    assert torch.equal(_output(loaded.eval(), "llama"), _output(whole.eval(), "llama"))


def test_kept_modules_are_told(tmp_path: Path) -> None:
    """With --exclude, transformers learns which modules stay as they are, whichever class loads the model."""
    import transformers

    model = _model("llama")
    _save(model, tmp_path / "model")
    quantize_checkpoint(tmp_path / "model", tmp_path / "out", make_format("nf4"), exclude=["*layers.0.mlp*", "*o_proj"])
    skips = _config(tmp_path / "out")["llm_int8_skip_modules"]
    assert "layers.0.mlp.up_proj" in skips and "lm_head" in skips
    for kind in (transformers.LlamaForCausalLM, transformers.AutoModel):
        loaded, info = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"], info
        inner = getattr(loaded, "model", loaded)
        assert type(inner.layers[0].mlp.up_proj).__name__ == "Linear"
        assert type(inner.layers[1].mlp.up_proj).__name__ == "Linear4bit"


@pytest.mark.skipif(importlib.util.find_spec("compressed_tensors") is None, reason="not installed: compressed_tensors")
@pytest.mark.parametrize("blocksize", [None, 32])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "bert", "bert-classifier", "t5"])
def test_fp8_loads_as_compressed_tensors(name: str, dtype: str, blocksize: int | None, tmp_path: Path) -> None:
    """FP8 E4M3 checkpoints load through compressed-tensors and compute as if dequantized."""
    model = _model(name)
    _save(model, tmp_path / "model", dtype)
    quantize_checkpoint(tmp_path / "model", tmp_path / "fp8", make_format("fp8", blocksize))
    loaded, info = type(model).from_pretrained(tmp_path / "fp8", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    dequantize_checkpoint(tmp_path / "fp8", tmp_path / "plain")
    expected = _output(type(model).from_pretrained(tmp_path / "plain").eval(), name)
    assert np.allclose(_output(loaded.eval(), name), expected, atol=0.02 * float(expected.abs().max()))


@pytest.mark.skipif(importlib.util.find_spec("compressed_tensors") is None, reason="not installed: compressed_tensors")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("format", ["mxfp4", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "bert"])
def test_microscaling_loads_as_compressed_tensors(name: str, format: str, dtype: str, tmp_path: Path) -> None:
    """MX and NVFP4 checkpoints load through compressed-tensors and compute as if dequantized."""
    import torch

    model = _model(name)
    _save(model, tmp_path / "model", dtype)
    quantize_checkpoint(tmp_path / "model", tmp_path / "mx", make_format(format))
    # Whatever the model is: compressed-tensors makes bfloat16 of these formats.
    loaded, info = type(model).from_pretrained(tmp_path / "mx", dtype=torch.bfloat16, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    dequantize_checkpoint(tmp_path / "mx", tmp_path / "plain")
    expected = _output(type(model).from_pretrained(tmp_path / "plain").eval(), name)
    assert np.allclose(_output(loaded.eval(), name), expected, atol=0.02 * float(expected.abs().max()))
