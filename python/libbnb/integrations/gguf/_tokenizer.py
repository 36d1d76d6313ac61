# SPDX-License-Identifier: MIT
"""The tokenizer of a model folder as llama.cpp wants it: byte-level BPE ("gpt2") or SentencePiece BPE ("llama")."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gguf import GGUFWriter, SentencePieceVocab, SpecialVocab, TokenType

from libbnb.checkpoint.errors import os_errors_name
from libbnb.integrations.gguf._errors import GGUFError
from libbnb.integrations.gguf._pre_tokenizers import NAMES, find_pre_tokenizer

_WORD_START = "\u2581"  # what SentencePiece writes for a space
_ADDED_SCORE = -1000.0  # of tokens that no merge makes; llama.cpp's own files have it
_NO_TOKENIZER = "no_vocab"


@dataclass
class Vocabulary:
    """Tokens by their number.

    Attributes
    ----------
    model : str
        "gpt2", "llama", or "no_vocab".
    pre : str
        Name of the pre-tokenizer.
    tokens : list of str or bytes
        Their text.
    kinds : list of TokenType
        What they are.
    scores : list of float
        Of "llama": the highest is merged first.
    has_merges : bool
        Whether the merges belong into the file.
    notes : list of str
        What a user should know.
    """

    model: str
    pre: str = ""
    tokens: list[str | bytes] = field(default_factory=lambda: list[str | bytes]())
    kinds: list[TokenType] = field(default_factory=lambda: list[TokenType]())
    scores: list[float] = field(default_factory=lambda: list[float]())
    has_merges: bool = False
    notes: list[str] = field(default_factory=lambda: list[str]())

    def resize(self, size: int, folder: Path) -> None:
        """Fill up with tokens that are never used, until each row of the embedding has one.

        Raises
        ------
        GGUFError
            There are more tokens than rows.
        """
        if len(self.tokens) > size:
            raise GGUFError(f"{folder}: its tokenizer has {len(self.tokens)} tokens, its embedding {size} rows")
        for number in range(len(self.tokens), size):
            self.put(number, f"[PAD{number}]", TokenType.UNUSED, 10 * _ADDED_SCORE)

    def put(self, number: int, text: str | bytes, kind: TokenType, score: float) -> None:
        """Set a token; those before it that are not there yet become unused ones."""
        while len(self.tokens) <= number:
            self.tokens.append(f"[PAD{len(self.tokens)}]")
            self.kinds.append(TokenType.UNUSED)
            self.scores.append(10 * _ADDED_SCORE)
        self.tokens[number], self.kinds[number], self.scores[number] = text, kind, score


def read_vocabulary(folder: Path, size: int, pre: str | None) -> Vocabulary:
    """The tokenizer of a model folder.

    Parameters
    ----------
    folder : Path
        With tokenizer.json or tokenizer.model; without either the file gets no tokenizer.
    size : int
        Rows of the token embedding.
    pre : str or None
        Name of the pre-tokenizer, where libbnb cannot find it out.

    Raises
    ------
    GGUFError
        A tokenizer of another kind, or one that is corrupt.
    """
    description = _json(folder / "tokenizer.json")
    model: Any = description.get("model") or {}
    with os_errors_name(folder):
        if (folder / "tokenizer.model").is_file() and not _is_byte_level(description):
            made = _sentencepiece(folder)
        elif not description:
            return _without(folder)
        elif model.get("type") == "BPE" and _is_byte_level(description):
            made = _byte_level(folder, description, pre)
        elif model.get("type") == "BPE" and model.get("byte_fallback"):
            made = _byte_fallback(folder, description)
        else:
            raise GGUFError(
                f"{folder / 'tokenizer.json'}: is a {model.get('type')} tokenizer; byte-level BPE and BPE with byte "
                "fallback can be exported; --no-tokenizer leaves it out"
            )
    _add_added_tokens(made, folder, description)
    made.resize(size, folder)
    return made


def add_to(writer: GGUFWriter, vocabulary: Vocabulary, folder: Path) -> None:
    """Add a tokenizer to the metadata.

    Raises
    ------
    GGUFError
        A file of the tokenizer is corrupt.
    """
    writer.add_tokenizer_model(vocabulary.model)
    if vocabulary.model == _NO_TOKENIZER:
        return
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(cast(Any, vocabulary.tokens))
    if vocabulary.model == "llama":
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.kinds)
    special = _special(folder, vocabulary)
    special.add_to_gguf(writer, quiet=True)
    if vocabulary.model == "llama":
        writer.add_add_space_prefix(_starts_with_space(folder))


def _starts_with_space(folder: Path) -> bool:
    """Whether a space is put before a text that is not the first of a line of texts."""
    description = _json(folder / "tokenizer.json")
    if description:
        steps = json.dumps([description.get("normalizer"), description.get("pre_tokenizer")])
        return any(word in steps for word in ('"Prepend"', '"prepend_scheme": "always"', '"prepend_scheme": "first"'))
    said: Any = _json(folder / "tokenizer_config.json").get("add_prefix_space")
    return said if isinstance(said, bool) else True


def no_vocabulary() -> Vocabulary:
    """No tokenizer: a program must bring the numbers of tokens."""
    return Vocabulary(_NO_TOKENIZER)


def _without(folder: Path) -> Vocabulary:
    if (folder / "tekken.json").is_file():
        raise GGUFError(f"{folder}: has tekken.json and no tokenizer.json; --no-tokenizer leaves the tokenizer out")
    made = no_vocabulary()
    made.notes.append("there is no tokenizer in the folder: the file has none, and programs must bring token numbers")
    return made


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one if there is no such file."""
    if not path.is_file():
        return {}
    with os_errors_name(path):
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise GGUFError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise GGUFError(f"{path}: is not a JSON object")
    return cast(dict[str, Any], content)


