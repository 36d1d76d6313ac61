# SPDX-License-Identifier: MIT
"""Checkpoints of mps-bitsandbytes 0.7 for libbnb's layers. Neither that package nor a Mac is needed.

Its 4-bit codes stand in the low half of a byte first, each row begins a block and is padded to whole ones, its FP4 has
values of its own, and a compressed absmax is linear int8.
"""

# PyTorch has few types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import get_4bit_type, quantize_4bit
from libbnb.nn import (
    Embedding4bit,
    Embedding8bit,
    Linear4bit,
    Linear8bitLt,
    LinearFP8,
    OutlierAwareLinear,
    SwitchBackLinear,
)
from libbnb.quant_state import QuantState

__all__ = ["Converted", "ConvertedLayer", "convert_state_dict", "load_state_dict"]

# Its FP4 by the number of a code: 1 bit for the sign, 3 for these magnitudes.
_FP4_MAGNITUDES = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
_SHORTEST_BLOCK = 16  # shorter ones would have scales of more than two bits for a code of four
_FP4_BECOMES = ("fp8", "nf4", "fp4")
_MARKS = {"weight_quant_state", "weight_packed", "weight_absmax", "weight_int8", "weight_scales", "weight_fp8"}
_OWN = _MARKS | {"weight", "weight_fp", "outlier_indices", "outlier_weights"}  # what a converted layer has no more

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ConvertedLayer:
    """What became of a layer.

    Attributes
    ----------
    kind : str
        The class of `libbnb.nn` that the tensors are for. "Linear8bitLt" also stands for "Embedding8bit": a state dict
        has the same tensors for both.
    is_exact : bool
        Whether the layer has the weights that it had, to the bit; else they were quantized again.
    quant_type : str or None
        "nf4", "fp4", "fp8_e4m3fn" or None.
    """

    kind: str
    is_exact: bool
    quant_type: str | None = None


@dataclass(frozen=True)
class Converted:
    """A state dict for libbnb's layers, and which of them it is for.

    Attributes
    ----------
    state_dict : dict
        Tensors by name, the codes and scales of converted layers on the CPU.
    layers : dict
        A `ConvertedLayer` by the name of the layer.
    """

    state_dict: Tensors
    layers: dict[str, ConvertedLayer]


