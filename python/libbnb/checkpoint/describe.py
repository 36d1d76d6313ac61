# SPDX-License-Identifier: MIT
"""What is in a checkpoint: tensors, formats, shapes, sizes. Only headers and small tensors are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libbnb.checkpoint.formats import in_file_order
from libbnb.checkpoint.load import find_in
from libbnb.checkpoint.source import open_source


@dataclass(frozen=True)
class Entry:
    """One tensor as its user sees it: a quantized weight with its scales is one.

    Attributes
    ----------
    name, format, detail : str
        Name; "nf4", "int8", ... or the dtype; block size and the like.
    shape : tuple of int
        Elements along each axis, of the weight.
    elements, nbytes : int
        Their number, and the bytes of everything that belongs to the tensor.
    file : str
        Name of the file with (the codes of) the tensor.
    quantized : bool
        Whether libbnb can dequantize it.
    """

    name: str
    format: str
    detail: str
    shape: tuple[int, ...]
    elements: int
    nbytes: int
    file: str
    quantized: bool

    @property
    def bits_per_weight(self) -> float:
        """Bits for one element, scales included; 0 for an empty tensor."""
        return 8 * self.nbytes / self.elements if self.elements else 0.0


def describe_checkpoint(path: Path | str) -> list[Entry]:
    """All tensors of a checkpoint, in the order of the files.

    Parameters
    ----------
    path
        A safetensors file, or a folder with a (sharded) safetensors checkpoint.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be read.
    """
    source = open_source(Path(path))
    packed = find_in(source)
    entries: list[Entry] = []
    for name, weight in in_file_order(source.tensors, packed):
        if weight:
            file = weight.parts[0].path.name
            entries.append(
                Entry(name, weight.format, weight.detail, weight.shape, weight.size, weight.nbytes, file, True)
            )
        else:
            tensor = source.tensors[name]
            entries.append(
                Entry(name, tensor.dtype, "", tensor.shape, tensor.size, tensor.nbytes, tensor.path.name, False)
            )
    return entries
