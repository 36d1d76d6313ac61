# SPDX-License-Identifier: MIT
"""How an operation gets from a traced program to the host: through XLA's FFI on the CPU, by a callback elsewhere."""

# JAX's functions are typed in parts.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from libbnb._errors import InvalidArgument
from libbnb.integrations.jax import _host, _xla

JaxArray: TypeAlias = Any  # traced or not
FLOATS = ("float32", "float16", "bfloat16")
_VMAP = "expand_dims"  # mapped axes come first, and have length 1 where an operand is not mapped: see _host.run


def shaped(shape: Sequence[int], dtype: Any) -> Any:
    """A result of `call`."""
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def call(operation: str, results: list[Any], arrays: list[JaxArray], rows: bool = False, **static: Any) -> list[Any]:
    """Carry out one of `_host.OPERATIONS`, now or when the program that is being traced runs.

    Parameters
    ----------
    operation
        Its name.
    results
        Their shapes and dtypes.
    arrays
        Operands. No gradients flow through them.
    rows
        Whether additional leading axes of the first operand, and of the results, are just more rows.
    static
        Arguments that are no arrays; JSON must be able to hold them.

    Returns
    -------
    list of array
        As `results` says.
    """
    operands = [jax.lax.stop_gradient(jnp.asarray(array)) for array in arrays]
    call_ = static | {
        "operation": operation,
        "rows": rows,
        "ranks": [operand.ndim for operand in operands],
        "out_ranks": [len(result.shape) for result in results],
    }
    if jax.default_backend() == "cpu":
        _xla.register()
        return list(jax.ffi.ffi_call(_xla.TARGET, results, vmap_method=_VMAP)(*operands, call=json.dumps(call_)))
    return list(jax.pure_callback(partial(_by_callback, call_, results), results, *operands, vmap_method=_VMAP))


def _by_callback(static: _host.Static, results: list[Any], *operands: Any) -> list[_host.HostArray]:
    arrays = [np.asarray(operand) for operand in operands]
    outs = [np.empty((*_batch(static, arrays), *result.shape), result.dtype) for result in results]
    _host.run(static, arrays, outs)
    return outs


def _batch(static: _host.Static, arrays: list[_host.HostArray]) -> tuple[int, ...]:
    """The axes that `vmap` added: all operands have as many."""
    extra = [array.shape[: array.ndim - rank] for array, rank in zip(arrays, static["ranks"], strict=True)]
    return np.broadcast_shapes(*extra)


# ---------------------------------------------------------------------------------------------------------------------
# Checks while a program is traced, when an error still has the user's line in its traceback


def accept(array: JaxArray, name: str, dtypes: tuple[str, ...] = FLOATS) -> JaxArray:
    """An operand as an array of JAX, or InvalidArgument."""
    array = jnp.asarray(array)
    if array.dtype.name not in dtypes:
        raise InvalidArgument(f"{name} has dtype {array.dtype.name}, must be {' or '.join(dtypes)}")
    return array


def check_size(array: JaxArray, size: int, name: str, what: str) -> None:
    """Whether an operand has as many elements as it must have."""
    if prod(array.shape) != size:
        raise InvalidArgument(f"{name} has {prod(array.shape)} elements, must have {size}: {what}")


def check_bias(bias: JaxArray | None, n: int) -> JaxArray | None:
    """A bias of a product with `n` columns."""
    if bias is None:
        return None
    bias = accept(bias, "bias")
    check_size(bias, n, "bias", "one for each row of the weights")
    return bias
