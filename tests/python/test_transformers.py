# SPDX-License-Identifier: MIT
"""`from_pretrained` of transformers with a `libbnb.QuantizationConfig`, with and without bitsandbytes."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")
pytest.importorskip("accelerate")

import libbnb  # noqa: E402
from hf_models import (  # noqa: E402
    FORMATS,
    OF_BITSANDBYTES,
    TOKENS,
    WITHOUT_BITSANDBYTES,
    alike,
    first_layer,
    logits,
    make,
)
from libbnb import nn  # noqa: E402
from libbnb.integrations.transformers import load_bitsandbytes_checkpoints, optimizer_cls_and_kwargs  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="not installed: bitsandbytes"
)
MODELS = ("llama", "llama-tied", "gpt2", "mixtral")
NF4 = libbnb.QuantizationConfig(**FORMATS["nf4"])


@pytest.fixture(autouse=True)
def _libbnb_loads() -> Any:
    """bitsandbytes is installed here, but libbnb is to load what these tests save."""
    load_bitsandbytes_checkpoints(True)
    yield
    load_bitsandbytes_checkpoints(importlib.util.find_spec("bitsandbytes") is None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model in float32."""
    folder = tmp_path_factory.mktemp("models")
    for name in (*MODELS, "bert"):
        make(name).save_pretrained(folder / name)
    return folder


def _load(folder: Path, name: str, **kwargs: Any) -> Any:
    model, info = type(make(name)).from_pretrained(folder, output_loading_info=True, **kwargs)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model


