# SPDX-License-Identifier: MIT
"""Ternary weights as transformers' BitNet integration stores them; they are only read.

`weight` is uint8 of shape [out / 4, in]: bits 2i and 2i+1 of row r hold row r + i out / 4 as -1, 0, 1 plus one.
`weight_scale` is one number. A `BitLinear` divides by it, an `AutoBitLinear` ("linear_class" of the config) multiplies,
and may hold its weights as floats -1, 0, 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats.base import Load, Packed
from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.step import CHUNK_BYTES, ByteArray, Piece, Step, TensorSpec, reads_of

_VALUES_PER_BYTE = 4
_SCALE_SUFFIX = "_scale"


def quantization_config(config: dict[str, Any] | None) -> dict[str, Any] | None:
    """`quantization_config` of a BitNet checkpoint; None for any other."""
    found: Any = (config or {}).get("quantization_config")
    if not isinstance(found, dict) or cast(dict[str, Any], found).get("quant_method") != "bitnet":
        return None
    return cast(dict[str, Any], found)


def find(tensors: dict[str, TensorInfo], load: Load, config: dict[str, Any] | None) -> list[Packed]:
    """The ternary weights among some tensors.

    Raises
    ------
    CheckpointError
        A weight has codes and no scale, or a scale that is not one finite number.
    """
    settings = quantization_config(config)
    if settings is None:
        return []
    multiplies = settings.get("linear_class") == "autobitlinear"
    found: list[Packed] = []
    for name, codes in tensors.items():
        scale = tensors.get(name + _SCALE_SUFFIX)
        is_packed = codes.dtype == "U8" and len(codes.shape) == 2 and name.endswith(".weight")
        if is_packed and scale is None:
            raise CheckpointError(f"{codes.path}: {name} is packed, but there is no {name + _SCALE_SUFFIX}")
        if scale is None or not (is_packed or (multiplies and codes.dtype in dtypes.FLOAT_DTYPES)):
            continue
        value = _scale(scale, load)
        found.append(_packed(name, codes, scale, value if multiplies else np.float32(1) / value))
    return found


def _scale(scale: TensorInfo, load: Load) -> Any:
    if scale.dtype not in dtypes.FLOAT_DTYPES or scale.size != 1:
        raise CheckpointError(f"{scale.path}: {scale.name} is {scale.dtype} {list(scale.shape)}: not one number")
    value = np.frombuffer(load(scale), dtypes.numpy_dtype(scale.dtype)).astype(np.float32)[0]
    if not np.isfinite(value) or value == 0:
        raise CheckpointError(f"{scale.path}: {scale.name} is {value}")
    return value


def _packed(name: str, codes: TensorInfo, scale: TensorInfo, factor: Any) -> Packed:
    if codes.dtype != "U8":
        shape, work = codes.shape, _scaled
    else:
        shape, work = (codes.shape[0] * _VALUES_PER_BYTE, codes.shape[1]), _unpacked

    def unpack(dtype: str) -> Step:
        def run(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
            for begin, values in work(name, codes, factor, chunks):
                out = values.astype(dtypes.numpy_dtype(dtype))
                yield Piece(name, begin * out.itemsize, out)

        unit = codes.shape[-1] * dtypes.bits(codes.dtype) // 8
        size = _VALUES_PER_BYTE * codes.size if codes.dtype == "U8" else codes.size
        reads = reads_of(codes, unit, CHUNK_BYTES // 16)  # 16 bytes of float32 from one of codes
        return Step(name, reads, [TensorSpec(name, dtype, shape)], size, run)

    return Packed(name, "bitnet", "per tensor", shape, None, [codes, scale], unpack)


def _unpacked(name: str, codes: TensorInfo, factor: Any, chunks: Iterator[ByteArray]) -> Iterator[tuple[int, Any]]:
    """Rows as float32, with the number of elements before them."""
    rows, columns = codes.shape
    row = 0
    for chunk in chunks:
        bytes_ = chunk.reshape(-1, columns)
        for place in range(_VALUES_PER_BYTE):
            trits = (bytes_ >> np.uint8(2 * place) & np.uint8(3)).astype(np.int8) - np.int8(1)
            if (trits > 1).any():
                raise CheckpointError(f"{codes.path}: {name}: has codes of 3, which mean no ternary weight")
            yield (place * rows + row) * columns, trits * factor
        row += len(bytes_)


def _scaled(name: str, codes: TensorInfo, factor: Any, chunks: Iterator[ByteArray]) -> Iterator[tuple[int, Any]]:
    begin = 0
    for chunk in chunks:
        values = chunk.view(dtypes.numpy_dtype(codes.dtype)).astype(np.float32) * factor
        yield begin, values
        begin += values.size
