# SPDX-License-Identifier: MIT
"""What layers with a Params4bit share: settings, the state that outlives the parameter, and state dicts."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from math import prod
from typing import Any

import torch

from libbnb._dtensor import copy_part, is_sharded
from libbnb._errors import InvalidArgument
from libbnb.nn._load import LoadArguments, load_rest, place, set_weight
from libbnb.nn.params_4bit import Params4bit
from libbnb.quant_state import QuantState


class FourBitModule(torch.nn.Module):
    """A module with a 4-bit `weight`.

    Attributes
    ----------
    quant_state : QuantState or None
        That of the weight. It is kept here, too, because conversions (FSDP, `to_empty`) may put an ordinary parameter
        in the weight's place.
    """

    weight: Params4bit
    quant_state: QuantState | None

    def _use_4bit_weight(
        self, compress_statistics: bool, quant_type: str, quant_storage: torch.dtype, blocksize: int | None = None
    ) -> None:
        """Makes the float weight that the base class made a Params4bit."""
        if quant_type not in QuantState.valid_quant_types:
            raise InvalidArgument(f"quant_type is {quant_type!r}, must be one of {QuantState.valid_quant_types}")
        self.quant_state = None
        self.quant_type = quant_type
        self.quant_storage = quant_storage
        self.compress_statistics = bool(compress_statistics)
        self.blocksize = 64 if blocksize is None else blocksize
        self.weight = self._as_params(self.weight.data)

    def _as_params(self, data: torch.Tensor) -> Params4bit:
        return Params4bit(
            data, False, None, self.blocksize, self.compress_statistics, self.quant_type, self.quant_storage, self
        )

    def _weight_shape(self) -> tuple[int, int]:
        """Shape of the weights."""
        raise NotImplementedError

    def _ready(self) -> QuantState:
        """The state of the weight, which is quantized now if it was not."""
        weight: Any = self._parameters["weight"]
        state: QuantState | None = getattr(weight, "quant_state", None)
        if state is not None and isinstance(weight, Params4bit):
            return state
        self._make_ready()
        state = self.weight.quant_state
        assert state is not None
        return state

    def _make_ready(self) -> None:
        if torch.compiler.is_compiling():
            raise RuntimeError(
                f"{type(self).__name__}: quantize the weights before torch.compile, with module.to(device)"
            )
        self._find_state()
        self.weight.quantize()

    def _find_state(self) -> None:
        """Makes the weight a Params4bit again if a conversion made it something else."""
        weight: Any = self._parameters["weight"]
        is_ours = isinstance(weight, Params4bit)
        if is_ours and (weight.quant_state is not None or not weight.bnb_quantized):
            return
        data = weight.data
        if tuple(data.shape) == self._weight_shape() and data.is_floating_point():
            self.weight = self._as_params(data)
        elif self.quant_state is None:
            raise RuntimeError(
                f"{type(self).__name__}: the weight is a {data.dtype} tensor of shape {tuple(data.shape)} without a "
                "quantization state, which was lost when it was converted or loaded"
            )
        else:
            self.weight = Params4bit.from_state(data, self.quant_state, module=self)

    def dequantized_weight(self) -> torch.Tensor:
        """The weights as floats, of the dtype they had."""
        self._find_state()
        return self.weight.dequantize()

    def requantize(self, weights: torch.Tensor) -> None:
        """Replaces the weights by others, quantized as they were.

        Parameters
        ----------
        weights
            Floats of the shape of the weights; they get the dtype that those had.
        """
        old = self._ready()
        settings = self.weight
        made = Params4bit(
            weights.to(old.dtype), False, None, settings.blocksize, settings.compress_statistics, settings.quant_type,
            settings.quant_storage, self,
        )  # fmt: skip
        self.weight = made.quantize(settings.device)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        self._keep_class()
        weight: Any = self._parameters["weight"]
        if self.quant_state is not None and not weight.is_meta and self.quant_state.absmax.device != weight.device:
            self.quant_state.to(weight.device)
        return result

    def _keep_class(self) -> None:
        """`to_empty`, and loading by assignment, make an ordinary parameter of a float weight."""
        weight: Any = self._parameters["weight"]
        if not isinstance(weight, Params4bit) and tuple(weight.shape) == self._weight_shape():
            self.weight = self._as_params(weight.data)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        weight: Any = self._parameters["weight"]
        if getattr(weight, "module", None) is None:  # copied or unpickled with this module
            weight.module = self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weight: Any = self._parameters["weight"]
        # Another class of parameter has the state of the last time, which is not that of codes loaded since.
        state = self.quant_state if not isinstance(weight, Params4bit) else weight.quant_state or self.quant_state
        if state is None:
            return
        # Loaders of sharded checkpoints read into tensors of the same shape, whatever the offset is.
        entries = state.as_dict(packed=True, padded=is_sharded(weight))
        for name, value in entries.items():
            destination[f"{prefix}weight.{name}"] = value if keep_vars else value.detach()
        if not isinstance(weight, Params4bit):  # one of FSDP, which looks for the entries as attributes
            vars(weight).update(entries, quant_state=state)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        arguments = LoadArguments(state_dict, prefix, local_metadata, strict, *lists)
        key = prefix + "weight"
        value: Any = state_dict.get(key)
        parts = {name: state_dict[name] for name in state_dict if name.startswith(key + ".")}
        load = super()._load_from_state_dict
        if value is None:
            load(state_dict, prefix, local_metadata, strict, *lists)
        elif parts:
            self._load_quantized(arguments, value, parts)
            load_rest(load, arguments, {key, *parts})
        elif self._holds_codes() and value.is_floating_point() and tuple(value.shape) == self._weight_shape():
            if is_sharded(self._parameters["weight"]):
                arguments.errors.append(f"{key}: float weights cannot become shards of codes: load before fully_shard")
                return
            weights = value if self.weight.is_meta else value.to(self.weight.device)
            self._set_weight(self._as_params(weights.detach()).quantize(), arguments)
            load_rest(load, arguments, {key})
        elif self._holds_codes() and tuple(value.shape) != self._weight_shape():
            arguments.errors.append(
                f"{key}: codes without what belongs to them ({key}.absmax, ...): a full state dict is needed in every "
                "process; torch.distributed sends only parameters from rank 0"
            )
        else:
            load(state_dict, prefix, local_metadata, strict, *lists)
        self._keep_class()

    def _set_weight(self, made: Params4bit, arguments: LoadArguments) -> None:
        set_weight(self, made, arguments)
        self.quant_state = made.quant_state

    def _holds_codes(self) -> bool:
        return tuple(self.weight.shape) != self._weight_shape()

    def _load_quantized(self, arguments: LoadArguments, value: torch.Tensor, parts: dict[str, Any]) -> None:
        weight = self._parameters["weight"]
        assert weight is not None
        try:
            tensors = {name: place(part, weight, arguments) for name, part in parts.items()}
            state = QuantState.from_dict(tensors)
        except InvalidArgument as error:
            arguments.errors.append(f"{arguments.prefix}weight: {error}")
            return
        shape, wanted = tuple(state.shape or ()), self._weight_shape()
        if shape != wanted:
            arguments.errors.append(
                f"size mismatch for {arguments.prefix}weight: the checkpoint has 4-bit weights of shape {shape}, the "
                f"shape in the current model is {wanted}."
            )
        elif value.numel() * value.element_size() < -(-prod(shape) // 2):
            arguments.errors.append(f"{arguments.prefix}weight: {value.numel()} items are too few codes for {shape}")
        elif is_sharded(weight):
            self._load_part(weight, value, state, arguments)
        else:
            self._set_weight(Params4bit.from_state(place(value, weight, arguments), state, module=self), arguments)

    def _load_part(self, weight: Any, value: Any, state: QuantState, arguments: LoadArguments) -> None:
        """FSDP2 keeps the parameter and has codes copied into it."""
        if not is_sharded(value) or value.dtype != weight.dtype or value.shape != weight.shape or weight.is_meta:
            arguments.errors.append(
                f"{arguments.prefix}weight: the codes are a {type(value).__name__} of {value.dtype}, shape "
                f"{tuple(value.shape)}, must be a DTensor of {weight.dtype}, shape {tuple(weight.shape)}, as the "
                "sharded weight is; torch.distributed.checkpoint.state_dict makes one of a full state dict"
            )
            return
        copy_part(weight, value)
        self.quant_state = state
