# SPDX-License-Identifier: MIT
"""Which tensors of a checkpoint go into a file, under which names, in which types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np

from libbnb.checkpoint.dequantize import plain_step
from libbnb.checkpoint.formats import in_file_order
from libbnb.checkpoint.formats.bitnet import quantization_config
from libbnb.checkpoint.load import find_in
from libbnb.checkpoint.select import choose, is_embedding, module_of
from libbnb.checkpoint.source import Source
from libbnb.checkpoint.step import Piece, Step, TensorSpec, copy_step
from libbnb.integrations.gguf import _architectures
from libbnb.integrations.gguf._architectures import Architecture
from libbnb.integrations.gguf._config import Config
from libbnb.integrations.gguf._errors import GGUFError
from libbnb.integrations.gguf._hyperparameters import rope_factors
from libbnb.integrations.gguf._tensors import INTEGERS, SMALLEST_MEAN, Output
from libbnb.integrations.gguf._types import TYPES, Type
from libbnb.layer_names import is_output_embedding

_MAX_DIMENSIONS = 4
_MAX_NAME_BYTES = 63
_PLAIN_TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_FLOATS = (*_PLAIN_TYPES, "F8_E4M3", "F8_E5M2")  # the last two without scales; what has some is found as quantized


@dataclass(frozen=True)
class Types:
    """The types that were asked for.

    Attributes
    ----------
    linear : Type
        Of the weights of linear layers.
    embedding : Type or None
        Of token embedding and output head; None for the usual: `linear` for plain floats, else q8_0, and f16 where rows
        do not fit that.
    fallback : Type or None
        For rows that are not a multiple of the block.
    ternarize : bool
        Whether weights that are not ternary are rounded for a ternary type.
    """

    linear: Type
    embedding: Type | None = None
    fallback: Type | None = None
    ternarize: bool = False


@dataclass
class Plan:
    """What will be written."""

    outputs: list[Output] = field(default_factory=lambda: list[Output]())
    left_out: dict[str, list[str]] = field(default_factory=lambda: dict[str, list[str]]())
    notes: list[str] = field(default_factory=lambda: list[str]())


class Planner:
    """Makes the plan for one checkpoint.

    Parameters
    ----------
    source : Source
        The checkpoint.
    types : Types
        The types that were asked for.

    Raises
    ------
    CheckpointError
        The checkpoint is corrupt.
    """

    def __init__(self, source: Source, types: Types) -> None:
        self._source = source
        self._types = types
        self._packed = find_in(source)
        inside = {part.name for packed in self._packed.values() for part in packed.parts}
        self._plain = {name: one for name, one in source.tensors.items() if name not in inside}
        self._steps = {
            name: plain_step(weight, "F32", source.config) if weight else copy_step(source.tensors[name])
            for name, weight in in_file_order(source.tensors, self._packed)
        }
        settings = quantization_config(source.config) or {}
        self._becomes_ternary = settings.get("quantization_mode") == "online"

    @property
    def names(self) -> list[str]:
        """Tensors of the model in the order of the files."""
        return list(self._steps)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor of the model."""
        return self._steps[name].outputs[0].shape

    def complete(self, row: Architecture, config: Config, is_tied: bool) -> Plan:
        """The plan for an architecture that llama.cpp knows.

        Raises
        ------
        GGUFError
            Tensors are missing, unknown, or of the wrong shape or dtype for their type.
        """
        plan = Plan()
        mapped = _architectures.map_tensors(row, config, self.names, is_tied)
        _architectures.refuse_shapes(mapped, {name: self.shape(name) for name in mapped}, config)
        for name in self.names:
            if name not in mapped:
                plan.left_out.setdefault("llama.cpp computes it or takes the embedding", []).append(name)
                continue
            target = mapped[name]
            heads = _architectures.permuted_rows(target, config) if row.permutes else 0
            made_type, is_linear = self._type(name, target), _architectures.is_linear(target)
            plan.outputs.append(self._output(name, target, made_type, heads, is_linear))
        factors = rope_factors(config)
        if factors is not None:
            plan.outputs.append(_computed(gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.ROPE_FREQS] + ".weight", factors))
        self._note_ternary(plan)
        return plan

    def generic(self) -> Plan:
        """The plan for anything else: all tensors that GGUF has a type for, with the names of the checkpoint."""
        plan = Plan()
        choices = choose(self._plain, self._source.config, [], [])
        for name in self.names:
            reason = self._why_not(name)
            if reason:
                plan.left_out.setdefault(reason, []).append(name)
                continue
            is_linear = name in self._packed or choices[name].quantize
            if not self._is_float(name):
                made_type = None
            elif is_linear:
                made_type = self._linear_type(name)
            elif len(self.shape(name)) == 2 and (is_embedding(name) or is_output_embedding(module_of(name))):
                made_type = self._embedding_type(name)
            else:
                made_type = self._plain_type(name)
            plan.outputs.append(self._output(name, name, made_type, 0, is_linear))
        self._note_ternary(plan)
        long = [name for name in self.names if len(name.encode()) > _MAX_NAME_BYTES]
        if long:
            plan.notes.append(f"{len(long)} names have more than the {_MAX_NAME_BYTES} bytes that ggml reads")
        return plan

    def _note_ternary(self, plan: Plan) -> None:
        if self._becomes_ternary:
            plan.notes.append("the model makes its weights ternary as it computes: they were rounded by its rule")

    def _why_not(self, name: str) -> str:
        """Why a tensor cannot be in a GGUF file; "" if it can."""
        if len(self.shape(name)) > _MAX_DIMENSIONS:
            return f"more than {_MAX_DIMENSIONS} dimensions"
        if 0 in self.shape(name):
            return "empty"
        dtype = self._dtype(name)
        known = dtype in INTEGERS or dtype in _FLOATS
        return "" if known else f"dtype {dtype}"

    def _is_float(self, name: str) -> bool:
        return self._dtype(name) in _FLOATS

    def _dtype(self, name: str) -> str:
        return self._steps[name].outputs[0].dtype

    def _type(self, name: str, target: str) -> Type:
        """The type of a tensor of an architecture that llama.cpp knows."""
        reason = self._why_not(name)
        if reason or not self._is_float(name):
            raise GGUFError(f"{name}: cannot be exported: {reason or 'dtype ' + self._dtype(name)}")
        if len(self.shape(name)) == 1:
            return TYPES["f32"]
        return self._embedding_type(name) if _architectures.is_token_embedding(target) else self._linear_type(name)

    def _linear_type(self, name: str) -> Type:
        return self._fitting(name, self._types.linear)

    def _embedding_type(self, name: str) -> Type:
        asked = self._types.embedding
        if asked is not None:
            return self._fitting(name, asked)
        if self._types.linear.is_float:
            return self._types.linear
        usual = TYPES["q8_0"]
        return TYPES["f16"] if self.shape(name)[-1] % usual.block else usual

    def _plain_type(self, name: str) -> Type:
        """What is neither a linear layer's nor an embedding keeps its dtype; vectors are float32, as in llama.cpp."""
        if len(self.shape(name)) < 2:
            return TYPES["f32"]
        return TYPES[_PLAIN_TYPES.get(self._dtype(name), "f32")]

    def _fitting(self, name: str, wanted: Type) -> Type:
        columns = self.shape(name)[-1]
        if columns % wanted.block == 0:
            return wanted
        fallback = self._types.fallback
        if fallback is not None and columns % fallback.block == 0:
            return fallback
        also = f", and not of {fallback.block} for {fallback.name} either" if fallback is not None else ""
        hint = "" if fallback is not None else "; --fallback q8_0 or f16 writes such tensors in another type"
        raise GGUFError(
            f"{name}: its rows have {columns} elements, not a multiple of {wanted.block} as {wanted.name} needs"
            f"{also}{hint}"
        )

    def _output(self, name: str, target: str, made_type: Type | None, heads: int, is_linear: bool) -> Output:
        step, shape = self._steps[name], self.shape(name) or (1,)
        if made_type is None:
            return Output(target, name, shape, INTEGERS[self._dtype(name)], None, step)
        least = None
        if is_linear and self._becomes_ternary:
            least = SMALLEST_MEAN
        elif made_type.is_ternary and self._types.ternarize:
            least = 0.0
        return Output(target, name, shape, made_type.ggml, made_type, step, heads, least)


def _computed(name: str, values: Any) -> Output:
    """A tensor that is not in the checkpoint."""
    step = Step(
        name, [], [TensorSpec(name, "F32", values.shape)], values.size, lambda chunks: iter([Piece(name, 0, values)])
    )
    return Output(name, name, values.shape, TYPES["f32"].ggml, TYPES["f32"], step)


def parameter_count(plan: Plan) -> int:
    """Elements of all tensors."""
    return int(np.sum([output.size for output in plan.outputs], dtype=np.int64))
