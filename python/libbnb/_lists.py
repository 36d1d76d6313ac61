# SPDX-License-Identifier: MIT
"""Calls on lists of tensors: optimizers and norms. Their descriptors live in tables that may be kept from call to
call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from libbnb._errors import InvalidArgument, LoadError
from libbnb._native import NULL, OFFSET_AT, SLOT, TENSOR_OFFSET, ffi, invoke, lib
from libbnb._views import BufferView, View, arrays_of

Words = NDArray[np.int64]

_VIEW_WORDS = 7  # a View, as it stands in front of and in a DLTensor; then pointers to shape and strides, the offset
_ADDRESS, _OFFSET = 4, OFFSET_AT // 8  # the words of the data pointer and of the byte offset

# Where the first element of a tensor is: an address, or a handle and how many bytes behind the begin of its buffer.
Place: TypeAlias = int | tuple[int, int]

# Tensors of a bnb_optimizer_tensors in the order of the struct; behind them are param_norm and step.
FIELDS = ("g", "p", "state1", "state2", "absmax1", "absmax2", "qmap1", "qmap2", "unorm_vec")
_COLUMNS = {name: i for i, name in enumerate(FIELDS)}
_ENTRY_WORDS = len(FIELDS) + 2

if ffi.sizeof("bnb_optimizer_tensors") != 8 * _ENTRY_WORDS:
    raise LoadError("bnb_optimizer_tensors has members that this package does not know")


def _enumerators(type_name: str, prefix: str) -> dict[str, int]:
    numbers: dict[str, int] = ffi.typeof(type_name).relements
    return {name.removeprefix(prefix).lower(): number for name, number in numbers.items()}


_NUMBERS = _enumerators("bnb_optimizer", "BNB_")
OPTIMIZERS = _NUMBERS | {"adamw": _NUMBERS["adam"], "sgd": _NUMBERS["momentum"]}
NONFINITE = _enumerators("bnb_nonfinite", "BNB_NONFINITE_")


def optimizer_number(name: Any) -> int:
    """The number that the C library gives an optimizer."""
    number = OPTIMIZERS.get(name) if isinstance(name, str) else None
    if number is None:
        raise InvalidArgument(f"optimizer_name is {name!r}, must be one of {', '.join(sorted(OPTIMIZERS))}")
    return number


def nonfinite_number(name: Any) -> int:
    """The number of what happens where a gradient is NaN or infinite."""
    number = NONFINITE.get(name) if isinstance(name, str) else None
    if number is None:
        raise InvalidArgument(f"nonfinite is {name!r}, must be one of {', '.join(sorted(NONFINITE))}")
    return number


class TensorTable:
    """DLTensors in rows and columns."""

    __slots__ = ("addresses", "words")

    def __init__(self, rows: int, columns: int) -> None:
        self.words: Words = np.zeros((rows, columns, SLOT // 8), np.int64)
        slots = self.words.ctypes.data + SLOT * np.arange(rows * columns, dtype=np.int64).reshape(rows, columns)
        self.words[:, :, _VIEW_WORDS] = slots
        self.words[:, :, _VIEW_WORDS + 1] = slots + 16
        self.addresses: Words = slots + TENSOR_OFFSET  # of the DLTensors

    def write(self, column: int, views: Sequence[View]) -> None:
        """Describes the tensors of a column, one for each row."""
        self.words[:, column, :_VIEW_WORDS] = views
        self.words[:, column, _OFFSET] = [v.byte_offset if isinstance(v, BufferView) else 0 for v in views]

    def move(self, column: int, places: Sequence[Place]) -> None:
        """Tells of the tensors of a column where they are now."""
        handles = bool(places) and isinstance(places[0], tuple)
        self.words[:, column, [_ADDRESS, _OFFSET] if handles else _ADDRESS] = places

    def tensor(self, row: int, column: int) -> Any:
        """One of them as a C pointer, valid while the table lives."""
        return ffi.cast("DLTensor *", int(self.addresses[row, column]))


class OptimizerEntries:
    """A list of bnb_optimizer_tensors: one row for each parameter."""

    __slots__ = ("_table", "_words", "param_norms", "pointer", "rows", "steps")

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._table = TensorTable(rows, len(FIELDS))
        self._words: Words = np.zeros((rows, _ENTRY_WORDS), np.int64)
        self.param_norms: NDArray[np.float64] = self._words[:, len(FIELDS)].view(np.float64)
        self.steps = self._words[:, len(FIELDS) + 1]
        self.pointer = ffi.cast("bnb_optimizer_tensors *", self._words.ctypes.data)

    def write(self, name: str, views: Sequence[View]) -> None:
        """Describes a field of all rows; fields that were never described are NULL."""
        column = _COLUMNS[name]
        self._table.write(column, views)
        self._words[:, column] = self._table.addresses[:, column]

    def move(self, name: str, places: Sequence[Place]) -> None:
        """Tells of a field of all rows where its tensors are now."""
        self._table.move(_COLUMNS[name], places)


class OptimizerConfig:
    """A bnb_optimizer_config. The tensors behind `scale` and `found_inf` must be kept alive by the caller."""

    __slots__ = ("_table", "arrays", "struct")

    def __init__(
        self,
        optimizer: int,
        numbers: dict[str, Any],
        skip_zeros: bool,
        nonfinite: int,
        scale: View | None,
        found_inf: View | None,
    ) -> None:
        self._table = TensorTable(1, 2)
        self.arrays = arrays_of((scale, found_inf))
        self.struct = ffi.new("bnb_optimizer_config *")
        self.struct.optimizer = optimizer
        self.struct.nonfinite = nonfinite
        self.struct.skip_zeros = 1 if skip_zeros else 0
        for name, number in numbers.items():
            setattr(self.struct, name, float(number))
        if scale is not None:
            self._table.write(0, [scale])
            self.struct.scale = self._table.tensor(0, 0)
        if found_inf is not None:
            self._table.write(1, [found_inf])
            self.struct.found_inf = self._table.tensor(0, 1)


def update(
    config: OptimizerConfig,
    entries: OptimizerEntries | None,
    blocksize: int,
    stream: Any,
    arrays: Sequence[Any] = (),
) -> None:
    """One step. Block size 0: states in fp32. Without entries, nothing but the configuration is checked.

    `arrays` are those of the entries whose memory has handles.
    """
    pointer, rows = (NULL, 0) if entries is None else (entries.pointer, entries.rows)
    everything = [*arrays, *config.arrays]
    if blocksize:
        invoke(lib.coptimizer_update_8bit, stream, (config.struct, pointer, rows, blocksize), everything)
    else:
        invoke(lib.coptimizer_update_32bit, stream, (config.struct, pointer, rows), everything)


def measure_norms(
    tensors: Sequence[View], norms: View | None, total: View | None, found_inf: View | None, stream: Any
) -> None:
    """cmeasure_norms on a list of tensors."""
    inputs = TensorTable(len(tensors), 1)
    if tensors:
        inputs.write(0, tensors)
    pointers = np.ascontiguousarray(inputs.addresses[:, 0])
    outputs = TensorTable(1, 3)
    arguments: list[Any] = []
    for i, view in enumerate((norms, total, found_inf)):
        if view is not None:
            outputs.write(i, [view])
        arguments.append(NULL if view is None else outputs.tensor(0, i))
    values = (ffi.cast("DLTensor **", pointers.ctypes.data), len(tensors), *arguments)
    invoke(lib.cmeasure_norms, stream, values, arrays_of([*tensors, norms, total, found_inf]))
