# SPDX-License-Identifier: MIT
"""NF4 and FP4 in bitsandbytes' serialized form: codes, absmax (nested or not) and a JSON text beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from libbnb import QuantState, dequantize_4bit, dequantize_blockwise, get_4bit_type, quantize_4bit
from libbnb._errors import InvalidArgument
from libbnb.arrays import NUMPY
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
from libbnb.checkpoint.select import Choice
from libbnb.checkpoint.step import CHUNK_BYTES, AnyArray, ByteArray, FloatArray, Piece, Read, Step, TensorSpec, reads_of
from libbnb.functional.blockwise import NESTED_BLOCKSIZE, quantize_nested

_STATE_KEY = ".quant_state.bitsandbytes__"
_STATE_LIMIT = 1 << 16  # bytes of JSON; a real one has some hundred


class FourBit(Format):
    """NF4 or FP4.

    Parameters
    ----------
    quant_type : str
        "nf4" or "fp4".
    blocksize : int
        Elements per absmax, even.
    nested : bool
        Whether absmax is itself quantized to 8 bits (bitsandbytes' compress_statistics).
    """

    def __init__(self, quant_type: str, blocksize: int = 64, nested: bool = False) -> None:
        if blocksize < 2 or blocksize % 2:
            raise CheckpointError(f"block size is {blocksize}, must be even and at least 2 for {quant_type}")
        self.name = quant_type
        self.blocksize = blocksize
        self.nested = nested

    def options(self) -> dict[str, Any]:
        return {"format": self.name, "block size": self.blocksize, "double quantization": self.nested}

    def quantization_config(self, dtype: str, choices: dict[str, Choice]) -> dict[str, Any]:
        return bitsandbytes_config(4, self.name, self.nested, dtype, choices)

    def step(self, tensor: TensorInfo, transposed: bool) -> Step:
        shape = logical_shape(tensor, transposed)
        outputs = self._outputs(tensor, shape)

        def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
            absmax = np.empty(-(-tensor.size // self.blocksize), np.float32)
            block = begin = 0
            for chunk in float_chunks(tensor, transposed, self.blocksize, chunks):
                blocks = -(-chunk.size // self.blocksize)
                scales = absmax[block : block + blocks]
                packed, _ = quantize_4bit(chunk, scales, None, self.blocksize, False, self.name)
                yield Piece(tensor.name, begin, packed)
                block += blocks
                begin += packed.nbytes
            yield from self._state_pieces(outputs, self._state(tensor, shape, absmax))

        return Step(tensor.name, float_reads(tensor, transposed, self.blocksize), outputs, tensor.size, work)

    def _state(self, tensor: TensorInfo, shape: tuple[int, ...], absmax: FloatArray) -> QuantState:
        dtype = dtypes.numpy_dtype(tensor.dtype)
        if not self.nested:
            return QuantState(absmax, shape, None, self.blocksize, self.name, dtype)
        absmax, view = NUMPY.read(absmax, "absmax")
        codes, offset, state2 = quantize_nested(NUMPY, absmax, view, NESTED_BLOCKSIZE, None)
        return QuantState(codes, shape, None, self.blocksize, self.name, dtype, offset, state2)

    def _outputs(self, tensor: TensorInfo, shape: tuple[int, ...]) -> list[TensorSpec]:
        blocks = -(-tensor.size // self.blocksize)
        name = tensor.name
        specs = [
            TensorSpec(name, "U8", ((tensor.size + 1) // 2, 1)),
            TensorSpec(name + ".absmax", "U8" if self.nested else "F32", (blocks,)),
            TensorSpec(name + ".quant_map", "F32", (16,)),
        ]
        if self.nested:
            specs.append(TensorSpec(name + ".nested_absmax", "F32", (-(-blocks // NESTED_BLOCKSIZE),)))
            specs.append(TensorSpec(name + ".nested_quant_map", "F32", (256,)))
        specs.append(TensorSpec(name + _STATE_KEY + self.name, "U8", (self._text_length(tensor, shape),)))
        return specs

    def _text_length(self, tensor: TensorInfo, shape: tuple[int, ...]) -> int:
        """Bytes of the JSON text, which may hold an offset that is not known yet."""
        nothing = np.zeros(0, np.float32)
        state = QuantState(nothing, shape, None, self.blocksize, self.name, dtypes.numpy_dtype(tensor.dtype))
        if self.nested:
            state.offset = np.array(0, np.float32)
            state.state2 = QuantState(nothing, None, None, NESTED_BLOCKSIZE, None, np.dtype(np.float32))
        return state.as_dict(packed=True, padded=True)["quant_state.bitsandbytes__" + self.name].size

    def _state_pieces(self, outputs: list[TensorSpec], state: QuantState) -> Iterator[Piece]:
        arrays = state.as_dict(packed=True, padded=True)
        for spec in outputs[1:]:
            yield Piece(spec.name, 0, arrays[spec.name.removeprefix(outputs[0].name + ".")])


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def find(tensors: dict[str, TensorInfo], load: Load) -> list[Packed]:
    """The 4-bit weights among some tensors.

    Raises
    ------
    CheckpointError
        The tensors of one do not fit together.
    """
    found: list[Packed] = []
    for key, text in tensors.items():
        name, separator, quant_type = key.partition(_STATE_KEY)
        if separator and quant_type in QuantState.valid_quant_types:
            found.append(_packed(name, quant_type, text, tensors, load))
    return found


def _packed(name: str, quant_type: str, text: TensorInfo, tensors: dict[str, TensorInfo], load: Load) -> Packed:
    values = _values(name, text, load)
    shape, blocksize, dtype = _shape(name, values), values.get("blocksize"), values.get("dtype")
    if type(blocksize) is not int or blocksize < 2 or blocksize % 2:
        raise CheckpointError(f"{text.path}: {name}: block size is {blocksize!r}, must be even")
    if dtype not in dtypes.FROM_TORCH_NAMES:
        raise CheckpointError(f"{text.path}: {name}: dtype is {dtype!r}, must be float32, float16 or bfloat16")
    blocks = -(-math.prod(shape) // blocksize)
    parts = [
        _part(name, "", tensors, None, (math.prod(shape) + 1) // 2),
        _part(name, ".absmax", tensors, "U8" if "nested_offset" in values else "F32", blocks),
        _part(name, ".quant_map", tensors, "F32", 16),
    ]
    if not np.allclose(np.frombuffer(load(parts[2]), np.float32), get_4bit_type(quant_type), atol=1e-6):
        raise CheckpointError(f"{text.path}: {name}: its quant_map is not that of {quant_type}")
    if "nested_offset" in values:
        nested_blocksize = values.get("nested_blocksize")
        if type(nested_blocksize) is not int or nested_blocksize < 1:
            raise CheckpointError(f"{text.path}: {name}: nested block size is {nested_blocksize!r}")
        parts.append(_part(name, ".nested_absmax", tensors, "F32", -(-blocks // nested_blocksize)))
        parts.append(_part(name, ".nested_quant_map", tensors, "F32", 256))
    parts.append(text)
    packed_dtype = dtypes.FROM_TORCH_NAMES[cast(str, dtype)]
    detail = f"block {blocksize}" + (", nested" if "nested_offset" in values else "")
    return Packed(
        name, quant_type, detail, shape, packed_dtype, parts,
        lambda target: _unpack_step(name, quant_type, shape, blocksize, parts, target),
    )  # fmt: skip


def _values(name: str, text: TensorInfo, load: Load) -> dict[str, Any]:
    try:
        values = json.loads(load(text)) if text.nbytes <= _STATE_LIMIT else None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{text.path}: {name}: its quant_state is not a JSON object")
    return cast(dict[str, Any], values)


def _shape(name: str, values: dict[str, Any]) -> tuple[int, ...]:
    shape = values.get("shape")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in cast(list[Any], shape)):
        raise CheckpointError(f"{name}: shape is {shape!r} in its quant_state")
    return tuple(cast(list[int], shape))


def _part(name: str, suffix: str, tensors: dict[str, TensorInfo], dtype: str | None, count: int) -> TensorInfo:
    """A tensor with `count` elements; without a dtype: with `count` bytes, or some more (`quant_storage`)."""
    part = tensors.get(name + suffix)
    if part is None:
        raise CheckpointError(f"{name} is quantized, but the checkpoint has no {name + suffix}")
    if dtype is None:
        if part.nbytes - count not in range(8):
            raise CheckpointError(f"{part.path}: {part.name} has {part.nbytes} bytes, must have {count}")
    elif part.dtype != dtype or part.size != count:
        raise CheckpointError(
            f"{part.path}: {part.name} is {part.dtype} with {part.size} elements, must be {dtype} with {count}"
        )
    return part


def _unpack_step(
    name: str, quant_type: str, shape: tuple[int, ...], blocksize: int, parts: list[TensorInfo], dtype: str
) -> Step:
    codes, state_parts = parts[0], [part for part in parts[1:] if part.nbytes]
    itemsize = dtypes.bits(dtype) // 8
    # Codes in pieces that become CHUNK_BYTES of floats; bytes beyond the last code (quant_storage) are not read.
    count = math.prod(shape)
    code_reads = reads_of(codes, blocksize // 2, CHUNK_BYTES // (2 * itemsize))
    code_reads = [
        Read(codes, read.begin, min(read.nbytes, (count + 1) // 2 - read.begin))
        for read in code_reads
        if read.begin < (count + 1) // 2
    ]

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        arrays: dict[str, Any] = {part.name: _array(part, next(chunks)) for part in state_parts}
        absmax: FloatArray = _expanded(name, arrays) if count else None
        begin = 0
        for chunk in chunks:
            elements = min(2 * chunk.size, count - begin)
            out = np.empty(elements, dtypes.numpy_dtype(dtype))
            first = begin // blocksize
            scales = absmax[first : first + -(-elements // blocksize)]
            dequantize_4bit(chunk, None, scales, out, blocksize, quant_type)
            yield Piece(name, begin * itemsize, out)
            begin += elements

    reads = [Read(part, 0, part.nbytes) for part in state_parts] + code_reads
    return Step(name, reads, [TensorSpec(name, dtype, shape)], count, work)


def _array(part: TensorInfo, data: ByteArray) -> AnyArray:
    return data.view(dtypes.numpy_dtype(part.dtype)).reshape(part.shape).copy()


def _expanded(name: str, arrays: dict[str, Any]) -> Any:
    """absmax as float32, whether it is stored as such or nested."""
    try:
        state = QuantState.from_dict(arrays)
    except InvalidArgument as error:
        raise CheckpointError(f"{name}: {error}") from error
    if state.state2 is None:
        return state.absmax
    return dequantize_blockwise(state.absmax, state.state2) + state.offset
