# SPDX-License-Identifier: MIT
"""llama.cpp loads and runs exported files: the logits of transformers' models, where llama-cpp-python is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
llama_cpp = pytest.importorskip("llama_cpp")

from gguf_models import BITNET_CONFIG, CONFIG, save_bpe  # noqa: E402
from libbnb.integrations import bitnet  # noqa: E402
from libbnb.integrations.gguf import dequantize, export_gguf, quantize  # noqa: E402
from libbnb.nn import BitNetConfig, replace_with_bitlinear  # noqa: E402

pytestmark = pytest.mark.torch

TOKENS = [int(token) for token in np.random.default_rng(5).integers(3, 380, 24)]
WORDS = "It's a small text: 1234 words,\n  def f(x)"


def small_model(config: dict[str, Any]) -> Any:
    """A model with random weights, and norms that are not all ones."""
    settings = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
    kind = transformers.BitNetConfig if config["model_type"] == "bitnet" else transformers.LlamaConfig
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(kind(**settings))
    for name, parameter in made.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.8, 1.2)
    return made.eval()


@torch.no_grad()
def expected(model: Any) -> Any:
    return model(torch.tensor([TOKENS])).logits[0].numpy()


def logits(path: Path) -> Any:
    """What llama.cpp computes for each token."""
    model = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, logits_all=True, verbose=False)
    model.eval(TOKENS)
    found = np.array(model.scores[: len(TOKENS)])
    model.close()
    return found


def agreement(found: Any, want: Any) -> float:
    """The size of the difference beside that of the logits."""
    return float(np.linalg.norm(found - want) / np.linalg.norm(want))


# llama.cpp rounds keys and values to float16; where weights have blocks it rounds activations, too: to 8 bits of the
# largest of each 32, some 0.5% of what they are, in each of a dozen products one behind the other.
LIMITS = {"f32": 0.002, "f16": 0.003, "q8_0": 0.02, "q4_0": 0.02, "iq4_nl": 0.02, "mxfp4": 0.02}

# BitNet rounds activations to 8 bits of the largest of a token; llama.cpp to those of each 256, or not at all (f32).
BITNET_LIMIT = 0.04


@torch.no_grad()
def rounded(model: Any, quant_type: str) -> Any:
    """The model with the weights that its file has."""
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Embedding)):
            is_linear = isinstance(layer, torch.nn.Linear) and layer is not model.lm_head
            kind = quant_type if is_linear or quant_type in ("f32", "f16") else "q8_0"
            layer.weight.copy_(torch.from_numpy(dequantize(quantize(layer.weight.numpy(), kind), kind)))
    return model


@pytest.mark.parametrize("quant_type", LIMITS)
def test_llama(tmp_path: Path, quant_type: str) -> None:
    model = small_model(CONFIG)
    model.save_pretrained(tmp_path / "model")
    tokenizer = save_bpe(tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", quant_type)
    assert agreement(logits(tmp_path / "model.gguf"), expected(rounded(model, quant_type))) < LIMITS[quant_type]
    vocabulary = llama_cpp.Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    ours = vocabulary.tokenize(WORDS.encode(), add_bos=False)
    vocabulary.close()
    assert ours == tokenizer.encode(WORDS, add_special_tokens=False).ids


@pytest.mark.parametrize("quant_type", ["tq1_0", "tq2_0", "f32"])
def test_bitnet(tmp_path: Path, quant_type: str) -> None:
    """Layers of ours, saved as transformers does, run by llama.cpp."""
    model = replace_with_bitlinear(small_model(BITNET_CONFIG), BitNetConfig(rms_norm=False))
    bitnet.save_pretrained(model, tmp_path / "model")
    save_bpe(tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", quant_type, embedding_type="f32")
    assert agreement(logits(tmp_path / "model.gguf"), expected(model)) < BITNET_LIMIT
