# SPDX-License-Identifier: MIT
"""quantize_model and QuantizationConfig: which layers, in which format, from which settings."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from libbnb import nn  # noqa: E402

pytestmark = pytest.mark.torch

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="not installed: transformers"
)

KINDS = {
    "nf4": nn.Linear4bit, "fp4": nn.Linear4bit, "int8": nn.Linear8bitLt, "fp8": nn.LinearFP8, "fp8-e5m2": nn.LinearFP8,
}  # fmt: skip


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(64, 128)
        self.down = torch.nn.Linear(128, 64)
        self.norm = torch.nn.LayerNorm(64)

    def forward(self, x: Any) -> Any:
        return self.norm(x + self.down(torch.relu(self.up(x))))


class Model(torch.nn.Module):
    """An encoder with a head."""

    def __init__(self, tie: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed_tokens = torch.nn.Embedding(50, 64)
        self.layers = torch.nn.ModuleList([Layer(), Layer()])
        self.lm_head = torch.nn.Linear(64, 50, bias=False)
        if tie:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, ids: Any) -> Any:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


def _types(model: Any) -> dict[str, type]:
    return {name: type(module) for name, module in model.named_modules() if "Linear" in type(module).__name__}


IDS = torch.arange(12).reshape(2, 6)
INSIDE = ["layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down"]


@pytest.mark.parametrize("word", KINDS)
def test_formats(word: str) -> None:
    """All layers but the head, in place; the result is close, and a quarter to an eighth of its size."""
    model = Model().eval()
    with torch.no_grad():
        before = model(IDS)
        weights = model.layers[0].up.weight.numel() * 4
        size = nn.get_memory_footprint(model)
        assert nn.quantize_model(model, word) is model
        after = model(IDS)
    assert _types(model) == {name: KINDS[word] for name in INSIDE} | {"lm_head": torch.nn.Linear}
    assert 0 < float((after - before).norm() / before.norm()) < 0.15
    saved = (size - nn.get_memory_footprint(model)) / (4 * weights)
    assert (0.84 if "4" in word.removeprefix("fp8-e") and word[:3] != "fp8" else 0.72) < saved < 0.88
    other = nn.quantize_model(Model().eval(), word)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(IDS), after)


def test_settings_reach_layers() -> None:
    config = nn.QuantizationConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="bfloat16",
        bnb_4bit_quant_storage=torch.float16,
        bnb_4bit_blocksize=128,
    )
    layer: Any = nn.quantize_model(Model(), config).layers[0].up
    assert layer.weight.quant_type == "nf4" and layer.weight.quant_state.nested and layer.weight.blocksize == 128
    assert layer.compute_dtype == torch.bfloat16 and layer.weight.dtype == torch.float16
    layer = nn.quantize_model(Model(), {"load_in_8bit": True, "llm_int8_threshold": 3}).layers[0].up
    assert layer.state.threshold == 3.0 and not layer.state.has_fp16_weights and layer.weight.dtype == torch.int8
    layer = nn.quantize_model(Model(), {"load_in_8bit": True, "llm_int8_has_fp16_weight": True}).layers[0].up
    assert layer.state.has_fp16_weights and layer.weight.requires_grad and layer.weight.dtype == torch.float32
    config = nn.QuantizationConfig(load_in_fp8=True, fp8_blocksize=32, fp8_quant_type="fp8_e5m2")
    layer = nn.quantize_model(Model(), config).layers[0].up
    assert layer.weight.scale.shape == (128, 2) and layer.weight.dtype == torch.float8_e5m2


def test_skips() -> None:
    """A list replaces the default; names match as in transformers."""
    model = nn.quantize_model(Model(), {"load_in_4bit": True, "llm_int8_skip_modules": ["layers.0", "down"]})
    assert _types(model) == {
        "layers.0.up": torch.nn.Linear, "layers.0.down": torch.nn.Linear, "layers.1.up": nn.Linear4bit,
        "layers.1.down": torch.nn.Linear, "lm_head": nn.Linear4bit,
    }  # fmt: skip
    with pytest.raises(ValueError, match="no layer of this Model"):
        nn.quantize_model(Model(), {"load_in_4bit": True, "llm_int8_skip_modules": ["layers", "lm_head"]})


def test_default_skips_know_models() -> None:
    """Routers beside experts, what a model's config says is the vocabulary, and its output embedding stay."""
    model: Any = Model()
    model.layers[0].experts = torch.nn.ModuleList([torch.nn.Linear(64, 64)])
    model.layers[0].gate = torch.nn.Linear(64, 4)
    model.final = torch.nn.Linear(64, 50)
    model.odd_name = torch.nn.Linear(64, 64)
    model.config = SimpleNamespace(to_dict=lambda: {"vocab_size": 50})
    model.get_output_embeddings = lambda: model.odd_name
    types = _types(nn.quantize_model(model, "nf4"))
    assert types["layers.0.experts.0"] is nn.Linear4bit
    assert all(types[name] is torch.nn.Linear for name in ("layers.0.gate", "final", "odd_name", "lm_head"))


