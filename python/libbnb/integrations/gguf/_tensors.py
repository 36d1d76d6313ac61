# SPDX-License-Identifier: MIT
"""A tensor on its way into a GGUF file: read in pieces, made whole rows, brought into its type.

In memory are the bytes that will be written for it and a few chunks of what was read, never a whole tensor as floats
(unless floats are what is written).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gguf
import numpy as np

from libbnb._errors import InternalError
from libbnb.checkpoint import dtypes
from libbnb.checkpoint.step import ByteArray, Read, Step, as_bytes
from libbnb.integrations.gguf._errors import GGUFError
from libbnb.integrations.gguf._types import Type, quantize_checked

SMALLEST_MEAN = 1e-5  # of weights that a model rounds as it computes: the rule of transformers' BitNet

# Integers are stored as they are: dtype of a checkpoint and ggml's type.
INTEGERS = {
    "I8": gguf.GGMLQuantizationType.I8,
    "I16": gguf.GGMLQuantizationType.I16,
    "I32": gguf.GGMLQuantizationType.I32,
    "I64": gguf.GGMLQuantizationType.I64,
}


@dataclass(frozen=True)
class Output:
    """A tensor of the file.

    Attributes
    ----------
    name : str
        Its name in the file.
    source : str
        Its name in the checkpoint; for one that is computed, what it is.
    shape : tuple of int
        Its shape.
    ggml : gguf.GGMLQuantizationType
        Its type in the file.
    type : Type or None
        The same for floats; None for integers, which are copied.
    step : Step
        Gives its elements.
    heads : int
        Rows change places among so many heads; 0 if they do not.
    least_mean : float or None
        Whether it is rounded to ternary weights with its mean magnitude as the scale, and the least that scale may be.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    ggml: gguf.GGMLQuantizationType
    type: Type | None
    step: Step
    heads: int = 0
    least_mean: float | None = None

    @property
    def columns(self) -> int:
        """Elements of what is a row here; a permuted vector is a column."""
        return 1 if self.heads and len(self.shape) == 1 else self.shape[-1]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.size // self.columns

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the file."""
        block, type_size = gguf.GGML_QUANT_SIZES[self.ggml]
        return self.columns // block * type_size

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.rows * self.row_bytes

    @property
    def reads(self) -> list[Read]:
        """What has to be read for it: for ternarizing all of it twice, first for the mean."""
        return self.step.reads * (1 if self.least_mean is None else 2)


def make(output: Output, chunks: Iterator[ByteArray], advance: Callable[[int], None]) -> Any:
    """The bytes of a tensor.

    Parameters
    ----------
    output : Output
        What to make.
    chunks : iterator
        The bytes of its `reads`, and then those of other tensors.
    advance : callable
        Is told the bytes that were worked on.

    Returns
    -------
    ndarray
        uint8, one dimension.
    """
    packed: Any = np.empty((output.rows, output.row_bytes), np.uint8)
    places = _places(output)
    scale = None if output.least_mean is None else _mean(output, output.least_mean, chunks, advance)
    for first, rows in _row_chunks(output, _taken(output, chunks, advance)):
        places_here = slice(first, first + len(rows)) if places is None else places[first : first + len(rows)]
        packed[places_here] = _converted(output, rows, scale)
    return packed.reshape(-1)


def _converted(output: Output, rows: Any, scale: Any) -> Any:
    if output.type is None:
        return rows.view(np.uint8).reshape(len(rows), -1)
    floats = rows.astype(np.float32, copy=False)
    if scale is not None:
        floats = _ternary(floats, scale)
    elif output.type.is_ternary:
        _refuse_other_than_ternary(output, floats)
    return quantize_checked(floats, output.type, output.source)


def _taken(output: Output, chunks: Iterator[ByteArray], advance: Callable[[int], None]) -> Iterator[ByteArray]:
    """The chunks of one pass over the tensor, each reported when the next is taken."""
    for chunk in islice(chunks, len(output.step.reads)):
        yield chunk
        advance(chunk.nbytes)


def _row_chunks(output: Output, chunks: Iterator[ByteArray]) -> Iterator[tuple[int, Any]]:
    """Whole rows in the checkpoint's dtype, with the number of rows before them."""
    spec = output.step.outputs[0]
    dtype = dtypes.numpy_dtype(spec.dtype)
    columns = output.columns
    position = 0  # elements
    left = np.empty(0, dtype)  # of a row that is not complete
    for piece in output.step.work(chunks):
        values = as_bytes(piece).view(dtype)
        begin = piece.begin // dtype.itemsize
        if begin != position + left.size:
            if left.size or begin % columns:
                raise InternalError(f"{output.source}: pieces of rows came out of order")
            position = begin
        if left.size:
            values = np.concatenate([left, values])
        count = values.size // columns
        if count:
            yield position // columns, values[: count * columns].reshape(count, columns)
        left = values[count * columns :].copy()
        position += count * columns


def _places(output: Output) -> Any:
    """Where each row goes. A head's rows i and i + half, which transformers rotates together, become neighbours."""
    if not output.heads:
        return None
    if output.rows % (2 * output.heads):
        raise GGUFError(f"{output.source}: {output.rows} rows are not those of {output.heads} heads")
    numbers: Any = np.arange(output.rows).reshape(output.heads, -1, 2)
    return numbers.swapaxes(1, 2).reshape(-1)


# ---------------------------------------------------------------------------------------------------------------------
# Ternary weights


def _mean(output: Output, least: float, chunks: Iterator[ByteArray], advance: Callable[[int], None]) -> Any:
    """The mean magnitude of a tensor."""
    total = 0.0
    for _, rows in _row_chunks(output, _taken(output, chunks, advance)):
        total += float(np.abs(rows.astype(np.float32, copy=False)).sum(dtype=np.float64))
    return np.float32(max(total / max(1, output.size), least))


def _ternary(floats: Any, scale: Any) -> Any:
    """AbsMean quantization, as transformers does it: with the reciprocal of the mean, ties to even."""
    if scale < np.finfo(np.float32).tiny:  # all zero, or nearly; the reciprocal would overflow
        return np.zeros_like(floats)
    reciprocal = np.float32(1) / scale
    return np.clip(np.rint(floats * reciprocal), -1, 1) / reciprocal


def _refuse_other_than_ternary(output: Output, floats: Any) -> None:
    """Raise unless each block has zeros and one magnitude only."""
    if output.type is None:
        return
    magnitudes = np.abs(floats).reshape(-1, output.type.block)
    is_ternary = (magnitudes == 0) | (magnitudes == magnitudes.max(1, keepdims=True))
    if not is_ternary.all() and np.isfinite(floats).all():
        raise GGUFError(
            f"{output.source}: is not ternary (a block of {output.type.block} has more than one magnitude), and "
            f"{output.type.name} would destroy it; --ternarize rounds it to -s, 0, s with s its mean magnitude"
        )
