# SPDX-License-Identifier: MIT
"""A text as windows of tokens: some to measure sensitivities on, others to measure whole models on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from libbnb.checkpoint.errors import CheckpointError, os_errors_name

_CHARACTERS = 16  # of the text for each token that is needed; in common languages a token has three to five


@dataclass(frozen=True)
class Windows:
    """Pieces of a text.

    Attributes
    ----------
    study, check : list of tensor
        Token numbers, shape (1, length), for sensitivities and for whole models.
    prefix : int
        Tokens that the tokenizer puts before any text: they are not predicted.
    held_out : bool
        Whether `check` has other windows than `study`.
    """

    study: list[torch.Tensor]
    check: list[torch.Tensor]
    prefix: int
    held_out: bool

    @property
    def tokens(self) -> int:
        """Tokens of the text that are looked at."""
        windows = [*self.study, *(self.check if self.held_out else [])]
        return sum(window.shape[1] - self.prefix for window in windows)


def read_windows(path: Path, tokenizer: Any, count: int, length: int) -> Windows:
    """The first windows of a text file: every other one for sensitivities, the rest for whole models.

    Parameters
    ----------
    path
        A file in UTF-8.
    tokenizer
        One of transformers.
    count
        Windows for each of the two purposes; fewer if the text is shorter.
    length
        Tokens of a window.

    Raises
    ------
    CheckpointError
        The file cannot be read, or has fewer than two tokens.
    """
    needed = 2 * count * length
    try:
        with os_errors_name(path), path.open(encoding="utf-8") as file:
            text = file.read(_CHARACTERS * needed)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is no text in UTF-8 (byte {error.start})") from error
    begin = [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]
    tokens: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][:needed]
    pieces = [tokens[first : first + length] for first in range(0, len(tokens), length)]
    if len(pieces) > 1 and len(pieces[-1]) < length:
        pieces.pop()
    if not pieces or len(pieces[0]) < 2:
        raise CheckpointError(f"{path}: has {len(tokens)} tokens, needs at least 2")
    windows = [torch.tensor([begin + piece]) for piece in pieces]
    held_out = len(windows) > 1
    return Windows(windows[::2][:count], (windows[1::2] or windows)[:count], len(begin), held_out)