def test_tied_weights() -> None:
    """A head tied to the embedding stays tied; layers tied to each other share their codes."""
    model = nn.quantize_model(Model(tie=True), {"load_in_4bit": True, "llm_int8_skip_modules": []})
    assert model.lm_head.weight is model.embed_tokens.weight and type(model.lm_head) is torch.nn.Linear
    for word in KINDS:
        model = Model().eval()
        model.layers[1].up.weight = model.layers[0].up.weight
        shared = model.layers[0].down
        model.layers[1].down = shared
        nn.quantize_model(model, word)
        assert model.layers[1].up.weight is model.layers[0].up.weight
        assert model.layers[1].up is not model.layers[0].up and model.layers[1].down is model.layers[0].down
        assert all(kind is KINDS[word] for name, kind in _types(model).items() if name in INSIDE)
        with torch.no_grad():
            model(IDS)


@pytest.mark.parametrize("word", KINDS)
def test_meta(word: str) -> None:
    """A model without memory is changed, and its quantized weights are loaded."""
    source = nn.quantize_model(Model().eval(), word)
    with torch.device("meta"):
        model = nn.quantize_model(Model().eval(), word)
    assert all(parameter.is_meta for parameter in model.parameters())
    model.load_state_dict(source.state_dict(), assign=True)
    assert not any(parameter.is_meta for parameter in model.parameters())
    with torch.no_grad():
        assert torch.equal(model(IDS), source(IDS))


def test_a_layer_alone() -> None:
    layer = torch.nn.Linear(64, 32)
    assert type(nn.quantize_model(layer, "nf4")) is nn.Linear4bit


