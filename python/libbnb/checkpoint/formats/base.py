# SPDX-License-Identifier: MIT
"""What a format is to a checkpoint: how its tensors are called and made, and how they are found and read back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.select import Choice, skip_modules
from libbnb.checkpoint.step import CHUNK_BYTES, ByteArray, FloatArray, Read, Step, reads_of, transpose

Load = Callable[[TensorInfo], bytes]


@dataclass(frozen=True)
class Packed:
    """A quantized weight that was found in a checkpoint.

    Attributes
    ----------
    name : str
        Name of the weight, "layer.weight".
    format : str
        "nf4", "int8", ...
    detail : str
        Block size and the like, in a few words.
    shape : tuple of int
        Shape of the weight, not of its codes.
    dtype : str or None
        What it was before (safetensors spelling), where that was recorded.
    parts : list of TensorInfo
        Its tensors, codes first.
    unpack : callable
        The step that turns it into the one tensor `name` of the given dtype.
    """

    name: str
    format: str
    detail: str
    shape: tuple[int, ...]
    dtype: str | None
    parts: list[TensorInfo]
    unpack: Callable[[str], Step]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(part.nbytes for part in self.parts)


class Format(ABC):
    """A row of the registry: one format with its options."""

    name: str
    transposes: ClassVar[bool] = True  # whether transformers loads a Conv1D's weight, stored as [in, out], as [out, in]

    def why_not(self, tensor: TensorInfo, transposed: bool) -> str:
        """Why this weight cannot have this format, in a few words; "" if it can."""
        del tensor, transposed
        return ""

    @abstractmethod
    def step(self, tensor: TensorInfo, transposed: bool) -> Step:
        """The step that quantizes a weight; `transposed`: it is stored as [in, out]."""

    @abstractmethod
    def quantization_config(self, dtype: str, choices: dict[str, Choice]) -> dict[str, Any]:
        """`quantization_config` of config.json, for weights that were of this dtype."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What decides the bytes besides the weights."""


def logical_shape(tensor: TensorInfo, transposed: bool) -> tuple[int, ...]:
    """Shape of the weight as it is quantized."""
    return tensor.shape[::-1] if transposed else tensor.shape


def float_reads(tensor: TensorInfo, transposed: bool, unit: int) -> list[Read]:
    """Reads for `float_chunks` with the same arguments."""
    if transposed:
        return [Read(tensor, 0, tensor.nbytes)]
    return reads_of(tensor, unit * dtypes.bits(tensor.dtype) // 8)


def float_chunks(tensor: TensorInfo, transposed: bool, unit: int, chunks: Iterator[ByteArray]) -> Iterator[FloatArray]:
    """The elements of a weight in row-major order, in flat arrays of a multiple of `unit` (the last may be shorter).

    A transposed weight is taken whole, because its rows are scattered over it.
    """
    dtype = dtypes.numpy_dtype(tensor.dtype)
    if not transposed:
        for chunk in chunks:
            yield chunk.view(dtype)
        return
    for chunk in chunks:
        matrix: FloatArray = chunk.view(dtype).reshape(tensor.shape)
        row = tensor.shape[0]
        unit_rows = math.lcm(unit, row) // row
        rows = max(1, CHUNK_BYTES // (row * dtype.itemsize * unit_rows)) * unit_rows
        for first in range(0, tensor.shape[1], rows):
            yield transpose(matrix, first, min(first + rows, tensor.shape[1])).reshape(-1)


def bitsandbytes_config(
    bits: int, quant_type: str, nested: bool, compute_dtype: str, choices: dict[str, Choice]
) -> dict[str, Any]:
    """What transformers writes for a `BitsAndBytesConfig`, key by key.

    Parameters
    ----------
    bits : int
        4 or 8.
    quant_type, nested, compute_dtype
        Of the 4-bit formats; the dtype in safetensors' spelling.
    choices : dict
        What was decided for each tensor.
    """
    return {
        "_load_in_4bit": bits == 4,
        "_load_in_8bit": bits == 8,
        "bnb_4bit_compute_dtype": dtypes.TORCH_NAMES[compute_dtype],
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": quant_type,
        "bnb_4bit_use_double_quant": nested,
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": skip_modules(choices),
        "llm_int8_threshold": 6.0,
        "load_in_4bit": bits == 4,
        "load_in_8bit": bits == 8,
        "quant_method": "bitsandbytes",
    }
