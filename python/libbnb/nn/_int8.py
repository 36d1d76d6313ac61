# SPDX-License-Identifier: MIT
"""What layers with Int8Params share: state dicts with the scales as SCB beside the weight."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any

import torch

from libbnb.nn._load import LoadArguments, load_rest, place, set_weight
from libbnb.nn.params_int8 import Int8Params

_ROW_MAJOR = 0  # bitsandbytes' number for it; the others belong to GPUs of the past
_FORMAT_NAMES = ("row", _ROW_MAJOR)


class Int8Module(torch.nn.Module):
    """A module with an int8 `weight`."""

    weight: Int8Params

    def _weight_shape(self) -> tuple[int, int]:
        """Shape of the weights."""
        raise NotImplementedError

    def _keeps_floats(self) -> bool:
        """Whether the weights stay floats."""
        return False

    def _ready(self) -> Int8Params:
        """The weight, which is quantized now if it was not."""
        weight: Any = self._parameters["weight"]
        if weight.dtype == torch.int8 and getattr(weight, "SCB", None) is not None:
            return weight
        if torch.compiler.is_compiling():
            raise RuntimeError(
                f"{type(self).__name__}: quantize the weights before torch.compile, with module.to(device)"
            )
        if weight.dtype == torch.int8:
            raise RuntimeError(f"{type(self).__name__}: the int8 weights have no scales (SCB): load them, too")
        if not isinstance(weight, Int8Params):
            weight = self.weight = Int8Params(weight.data, False)
        return weight.quantize()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        scales = getattr(self.weight, "SCB", None)
        result = super()._apply(fn, recurse)
        self._keep_class(scales)
        if not self.weight.is_meta:
            self.weight._move_statistics(self.weight.device)
        return result

    def _keep_class(self, scales: torch.Tensor | None = None) -> None:
        """`to_empty`, and loading by assignment, make an ordinary parameter of the weight."""
        weight: Any = self._parameters["weight"]
        if not isinstance(weight, Int8Params):
            keeps = self._keeps_floats()
            self.weight = Int8Params(weight.data, keeps, keeps, SCB=scales)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        scales = getattr(self.weight, "SCB", None)
        if not self._keeps_floats() and scales is not None:
            destination[prefix + "SCB"] = scales if keep_vars else scales.detach()
            destination[prefix + "weight_format"] = torch.tensor(_ROW_MAJOR, dtype=torch.uint8)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        arguments = LoadArguments(state_dict, prefix, local_metadata, strict, *lists)
        load = super()._load_from_state_dict
        keys = {key: prefix + key for key in ("weight", "SCB", "weight_format")}
        value = state_dict.get(keys["weight"])
        if value is None:
            load(state_dict, prefix, local_metadata, strict, *lists)
            return
        done = {keys["weight_format"]} & set(state_dict)
        if done:
            self._check_format(state_dict[keys["weight_format"]], arguments)
        fits = tuple(value.shape) == self._weight_shape()
        if value.dtype == torch.int8 and not self._keeps_floats() and fits:
            done |= self._load_quantized(value, state_dict.get(keys["SCB"]), arguments)
        elif self.weight.dtype == torch.int8 and value.is_floating_point() and fits:
            weights = value if self.weight.is_meta else value.to(self.weight.device)
            set_weight(self, Int8Params(weights.detach(), False).quantize(), arguments)
            done.add(keys["weight"])
        load_rest(load, arguments, done)
        self._keep_class()

    def _check_format(self, value: Any, arguments: LoadArguments) -> None:
        """Only weights that are stored row by row can be loaded."""
        if (value.item() if isinstance(value, torch.Tensor) else value) not in _FORMAT_NAMES:
            arguments.errors.append(f"{arguments.prefix}weight_format is {value!r}, must be 0: stored row by row")

    def _load_quantized(self, value: torch.Tensor, scales: Any, arguments: LoadArguments) -> set[str]:
        prefix, weight = arguments.prefix, self.weight
        done = {prefix + "weight"}
        if scales is None:
            arguments.errors.append(f"{prefix}weight is int8, but its scales {prefix}SCB are missing")
        elif tuple(scales.shape) != tuple(value.shape[:1]) or scales.dtype != torch.float32:
            arguments.errors.append(
                f"size mismatch for {prefix}SCB: {scales.dtype} of shape {tuple(scales.shape)}, must be float32 of "
                f"shape {tuple(value.shape[:1])}"
            )
        else:
            made = Int8Params(place(value, weight, arguments), False, SCB=place(scales, weight, arguments))
            set_weight(self, made, arguments)
        return done | ({prefix + "SCB"} if scales is not None else set())