def test_lazy(python: Callable[..., Any]) -> None:
    """`import libbnb` imports neither PyTorch nor transformers, and the config does not import transformers."""
    code = """
import sys, libbnb
assert not {"torch", "transformers"} & sys.modules.keys()
libbnb.QuantizationConfig(load_in_4bit=True)
assert "transformers" not in sys.modules and not hasattr(libbnb, "no_such_thing")
from libbnb.nn import QuantizationConfig
assert libbnb.QuantizationConfig is QuantizationConfig
"""
    result = python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_quantizes_saves_and_loads(name: str, kind: str, saved: Path, tmp_path: Path) -> None:
    """What is loaded is what `quantize_model` makes; what is saved loads again, to the same bits."""
    config = libbnb.QuantizationConfig(**FORMATS[kind])
    model = _load(saved / name, name, quantization_config=config)
    expected = nn.quantize_model(make(name), config)
    layer, other = first_layer(model), first_layer(expected)
    assert (
        type(layer)
        is type(other)
        is {"int8": nn.Linear8bitLt, "int8-floats": nn.Linear8bitLt}.get(
            kind, nn.LinearFP8 if "fp8" in kind else nn.Linear4bit
        )
    )
    assert layer.weight.requires_grad is False or kind == "int8-floats"
    assert alike(logits(model), logits(expected))
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    if name == "llama-tied":
        assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.num_parameters() == make(name).num_parameters()
    model.save_pretrained(tmp_path / "quantized")
    again = _load(tmp_path / "quantized", name, quantization_config=config)
    assert type(first_layer(again)) is type(layer)
    assert alike(logits(again), logits(model))
    is_for_libbnb_alone = "fp8" in kind or (name == "mixtral" and config.load_in_4bit)
    written = json.loads((tmp_path / "quantized" / "config.json").read_text())["quantization_config"]
    assert written["quant_method"] == ("libbnb" if is_for_libbnb_alone else "bitsandbytes")


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "mixtral"])
@pytest.mark.parametrize("kind", ["nf4", "int8", "fp8"])
def test_dequantize(name: str, kind: str, saved: Path, tmp_path: Path) -> None:
    """Plain layers of the classes and names from before with the values of the codes; nothing quantized is left."""
    model = _load(saved / name, name, quantization_config=libbnb.QuantizationConfig(**FORMATS[kind]))
    layer = first_layer(model)
    values = layer.dequantized_weight()
    before = logits(model)
    plain = model.dequantize()
    original = make(name)
    assert {key: type(one) for key, one in plain.named_modules()} == {
        key: type(one) for key, one in original.named_modules()
    }
    assert {key: one.dtype for key, one in plain.named_parameters()} == {
        key: one.dtype for key, one in original.named_parameters()
    }
    weight = first_layer(plain).weight
    assert torch.equal(weight.t() if name == "gpt2" else weight, values) and weight.requires_grad
    # int8 rounds activations, too: an error of half a step, 1 / 254 of a row's largest, in each of a few layers.
    assert torch.allclose(logits(plain), before, atol=(0.02 if kind == "int8" else 1e-5) * float(before.abs().max()))
    for gone in ("hf_quantizer", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        assert not hasattr(plain, gone) or getattr(plain, gone) is None
    assert plain.num_parameters() == original.num_parameters()
    plain.save_pretrained(tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())
    assert alike(logits(_load(tmp_path / "plain", name)), logits(plain))


def test_dequantize_to_a_dtype(saved: Path) -> None:
    model = _load(saved / "llama", "llama", quantization_config=NF4).dequantize(torch.bfloat16)
    assert first_layer(model).weight.dtype == torch.bfloat16


@pytest.mark.parametrize("device_map", [None, "cpu", "auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_device_map_and_dtype(device_map: Any, dtype: str, saved: Path) -> None:
    """Floats are converted before they are quantized, the rest of the model with them; text comes out."""
    wanted = getattr(torch, dtype)
    model = _load(saved / "llama", "llama", quantization_config=NF4, device_map=device_map, dtype=wanted)
    layer = first_layer(model)
    assert model.dtype == wanted and layer.weight.quant_state.dtype == wanted
    expected = nn.quantize_model(_load(saved / "llama", "llama", dtype=wanted), NF4)
    assert torch.equal(layer.weight.data, first_layer(expected).weight.data)
    assert alike(logits(model), logits(expected))
    text = model.generate(TOKENS, max_new_tokens=4, do_sample=False)
    assert torch.equal(text, expected.generate(TOKENS, max_new_tokens=4, do_sample=False))


def test_disk(saved: Path, tmp_path: Path) -> None:
    """Codes must be in memory; with the flag that bitsandbytes has for it, what is on the disk stays float."""
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu",
                  "model.layers.0": "cpu", "model.layers.1": "disk"}  # fmt: skip
    with pytest.raises(ValueError, match="llm_int8_enable_fp32_cpu_offload"):
        _load(saved / "llama", "llama", quantization_config=NF4, device_map=device_map, offload_folder=tmp_path)
    config = libbnb.QuantizationConfig(**FORMATS["nf4"], llm_int8_enable_fp32_cpu_offload=True)
    model = _load(saved / "llama", "llama", quantization_config=config, device_map=device_map, offload_folder=tmp_path)
    first, second = (layer.self_attn.q_proj for layer in model.model.layers)
    assert type(first) is nn.Linear4bit and type(second) is torch.nn.Linear
    expected = nn.quantize_model(
        make("llama"), libbnb.QuantizationConfig(**FORMATS["nf4"], llm_int8_skip_modules=["lm_head", "model.layers.1"])
    )
    assert alike(logits(model), logits(expected))


def test_skip_list(saved: Path, tmp_path: Path) -> None:
    """`llm_int8_skip_modules` replaces what transformers leaves alone, but never takes a tied weight."""
    config = libbnb.QuantizationConfig(**FORMATS["nf4"], llm_int8_skip_modules=["up_proj", "model.layers.1"])
    model = _load(saved / "llama", "llama", quantization_config=config)
    assert type(model.lm_head) is nn.Linear4bit
    assert type(model.model.layers[0].mlp.up_proj) is type(model.model.layers[1].mlp.down_proj) is torch.nn.Linear
    model.save_pretrained(tmp_path / "skipped")
    assert alike(logits(_load(tmp_path / "skipped", "llama")), logits(model))
    tied = _load(saved / "llama-tied", "llama-tied", quantization_config=config)
    assert type(tied.lm_head) is torch.nn.Linear and tied.lm_head.weight is tied.model.embed_tokens.weight


def test_checkpoint_and_config_disagree(saved: Path, tmp_path: Path) -> None:
    """Layers that a checkpoint has as floats stay floats; codes where the config wants floats are an error."""
    config = libbnb.QuantizationConfig(**FORMATS["nf4"], llm_int8_skip_modules=["lm_head", "up_proj"])
    model = _load(saved / "llama", "llama", quantization_config=config)
    model.save_pretrained(tmp_path / "one")
    _edit(tmp_path / "one", llm_int8_skip_modules=None)
    again = _load(tmp_path / "one", "llama")
    assert type(again.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert alike(logits(again), logits(model))
    again.save_pretrained(tmp_path / "two")
    skips = json.loads((tmp_path / "two" / "config.json").read_text())["quantization_config"]["llm_int8_skip_modules"]
    assert {"lm_head", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"} == set(skips)
    _edit(tmp_path / "one", llm_int8_skip_modules=["model.layers.0"])
    with pytest.raises(RuntimeError):
        _load(tmp_path / "one", "llama")


def _edit(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] |= settings
    file.write_text(json.dumps(config))


def test_shards(saved: Path, tmp_path: Path) -> None:
    """A model in several files, with and without an order that keeps the parts of a weight together."""
    model = _load(saved / "llama", "llama", quantization_config=NF4)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_parameters"] == make("llama").num_parameters()
    assert alike(logits(_load(tmp_path, "llama", device_map="auto")), logits(model))


def test_copies(saved: Path) -> None:
    """Models can be copied, pickled and cast."""
    model = _load(saved / "llama", "llama", quantization_config=NF4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert alike(logits(other), logits(model))
        assert other.num_parameters(exclude_embeddings=True) == make("llama").num_parameters(exclude_embeddings=True)
    assert first_layer(model.to(torch.bfloat16)).weight.dtype == torch.uint8 and model.dtype == torch.bfloat16


def test_num_parameters_of_trainable_ones(saved: Path) -> None:
    model = _load(saved / "llama", "llama", quantization_config=NF4)
    kept = sum(p.numel() for name, p in make("llama").named_parameters() if "_proj" not in name)
    assert model.num_parameters(only_trainable=True) == kept


def test_bad_config(saved: Path) -> None:
    with pytest.raises(ValueError, match="must be True"):
        _load(saved / "llama", "llama", quantization_config=libbnb.QuantizationConfig())


@pytest.mark.parametrize("format", ["nf4", "int8", "fp8-e5m2"])
def test_reads_libbnb_quantize(format: str, saved: Path, tmp_path: Path) -> None:
    """What `libbnb quantize` writes, with a part left alone."""
    from libbnb.checkpoint import dequantize_checkpoint, make_format, quantize_checkpoint

    quantize_checkpoint(saved / "bert", tmp_path / "out", make_format(format), exclude=["*layer.1.output*"])
    model = _load(tmp_path / "out", "bert")
    assert type(first_layer(model)).__module__.startswith("libbnb.nn")
    assert type(model.bert.encoder.layer[1].output.dense) is torch.nn.Linear
    assert type(model.cls.predictions.transform.dense) is type(first_layer(model))
    dequantize_checkpoint(tmp_path / "out", tmp_path / "plain")
    expected = logits(_load(tmp_path / "plain", "bert"))
    # int8: activations are rounded, too, by half a step of 1 / 127 of a row's largest.
    atol = (0.02 if format == "int8" else 1e-5) * float(expected.abs().max())
    assert torch.allclose(logits(model), expected, atol=atol)


# ---------------------------------------------------------------------------------------------------------------------
# Beside bitsandbytes, and instead of it

_SCRIPT = """
import torch, libbnb
from pathlib import Path
from hf_models import OF_BITSANDBYTES, first_layer, logits, make
from transformers import BitsAndBytesConfig
folder = Path({folder!r})
for name in {models!r}:
    for kind in OF_BITSANDBYTES:
        # The config of the checkpoint counts; naming one is allowed.
        given = {{"quantization_config": libbnb.QuantizationConfig(load_in_4bit=True)}} if kind == "nf4" else {{}}
        model = type(make(name)).from_pretrained(folder / f"{{name}}-{{kind}}", **given)
        assert type(first_layer(model)).__module__.startswith("libbnb.nn")
        model.save_pretrained(folder / f"{{name}}-{{kind}}-again")
        assert logits(model).isfinite().all()
        torch.save(model.dequantize(torch.float32).state_dict(), folder / f"{{name}}-{{kind}}-dequantized.pt")
# Scripts that were written for bitsandbytes
model = type(make("llama")).from_pretrained(
    folder / "llama", quantization_config=BitsAndBytesConfig(load_in_4bit=True), device_map="auto"
)
assert type(first_layer(model)).__module__ == "libbnb.nn.linear_4bit"
"""


_BOTH = ("llama", "llama-tied", "gpt2")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that bitsandbytes saved, and those that libbnb made of them in a process without bitsandbytes."""
    folder = tmp_path_factory.mktemp("both")
    load_bitsandbytes_checkpoints(False)
    make("llama").save_pretrained(folder / "llama")
    for name in _BOTH:
        make(name).save_pretrained(folder / name)
        for kind in OF_BITSANDBYTES:
            config = transformers.BitsAndBytesConfig(**FORMATS[kind])
            model = type(make(name)).from_pretrained(folder / name, quantization_config=config)
            model.save_pretrained(folder / f"{name}-{kind}")
    code = WITHOUT_BITSANDBYTES + _SCRIPT.format(folder=str(folder), models=_BOTH)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, env=os.environ | {"PYTHONPATH": path})
    return folder


@needs_bitsandbytes
@pytest.mark.parametrize("kind", OF_BITSANDBYTES)
@pytest.mark.parametrize("name", _BOTH)
def test_without_bitsandbytes(name: str, kind: str, both: Path) -> None:
    """The weights are those that bitsandbytes dequantizes from its checkpoint, and from what libbnb saves of it."""
    load_bitsandbytes_checkpoints(False)
    stock = _load(both / f"{name}-{kind}", name)
    assert type(first_layer(stock)).__module__.startswith("bitsandbytes")
    ours = torch.load(both / f"{name}-{kind}-dequantized.pt")
    theirs = stock.dequantize(torch.float32).state_dict()
    assert ours.keys() == theirs.keys()
    for key, weight in theirs.items():
        # bitsandbytes leaves a Linear where there was a Conv1D.
        is_conv1d = name == "gpt2" and ".h." in key and key.endswith(("attn.weight", "proj.weight", "fc.weight"))
        assert torch.allclose(ours[key].t() if is_conv1d else ours[key], weight, rtol=1e-6, atol=0), key
    again = _load(both / f"{name}-{kind}-again", name)
    assert type(first_layer(again)).__module__.startswith("bitsandbytes")
    back = again.dequantize(torch.float32).state_dict()
    assert all(torch.equal(back[key], weight) for key, weight in theirs.items())
    assert logits(_load(both / f"{name}-{kind}-again", name)).isfinite().all()


@needs_bitsandbytes
def test_stock_behaviour_stays(saved: Path) -> None:
    """With bitsandbytes, its configs make its layers, whether libbnb has registered its quantizer or not."""
    load_bitsandbytes_checkpoints(False)
    config = transformers.BitsAndBytesConfig(load_in_4bit=True)
    model = _load(saved / "llama", "llama", quantization_config=config)
    assert type(first_layer(model)).__module__.startswith("bitsandbytes")
    assert type(first_layer(_load(saved / "llama", "llama", quantization_config=NF4))) is nn.Linear4bit


# ---------------------------------------------------------------------------------------------------------------------
# Optimizers by the Trainer's names

_NAMES = [
    "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "ademamix", "ademamix_8bit",
    "paged_ademamix_32bit", "paged_ademamix_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit",
    "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit",
]  # fmt: skip


@needs_bitsandbytes
@pytest.mark.parametrize("name", _NAMES)
def test_optimizer_names(name: str, tmp_path: Path) -> None:
    """The class and arguments that the Trainer chooses of bitsandbytes, of libbnb; and an optimizer comes of them."""
    settings = {"learning_rate": 3e-4, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6, "use_cpu": True}
    arguments = transformers.TrainingArguments(str(tmp_path), optim=name, **settings)
    kind, kwargs = optimizer_cls_and_kwargs(arguments)
    theirs, expected = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments)
    assert kind.__name__ == theirs.__name__ and kwargs == expected
    layer = torch.nn.Linear(128, 64)
    optimizer = kind(layer.parameters(), **kwargs)
    layer(torch.ones(1, 128)).sum().backward()
    optimizer.step()
    state = optimizer.state[layer.weight]
    assert state["state1"].dtype == (torch.uint8 if "8bit" in name else torch.float32)


def test_optimizer_arguments(tmp_path: Path) -> None:
    def of(name: str, text: str | None = None, model: Any = None) -> Any:
        arguments = transformers.TrainingArguments(str(tmp_path), optim=name, optim_args=text, use_cpu=True)
        return optimizer_cls_and_kwargs(arguments, model)

    _, kwargs = of("ademamix_8bit", "beta3=0.99, alpha=2,t_alpha=10,eps=1e-6")
    assert kwargs["betas"] == (0.9, 0.999, 0.99) and kwargs["t_alpha"] == 10 and kwargs["eps"] == 1e-6
    assert kwargs["alpha"] == 2.0
    assert of("rmsprop_bnb", "alpha=0.9")[1]["alpha"] == 0.9
    for name, text, words in (
        ("adamw_torch", None, "adamw_8bit"),
        ("adamw_8bit", "alpha=1", "has no alpha"),
        ("rmsprop_bnb", "alpha=x", "names and numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            of(name, text)
    model = torch.nn.Sequential(torch.nn.Embedding(64, 128), torch.nn.Linear(128, 64))
    kind, kwargs = of("adamw_8bit", model=model)
    optimizer = kind(model.parameters(), **kwargs)
    model(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    assert [optimizer.state[one.weight]["state1"].dtype for one in model] == [torch.float32, torch.uint8]
