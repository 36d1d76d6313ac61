# SPDX-License-Identifier: MIT
"""Reading a checkpoint as NumPy arrays, whether it is quantized or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import os_errors_name
from libbnb.checkpoint.formats import Packed, find_packed, in_file_order
from libbnb.checkpoint.read_ahead import ReadAhead
from libbnb.checkpoint.reader import TensorInfo, read_into
from libbnb.checkpoint.source import Source, open_source
from libbnb.checkpoint.step import AnyArray, ByteArray, Step, as_bytes, copy_step


def load_bytes(tensor: TensorInfo) -> bytes:
    """The bytes of a small tensor."""
    buffer = bytearray(tensor.nbytes)
    with os_errors_name(tensor.path), tensor.path.open("rb", buffering=0) as file:
        read_into(file, tensor.offset, memoryview(buffer))
    return bytes(buffer)


def find_in(source: Source) -> dict[str, Packed]:
    """The quantized weights of a checkpoint, by name."""
    return find_packed(source.tensors, load_bytes, source.config)


def usual_dtype(source: Source) -> str:
    """What quantized weights were before, for formats that do not record it.

    The config's dtype; else the dtype of most of what is not quantized; else float32.
    """
    config = source.config or {}
    named = dtypes.FROM_TORCH_NAMES.get(str(config.get("dtype", config.get("torch_dtype"))))
    if named:
        return named
    inside = {part.name for packed in find_in(source).values() for part in packed.parts}
    counts: Counter[str] = Counter()
    for tensor in source.tensors.values():
        if tensor.name not in inside and tensor.dtype in dtypes.FLOAT_DTYPES:
            counts[tensor.dtype] += tensor.size
    return counts.most_common(1)[0][0] if counts else "F32"


def run_in_memory(step: Step, chunks: Iterator[ByteArray]) -> dict[str, AnyArray]:
    """The outputs of a step as arrays."""
    outputs: dict[str, ByteArray] = {spec.name: np.empty(spec.nbytes, np.uint8) for spec in step.outputs}
    for piece in step.work(chunks):
        data = as_bytes(piece)
        outputs[piece.name][piece.begin : piece.begin + data.size] = data
    return {
        spec.name: outputs[spec.name].view(dtypes.numpy_dtype(spec.dtype)).reshape(spec.shape) for spec in step.outputs
    }


def _run(step: Step) -> dict[str, AnyArray]:
    with ReadAhead(step.reads) as chunks:
        return run_in_memory(step, iter(chunks))


class Checkpoint(Mapping[str, AnyArray]):
    """A checkpoint as a read-only mapping from names to NumPy arrays.

    Quantized weights appear under their own name, with their own shape, and are dequantized when they are asked for:
    only what the caller holds is in memory. The tensors with scales and codebooks do not appear.

    Parameters
    ----------
    path
        A safetensors file, or a folder with a (sharded) safetensors checkpoint.
    dtype
        Dtype of dequantized weights: "float32", "float16" or "bfloat16". None gives each its recorded one.

    Attributes
    ----------
    source : Source
        Files, config, ...
    packed : dict
        The quantized weights by name.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be read.

    Examples
    --------
    >>> weights = Checkpoint("model-nf4", dtype="float32")        # doctest: +SKIP
    >>> y = x @ weights["encoder.layer.0.output.dense.weight"].T  # doctest: +SKIP
    """

    def __init__(self, path: Path | str, dtype: str | None = None) -> None:
        self.source = open_source(Path(path))
        self.packed = find_in(self.source)
        self._dtype = dtypes.FROM_TORCH_NAMES[dtype] if dtype else None
        self._tensors = self.source.tensors
        self._names = {name: None for name, _ in in_file_order(self._tensors, self.packed)}

    def __getitem__(self, name: str) -> AnyArray:
        if name in self.packed:
            packed = self.packed[name]
            return _run(packed.unpack(self._dtype or packed.dtype or usual_dtype(self.source)))[name]
        if name not in self._names:
            raise KeyError(name)
        return _run(copy_step(self._tensors[name]))[name]

    def stored(self, name: str) -> dict[str, AnyArray]:
        """A weight as it is in the files, for products that read packed weights.

        Parameters
        ----------
        name
            One of the names of the mapping.

        Returns
        -------
        dict
            By the names that tensors have in the files: the codes first, under the name of the weight, then scales and
            tables. One array if the weight is not quantized.

        Raises
        ------
        KeyError
            There is no such weight.
        CheckpointError
            A file cannot be read.
        """
        if name not in self._names:
            raise KeyError(name)
        parts = self.packed[name].parts if name in self.packed else [self._tensors[name]]
        return {part.name: _run(copy_step(part))[part.name] for part in parts}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors, as if nothing were quantized."""
        return sum((self.packed if name in self.packed else self._tensors)[name].size for name in self._names)
