# SPDX-License-Identifier: MIT
"""How a byte-level BPE tokenizer cuts text before it merges, and what llama.cpp calls that way of cutting.

llama.cpp has a name for each way it knows, and its own regular expressions behind it. Its converter finds the name by
encoding a text and looking the tokens' hash up in a list of known vocabularies. Here the cuts themselves are compared,
as tokenizer.json describes them, so a vocabulary that nobody has seen before is no obstacle.
"""

from __future__ import annotations

from typing import Any, cast

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS_AND = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"

_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS_AND}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS_AND}|\p{{N}}|{_REST}"
_TEKKEN = rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}|{_REST_SLASH}"
_GPT4O = rf"{_CASED[0]}{_CONTRACTIONS}?|{_CASED[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_REST_SLASH}"
_CJK3 = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"  # as DeepSeek's coders have it
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)

_BYTES, _GPT2, _DIGITS = "bytes", "gpt2 words", "digits"  # steps that are not a regular expression

# (steps, whether a whole word in the vocabulary is one token whatever the merges say): name in llama.cpp
_NAMES: dict[tuple[tuple[str, ...], bool], str] = {
    ((_GPT2, _BYTES), False): "gpt-2",
    ((_LLAMA3, _BYTES), True): "llama-bpe",
    ((_LLAMA3, _BYTES), False): "dbrx",
    ((_QWEN2, _BYTES), False): "qwen2",
    ((_DIGITS, _GPT2, _BYTES), False): "smollm",
    ((_TEKKEN, _BYTES), True): "tekken",
    ((_GPT4O, _BYTES), False): "gpt-4o",
    ((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, _DIGITS, _BYTES), False): "deepseek-coder",
    ((r"\p{N}{1,3}", _CJK3, _DEEPSEEK3, _BYTES), False): "deepseek-v3",
}
NAMES = tuple(_NAMES.values())


def find_pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """llama.cpp's name for the way a byte-level BPE tokenizer cuts text; None if there is none that is known.

    Parameters
    ----------
    tokenizer : dict
        The content of tokenizer.json.
    """
    steps: list[str] = []
    for step in _flat(tokenizer.get("pre_tokenizer")):
        meaning = _meaning(step)
        if meaning is None:
            return None
        steps += meaning
    model: Any = tokenizer.get("model")
    return _NAMES.get((tuple(steps), bool(model.get("ignore_merges"))))


def _flat(step: Any) -> list[dict[str, Any]]:
    """The steps of nested sequences, one after the other."""
    if not isinstance(step, dict):
        return []
    found = cast(dict[str, Any], step)
    if found.get("type") != "Sequence":
        return [found]
    return [one for inner in cast(list[Any], found.get("pretokenizers", [])) for one in _flat(inner)]


def _meaning(step: dict[str, Any]) -> list[str] | None:
    """A step as words of the table; None if it has none."""
    kind = step.get("type")
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return [_GPT2, _BYTES] if step.get("use_regex", True) else [_BYTES]
    if kind == "Digits" and step.get("individual_digits"):
        return [_DIGITS]
    if kind == "Split":
        pattern: Any = step.get("pattern")
        # The expressions cover every text: to remove what is between their matches is to keep the matches.
        isolates = (step.get("behavior"), bool(step.get("invert"))) in (("Isolated", False), ("Removed", True))
        if isolates and isinstance(pattern, dict) and isinstance(cast(dict[str, Any], pattern).get("Regex"), str):
            return [cast(dict[str, str], pattern)["Regex"]]
    return None
