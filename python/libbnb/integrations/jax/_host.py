# SPDX-License-Identifier: MIT
"""What happens on the host: operations on NumPy arrays that write into the buffers of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from libbnb import functional
from libbnb.integrations.jax._state import restore

HostArray: TypeAlias = NDArray[Any]
Static: TypeAlias = dict[str, Any]

# name -> what computes `outs` from `arrays`: both are flat lists, in the order in which `_functions` and `_products`
# put them together.
Operation: TypeAlias = Callable[[Static, list[HostArray], list[HostArray]], object]


def run(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    """Carry out a call.

    Parameters
    ----------
    static
        The call as `_call.call` describes it: its operation, the ranks that arrays have without `vmap`, and arguments.
    arrays, outs
        Operands, and memory for the results. Under `vmap` each has additional leading axes, those of operands with
        length 1 where they are not mapped.
    """
    operation = OPERATIONS[static["operation"]]
    extra = outs[0].ndim - static["out_ranks"][0]
    if extra == 0:
        operation(static, arrays, outs)
        return
    batches = [array.shape[:extra] for array in arrays]
    if static["rows"] and all(np.prod(batch) == 1 for batch in batches[1:]):
        shared = [array.reshape(array.shape[extra:]) for array in arrays[1:]]
        operation(static, [arrays[0], *shared], outs)
        return
    for index in np.ndindex(outs[0].shape[:extra]):
        one = [_at(array, batch, index) for array, batch in zip(arrays, batches, strict=True)]
        operation(static, one, [out[(*index, ...)] for out in outs])


def _at(array: HostArray, batch: tuple[int, ...], index: tuple[int, ...]) -> HostArray:
    """One element of a batch; an axis of length 1 has the same for all."""
    return np.asarray(array[tuple(0 if length == 1 else i for length, i in zip(batch, index, strict=True))])


def _optional(static: Static, arrays: Iterator[HostArray]) -> HostArray | None:
    return next(arrays) if static["bias"] else None


def _quantize_4bit(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    packed, absmax = outs[:2]
    arguments = (static["blocksize"], static["nested"], static["quant_type"])
    _, state = functional.quantize_4bit(arrays[0], absmax, packed, *arguments)
    if state.state2 is not None:
        outs[2][...], outs[3][...] = state.offset, state.state2.absmax


def _dequantize_4bit(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    packed, *rest = arrays
    functional.dequantize_4bit(packed, restore(static["state"], iter(rest).__next__), out=outs[0])


def _matmul_4bit(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    a, packed, *rest = arrays
    remaining = iter(rest)
    state = restore(static["state"], remaining.__next__)
    functional.matmul_4bit(a, packed, state, outs[0], _optional(static, remaining))


def _quantize_fp8(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    codes, scale = outs
    functional.quantize_fp8(arrays[0], scale, codes, static["blocksize"], static["quant_type"])


def _dequantize_fp8(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    codes, scale = arrays
    functional.dequantize_fp8(codes, scale, outs[0], static["blocksize"], static["quant_type"])


def _matmul_fp8(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    a, codes, scale, *rest = arrays
    bias = _optional(static, iter(rest))
    functional.matmul_fp8(a, codes, scale, outs[0], bias, static["blocksize"], static["quant_type"])


def _int8_vectorwise_quant(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    codes, stats, _ = functional.int8_vectorwise_quant(arrays[0])
    outs[0][...] = codes
    outs[1][...] = stats.reshape(outs[1].shape)


def _int8_vectorwise_dequant(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    codes, stats = arrays
    functional.int8_vectorwise_dequant(codes, stats, outs[0])


def _linear_int8(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    a, codes, stats, *rest = arrays
    functional.linear_int8(a, codes, stats, static["threshold"], _optional(static, iter(rest)), outs[0])


def _int8_linear_matmul(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    a, b = arrays
    functional.int8_linear_matmul(a, b, outs[0])


def _int8_scaled_mm(static: Static, arrays: list[HostArray], outs: list[HostArray]) -> None:
    a, b, row_stats, col_stats, *rest = arrays
    functional.int8_scaled_mm(a, b, row_stats, col_stats, _optional(static, iter(rest)), out=outs[0])


OPERATIONS: dict[str, Operation] = {
    "quantize_4bit": _quantize_4bit,
    "dequantize_4bit": _dequantize_4bit,
    "matmul_4bit": _matmul_4bit,
    "quantize_fp8": _quantize_fp8,
    "dequantize_fp8": _dequantize_fp8,
    "matmul_fp8": _matmul_fp8,
    "int8_vectorwise_quant": _int8_vectorwise_quant,
    "int8_vectorwise_dequant": _int8_vectorwise_dequant,
    "linear_int8": _linear_int8,
    "int8_linear_matmul": _int8_linear_matmul,
    "int8_scaled_mm": _int8_scaled_mm,
}
