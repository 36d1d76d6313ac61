# SPDX-License-Identifier: MIT
"""QuantState as a pytree, and as a list of arrays with a description, in which form it goes to the host."""

# JAX's functions are typed in parts.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from libbnb.arrays.numpy_kind import numpy_dtype
from libbnb.quant_state import QuantState

_LEAVES = ("absmax", "_code", "offset", "state2")
_STATIC = ("shape", "blocksize", "quant_type", "dtype")


def register() -> None:
    """Tell JAX what is inside a QuantState."""
    jax.tree_util.register_pytree_with_keys(QuantState, _flatten_with_keys, _unflatten, _flatten)


def _flatten(state: QuantState) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    shape = None if state.shape is None else tuple(state.shape)
    dtype = None if state.dtype is None else np.dtype(state.dtype)
    return tuple(vars(state)[name] for name in _LEAVES), (shape, state.blocksize, state.quant_type, dtype)


def _flatten_with_keys(state: QuantState) -> tuple[Any, tuple[Any, ...]]:
    leaves, static = _flatten(state)
    keys = (jax.tree_util.GetAttrKey(name.lstrip("_")) for name in _LEAVES)
    return tuple(zip(keys, leaves, strict=True)), static


def _unflatten(static: tuple[Any, ...], leaves: Iterable[Any]) -> QuantState:
    absmax, code, offset, state2 = leaves
    return QuantState(absmax, code=code, offset=offset, state2=state2, **dict(zip(_STATIC, static, strict=True)))


def describe(state: QuantState) -> tuple[list[Any], dict[str, Any]]:
    """The arrays of a state, and what JSON can hold of the rest; `restore` puts them together again."""
    arrays = [state.absmax]
    static: dict[str, Any] = {
        "shape": None if state.shape is None else [int(length) for length in state.shape],
        "blocksize": state.blocksize,
        "quant_type": state.quant_type,
        "dtype": None if state.dtype is None else np.dtype(state.dtype).name,
        "has_code": not state.standard_code,
        "state2": None,
    }
    if not state.standard_code:
        arrays.append(state.code)
    if state.state2 is not None:
        inner, static["state2"] = describe(state.state2)
        arrays += [state.offset, *inner]
    return arrays, static


def restore(static: dict[str, Any], take: Callable[[], Any]) -> QuantState:
    """The state of a description; `take` gives the next array."""
    absmax = take()
    code = take() if static["has_code"] else None
    offset = state2 = None
    if static["state2"] is not None:
        offset = take()
        state2 = restore(static["state2"], take)
    dtype = None if static["dtype"] is None else numpy_dtype(static["dtype"])
    shape = None if static["shape"] is None else tuple(static["shape"])
    return QuantState(absmax, shape, code, static["blocksize"], static["quant_type"], dtype, offset, state2)
