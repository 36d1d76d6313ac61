# SPDX-License-Identifier: MIT
"""How much each format changes each weight of a checkpoint, and what it saves. Nothing is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import os_errors_name
from libbnb.checkpoint.formats import Format, find_packed
from libbnb.checkpoint.load import run_in_memory
from libbnb.checkpoint.progress import Progress, Silent
from libbnb.checkpoint.quantize import decide, refuse_quantized
from libbnb.checkpoint.read_ahead import ReadAhead
from libbnb.checkpoint.reader import TensorInfo, read_into
from libbnb.checkpoint.source import open_source
from libbnb.checkpoint.step import AnyArray, ByteArray, FloatArray, Step, transpose

_RUN = 4096  # elements


@dataclass
class LayerError:
    """What a format did to a weight.

    Attributes
    ----------
    name, format : str
        Of the weight, and of the format as it was given.
    elements, nbytes : int
        Elements of the weight, and bytes of its quantized form, scales included.
    relative_error : float
        Root of sum (x - y)^2 / sum x^2, x the weight and y what comes back; 0 for an exact one.
    max_error : float
        Largest |x - y|.
    sqnr_db : float
        Signal to quantization noise ratio, 10 log10(sum x^2 / sum (x - y)^2) decibels; infinite for an exact one.
    """

    name: str
    format: str
    elements: int
    nbytes: int
    relative_error: float
    max_error: float
    sqnr_db: float

    @property
    def bits_per_weight(self) -> float:
        """Bits for one element, scales included."""
        return 8 * self.nbytes / self.elements

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        values = asdict(self) | {"bits_per_weight": self.bits_per_weight}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }


def compare_formats(
    source: Path | str,
    formats: dict[str, Format],
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    progress: Progress | None = None,
) -> list[LayerError]:
    """The error of each format on each weight that `quantize_checkpoint` would quantize.

    One weight at a time is in memory, in its stored and in its quantized form.

    Parameters
    ----------
    source
        A safetensors file, or a folder with a (sharded) safetensors checkpoint.
    formats
        Formats by the name that results carry.
    include, exclude
        As in `quantize_checkpoint`.
    progress
        Is told what happens.

    Returns
    -------
    list of LayerError
        By weight, then by format.

    Raises
    ------
    CheckpointError
        The source cannot be read, is quantized, or has nothing to quantize.
    """
    opened = open_source(Path(source))
    refuse_quantized(opened)
    progress = progress or Silent()
    tensors = opened.tensors
    chosen: dict[str, dict[str, bool]] = {}
    for label, format in formats.items():
        for name, choice in decide(opened, format, include or [], exclude or []).items():
            if choice.quantize:
                chosen.setdefault(name, {})[label] = choice.transposed and format.transposes
    progress.start(sum(tensors[name].nbytes for name in chosen), 0)
    results: list[LayerError] = []
    for name in tensors:
        if name in chosen:
            results += [
                _measure(tensors[name], transposed, label, formats[label]) for label, transposed in chosen[name].items()
            ]
            progress.advance(name, tensors[name].nbytes, tensors[name].size)
    return results


def _measure(tensor: TensorInfo, transposed: bool, label: str, format: Format) -> LayerError:
    step = format.step(tensor, transposed)
    with ReadAhead(step.reads) as data:
        parts = run_in_memory(step, iter(data))
    signal = noise = largest = 0.0
    with os_errors_name(tensor.path), tensor.path.open("rb", buffering=0) as file:
        original_at = _reader(tensor, transposed, file)
        for begin, values in _unpacked(step, parts):
            original = original_at(begin, values.size).astype(np.float32)
            error = np.subtract(original, values, out=values)
            signal += _sum_of_squares(original)
            noise += _sum_of_squares(error)
            largest = max(largest, float(error.max()), -float(error.min()))
    nbytes = sum(part.nbytes for part in parts.values())
    relative = math.sqrt(noise / signal) if signal else 0.0
    sqnr = 10 * math.log10(signal / noise) if noise and signal else math.inf
    return LayerError(tensor.name, label, tensor.size, nbytes, relative, largest, sqnr)


def _sum_of_squares(values: FloatArray) -> float:
    """Of float32 values: short runs are summed as they are, the runs in double precision."""
    whole = values.size // _RUN * _RUN
    runs, rest = values[:whole].reshape(-1, _RUN), values[whole:]
    return float(np.einsum("ij,ij->i", runs, runs).sum(dtype=np.float64)) + float(rest @ rest)


def _reader(tensor: TensorInfo, transposed: bool, file: RawIOBase) -> Callable[[int, int], FloatArray]:
    """What gives the weight's elements from a first one on, in the order in which they were quantized."""
    dtype = dtypes.numpy_dtype(tensor.dtype)

    def read(begin: int, size: int) -> FloatArray:
        elements: FloatArray = np.empty(size, dtype)
        read_into(file, tensor.offset + begin * dtype.itemsize, memoryview(elements.view(np.uint8)))
        return elements

    if not transposed:
        return read
    whole = transpose(read(0, tensor.size).reshape(tensor.shape), 0, tensor.shape[1]).reshape(-1)
    return lambda begin, size: whole[begin : begin + size]


def _unpacked(step: Step, parts: dict[str, AnyArray]) -> Iterator[tuple[int, FloatArray]]:
    """The dequantized weight, float32, in pieces: number of the first element, and the elements."""
    tensors = {
        spec.name: TensorInfo(spec.name, spec.dtype, spec.shape, Path("memory"), 0, spec.nbytes)
        for spec in step.outputs
    }
    (packed,) = find_packed(tensors, lambda part: parts[part.name].tobytes()).values()
    back = packed.unpack("F32")

    def pieces() -> Iterator[ByteArray]:
        for read in back.reads:
            yield parts[read.tensor.name].reshape(-1).view(np.uint8)[read.begin : read.begin + read.nbytes]

    for piece in back.work(pieces()):
        yield piece.begin // 4, piece.data.reshape(-1)