def _is_byte_level(description: dict[str, Any]) -> bool:
    """Whether tokens are spelled in the alphabet of bytes that GPT-2 brought."""
    return '"ByteLevel"' in json.dumps([description.get("pre_tokenizer"), description.get("decoder")])


def _table(folder: Path, description: dict[str, Any]) -> dict[str, int]:
    table: Any = description["model"].get("vocab")
    numbers = list(cast(dict[str, Any], table).values()) if isinstance(table, dict) else []
    if not numbers or not all(type(one) is int and one >= 0 for one in numbers) or len(set(numbers)) != len(numbers):
        raise GGUFError(f"{folder / 'tokenizer.json'}: its vocabulary is no table of tokens and their numbers")
    if max(numbers) >= 2 * len(numbers) + 1_000_000:
        raise GGUFError(f"{folder / 'tokenizer.json'}: a token has number {max(numbers)}")
    return cast(dict[str, int], table)


def _byte_level(folder: Path, description: dict[str, Any], pre: str | None) -> Vocabulary:
    found = pre or find_pre_tokenizer(description)
    if found is None:
        raise GGUFError(
            f"{folder / 'tokenizer.json'}: cuts text in a way for which libbnb knows no name of llama.cpp; give one "
            f"with --pre-tokenizer ({', '.join(NAMES)}, ...), or leave the tokenizer out with --no-tokenizer"
        )
    made = Vocabulary("gpt2", found, has_merges=True)
    for token, number in _table(folder, description).items():
        made.put(number, token, TokenType.NORMAL, 0.0)
    normalizer: Any = description.get("normalizer")
    if normalizer and normalizer.get("type") != "NFC":
        made.notes.append(f"the tokenizer's normalizer ({normalizer.get('type')}) has no counterpart in llama.cpp")
    return made


def _sentencepiece(folder: Path) -> Vocabulary:
    try:
        vocabulary = SentencePieceVocab(folder)
    except RuntimeError as error:
        reason = "pip install sentencepiece" if "not installed" in str(error) else "it is not a SentencePiece model"
        raise GGUFError(f"{folder / 'tokenizer.model'}: cannot be read: {reason}") from error
    except (ValueError, OSError) as error:
        raise GGUFError(f"{folder / 'tokenizer.model'}: cannot be read: {error}") from error
    made = Vocabulary("llama", "default")
    for number, (text, score, kind) in enumerate(vocabulary.all_tokens()):
        made.put(number, text, kind, score)
    return made


