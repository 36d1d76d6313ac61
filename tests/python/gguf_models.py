# SPDX-License-Identifier: MIT
"""Model folders for the tests of GGUF files, made on the spot: small, random, complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from checkpoints import save_model

_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
TEXT = "It's a small text: 1234 words, or 56?\n\n  def f(x):\n    return x*x  # ünïcode, 日本\n" * 20

# Pieces of text with borders of all sorts in them, each often enough to become merges.
LINES = [
    piece
    for piece in ("1234567", "12", "don't", "DON'T", "a1", "x ", "  ", "\r\n", "\n\n", ".\n", "/\n", "(x", ".a",
                  "ab cd", "CamelCase", "HTTPServer", "a b", "日本", "本語", "日a", "é1", "!!", "! ", "#a", "\tx")
    for _ in range(20)
]  # fmt: skip
VOCABULARY = 512
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
BITNET_CONFIG = CONFIG | {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "tie_word_embeddings": True}


def linear_shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Shapes of the linear layers of one layer of a model, by their names in it."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def tensors(rng: np.random.Generator, config: dict[str, Any], dtype: Any = np.float32) -> dict[str, Any]:
    """Random tensors of a model of the Llama or BitNet family."""

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.05).astype(dtype)

    hidden = config["hidden_size"]
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if config["model_type"] == "bitnet":
        norms |= {"self_attn.attn_sub_norm": hidden, "mlp.ffn_sub_norm": config["intermediate_size"]}
    made = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden), "model.norm.weight": 1 + normal(hidden)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in linear_shapes(config).items():
            made[f"model.layers.{layer}.{name}.weight"] = normal(*shape)
        for name, length in norms.items():
            made[f"model.layers.{layer}.{name}.weight"] = 1 + normal(length)
    if not config["tie_word_embeddings"]:
        made["lm_head.weight"] = normal(config["vocab_size"], hidden)
    return made


def model_folder(folder: Path, rng: np.random.Generator, config: dict[str, Any] = CONFIG, **changes: Any) -> Path:
    """A model folder with random tensors and a tokenizer."""
    changed = config | changes
    save_model(folder, tensors(rng, changed), config=changed)
    save_bpe(folder)
    return folder


def bpe(steps: tuple[str, ...] = (LLAMA3_SPLIT, "bytes"), ignore_merges: bool = True) -> Any:
    """A byte-level BPE tokenizer, trained on a small text; `steps` cut it as tokenizer.json says it.

    In training nothing is cut. So there are merges across every border, and it matters where texts are cut.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    def made_of(step: str) -> Any:
        if step == "digits":
            return pre_tokenizers.Digits(individual_digits=True)
        if step == "bytes":
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex="gpt2 words" in steps)
        return pre_tokenizers.Split(Regex(step), "isolated")

    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 4,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|begin|>", "<|end|>"],
        show_progress=False,
    )
    made.train_from_iterator(LINES, trainer)
    made.pre_tokenizer = pre_tokenizers.Sequence([made_of(step) for step in steps if step != "gpt2 words"])
    return made


def save_bpe(folder: Path, **arguments: Any) -> Any:
    """Puts a byte-level BPE tokenizer into a folder."""
    made = bpe(**arguments)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": "{{ messages }}"})
    )
    return made


def save_sentencepiece(folder: Path, keep_model: bool) -> Any:
    """Puts a SentencePiece BPE model into a folder, as tokenizer.model or as tokenizer.json."""
    import io

    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=written, vocab_size=330, model_type="bpe",
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    if keep_model:
        (folder / "tokenizer.model").write_bytes(written.getvalue())
    else:
        (folder / "tokenizer.json").write_text(json.dumps(_description(processor)), encoding="utf-8")
    return processor


def _description(processor: Any) -> dict[str, Any]:
    """tokenizer.json of a SentencePiece model: all pairs that make a piece, the most likely piece first."""
    pieces = {processor.id_to_piece(number): number for number in range(len(processor))}
    pairs = [
        (processor.get_score(number), piece[:cut], piece[cut:])
        for piece, number in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces and not processor.is_byte(number)
    ]
    pairs.sort(key=lambda pair: -pair[0])
    special = [{"id": number, "content": processor.id_to_piece(number), "special": True} for number in range(3)]
    return {
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "model": {
            "type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "vocab": pieces,
            "merges": [[left, right] for _, left, right in pairs],
        },
    }  # fmt: skip


def ternary(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Any:
    """Random weights of one magnitude, and zeros."""
    return (rng.integers(-1, 2, shape) * np.float32(scale)).astype(np.float32)


LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
}


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and tensors, as the gguf package reads them."""
    reader = gguf.GGUFReader(path)
    return {key: part.contents() for key, part in reader.fields.items()}, {one.name: one for one in reader.tensors}


def llama_cpp_name(name: str) -> str:
    """The name of a tensor in a file for llama.cpp."""
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    module, _, suffix = name.rpartition(".")
    if module in outside:
        return f"{outside[module]}.{suffix}"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest]}.{suffix}"


def permuted(weight: Any, heads: int) -> Any:
    """Rows i and i + half of each head become neighbours."""
    size = len(weight) // heads
    order = [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return weight[order]


def as_written(name: str, weight: Any, config: dict[str, Any]) -> Any:
    """A tensor of a checkpoint as llama.cpp wants it."""
    if config["architectures"][0] in ("LlamaForCausalLM", "MistralForCausalLM"):
        if ".q_proj." in name:
            return permuted(weight, config["num_attention_heads"])
        if ".k_proj." in name:
            return permuted(weight, config["num_key_value_heads"])
    return weight
