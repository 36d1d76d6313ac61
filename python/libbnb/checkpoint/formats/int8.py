# SPDX-License-Identifier: MIT
"""LLM.int8() (arXiv:2208.07339) in bitsandbytes' serialized form: int8 rows, their absmax as SCB, a format number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from libbnb import int8_vectorwise_dequant, int8_vectorwise_quant
from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats.base import (
    Format,
    Load,
    Packed,
    bitsandbytes_config,
    float_chunks,
    float_reads,
    logical_shape,
)
from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.select import Choice, module_of
from libbnb.checkpoint.step import CHUNK_BYTES, ByteArray, Piece, Read, Step, TensorSpec, reads_of

_ROW_MAJOR = 0  # bitsandbytes' number for it; the others belong to GPUs of the past


class Int8(Format):
    """int8 rows, -127 to 127, scaled by the row's absmax."""

    name = "int8"

    def why_not(self, tensor: TensorInfo, transposed: bool) -> str:
        del transposed
        return "" if tensor.name.endswith(".weight") else "int8 needs a name that ends in .weight"

    def options(self) -> dict[str, Any]:
        return {"format": self.name}

    def quantization_config(self, dtype: str, choices: dict[str, Choice]) -> dict[str, Any]:
        return bitsandbytes_config(8, "fp4", False, "F32", choices)

    def step(self, tensor: TensorInfo, transposed: bool) -> Step:
        rows, cols = logical_shape(tensor, transposed)
        module = module_of(tensor.name)
        outputs = [
            TensorSpec(tensor.name, "I8", (rows, cols)),
            TensorSpec(module + ".SCB", "F32", (rows,)),
            TensorSpec(module + ".weight_format", "U8", ()),
        ]

        def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
            row = 0
            for chunk in float_chunks(tensor, transposed, cols, chunks):
                codes, absmax, _ = int8_vectorwise_quant(chunk.reshape(-1, cols))
                yield Piece(outputs[0].name, row * cols, codes)
                yield Piece(outputs[1].name, row * 4, absmax)
                row += len(absmax)
            yield Piece(outputs[2].name, 0, np.array(_ROW_MAJOR, np.uint8))

        return Step(tensor.name, float_reads(tensor, transposed, cols), outputs, tensor.size, work)


def find(tensors: dict[str, TensorInfo], load: Load) -> list[Packed]:
    """The int8 weights among some tensors.

    Raises
    ------
    CheckpointError
        The tensors of one do not fit together.
    """
    found: list[Packed] = []
    for key, scales in tensors.items():
        if not key.endswith(".SCB"):
            continue
        name = module_of(key) + ".weight"
        codes, layout = tensors.get(name), tensors.get(module_of(key) + ".weight_format")
        if codes is None or codes.dtype != "I8" or len(codes.shape) != 2:
            raise CheckpointError(f"{scales.path}: there is {key}, but no int8 matrix {name}")
        if scales.dtype != "F32" or scales.size != codes.shape[0]:
            raise CheckpointError(f"{scales.path}: {key} must have one float32 for each row of {name}")
        if layout is not None and (layout.nbytes > 8 or any(load(layout))):
            raise CheckpointError(f"{layout.path}: {layout.name} says that {name} is not stored row by row")
        parts = [codes, scales] + ([layout] if layout is not None else [])
        found.append(_packed(name, parts))
    return found


def _packed(name: str, parts: list[TensorInfo]) -> Packed:
    shape = parts[0].shape
    return Packed(name, "int8", "per row", shape, None, parts, lambda dtype: _unpack_step(name, parts, dtype))


def _unpack_step(name: str, parts: list[TensorInfo], dtype: str) -> Step:
    codes, scales = parts[:2]
    rows, cols = codes.shape
    itemsize = dtypes.bits(dtype) // 8

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        if not codes.nbytes:
            return
        absmax = next(chunks).view(np.float32).copy()
        row = 0
        for chunk in chunks:
            matrix = chunk.view(np.int8).reshape(-1, cols)
            out = np.empty(matrix.shape, dtypes.numpy_dtype(dtype))
            int8_vectorwise_dequant(matrix, absmax[row : row + len(matrix)], out)
            yield Piece(name, row * cols * itemsize, out)
            row += len(matrix)

    reads = [Read(scales, 0, scales.nbytes), *reads_of(codes, cols, CHUNK_BYTES // itemsize)] if codes.nbytes else []
    return Step(name, reads, [TensorSpec(name, dtype, (rows, cols))], rows * cols, work)
