# SPDX-License-Identifier: MIT
"""The formats of quantized checkpoints: one file each, one row each in the tables below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats import bitnet, fourbit, fp8, int8, mx
from libbnb.checkpoint.formats.base import Format, Load, Packed
from libbnb.checkpoint.reader import TensorInfo

# name: what makes the format from (block size or None, double quantization)
_FORMATS: dict[str, Callable[[int | None, bool], Format]] = {
    "nf4": lambda blocksize, nested: fourbit.FourBit("nf4", blocksize or 64, nested),
    "fp4": lambda blocksize, nested: fourbit.FourBit("fp4", blocksize or 64, nested),
    "int8": lambda blocksize, nested: int8.Int8(),
    "fp8": lambda blocksize, nested: fp8.FP8("fp8", blocksize),
    "fp8-e5m2": lambda blocksize, nested: fp8.FP8("fp8-e5m2", blocksize),
    "mxfp4": lambda blocksize, nested: mx.Microscaling("mxfp4"),
    "mxfp8": lambda blocksize, nested: mx.Microscaling("mxfp8"),
    "nvfp4": lambda blocksize, nested: mx.Microscaling("nvfp4"),
}
_ALIASES = {"fp8-e4m3": "fp8"}
_HAVE_BLOCKS = ("nf4", "fp4", "fp8", "fp8-e5m2")
_HAVE_NESTED = ("nf4", "fp4")
_FINDERS = (fourbit.find, int8.find, fp8.find, mx.find)

FORMAT_NAMES = (*_FORMATS, *_ALIASES)

__all__ = ["FORMAT_NAMES", "Format", "Packed", "find_packed", "in_file_order", "make_format", "parse_format"]


def make_format(name: str, blocksize: int | None = None, double_quant: bool = False) -> Format:
    """A format by its name.

    Parameters
    ----------
    name : str
        One of `FORMAT_NAMES`.
    blocksize : int or None
        Elements per scale; None for the usual: 64 for nf4 and fp4, a row for fp8. int8 has none.
    double_quant : bool
        nf4 and fp4: whether the scales are quantized, too.

    Raises
    ------
    CheckpointError
        There is no such format, or it has no such option.
    """
    name = _ALIASES.get(name, name)
    if name not in _FORMATS:
        raise CheckpointError(f"format is {name!r}, must be one of {', '.join(FORMAT_NAMES)}")
    if blocksize is not None and name not in _HAVE_BLOCKS:
        why = "its scales belong to rows" if name == "int8" else "its blocks are as long as the format says"
        raise CheckpointError(f"{name} has no block size: {why}")
    if blocksize is not None and not 1 <= blocksize < 2**31:
        raise CheckpointError(f"block size is {blocksize}, must be at least 1 and below 2**31")
    if double_quant and name not in _HAVE_NESTED:
        raise CheckpointError(f"{name} has no double quantization; {' and '.join(_HAVE_NESTED)} have")
    return _FORMATS[name](blocksize, double_quant)


def parse_format(text: str) -> Format:
    """A format from one word: its name, with a block size and "+dq" for double quantization if wanted.

    Raises
    ------
    CheckpointError
        The word means no format.

    Examples
    --------
    "nf4", "nf4:128", "nf4:64+dq", "int8", "fp8:128"
    """
    rest, double_quant = text.removesuffix("+dq"), text.endswith("+dq")
    name, _, blocksize = rest.partition(":")
    if blocksize and not blocksize.isdecimal():
        raise CheckpointError(f"format is {text!r}: what follows the colon must be a block size")
    return make_format(name, int(blocksize) if blocksize else None, double_quant)


def find_packed(tensors: dict[str, TensorInfo], load: Load, config: dict[str, Any] | None = None) -> dict[str, Packed]:
    """The quantized weights among some tensors, by name.

    Parameters
    ----------
    tensors : dict
        All tensors of a checkpoint.
    load : callable
        Gives the bytes of a (small) tensor.
    config : dict or None
        config.json of the model. Without it no ternary weights of transformers' BitNet integration are found.

    Raises
    ------
    CheckpointError
        The tensors of a weight do not fit together.
    """
    found = {packed.name: packed for find in _FINDERS for packed in find(tensors, load)}
    found |= {packed.name: packed for packed in bitnet.find(tensors, load, config)}
    return {name: packed for name, packed in in_file_order(tensors, found) if packed}


def in_file_order(tensors: dict[str, TensorInfo], packed: dict[str, Packed]) -> Iterator[tuple[str, Packed | None]]:
    """The tensors of a checkpoint as its user sees them, in the order of the files: a quantized weight is one of them.

    Parameters
    ----------
    tensors : dict
        All tensors of the checkpoint.
    packed : dict
        The quantized weights among them, by name.

    Yields
    ------
    name : str
        Name of a weight or of a plain tensor.
    weight : Packed or None
        What it is made of, if it is quantized.
    """
    of_codes = {weight.parts[0].name: weight for weight in packed.values()}
    inside = {part.name for weight in packed.values() for part in weight.parts}
    for name in tensors:
        if name in of_codes:
            yield of_codes[name].name, of_codes[name]
        elif name not in inside:
            yield name, None
