# SPDX-License-Identifier: MIT
"""PEFT's LoRA on libbnb's layers: training, merging, saving, with and without bitsandbytes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", minversion="5.0")
peft = pytest.importorskip("peft", minversion="0.15")
pytest.importorskip("accelerate")

import libbnb  # noqa: E402
from hf_models import FORMATS, TOKENS, WITHOUT_BITSANDBYTES, alike, logits, make  # noqa: E402
from layers import FORMATS as LAYERS  # noqa: E402
from layers import make as make_layer  # noqa: E402
from layers import x  # noqa: E402
from libbnb import nn  # noqa: E402
from libbnb.integrations.peft import LoraLinear, LoraModel  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
TARGETS = ["q_proj", "down_proj"]


def _config(**settings: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["0"], **settings})


def _adapted(name: str, bias: bool = True, **settings: Any) -> tuple[Any, Any]:
    """One quantized layer with an adapter that does something, and the LoRA layer."""
    torch.manual_seed(0)
    layer = make_layer(name)
    if not bias:
        layer.bias = None
    model = peft.get_peft_model(torch.nn.Sequential(layer), _config(**settings)).eval()
    lora = model.base_model.model[0]
    _disturb(lora)
    return model, lora


def _disturb(lora: Any, adapter: str = "default") -> None:
    with torch.no_grad():
        torch.nn.init.normal_(lora.lora_B[adapter].weight, std=0.1)
        if lora.lora_B[adapter].bias is not None:
            torch.nn.init.normal_(lora.lora_B[adapter].bias)
        if adapter in lora.lora_magnitude_vector:
            lora.lora_magnitude_vector[adapter].weight.mul_(1.25)


def _delta(lora: Any, adapter: str = "default") -> Any:
    return (lora.lora_B[adapter].weight @ lora.lora_A[adapter].weight).detach() * lora.scaling[adapter]


def _bits(layer: Any) -> Any:
    return {key: value.view(torch.uint8).clone() for key, value in layer.state_dict().items()}


def _same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", LAYERS)
def test_forward(name: str) -> None:
    """A new adapter changes nothing; one with weights adds its product. The quantized product is that of the layer."""
    layer = make_layer(name)
    expected = layer(x())
    model = peft.get_peft_model(torch.nn.Sequential(layer), _config()).eval()
    lora = model.base_model.model[0]
    assert type(model.base_model) is LoraModel and type(lora) is LoraLinear and lora.base_layer is layer
    assert lora.lora_A["default"].weight.dtype == torch.float32
    assert torch.equal(model(x()), expected)
    _disturb(lora)
    assert torch.allclose(model(x()), expected + x() @ _delta(lora).t(), atol=1e-5)
    with model.disable_adapter():
        assert torch.equal(model(x()), expected)


@pytest.mark.parametrize("name", ["nf4-nested", "fp8"])
def test_gradients(name: str) -> None:
    """Those of adapters and inputs are those of a plain layer with the same values; codes get none."""
    model, lora = _adapted(name)
    plain = torch.nn.Sequential(nn.dequantize_model(copy.deepcopy(lora.base_layer)))
    other = peft.get_peft_model(plain, _config())
    other.load_state_dict({key: value for key, value in model.state_dict().items() if "lora" in key}, strict=False)
    found = []
    for one in (model, other):
        given = x().requires_grad_()
        one(given).square().sum().backward()
        found.append([given.grad, *(p.grad for key, p in sorted(one.named_parameters()) if "lora_" in key)])
    assert len(found[0]) == 3
    for ours, expected in zip(*found, strict=True):
        # Sums of 96 or 128 products in another order.
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert lora.base_layer.weight.grad is None and not lora.base_layer.weight.requires_grad


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_merge_and_unmerge(name: str, safe: bool) -> None:
    """The merged layer is what quantizing the sum gives; unmerging gives the bits from before."""
    model, lora = _adapted(name)
    layer, before, said = lora.base_layer, _bits(lora.base_layer), model(x())
    expected = copy.deepcopy(layer)
    expected.requantize(layer.dequantized_weight().float() + _delta(lora))
    model.merge_adapter(safe_merge=safe)
    assert lora.merged and lora.base_layer is layer and _same(_bits(layer), _bits(expected))
    assert torch.equal(model(x()), expected(x())) and not _same(_bits(layer), before)
    model.unmerge_adapter()
    assert not lora.merged and _same(_bits(layer), before) and torch.equal(model(x()), said)
    with pytest.warns(UserWarning, match="Already unmerged"):
        lora.unmerge()


def test_several_adapters() -> None:
    """Merged one after the other, they are rounded once, together; all come out at once."""
    model, lora = _adapted("nf4")
    model.add_adapter("second", _config())
    _disturb(lora, "second")
    before = _bits(lora.base_layer)
    expected = copy.deepcopy(lora.base_layer)
    expected.requantize(lora.base_layer.dequantized_weight() + _delta(lora) + _delta(lora, "second"))
    model.merge_adapter(["default"])
    model.merge_adapter(["second"])
    assert lora.merged_adapters == ["default", "second"] and _same(_bits(lora.base_layer), _bits(expected))
    model.unmerge_adapter()
    assert _same(_bits(lora.base_layer), before)


@pytest.mark.parametrize("merged", [False, True])
def test_safe_merge_finds_nan(merged: bool) -> None:
    """Nothing changes, not even what was merged before."""
    model, lora = _adapted("nf4")
    model.add_adapter("broken", _config())
    with torch.no_grad():
        lora.lora_B["broken"].weight.fill_(float("nan"))
    before = _bits(lora.base_layer)
    if merged:
        model.merge_adapter(["default"])
    now = _bits(lora.base_layer)
    with pytest.raises(ValueError, match="broken"):
        model.merge_adapter(["broken"], safe_merge=True)
    assert _same(_bits(lora.base_layer), now) and lora.merged_adapters == (["default"] if merged else [])
    if merged:
        model.unmerge_adapter()
        assert _same(_bits(lora.base_layer), before)


def test_lora_bias() -> None:
    model, lora = _adapted("nf4", lora_bias=True)
    before = lora.base_layer.bias.detach().clone()
    model.merge_adapter()
    assert not torch.equal(lora.base_layer.bias, before)
    model.unmerge_adapter()
    assert torch.equal(lora.base_layer.bias, before)


@pytest.mark.parametrize("name", ["nf4", "nf4-bf16-storage", "int8", "fp8"])
def test_dora(name: str) -> None:
    """DoRA (arXiv:2402.09353): it computes what PEFT computes on a plain layer with the same values, and merges."""
    model, lora = _adapted(name, use_dora=True)
    layer, before, said = lora.base_layer, _bits(lora.base_layer), model(x())
    plain = torch.nn.Sequential(nn.dequantize_model(copy.deepcopy(layer), torch.float32))
    other = peft.get_peft_model(plain, _config(use_dora=True)).eval()
    other.load_state_dict({key: value for key, value in model.state_dict().items() if "lora" in key}, strict=False)
    wanted = other(x())
    # int8 rounds activations; a step of 1 / 254 of a row's largest.
    atol = (0.02 if name == "int8" else 1e-5) * float(wanted.detach().abs().max())
    assert torch.allclose(said, wanted, atol=atol) and lora.base_layer is layer
    other.merge_adapter()
    expected = copy.deepcopy(layer)
    expected.requantize(other.base_model.model[0].base_layer.weight.detach())
    model.merge_adapter(safe_merge=True)
    # PEFT's order of additions depends on the layer: a sum on the threshold between two codes may take the other one.
    merged, wanted = layer.dequantized_weight(), expected.dequantized_weight()
    assert torch.isclose(merged, wanted, rtol=1e-5, atol=0).float().mean() > 0.999
    model.unmerge_adapter()
    assert _same(_bits(layer), before) and torch.equal(model(x()), said)
    model.train()(x()).sum().backward()
    assert lora.lora_magnitude_vector["default"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("way", ["pissa", "olora"])
def test_adapters_that_begin_as_a_part_of_the_weights(way: str) -> None:
    """The rest of the weights is quantized again, so that the sum is nearly what it was."""
    layer = make_layer("nf4")
    values, before = layer.dequantized_weight(), _bits(layer)
    model = peft.get_peft_model(torch.nn.Sequential(layer), _config(init_lora_weights=way))
    lora = model.base_model.model[0]
    assert not _same(_bits(layer), before)
    error = (layer.dequantized_weight() + _delta(lora) - values).norm() / values.norm()
    assert error < 0.12  # the rounding of NF4 for normal weights is 0.095 of their norm


@pytest.mark.parametrize("kind", ["nf4", "nf4-nested", "int8", "fp8"])
def test_train_save_load_and_merge_a_model(kind: str, tmp_path: Path) -> None:
    """prepare_model_for_kbit_training, a few steps, the adapter on a new base, merge_and_unload, save_pretrained."""
    make("llama").save_pretrained(tmp_path / "base")

    def load() -> Any:
        config = libbnb.QuantizationConfig(**FORMATS[kind])
        return type(make("llama")).from_pretrained(tmp_path / "base", quantization_config=config)

    base = peft.prepare_model_for_kbit_training(load())
    assert base.is_gradient_checkpointing and base.lm_head.weight.dtype == torch.float32
    model = peft.get_peft_model(base, _config(target_modules=TARGETS, task_type="CAUSAL_LM"))
    layers = [one for one in model.modules() if isinstance(one, LoraLinear)]
    assert len(layers) == 4
    before = [_bits(one.base_layer) for one in layers]
    optimizer = libbnb_adamw(model)
    losses = [_step(model, optimizer) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.05
    assert all(_same(_bits(one.base_layer), old) for one, old in zip(layers, before, strict=True))
    said = logits(model.eval())
    model.save_pretrained(tmp_path / "adapter")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    again = peft.PeftModel.from_pretrained(load(), tmp_path / "adapter")
    assert alike(logits(again), said)
    assert sum(isinstance(one, LoraLinear) for one in again.modules()) == 4
    unloaded = again.merge_and_unload(safe_merge=True)
    assert not any(isinstance(one, LoraLinear) for one in unloaded.modules())
    model.merge_adapter()
    assert alike(logits(unloaded), logits(model))
    unloaded.save_pretrained(tmp_path / "merged")
    from libbnb.integrations.transformers import load_bitsandbytes_checkpoints

    load_bitsandbytes_checkpoints(True)
    try:
        assert alike(logits(type(make("llama")).from_pretrained(tmp_path / "merged")), logits(unloaded))
    finally:
        load_bitsandbytes_checkpoints(False)


def libbnb_adamw(model: Any) -> Any:
    import libbnb.optim

    return libbnb.optim.AdamW8bit([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def _step(model: Any, optimizer: Any) -> float:
    loss = model.train()(TOKENS, labels=TOKENS).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def test_models_of_quantize_model() -> None:
    """Not only those of `from_pretrained`."""
    model = nn.quantize_model(make("gpt2"), "nf4")
    adapted = peft.get_peft_model(model, _config(target_modules=["c_attn"]))
    assert sum(isinstance(one, LoraLinear) for one in adapted.modules()) == 2
    for one in adapted.modules():
        if isinstance(one, LoraLinear):
            _disturb(one)
    said = logits(adapted.eval())
    merged = logits(adapted.merge_and_unload())
    assert not torch.equal(merged, said) and torch.allclose(merged, said, atol=0.1 * float(said.abs().max()))


def test_other_layers_are_pefts() -> None:
    """Plain layers and those of bitsandbytes are treated as before, by the same `LoraModel`."""
    model = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), _config())
    assert type(model.base_model.model[0]) is peft.tuners.lora.layer.Linear
    bitsandbytes = pytest.importorskip("bitsandbytes")
    theirs = torch.nn.Sequential(bitsandbytes.nn.Linear4bit(64, 64))
    theirs.is_loaded_in_4bit = True
    adapted = peft.get_peft_model(theirs, _config())
    assert type(adapted.base_model.model[0]).__module__ == "peft.tuners.lora.bnb"


def test_unmerged_layers_follow_the_model() -> None:
    """The weights from before are where the layer is, and in its dtypes, when they come back."""
    model, lora = _adapted("nf4")
    before = _bits(lora.base_layer)
    model.merge_adapter()
    model.to(torch.bfloat16)
    model.unmerge_adapter()
    assert torch.equal(lora.base_layer.weight.data, before["weight"].view_as(lora.base_layer.weight.data))
    assert lora.base_layer.bias.dtype == torch.bfloat16


_TRAINER = """
import torch, libbnb, warnings
from hf_models import FORMATS, TOKENS, make
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from libbnb.integrations.transformers import optimizer_cls_and_kwargs
make("llama").save_pretrained("base")
data = [{{"input_ids": row, "labels": row}} for row in TOKENS] * 8
runs = (("nf4", {{"": "cpu"}}, "adamw_8bit"), ("int8", "auto", "paged_adamw_8bit"), ("fp8", None, "lion_8bit"))
for kind, device_map, optim in runs:
    config = libbnb.QuantizationConfig(**FORMATS[kind])
    model = AutoModelForCausalLM.from_pretrained("base", quantization_config=config, device_map=device_map)
    lora = LoraConfig(target_modules={targets}, task_type="CAUSAL_LM")
    model = get_peft_model(prepare_model_for_kbit_training(model), lora)
    arguments = TrainingArguments(
        "out", optim=optim, learning_rate=1e-3, max_steps=8, per_device_train_batch_size=4, logging_steps=1,
        use_cpu=True, report_to=[], save_strategy="steps", save_steps=8,
    )
    chosen = optimizer_cls_and_kwargs(arguments, model)
    trainer = Trainer(model, arguments, train_dataset=data, optimizer_cls_and_kwargs=chosen)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0], losses
    assert type(trainer.optimizer.optimizer).__module__.startswith("libbnb.optim")
    trainer.train(resume_from_checkpoint="out/checkpoint-8")
    model.merge_and_unload().save_pretrained("merged-" + kind)
assert sys.modules["bitsandbytes"] is None
"""


def test_trainer_without_bitsandbytes(tmp_path: Path) -> None:
    """QLoRA with the Trainer and the names of its 8-bit optimizers, in a process that cannot import bitsandbytes."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    code = WITHOUT_BITSANDBYTES + _TRAINER.format(targets=TARGETS)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, timeout=300, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_no_warnings_of_merging() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, _ = _adapted("nf4")
        model.merge_adapter()
        model.unmerge_adapter()
