# SPDX-License-Identifier: MIT
"""A small character-level language model, and a text to train it on: what train_lm.py and generate_lm.py share.

The text is that of docstrings of Python's standard library.
"""

from __future__ import annotations

import importlib
import inspect

import torch
import torch.nn.functional as F

CONTEXT, WIDTH, LAYERS, HEADS, BATCH = 64, 128, 2, 4, 16
MODULES = (
    "argparse", "collections", "difflib", "inspect", "logging", "os", "pathlib", "random", "statistics", "subprocess",
    "textwrap", "threading", "typing", "unittest", "urllib.request", "zipfile",
)  # fmt: skip


def text() -> str:
    """Docstrings of the standard library, in a fixed order."""
    found: list[str] = []
    for name in MODULES:
        module = importlib.import_module(name)
        objects = [
            module,
            *(
                value
                for _, value in sorted(vars(module).items())
                if inspect.isclass(value) or inspect.isfunction(value)
            ),
        ]
        found += [inspect.getdoc(value) or "" for value in objects if getattr(value, "__module__", name) == name]
        for value in objects[1:]:
            members = sorted(vars(value).items()) if inspect.isclass(value) else []
            found += [inspect.getdoc(member) or "" for _, member in members if inspect.isfunction(member)]
    return "".join(c for c in "\n\n".join(found) if c == "\n" or " " <= c <= "~")


class Characters:
    """The numbers of a text's characters."""

    def __init__(self, corpus: str) -> None:
        self.all = sorted(set(corpus))
        self._index = {c: i for i, c in enumerate(self.all)}

    def __len__(self) -> int:
        return len(self.all)

    def encode(self, words: str) -> torch.Tensor:
        return torch.tensor([self._index[c] for c in words])

    def decode(self, numbers: torch.Tensor) -> str:
        return "".join(self.all[number] for number in numbers.tolist())


class Cache:
    """Keys and values of the characters that one layer has seen: memory for all of them, made once."""

    def __init__(self, rows: int, heads: int, context: int, length: int, dtype: torch.dtype) -> None:
        self.keys = torch.empty(rows, heads, context, length, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.seen = 0

    def add(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts some more behind the others, and gives all of them."""
        begin, self.seen = self.seen, self.seen + keys.shape[2]
        self.keys[:, :, begin : self.seen] = keys
        self.values[:, :, begin : self.seen] = values
        return self.keys[:, :, : self.seen], self.values[:, :, : self.seen]


class Block(torch.nn.Module):
    """Attention to what came before, and a feed-forward network."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = torch.nn.LayerNorm(width)
        self.between = torch.nn.LayerNorm(width)
        self.mix = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.up = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.mix(self.before(x)).chunk(3, dim=-1)
        )
        is_first = cache is None or cache.seen == 0
        if cache is not None:
            k, v = cache.add(k, v)
        if not is_first and length > 1:
            raise ValueError("behind characters in the cache, one comes at a time")
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=is_first)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(F.gelu(self.up(self.between(x))))


class LanguageModel(torch.nn.Module):
    """A decoder over characters."""

    def __init__(
        self, characters: int, width: int = WIDTH, layers: int = LAYERS, heads: int = HEADS, context: int = CONTEXT
    ) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(characters, width)
        self.places = torch.nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = torch.nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(width, characters, bias=False)

    def forward(self, x: torch.Tensor, caches: list[Cache] | None = None) -> torch.Tensor:
        seen = caches[0].seen if caches else 0
        y = self.tokens(x) + self.places[seen : seen + x.shape[1]]
        for i, block in enumerate(self.blocks):
            y = block(y, caches[i] if caches else None)
        return self.head(self.last(y))

    def new_caches(self, rows: int) -> list[Cache]:
        """Empty caches, one for each layer."""
        context, width = self.places.shape
        heads = self.blocks[0].heads
        return [Cache(rows, heads, context, width // heads, self.places.dtype) for _ in self.blocks]


def loss_on(
    model: LanguageModel, data: torch.Tensor, generator: torch.Generator, context: int = CONTEXT
) -> torch.Tensor:
    """The mean loss on a batch from random places of a text, nats per character."""
    starts = torch.randint(len(data) - context - 1, (BATCH,), generator=generator)
    rows = torch.stack([data[start : start + context + 1] for start in starts.tolist()])
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
