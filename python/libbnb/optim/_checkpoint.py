# SPDX-License-Identifier: MIT
"""State dicts in the form of bitsandbytes: the tensors of a quantized state stand in a dict of their own, so that
FSDP, which gathers tensors of a parameter's shape, leaves them alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.optim import _sharded, _states
from libbnb.optim._batch import BLOCKSIZE

WRAPPED = "__bnb_optimizer_quant_state__"
QUANT_KEYS = frozenset(
    ("qmap1", "qmap2", "max1", "max2", "new_max1", "new_max2", "state1", "state2", "gnorm_vec", "absmax1", "absmax2",
     "unorm_vec")
)  # fmt: skip


def wrapped(state: Any) -> Any:
    """The state of a parameter with its quantized tensors in a dict of their own. It is a new dict."""
    if not isinstance(state, dict):
        return state  # type: ignore[return-value]
    items: dict[str, Any] = dict(state)  # type: ignore[arg-type]
    inner = {key: items.pop(key) for key in list(items) if key in QUANT_KEYS}
    return items | {WRAPPED: inner} if inner else items


def unwrapped(state: Any) -> Any:
    """The inverse of `wrapped`."""
    if not isinstance(state, dict) or WRAPPED not in state:
        return state  # type: ignore[return-value]
    items: dict[str, Any] = dict(state)  # type: ignore[arg-type]
    return items | items.pop(WRAPPED)


def check_groups(groups: list[dict[str, Any]], saved: list[dict[str, Any]]) -> None:
    """Whether saved parameter groups have as many parameters as those of an optimizer."""
    if len(groups) != len(saved):
        raise InvalidArgument("loaded state dict has a different number of parameter groups")
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved]:
        raise InvalidArgument(
            "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
        )


def merged_groups(groups: list[dict[str, Any]], saved: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Saved parameter groups with the parameters of an optimizer."""
    merged: list[dict[str, Any]] = []
    for group, saved_group in zip(groups, deepcopy(saved), strict=True):
        saved_group["params"] = group["params"]
        if "param_names" in group:
            saved_group.setdefault("param_names", group["param_names"])
        merged.append(saved_group)
    return merged


class Loader:
    """Brings the states of a checkpoint to their parameters."""

    def __init__(self, paged: bool, directory: str | None, move: bool, averages: int) -> None:
        self.averages = averages  # that state1 holds
        self.paged = paged
        self.directory = directory
        self.move = move

    def states(
        self, groups: list[dict[str, Any]], saved: list[dict[str, Any]], states: dict[Any, Any]
    ) -> defaultdict[Any, Any]:
        """The states by parameter; those of no parameter as they are."""
        ids = chain.from_iterable(g["params"] for g in saved)
        params = dict(zip(ids, chain.from_iterable(g["params"] for g in groups), strict=True))
        loaded: defaultdict[Any, Any] = defaultdict(dict)
        for key, state in states.items():
            if key in params:
                loaded[params[key]] = self._cast(params[key], unwrapped(state))
            else:
                loaded[key] = deepcopy(state)
        return loaded

    def _cast(self, p: torch.Tensor, value: Any, key: str | None = None) -> Any:
        if isinstance(value, dict):
            items: dict[str, Any] = value  # type: ignore[assignment]
            return {name: self._cast(p, item, name) for name, item in items.items()}
        if key == "step":
            return int(value)
        if isinstance(value, torch.Tensor):
            return self._place(p, value, key)
        if isinstance(value, Iterable) and not isinstance(value, str):
            return type(value)(self._cast(p, item) for item in value)  # type: ignore[call-arg]
        return deepcopy(value)

    def _place(self, p: torch.Tensor, value: torch.Tensor, key: str | None) -> torch.Tensor:
        if key not in QUANT_KEYS:
            cast = p.is_floating_point() and value.dtype != torch.uint8
            return value.to(p.dtype, copy=True) if cast else value.clone()
        if key in ("state1", "state2") and self.paged and self.move and not _sharded.is_sharded(p):
            averages = 2 if value.numel() == 2 * p.numel() else 1
            state = _states.zeros(p, averages, value.dtype, True, self.directory)
            if state.shape == value.shape:
                return _filled(state, value)
        if key in ("absmax1", "absmax2"):
            value = self._fitting(p, value, key)
        return value.to(p.device, copy=True) if self.move else value.clone()

    def _fitting(self, p: torch.Tensor, value: torch.Tensor, key: str) -> torch.Tensor:
        """Scales as the parameter needs them, whether they were those of shards or not."""
        averages = self.averages if key == "absmax1" else 1
        if _sharded.is_sharded(p):
            _sharded.check_scales(p, key, value, averages, BLOCKSIZE)
        elif value.dim() > (1 if averages == 1 else 2):
            return _sharded.whole_scales(value, key, p.numel(), averages, BLOCKSIZE)
        return value


def _filled(state: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    state.copy_(value)
    return state
