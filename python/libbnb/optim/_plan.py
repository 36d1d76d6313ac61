# SPDX-License-Identifier: MIT
"""How the parameters of a group are spread over calls of the C library."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

from libbnb.optim._batch import Batch


class Plan:
    """The batches of a group, and what they were made for."""

    def __init__(self, params: list[Any], missing: list[bool], version: int, batches: list[Batch]) -> None:
        self.params = params
        self.missing = missing
        self.version = version
        self.batches = batches
        index = {id(p): i for i, p in enumerate(params)}
        self.positions = [[index[id(p)] for p in batch.params] for batch in batches]

    def refresh(self, params: list[Any], grads: list[Any], version: int, states_of: Callable[[Any], Any]) -> bool:
        """Whether the batches are good for these gradients, to which they are pointed."""
        same = len(params) == len(self.params) and all(map(is_, params, self.params))
        if not same or version != self.version or [g is None for g in grads] != self.missing:
            return False
        pairs = zip(self.batches, self.positions, strict=True)
        return all(batch.refresh([grads[i] for i in places], states_of) for batch, places in pairs)
