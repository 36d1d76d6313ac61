# SPDX-License-Identifier: MIT
"""Tokenizers in GGUF files: llama.cpp makes the same tokens of a text as the tokenizer that was exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

from gguf_models import CONFIG, QWEN2, TEXT, bpe, model_folder, save_sentencepiece
from libbnb.integrations.gguf import GGUFError, GGUFFile, _pre_tokenizers, export_gguf

TEXTS = (
    TEXT[:200],
    "Hello World, don't you'LL  see?\r\n\r\n\ttabs, 1234567 and 3.14159; x=-1",
    "  leading, trailing  \n\n\n",
    "日本語とüber naïve Ωmega ÉCOLE CamelCase snake_case a/b\n/c #[attr] `code`",
    "<|begin|>special<|end|>",
    "",
)


def vocabulary_of(path: Path) -> Any:
    llama_cpp = pytest.importorskip("llama_cpp")
    return llama_cpp.Llama(str(path), vocab_only=True, verbose=False)


def numbers_of(model: Any, text: str) -> list[int]:
    return model.tokenize(text.encode(), add_bos=True, special=True) if text else []


@pytest.mark.parametrize(("key", "name"), _pre_tokenizers._NAMES.items(), ids=_pre_tokenizers.NAMES)
def test_texts_become_the_same_tokens(key: Any, name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """The way of cutting is found out, and is what llama.cpp has under that name."""
    steps, ignore_merges = key
    tokenizer = bpe(steps, ignore_merges)
    folder = model_folder(tmp_path / "model", rng, CONFIG | QWEN2 | {"tie_word_embeddings": True})
    tokenizer.save(str(folder / "tokenizer.json"))
    assert export_gguf(folder, tmp_path / "model.gguf", "q8_0").notes == []
    assert GGUFFile(tmp_path / "model.gguf").metadata["tokenizer.ggml.pre"] == name
    model = vocabulary_of(tmp_path / "model.gguf")
    for text in TEXTS:
        assert numbers_of(model, text) == tokenizer.encode(text).ids, text
    assert model.token_bos() == 0 and model.token_eos() == 1


def test_a_template_adds_the_first_token(tmp_path: Path, rng: np.random.Generator) -> None:
    from tokenizers import processors

    tokenizer = bpe()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 0)]
    )
    folder = model_folder(tmp_path / "model", rng)
    tokenizer.save(str(folder / "tokenizer.json"))
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    found = numbers_of(vocabulary_of(tmp_path / "model.gguf"), TEXTS[1])
    assert found[0] == 0 and found == tokenizer.encode(TEXTS[1]).ids


@pytest.mark.parametrize("has_model", [True, False], ids=["tokenizer.model", "tokenizer.json"])
def test_sentencepiece(has_model: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    """A SentencePiece model, from itself and from the tokenizer.json that transformers would make of it."""
    pytest.importorskip("sentencepiece")
    folder = model_folder(tmp_path / "model", rng)
    processor = save_sentencepiece(folder, keep_model=has_model)
    assert export_gguf(folder, tmp_path / "model.gguf", "q8_0").notes == []
    model = vocabulary_of(tmp_path / "model.gguf")
    assert GGUFFile(tmp_path / "model.gguf").metadata["tokenizer.ggml.model"] == "llama"
    for text in TEXTS[:2] + TEXTS[3:4]:
        assert model.tokenize(text.encode(), add_bos=False, special=False) == processor.encode(text), text


# ---------------------------------------------------------------------------------------------------------------------
# What is in the file, and what is refused


def described(folder: Path, **changes: Any) -> Path:
    """A model folder whose tokenizer.json has other parts."""
    description = json.loads((folder / "tokenizer.json").read_text())
    for key, value in changes.items():
        description[key] = description[key] | value if isinstance(value, dict) else value
    (folder / "tokenizer.json").write_text(json.dumps(description))
    return folder


def test_unknown_ways_of_cutting(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = described(model_folder(tmp_path / "model", rng), pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(GGUFError, match=r"knows no name of llama\.cpp; give one with --pre-tokenizer"):
        export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    export_gguf(folder, tmp_path / "model.gguf", "q8_0", pre_tokenizer="falcon")
    assert GGUFFile(tmp_path / "model.gguf").metadata["tokenizer.ggml.pre"] == "falcon"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"type": "Unigram"}}, "is a Unigram tokenizer"),
        ({"model": {"vocab": {"a": -1}}}, "no table of tokens"),
        ({"model": {"vocab": {"a": 1, "b": 1}}}, "no table of tokens"),
        ({"model": {"vocab": {"a": 2**40}}}, "a token has number"),
        ({"added_tokens": [{"id": "x", "content": "y"}]}, "is no added token"),
        ({"added_tokens": [{"id": 10**9, "content": "y"}]}, "has number 1000000000"),
    ],
)
def test_broken_descriptions(changes: dict[str, Any], words: str, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = described(model_folder(tmp_path / "model", rng), **changes)
    with pytest.raises(GGUFError, match=words):
        export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    assert list(tmp_path.iterdir()) == [folder]


def test_other_files(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng)
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    metadata = GGUFFile(tmp_path / "model.gguf").metadata
    assert metadata["tokenizer.chat_template"] == "{{ messages }}" and metadata["tokenizer.ggml.add_bos_token"] is False
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(GGUFError, match=r"tokenizer\.json: not valid JSON"):
        export_gguf(folder, tmp_path / "other.gguf", "q8_0")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(GGUFError, match=r"tokenizer\.model: cannot be read"):
        export_gguf(folder, tmp_path / "other.gguf", "q8_0")
    (folder / "tokenizer.model").unlink()
    (folder / "tekken.json").write_text("{}")
    with pytest.raises(GGUFError, match=r"has tekken\.json and no tokenizer\.json"):
        export_gguf(folder, tmp_path / "other.gguf", "q8_0")


def test_more_tokens_than_rows(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng, vocab_size=300)
    with pytest.raises(GGUFError, match="tokens, its embedding 300 rows"):
        export_gguf(folder, tmp_path / "model.gguf", "q8_0")
