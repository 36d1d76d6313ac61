# SPDX-License-Identifier: MIT
"""The model in memory: loading, its layers, and what it says about a window of text."""

# transformers' classes have no types that help here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from libbnb.checkpoint.errors import CheckpointError

Model: TypeAlias = Any  # of transformers


@dataclass(frozen=True)
class Prediction:
    """What a model predicts in a window.

    Attributes
    ----------
    log_probabilities : tensor
        float32, shape (tokens, vocabulary): those behind each token of the text.
    loss : float
        Mean negative log likelihood of the next token, in nats.
    """

    log_probabilities: torch.Tensor
    loss: float

    def divergence_of(self, other: Prediction) -> float:
        """KL(self || other), the mean over tokens, in nats: 0 where both predict the same, infinite for no numbers.

        With d = log q - log p, sum p (e^d - 1 - d) is the same as -sum p d, because p and q both sum to 1. It has no
        terms of either sign that would have to cancel, so small divergences are right, too.
        """
        own = self.log_probabilities
        p, q, difference = own.exp(), other.log_probabilities.exp(), other.log_probabilities - own
        small, large = p * (torch.expm1(difference) - difference), q - p - p * difference
        terms = torch.where(difference.abs() < 1, small, large)
        terms = torch.where(p > 0, terms, q)  # 0 log 0 is 0
        mean = float(terms.sum(-1).double().mean())
        return math.inf if math.isnan(mean) else mean


def load_model(folder: Path) -> tuple[Model, Any]:
    """A causal language model, in the dtype of its checkpoint, and its tokenizer.

    Raises
    ------
    CheckpointError
        transformers cannot load one of them.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: has no config.json; to measure a model on a text, all of its folder is needed"
        )
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{folder}: transformers cannot load it as a causal language model: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    return model.eval(), tokenizer


def predict(model: Model, window: torch.Tensor, prefix: int) -> Prediction:
    """Run a model on a window, of which the first `prefix` tokens are not text."""
    with torch.no_grad():
        logits = model(input_ids=window, use_cache=False).logits[0]
        own = F.log_softmax(logits[max(0, prefix - 1) :].float(), dim=-1)
        text = window[0, max(1, prefix) :]
        return Prediction(own, float(F.nll_loss(own[: len(text)], text)))


@contextmanager
def replaced(model: Model, layers: dict[str, torch.nn.Module]) -> Generator[None]:
    """The model with other modules in places of its own."""
    before = {name: model.get_submodule(name) for name in layers}
    try:
        _put(model, layers)
        yield
    finally:
        _put(model, before)


def _put(model: Model, layers: dict[str, torch.nn.Module]) -> None:
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer)


# ---------------------------------------------------------------------------------------------------------------------
# Leaving out what did not change


class Replay:
    """Blocks in front of a changed layer give what they gave before, so they need not run again.

    The blocks are the modules of the model's longest `ModuleList`. Whether the model is one that allows it is tried
    out: `works` compares a replay with the real thing, bit by bit.
    """

    def __init__(self, model: Model) -> None:
        lists = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList)]
        self._prefix, found = max(lists, key=lambda item: len(item[1]), default=("", torch.nn.ModuleList()))
        self._blocks: list[Any] = list(found)
        self._outputs: dict[int, Any] = {}

    @contextmanager
    def recording(self) -> Generator[None]:
        """A run of the unchanged model inside is what is replayed later."""
        self._outputs.clear()
        hooks = [block.register_forward_hook(self._keeping(number)) for number, block in enumerate(self._blocks)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _keeping(self, number: int) -> Any:
        def keep(_module: Any, _given: Any, output: Any) -> None:
            self._outputs[number] = output

        return keep

    @contextmanager
    def before(self, layer: str) -> Generator[None]:
        """Blocks before the one that has this layer are not run inside."""
        number = self._number(layer)
        skipped = self._blocks[:number] if all(i in self._outputs for i in range(number)) else []
        try:
            for position, block in enumerate(skipped):
                block.forward = _returning(self._outputs[position])
            yield
        finally:
            for block in skipped:
                del block.forward

    def _number(self, layer: str) -> int:
        inside = layer.removeprefix(f"{self._prefix}.") if layer.startswith(f"{self._prefix}.") else ""
        first = inside.partition(".")[0]
        return int(first) if first.isdigit() else 0

    def check(self, model: Model, window: torch.Tensor, layers: Iterable[str]) -> None:
        """Find out whether a replay gives the same bits; if not, everything is run from now on."""
        last = max(layers, key=self._number, default="")
        with self.recording():
            real = predict(model, window, 0)
        with self.before(last):
            again = predict(model, window, 0)
        if not torch.equal(real.log_probabilities, again.log_probabilities):
            self._blocks, self._outputs = [], {}


def _returning(output: Any) -> Any:
    def forward(*_given: Any, **_named: Any) -> Any:
        return output

    return forward
