# SPDX-License-Identifier: MIT
"""The operations that libbnb bench measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import libbnb
from libbnb.cli.bench_device import Array, Call, Device

SETS = 3  # sets of buffers that are used in turn, so that caches do not hold the data
ROW = 4096
_BLOCK, _BLOCK8 = 64, 256
_ROWS = (1, 256)  # of activations: generating a text, and reading one


@dataclass(frozen=True)
class Operation:
    """What is measured: calls that take turns, the bytes that one has to move, its multiplications and additions."""

    calls: list[Call]
    nbytes: int
    flops: int = 0


@dataclass(frozen=True)
class Data:
    """Matrices of random floats on a device, `SETS` of them, and memory for others like them."""

    device: Device
    dtype: str
    floats: list[Array]
    back: list[Array]

    @classmethod
    def make(cls, device: Device, rows: int, dtype: str) -> Data:
        rng = np.random.default_rng(0)
        floats = [device.array(rng.standard_normal((rows, ROW), np.float32), dtype) for _ in range(SETS)]
        return cls(device, dtype, floats, [device.array(np.zeros((rows, ROW), np.float32), dtype) for _ in floats])

    @property
    def rows(self) -> int:
        return self.floats[0].shape[0]

    @property
    def size(self) -> int:
        return self.rows * ROW

    @property
    def itemsize(self) -> int:
        return 4 if self.dtype == "float32" else 2

    def empty(self, shape: tuple[int, ...], dtype: str = "uint8") -> list[Array]:
        """Memory for each set."""
        return [self.device.array(np.zeros(shape, dtype)) for _ in range(SETS)]

    def each(self, call: Callable[[int], object]) -> list[Call]:
        """The call on each set."""
        return [lambda number=number: call(number) for number in range(SETS)]


def _quantize_4bit(data: Data, quant_type: str) -> Operation:
    packed, absmax = data.empty((data.size // 2, 1)), data.empty((data.size // _BLOCK,), "float32")
    return Operation(
        data.each(
            lambda i: libbnb.quantize_4bit(data.floats[i], absmax[i], packed[i], _BLOCK, quant_type=quant_type)
        ),
        data.size * data.itemsize + data.size // 2 + 4 * data.size // _BLOCK,
    )  # fmt: skip


def _dequantize_4bit(data: Data, quant_type: str) -> Operation:
    made = [libbnb.quantize_4bit(array, blocksize=_BLOCK, quant_type=quant_type) for array in data.floats]
    return Operation(
        data.each(lambda i: libbnb.dequantize_4bit(*made[i], out=data.back[i])),
        data.size * data.itemsize + data.size // 2 + 4 * data.size // _BLOCK,
    )


def _quantize_blockwise(data: Data) -> Operation:
    codes, absmax = data.empty((data.rows, ROW)), data.empty((data.size // _BLOCK8,), "float32")
    code = data.device.array(libbnb.create_dynamic_map())
    return Operation(
        data.each(lambda i: libbnb.quantize_blockwise(data.floats[i], code, absmax[i], codes[i], _BLOCK8)),
        data.size * (data.itemsize + 1) + 4 * data.size // _BLOCK8,
    )


def _dequantize_blockwise(data: Data) -> Operation:
    made = [libbnb.quantize_blockwise(array, blocksize=_BLOCK8) for array in data.floats]
    return Operation(
        data.each(lambda i: libbnb.dequantize_blockwise(*made[i], out=data.back[i])),
        data.size * (data.itemsize + 1) + 4 * data.size // _BLOCK8,
    )


def _quantize_int8(data: Data) -> Operation:
    return Operation(
        data.each(lambda i: libbnb.int8_vectorwise_quant(data.floats[i])),
        data.size * (data.itemsize + 1) + 4 * data.rows,
    )


def _dequantize_int8(data: Data) -> Operation:
    made = [libbnb.int8_vectorwise_quant(array) for array in data.floats]
    return Operation(
        data.each(lambda i: libbnb.int8_vectorwise_dequant(made[i][0], made[i][1], data.back[i])),
        data.size * (data.itemsize + 1) + 4 * data.rows,
    )


def _quantize_fp8(data: Data) -> Operation:
    codes, scale = data.empty((data.rows, ROW)), data.empty((data.rows,), "float32")
    return Operation(
        data.each(lambda i: libbnb.quantize_fp8(data.floats[i], scale[i], codes[i])),
        data.size * (data.itemsize + 1) + 4 * data.rows,
    )


def _dequantize_fp8(data: Data) -> Operation:
    made = [libbnb.quantize_fp8(array) for array in data.floats]
    return Operation(
        data.each(lambda i: libbnb.dequantize_fp8(*made[i], out=data.back[i])),
        data.size * (data.itemsize + 1) + 4 * data.rows,
    )


def _product(data: Data, rows: int, nbytes: int, multiply: Callable[[int, Array], object]) -> Operation:
    """Of activations with all sets of weights in turn."""
    x = data.device.array(np.random.default_rng(1).standard_normal((rows, ROW), np.float32), data.dtype)
    moved = nbytes + rows * (ROW + data.rows) * data.itemsize
    return Operation(data.each(lambda i: multiply(i, x)), moved, 2 * rows * data.size)


def _product_nf4(data: Data, rows: int) -> Operation:
    made = [libbnb.quantize_4bit(array, blocksize=_BLOCK, quant_type="nf4") for array in data.floats]
    nbytes = data.size // 2 + 4 * data.size // _BLOCK
    return _product(data, rows, nbytes, lambda i, x: libbnb.matmul_4bit(x, *made[i]))


def _product_int8(data: Data, rows: int) -> Operation:
    made = [libbnb.int8_vectorwise_quant(array) for array in data.floats]
    return _product(
        data, rows, data.size + 4 * data.rows, lambda i, x: libbnb.linear_int8(x, made[i][0], made[i][1])
    )  # fmt: skip


def _product_fp8(data: Data, rows: int) -> Operation:
    made = [libbnb.quantize_fp8(array) for array in data.floats]
    return _product(data, rows, data.size + 4 * data.rows, lambda i, x: libbnb.matmul_fp8(x, *made[i]))


def _adam_8bit(data: Data) -> Operation:
    states = [data.empty((data.rows, ROW)) for _ in range(2)]
    scales = [data.empty((data.size // _BLOCK8,), "float32") for _ in range(2)]
    code1, code2 = (data.device.array(libbnb.create_dynamic_map(signed)) for signed in (True, False))

    def step(i: int) -> None:
        libbnb.optimizer_update_8bit_blockwise(
            "adam", data.floats[i], data.back[i], states[0][i], states[1][i], 0.9, 0.999, 0.0, 0.0, 1e-8, 1, 1e-3,
            code1, code2, scales[0][i], scales[1][i], weight_decay=0.01, blocksize=_BLOCK8,
        )  # fmt: skip

    return Operation(data.each(step), data.size * (3 * data.itemsize + 4) + 16 * data.size // _BLOCK8)


def operations() -> dict[str, Callable[[Data], Operation]]:
    """What makes each operation, by name."""
    found: dict[str, Callable[[Data], Operation]] = {}
    for quant_type in libbnb.QuantState.valid_quant_types[::-1]:
        found[f"quantize {quant_type}"] = lambda data, name=quant_type: _quantize_4bit(data, name)
        found[f"dequantize {quant_type}"] = lambda data, name=quant_type: _dequantize_4bit(data, name)
    found |= {
        "quantize blockwise 8-bit": _quantize_blockwise,
        "dequantize blockwise 8-bit": _dequantize_blockwise,
        "quantize int8": _quantize_int8,
        "dequantize int8": _dequantize_int8,
        "quantize fp8": _quantize_fp8,
        "dequantize fp8": _dequantize_fp8,
    }
    products: dict[str, Any] = {"nf4": _product_nf4, "int8": _product_int8, "fp8": _product_fp8}
    for name, make in products.items():
        for rows in _ROWS:
            found[f"product {name}, {rows} row{'s' * (rows > 1)}"] = lambda data, make=make, rows=rows: make(data, rows)
    return found | {"step of AdamW 8-bit": _adam_8bit}