@dataclass(frozen=True)
class _Packed:
    """4-bit weights as mps-bitsandbytes has them, row by row."""

    name: str
    data: torch.Tensor  # uint8, [rows, bytes of a row and of its padding]
    absmax: torch.Tensor  # fp32, or the int8 codes of it if `scales` are given; [rows, blocks of a row]
    shape: tuple[int, ...]
    blocksize: int
    quant_type: str
    dtype: torch.dtype
    scales: torch.Tensor | None = None  # fp32: what 256 codes of absmax, counted through all rows, are multiplied by

    @property
    def cols(self) -> int:
        return self.shape[-1] if len(self.shape) == 2 else prod(self.shape)

    def float_absmax(self) -> torch.Tensor:
        if self.scales is None:
            return self.absmax
        codes = self.absmax.flatten()
        return (codes.float() * self.scales.repeat_interleave(256)[: codes.numel()]).view(self.absmax.shape)

    def codes(self) -> torch.Tensor:
        """One in a byte, [rows, cols]."""
        return torch.stack([self.data & 15, self.data >> 4], -1).flatten(1)[:, : self.cols]

    def absmax_of_blocks(self, length: int) -> torch.Tensor:
        """The scales of shorter blocks that divide a row and its blocks: [rows, cols / length]."""
        begins = torch.arange(0, self.cols, length)
        return self.float_absmax()[:, begins // self.blocksize]

    def dequantized(self) -> torch.Tensor:
        table = get_4bit_type("nf4", "cpu") if self.quant_type == "nf4" else _fp4_table()
        blocks = torch.arange(self.cols) // self.blocksize
        return (table[self.codes().long()] * self.float_absmax()[:, blocks]).view(self.shape)


def convert_state_dict(
    state_dict: Mapping[str, Any],
    fp4: str = "fp8",
    embedding_quant_type: str = "nf4",
    embedding_dtype: torch.dtype = torch.float16,
) -> Converted:
    """The state dict of a model of mps-bitsandbytes as one for libbnb's layers.

    Parameters
    ----------
    state_dict
        What ``model.state_dict()`` returned there and `torch.load` reads. It is not changed.
    fp4
        What becomes of linear layers in its FP4, whose values no 4-bit format here has. "fp8": each is an FP8 number,
        so that nothing is lost, for twice the memory. "nf4" and "fp4": quantized again, where NF4 loses less.
    embedding_quant_type
        "nf4" or "fp4": what its `Embedding4bit` holds, which is not in a state dict. FP4 becomes NF4, quantized again.
    embedding_dtype
        What its `Embedding4bit` returns, which is not in a state dict either.

    Returns
    -------
    Converted
        NF4 has the same codes, the other way round in bytes, and the same scales, as have int8 and FP8. The exceptions:
        rows that no even number of 16 or more divides into parts of blocks are quantized again. A compressed absmax
        stays compressed where rows are whole blocks.

    Raises
    ------
    InvalidArgument
        An argument has another value than these, or tensors of a layer are missing or do not fit one another.

    Examples
    --------
    >>> from libbnb.integrations.mps_bitsandbytes import convert_state_dict
    >>> convert_state_dict({"norm.weight": torch.ones(4)}).layers
    {}
    """
    if fp4 not in _FP4_BECOMES:
        raise InvalidArgument(f"fp4 is {fp4!r}, must be one of {', '.join(_FP4_BECOMES)}")
    if embedding_quant_type not in QuantState.valid_quant_types:
        raise InvalidArgument(f"embedding_quant_type is {embedding_quant_type!r}, must be nf4 or fp4")
    made: Tensors = {}
    layers: dict[str, ConvertedLayer] = {}
    for layer, parts in _by_layer(state_dict).items():
        prefix = layer and layer + "."
        if not _MARKS & parts.keys():
            made |= {prefix + key: value for key, value in parts.items()}
            continue
        if "weight_quant_state" in parts:
            tensors, layers[layer] = _convert_4bit(_linear_4bit(prefix, parts), fp4)
        elif "weight_packed" in parts or "weight_absmax" in parts:
            table = _embedding_4bit(prefix, parts, embedding_quant_type, embedding_dtype)
            tensors, layers[layer] = _convert_4bit(table, "nf4")
            layers[layer] = ConvertedLayer("Embedding4bit", layers[layer].is_exact, "nf4")
        else:
            tensors, layers[layer] = _convert_8bit(prefix, parts)
        rest = {key: value for key, value in parts.items() if key not in _OWN}
        made |= {prefix + key: value for key, value in (tensors | rest).items()}
    return Converted(made, layers)


def load_state_dict(
    model: torch.nn.Module, state_dict: Mapping[str, Any], strict: bool = True, **options: Any
) -> dict[str, ConvertedLayer]:
    """Puts libbnb's layers into a float model where mps-bitsandbytes had its own, and loads their weights.

    Parameters
    ----------
    model
        The model before it was quantized, with any weights, or on the meta device. It is changed.
    state_dict
        That of the quantized model, as for `convert_state_dict`.
    strict
        Whether names that the model and the dict do not share are an error.
    options
        Those of `convert_state_dict`.

    Returns
    -------
    dict
        What became of each layer, by name.

    Raises
    ------
    InvalidArgument
        As in `convert_state_dict`; or a layer of the dict is no linear layer or embedding of the model.
    RuntimeError
        Names or sizes do not fit.
    """
    converted = convert_state_dict(state_dict, **options)
    for name, layer in converted.layers.items():
        if not name:
            raise InvalidArgument("model: it must be a module that holds the layers, not one of them")
        try:
            old = model.get_submodule(name)
        except AttributeError as error:
            raise InvalidArgument(f"model: this {type(model).__name__} has no {name}") from error
        model.set_submodule(name, _empty_layer(name, old, layer))
    model.load_state_dict(converted.state_dict, strict, assign=True)
    return converted.layers


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def _by_layer(state_dict: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    layers: dict[str, dict[str, Any]] = {}
    for key, value in state_dict.items():
        layer, _, last = key.rpartition(".")
        layers.setdefault(layer, {})[last] = value
    return layers


def _tensor(
    prefix: str, parts: Mapping[str, Any], key: str, dtypes: tuple[torch.dtype, ...], ndim: int
) -> torch.Tensor:
    found = parts.get(key)
    if not isinstance(found, torch.Tensor):
        raise InvalidArgument(f"{prefix}{key} is missing or no tensor")
    if found.dtype not in dtypes or found.dim() != ndim:
        raise InvalidArgument(
            f"{prefix}{key} is {found.dtype} with {found.dim()} dimensions, must be {dtypes[0]} with {ndim}"
        )
    return found.detach().cpu()


def _fits(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tensor.numel() != prod(shape):
        raise InvalidArgument(f"{name} has {tensor.numel()} elements, must have {prod(shape)}")
    return tensor.reshape(shape)


def _linear_4bit(prefix: str, parts: Mapping[str, Any]) -> _Packed:
    state = parts["weight_quant_state"]
    name = f"{prefix}weight_quant_state"
    if not isinstance(state, Mapping) or not {"absmax", "shape"} <= state.keys():
        raise InvalidArgument(f"{name} must be a dict with absmax and shape")
    shape, blocksize = tuple(state["shape"]), state.get("blocksize", 64)
    quant_type, dtype = state.get("quant_type", "nf4"), state.get("dtype", torch.float16)
    if quant_type not in QuantState.valid_quant_types:
        raise InvalidArgument(f"{name}: quant_type is {quant_type!r}, must be nf4 or fp4")
    is_length = type(blocksize) is int and blocksize > 1 and blocksize & (blocksize - 1) == 0
    if not shape or not all(type(n) is int and n > 0 for n in shape) or not is_length:
        raise InvalidArgument(f"{name}: shape {shape} and blocksize {blocksize!r} are not those of weights")
    rows, cols = shape if len(shape) == 2 else (1, prod(shape))
    blocks = -(-cols // blocksize)
    data = _fits(
        prefix + "weight", _tensor(prefix, parts, "weight", (torch.uint8,), 1), (rows, blocks * blocksize // 2)
    )
    nested, scales = state.get("state2"), None
    if nested is not None:
        if nested.get("blocksize") != 256 or nested.get("state2") is not None:
            raise InvalidArgument(f"{name}: state2 must have blocks of 256 and no state2")
        nested_absmax = _tensor(f"{name}.state2.", nested, "absmax", (torch.float32,), 1)
        scales = _fits(f"{name}.state2.absmax", nested_absmax, (-(-rows * blocks // 256),)) / 127.0
    kinds = (torch.float32,) if scales is None else (torch.int8,)
    absmax = _fits(f"{name}.absmax", _tensor(name + ".", state, "absmax", kinds, 1), (rows, blocks))
    return _Packed(prefix + "weight", data, absmax, shape, blocksize, quant_type, dtype, scales)


def _embedding_4bit(prefix: str, parts: Mapping[str, Any], quant_type: str, dtype: torch.dtype) -> _Packed:
    data = _tensor(prefix, parts, "weight_packed", (torch.uint8,), 2)
    absmax = _tensor(prefix, parts, "weight_absmax", (torch.float32,), 2)
    cols, blocks = 2 * data.shape[1], absmax.shape[1]
    # Block sizes are powers of two, of which at most one cuts a row into so many blocks; one block may be of any size.
    fitting = [cols] if blocks == 1 else [size for size in (2**n for n in range(1, 17)) if -(-cols // size) == blocks]
    if absmax.shape[0] != data.shape[0] or not cols or not fitting:
        raise InvalidArgument(
            f"{prefix}weight_absmax has shape {list(absmax.shape)}, which does not fit {prefix}weight_packed, "
            f"{list(data.shape)}"
        )
    return _Packed(prefix + "weight", data, absmax, (data.shape[0], cols), fitting[0], quant_type, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Converting


def _fp4_table() -> torch.Tensor:
    magnitudes = torch.tensor(_FP4_MAGNITUDES)
    return torch.cat([magnitudes, -magnitudes])


def _convert_4bit(packed: _Packed, fp4: str) -> tuple[Tensors, ConvertedLayer]:
    if packed.quant_type == "fp4" and fp4 == "fp8":
        return _as_fp8(packed), ConvertedLayer("LinearFP8", True, "fp8_e4m3fn")
    quant_type = "nf4" if packed.quant_type == "nf4" else fp4
    exact = _repacked(packed) if packed.quant_type == "nf4" else None
    codes, state = exact or quantize_4bit(packed.dequantized(), blocksize=packed.blocksize, quant_type=quant_type)
    state.shape, state.dtype = torch.Size(packed.shape), packed.dtype
    tensors = {"weight": codes} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    return tensors, ConvertedLayer("Linear4bit", exact is not None, quant_type)


def _repacked(packed: _Packed) -> tuple[torch.Tensor, QuantState] | None:
    """The same codes and scales in our order; None where blocks that disregard rows cannot have them."""
    rows, cols = packed.data.shape[0], packed.cols
    length = gcd(cols, packed.blocksize)
    whole = rows == 1 or length == packed.blocksize
    if not whole and (length % 2 or length < _SHORTEST_BLOCK):
        return None
    data = packed.data[:, : (cols + 1) // 2].reshape(-1, 1)
    codes = (data >> 4) | (data << 4)
    if not whole:
        return codes, QuantState(packed.absmax_of_blocks(length).flatten(), None, None, length, "nf4")
    if packed.scales is None:
        return codes, QuantState(packed.absmax.flatten(), None, None, packed.blocksize, "nf4")
    # Our nested absmax is code[number] * scale + offset: with whole numbers as code that is theirs.
    numbers = (packed.absmax.flatten().short() + 128).to(torch.uint8)
    integers = torch.arange(-128.0, 128.0)
    inner = QuantState(packed.scales, None, integers, 256, None, torch.float32)
    return codes, QuantState(numbers, None, None, packed.blocksize, "nf4", None, torch.zeros(()), inner)


def _as_fp8(packed: _Packed) -> Tensors:
    """FP4 codes as the FP8 numbers that they are, with the same scales."""
    rows, cols = packed.data.shape[0], packed.cols
    table = _fp4_table().to(torch.float8_e4m3fn).view(torch.uint8)
    codes = table[packed.codes().long()].view(torch.float8_e4m3fn)
    scale = packed.absmax_of_blocks(gcd(cols, packed.blocksize))
    return {"weight": codes.view(packed.shape), "weight_scale": scale.reshape(rows, -1)}


def _convert_8bit(prefix: str, parts: Mapping[str, Any]) -> tuple[Tensors, ConvertedLayer]:
    if "weight_fp" in parts:  # SwitchBack keeps floats; the codes beside them are made of them
        return {"weight": parts["weight_fp"]}, ConvertedLayer("SwitchBackLinear", True)
    scales = _tensor(prefix, parts, "weight_scales", (torch.float32,), 1)
    is_fp8 = "weight_fp8" in parts
    name = "weight_fp8" if is_fp8 else "weight_int8"
    codes = _tensor(prefix, parts, name, (torch.uint8 if is_fp8 else torch.int8,), 2)
    scales = _fits(f"{prefix}weight_scales", scales, (codes.shape[0],))
    if is_fp8:
        tensors = {"weight": codes.view(torch.float8_e4m3fn), "weight_scale": scales.reshape(-1, 1)}
        return tensors, ConvertedLayer("LinearFP8", True, "fp8_e4m3fn")
    if "outlier_indices" in parts:
        floats = (torch.float16, torch.bfloat16, torch.float32)
        indices = _tensor(prefix, parts, "outlier_indices", (torch.int64,), 1)
        outliers = _tensor(prefix, parts, "outlier_weights", floats, 2)
        outliers = _fits(f"{prefix}outlier_weights", outliers, (codes.shape[0], indices.numel()))
        tensors = {"weight_int8": codes, "weight_scales": scales, "outlier_indices": indices}
        return tensors | {"outlier_weights": outliers}, ConvertedLayer("OutlierAwareLinear", True)
    # The number 0 says, as in bitsandbytes' state dicts, that codes are stored row by row.
    tensors = {"weight": codes, "SCB": scales, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return tensors, ConvertedLayer("Linear8bitLt", True)


def _empty_layer(name: str, old: torch.nn.Module, layer: ConvertedLayer) -> torch.nn.Module:
    """A layer without memory that takes converted tensors, of the size of one of the model."""
    quant_type = layer.quant_type or "nf4"
    made: Any = None
    if isinstance(old, torch.nn.Embedding):
        sizes = (old.num_embeddings, old.embedding_dim)
        if layer.kind == "Embedding4bit":
            made = Embedding4bit(*sizes, old.weight.dtype, quant_type, device="meta")
        elif layer.kind == "Linear8bitLt":
            made = Embedding8bit(*sizes, "meta", old.weight.dtype)
        if made is not None:
            made.padding_idx = old.padding_idx
    elif isinstance(old, torch.nn.Linear):
        arguments: Any = (old.in_features, old.out_features, getattr(old, "bias", None) is not None)
        if layer.kind == "Linear4bit":
            made = Linear4bit(*arguments, quant_type=quant_type, device="meta")
        elif layer.kind == "Linear8bitLt":
            made = Linear8bitLt(*arguments, has_fp16_weights=False, threshold=6.0, device="meta")
        elif layer.kind == "LinearFP8":
            made = LinearFP8(*arguments, device="meta")
        elif layer.kind == "OutlierAwareLinear":
            made = OutlierAwareLinear(*arguments, device="meta")
        elif layer.kind == "SwitchBackLinear":
            made = SwitchBackLinear(*arguments, device="meta", vector_wise_quantization=True)
    if made is None:
        raise InvalidArgument(f"{name} is a {type(old).__name__} in the model, but {layer.kind} in the state dict")
    return made.train(old.training)
