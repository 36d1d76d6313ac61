# SPDX-License-Identifier: MIT
"""Which weights are chosen by name, shape and config, and how a loader is told about the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("safetensors")

from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.select import Choice, choose, ignore_patterns, skip_modules, transformers_skips


def _tensors(*names: str, shape: tuple[int, ...] = (64, 32), dtype: str = "F32") -> dict[str, TensorInfo]:
    return {name: TensorInfo(name, dtype, shape, Path("x"), 0, 0) for name in names}


def _choices(*names: str, config: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Choice]:
    return choose(_tensors(*names, **kwargs), config, [], [])


_QUANTIZED = [
    "model.layers.0.self_attn.q_proj.weight",
    "encoder.layer.11.attention.output.dense.weight",
    "bert.pooler.dense.weight",
    "cls.predictions.transform.dense.weight",
    "lm_head.dense.weight",  # RoBERTa's head has a layer before the output embedding
    "transformer.h.3.mlp.c_fc.weight",
    "embeddings_project.weight",
    "encoder.embedding_hidden_mapping_in.weight",
    "layers.5.attn.out_projection.weight",
    "blocks.7.proj_out.weight",
    "decoder.block.0.layer.1.EncDecAttention.q.weight",
    "model.layers.2.mlp.gate_proj.weight",
    "model.layers.2.mlp.gate.weight",  # a gate is a router only beside experts
]
_KEPT = {
    "model.embed_tokens.weight": "embedding",
    "embeddings.word_embeddings.weight": "embedding",
    "text_model.embeddings.token_embedding.weight": "embedding",
    "transformer.wte.weight": "embedding",
    "shared.weight": "embedding",
    "gpt_neox.embed_in.weight": "embedding",
    "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": "embedding",
    "model.norm.weight": "norm",
    "lm_head.weight": "output embedding",
    "model.lm_head.weight": "output embedding",
    "lm_head.decoder.weight": "output embedding",
    "cls.predictions.decoder.weight": "output embedding",
    "embed_out.weight": "output embedding",
    "score.weight": "head",
    "classifier.weight": "head",
    "classifier.dense.weight": "head",
    "classifier.0.weight": "head",
    "cls.seq_relationship.weight": "head",
    "qa_outputs.weight": "head",
    "text_projection.weight": "head",
    "some.parameter": "not the weight of a module",
}


@pytest.mark.parametrize("name", _QUANTIZED)
def test_quantized(name: str) -> None:
    assert _choices(name)[name] == Choice(True)


@pytest.mark.parametrize("name", _KEPT)
def test_kept(name: str) -> None:
    choice = _choices(name)[name]
    assert (choice.quantize, choice.reason) == (False, _KEPT[name])


@pytest.mark.parametrize("shape", [(64,), (), (8, 8, 8), (8, 8, 3, 3)])
def test_only_matrices(shape: tuple[int, ...]) -> None:
    assert _choices("a.weight", shape=shape)["a.weight"].reason == f"{len(shape)}-D"


@pytest.mark.parametrize("dtype", ["I8", "F64", "F8_E4M3", "I64", "U8", "BOOL"])
def test_only_floats(dtype: str) -> None:
    assert _choices("a.weight", dtype=dtype)["a.weight"].reason == f"dtype {dtype}"


def test_empty_matrix_is_kept() -> None:
    assert _choices("a.weight", shape=(0, 5))["a.weight"].reason == "empty"


def test_experts_and_routers() -> None:
    names = ("layers.0.mlp.experts.3.up_proj.weight", "layers.0.mlp.gate.weight", "layers.0.attn.q_proj.weight")
    expert, router, attention = _choices(*names).values()
    assert (expert.reason, router.reason, attention.quantize) == ("expert", "router", True)


def test_vocabulary_sized() -> None:
    """A table with a row per token is kept whatever its name, unless that number means something else, too."""
    config = {"model_type": "x", "vocab_size": 64, "hidden_size": 32}
    assert _choices("odd.name.weight", config=config)["odd.name.weight"].reason == "as many rows as the vocabulary"
    assert _choices("odd.name.weight", config={"text_config": config})["odd.name.weight"].quantize is False
    assert _choices("odd.name.weight", config=config | {"intermediate_size": 64})["odd.name.weight"].quantize


def test_by_model_type() -> None:
    name = "encoder.block.0.layer.1.DenseReluDense.wo.weight"
    assert _choices(name, config={"model_type": "t5"})[name].reason == "kept in float32 by this model"
    assert _choices(name, config={"model_type": "bart"})[name].quantize
    gpt2 = _choices("h.0.attn.c_attn.weight", "h.0.attn.other.weight", config={"model_type": "gpt2"})
    assert [choice.transposed for choice in gpt2.values()] == [True, False]


def test_include_replaces_the_rules_and_exclude_wins() -> None:
    tensors = _tensors("lm_head.weight", "a.weight", "b.weight", "c")
    choices = choose(tensors, None, ["lm_head", "a*", "c"], ["a.weight"])
    assert [name for name, choice in choices.items() if choice.quantize] == ["lm_head.weight", "c"]
    assert [choice.reason for choice in choices.values()] == ["", "excluded", "not included", ""]


# ---------------------------------------------------------------------------------------------------------------------
# Telling loaders


def test_nothing_to_tell() -> None:
    """Where transformers' default agrees, there is no list, as transformers writes it."""
    choices = _choices("model.layers.0.q_proj.weight", "lm_head.weight", "model.embed_tokens.weight")
    assert skip_modules(choices) is None


def test_skip_list() -> None:
    tensors = _tensors(*(f"model.layers.{n}.mlp.{x}.weight" for n in (1, 11) for x in ("up", "down")), "lm_head.weight")
    choices = choose(tensors, None, [], ["*layers.1.*"])
    skips = skip_modules(choices)
    assert skips is not None and {"layers.1.mlp.up", "layers.1.mlp.down", "lm_head"} <= set(skips)
    for name, choice in choices.items():
        module = name.removesuffix(".weight")
        for loaded_as in (module, module.removeprefix("model.")):  # with and without the head's prefix
            assert transformers_skips(loaded_as, skips) is not choice.quantize


def test_skip_list_never_names_what_is_quantized() -> None:
    """ "text.layers.0.x" must not be cut to "layers.0.x" where "vision.layers.0.x" is quantized."""
    tensors = _tensors("text.layers.0.x.weight", "vision.layers.0.x.weight", "lm_head.dense.weight")
    choices = choose(tensors, None, [], ["text*"])
    skips = skip_modules(choices)
    assert skips is not None and "text.layers.0.x" in skips
    assert not any(transformers_skips(name, skips) for name in ("vision.layers.0.x", "lm_head.dense"))


def test_ignore_patterns() -> None:
    import re

    tensors = _tensors("model.layers.0.up.weight", "model.layers.1.up.weight", "lm_head.weight")
    choices = choose(tensors, None, [], ["*layers.0*"])
    patterns = [pattern.removeprefix("re:") for pattern in ignore_patterns(choices)]
    ignored = {
        name for name in ("model.layers.0.up", "layers.0.up", "layers.1.up", "lm_head", "model.layers.10.up")
        if any(re.match(pattern, name) for pattern in patterns)
    }  # fmt: skip
    assert ignored == {"model.layers.0.up", "layers.0.up", "lm_head"}
    included = ignore_patterns(choose(tensors, None, ["*"], []))
    assert not any(re.match(pattern.removeprefix("re:"), "lm_head") for pattern in included)