def test_config_round_trip() -> None:
    config = nn.QuantizationConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16, llm_int8_skip_modules=["a"]
    )
    values = config.to_dict()
    assert values["bnb_4bit_compute_dtype"] == "bfloat16" and values["bnb_4bit_quant_storage"] == "uint8"
    assert values["quant_method"] == "bitsandbytes"
    assert nn.QuantizationConfig.from_dict(values) == config == nn.QuantizationConfig.of(values)
    assert config.is_quantizable() and config.quantization_method() == "nf4"
    assert nn.QuantizationConfig().quantization_method() is None
    assert nn.QuantizationConfig(load_in_8bit=True).quantization_method() == "llm_int8"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, ValueError, "only one"),
        ({"load_in_4bit": 1}, TypeError, "load_in_4bit is 1"),
        ({"bnb_4bit_quant_type": "int3"}, ValueError, "nf4"),
        ({"bnb_4bit_compute_dtype": "complex64"}, ValueError, "bnb_4bit_compute_dtype"),
        ({"bnb_4bit_quant_storage": "int64"}, ValueError, "bnb_4bit_quant_storage"),
        ({"llm_int8_skip_modules": "lm_head"}, TypeError, "list of names"),
        ({"bnb_4bit_blocksize": 63}, ValueError, "even"),
        ({"fp8_quant_type": "fp8"}, ValueError, "fp8_e4m3fn"),
        ({"load_in_2bit": True}, ValueError, "load_in_2bit"),
        ({"quant_method": "gptq"}, ValueError, "gptq"),
    ],
)
def test_bad_settings(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nn.QuantizationConfig.from_dict(settings)


def test_bad_configs() -> None:
    with pytest.raises(ValueError, match="must be True"):
        nn.quantize_model(Model(), nn.QuantizationConfig())
    with pytest.raises(ValueError, match="nf4, fp4"):
        nn.quantize_model(Model(), "nf5")
    with pytest.raises(TypeError, match="config is a int"):
        nn.quantize_model(Model(), 4)


@needs_transformers
@pytest.mark.parametrize("kwargs", [
    {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
    {"load_in_8bit": True, "llm_int8_threshold": 5.0},
])  # fmt: skip
def test_transformers_config(kwargs: dict[str, Any]) -> None:
    """transformers' object and its dict give the same; ours gives it back."""
    import transformers

    theirs = transformers.BitsAndBytesConfig(**kwargs)
    config = nn.QuantizationConfig.of(theirs)
    assert config == nn.QuantizationConfig.from_dict(theirs.to_dict())
    for name, value in kwargs.items():
        assert getattr(config, name) == value
    back = transformers.BitsAndBytesConfig.from_dict(config.to_dict())
    assert back.to_dict() == theirs.to_dict()


def _tiny(kind: str) -> Any:
    import transformers as t

    torch.manual_seed(3)
    sizes = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=320)
    return {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**sizes, num_key_value_heads=2)),
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**sizes)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=320)),
        "mixtral": lambda: t.MixtralForCausalLM(
            t.MixtralConfig(**sizes, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)
        ),
    }[kind]().eval()


@pytest.mark.slow
@needs_transformers
@pytest.mark.parametrize("kind", ["llama", "bert", "gpt2", "mixtral"])
def test_chooses_what_transformers_chooses(kind: str) -> None:
    """The same layers as its bitsandbytes integration; and the model works, `Conv1D` and experts included."""
    base = pytest.importorskip("transformers.quantizers.base")
    utils = pytest.importorskip("transformers.quantizers.quantizers_utils")
    model = _tiny(kind)
    ids = torch.arange(32).reshape(2, 16)
    with torch.no_grad():
        before = model(input_ids=ids).logits
    kept = base.get_keys_to_not_convert(model)
    expected = {
        name for name, module in model.named_modules()
        if (type(module) is torch.nn.Linear or type(module).__name__ == "Conv1D")
        and utils.should_convert_module(name, kept)
    }  # fmt: skip
    nn.quantize_model(model, "nf4")
    assert {name for name, module in model.named_modules() if isinstance(module, nn.Linear4bit)} == expected
    with torch.no_grad():
        after = model(input_ids=ids).logits
    assert 0 < float((after - before).norm() / before.norm()) < 0.2
    experts = [p for p in model.parameters() if isinstance(p, nn.Params4bit) and len(p.logical_shape) == 3]
    assert len(experts) == (4 if kind == "mixtral" else 0)
    other = nn.quantize_model(_tiny(kind), "nf4")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.data.zero_()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(input_ids=ids).logits, after)


@pytest.mark.parametrize("format", KINDS)
def test_one_layer(format: str) -> None:
    """The layer that `quantize_model` would put in its place; the original stays as it was."""
    torch.manual_seed(2)
    linear, x = torch.nn.Linear(64, 32), torch.randn(3, 64)
    before = linear.weight.detach().clone()
    made = nn.quantized_layer(linear, format)
    assert type(made) is KINDS[format] and type(linear) is torch.nn.Linear and torch.equal(linear.weight, before)
    assert made.bias is linear.bias
    assert torch.equal(made(x), nn.quantize_model(torch.nn.Sequential(linear), format)(x))


def test_no_layer_to_quantize() -> None:
    with pytest.raises(TypeError, match=r"layer is a LayerNorm, must be a torch\.nn\.Linear"):
        nn.quantized_layer(torch.nn.LayerNorm(3), "nf4")
    with pytest.raises(ValueError, match="must be True"):
        nn.quantized_layer(torch.nn.Linear(3, 3), nn.QuantizationConfig())
