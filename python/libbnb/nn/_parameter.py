# SPDX-License-Identifier: MIT
"""What quantized parameters do alike: moving quantizes them, casts leave codes alone, copies are whole."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from libbnb.quant_state import QuantState

_C: Any = torch._C
_parse_to = _C._nn._parse_to

Self = TypeVar("Self", bound="QuantizedParameter")


class QuantizedParameter(torch.nn.Parameter):
    """A parameter that holds float weights until it is quantized, and codes from then on.

    As in bitsandbytes, moving it to a device (also from the CPU to the CPU) quantizes it in place; the meta device does
    not count. Converting the dtype of a model (`.half()`, `.to(torch.bfloat16)`) converts weights that are still floats
    and leaves codes alone, whatever dtype they are stored in.
    """

    module: torch.nn.Module | None

    if TYPE_CHECKING:  # what stubs of PyTorch say of the arguments is not true of subclasses

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    @property
    def holds_codes(self) -> bool:
        """Whether the data are codes."""
        raise NotImplementedError

    def quantize(self: Self, device: Any = None) -> Self:
        """Quantizes the weights in place, on a device, unless they are quantized.

        Parameters
        ----------
        device
            Where the codes are made and stay; None means where the weights are.

        Returns
        -------
        The parameter itself.

        Raises
        ------
        RuntimeError
            The weights are on the meta device: there is nothing to quantize.
        """
        if self.holds_codes:
            return self
        if self.device.type == "meta":
            raise RuntimeError(
                f"{type(self).__name__}: weights on the meta device have no values to quantize: load them"
            )
        with torch.no_grad():
            weights = self.data.contiguous()
            self._quantize(weights if device is None else weights.to(device))
        return self

    def _quantize(self, weights: torch.Tensor) -> None:
        """Replaces the data by the codes of some weights."""
        raise NotImplementedError

    def _move_statistics(self, device: torch.device) -> None:
        """Moves what belongs to the codes."""
        raise NotImplementedError

    def statistics(self) -> list[torch.Tensor]:
        """The tensors that belong to the codes, themselves."""
        raise NotImplementedError

    def _quantizes_on(self, device: torch.device) -> bool:
        return device.type != "meta"

    def with_data(self: Self, data: torch.Tensor) -> Self:
        """A parameter with the same attributes around other data."""
        made = torch.Tensor._make_subclass(type(self), data, self.requires_grad)
        vars(made).update(vars(self))
        return made

    def become(self, other: QuantizedParameter) -> None:
        """Takes the data and the attributes of another one, so that all layers that share this parameter have them."""
        module = self.module
        self.requires_grad_(False)
        self.data = other.data
        vars(self).update(vars(other) | {"module": module})

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """As `torch.Tensor.to`, but that a device quantizes, and that a dtype concerns float weights only."""
        device, dtype, non_blocking, _ = _parse_to(*args, **kwargs)
        if not self.holds_codes:
            if device is not None and self._quantizes_on(device):
                return self.quantize(device)
            return self.with_data(self.data.to(device=device, dtype=dtype, non_blocking=non_blocking))
        if device is None:
            return self
        if device.type != "meta":
            self._move_statistics(device)
        return self.with_data(self.data.to(device=device, non_blocking=non_blocking))

    def cpu(self: Self, *args: Any, **kwargs: Any) -> Self:
        """To the CPU."""
        return self.to("cpu")

    def cuda(self: Self, device: Any = None, non_blocking: bool = False) -> Self:
        """To a GPU, the current one if None."""
        return self.to(_device_of("cuda", device), non_blocking=non_blocking)

    def xpu(self: Self, device: Any = None, non_blocking: bool = False) -> Self:
        """To a GPU of Intel, the current one if None."""
        return self.to(_device_of("xpu", device), non_blocking=non_blocking)

    def float(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Float weights as float32; codes as they are."""
        return self.to(torch.float32)

    def double(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Float weights as float64; codes as they are."""
        return self.to(torch.float64)

    def half(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Float weights as float16; codes as they are."""
        return self.to(torch.float16)

    def bfloat16(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Float weights as bfloat16; codes as they are."""
        return self.to(torch.bfloat16)

    # A copy belongs to no module, until a module that is copied with it says so.
    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        if id(self) in memo:
            return memo[id(self)]
        made = torch.Tensor._make_subclass(type(self), self.data.clone(), self.requires_grad)
        memo[id(self)] = made
        for name, value in vars(self).items():
            vars(made)[name] = None if name == "module" else copy.deepcopy(value, memo)
        return made

    def __copy__(self: Self) -> Self:
        return self.with_data(self.data)

    def __reduce_ex__(self, proto: Any) -> Any:
        # As bytes where that is the same: PyTorch cannot pickle the storage of float8 tensors.
        data = self.data.view(torch.uint8) if self.dtype.itemsize == 1 else self.data
        arguments = (type(self), data, self.dtype, self.requires_grad)
        return rebuild_parameter, arguments, vars(self) | {"module": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def _device_of(kind: str, device: Any) -> torch.device:
    if device is None:
        return torch.device(kind)
    return torch.device(kind, device) if isinstance(device, int) else torch.device(device)


def rebuild_parameter(
    kind: type[QuantizedParameter], data: torch.Tensor, dtype: torch.dtype, requires_grad: bool
) -> QuantizedParameter:
    """What a pickled parameter is made from; its attributes follow."""
    return torch.Tensor._make_subclass(kind, data.view(dtype), requires_grad)


# torch.load(..., weights_only=True) reads parameters that torch.save wrote.
torch.serialization.add_safe_globals([rebuild_parameter, QuantState])