def _byte_fallback(folder: Path, description: dict[str, Any]) -> Vocabulary:
    """A SentencePiece model that only tokenizer.json is left of. Scores are the order of the merges."""
    made = Vocabulary("llama", "default")
    table, merges = _table(folder, description), _merges(folder, description)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    for token, number in table.items():
        kind = TokenType.BYTE if _is_byte(token) else TokenType.NORMAL
        made.put(number, token, kind, -float(ranks.get(token, len(ranks))))
    unknown: Any = description["model"].get("unk_token")
    if isinstance(unknown, str) and unknown in table:
        made.kinds[table[unknown]] = TokenType.UNKNOWN
    if _merges_more(table, merges):
        made.notes.append("llama.cpp merges pairs that tokenizer.json does not list: some texts become other tokens")
    return made


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _merges(folder: Path, description: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of tokens in the order in which they are merged."""
    merges: Any = description["model"].get("merges") or []
    pairs: list[tuple[Any, ...]] = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise GGUFError(f"{folder / 'tokenizer.json'}: {pair!r} is no merge of two tokens")
    return cast(list[tuple[str, str]], pairs)


def _merges_more(table: dict[str, int], merges: list[tuple[str, str]]) -> bool:
    """Whether two tokens make a third that no merge makes of them: llama.cpp merges them all the same."""
    listed = set(merges)
    made = {left + right for left, right in merges}
    return any(
        token[:cut] in table and token[cut:] in table and (token[:cut], token[cut:]) not in listed
        for token in made
        for cut in range(1, len(token))
    )


def _add_added_tokens(made: Vocabulary, folder: Path, description: dict[str, Any]) -> None:
    """Tokens that are found in a text before it is cut."""
    added: list[Any] = list(description.get("added_tokens") or [])
    decoder: Any = _json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    added += [{"id": int(number), **token} for number, token in decoder.items() if str(number).isdecimal()]
    for token in added:
        number, text = token.get("id"), token.get("content")
        if type(number) is not int or number < 0 or not isinstance(text, str):
            raise GGUFError(f"{folder}: {token!r} is no added token")
        if number >= len(made.tokens) + len(added):
            raise GGUFError(f"{folder}: the added token {text!r} has number {number}")
        known = made.kinds[number] if number < len(made.kinds) else None
        if known in (TokenType.UNKNOWN, TokenType.BYTE):
            continue
        is_control = token.get("special") or known is TokenType.CONTROL
        if not is_control:
            text = text.replace(_WORD_START, " ")  # llama.cpp looks for it in the text as it came
        made.put(number, text, TokenType.CONTROL if is_control else TokenType.USER_DEFINED, _ADDED_SCORE)


def _special(folder: Path, vocabulary: Vocabulary) -> SpecialVocab:
    """Merges, special tokens and the chat template, as the gguf package reads them."""
    try:
        special = SpecialVocab(folder, load_merges=vocabulary.has_merges, n_vocab=len(vocabulary.tokens))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise GGUFError(f"{folder}: its tokenizer files cannot be read: {error}") from error
    if (folder / "tokenizer.json").is_file():
        # llama.cpp adds a first token for some kinds unless it is told not to; here only a template does.
        special.add_special_token.setdefault("bos", False)
        special.add_special_token.setdefault("eos", False)
    config = _json(folder / "config.json")
    for name in ("bos", "eos"):
        numbers: Any = config.get(f"{name}_token_id")
        if name not in special.special_token_ids and isinstance(numbers, list) and numbers:
            first: Any = cast(list[Any], numbers)[0]
            if type(first) is int and 0 <= first < len(vocabulary.tokens):
                special.special_token_ids[name] = first
    if vocabulary.model == "gpt2" and "eos" not in special.special_token_ids:
        vocabulary.notes.append("the tokenizer names no end-of-text token: llama.cpp takes token 11 for it")
    return special
