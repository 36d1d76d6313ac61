# SPDX-License-Identifier: MIT
"""Params4bit: the weight of a layer, or of all experts of a layer, in NF4 or FP4."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import dequantize_4bit, matmul_4bit, quantize_4bit
from libbnb.nn._parameter import QuantizedParameter
from libbnb.nn._parts import state_of_part
from libbnb.quant_state import QuantState


class Params4bit(QuantizedParameter):
    """A weight that is quantized to 4 bits when it is moved to a device (QLoRA, arXiv:2305.14314).

    Parameters
    ----------
    data
        Float weights of any shape; or codes, with `quant_state` and `bnb_quantized`.
    requires_grad
        Frozen by default: codes have no gradient.
    quant_state
        What belongs to codes.
    blocksize
        Elements per block; 64 if None.
    compress_statistics
        Whether absmax is quantized, too.
    quant_type
        "nf4" or "fp4".
    quant_storage
        Dtype in which codes are kept. FSDP needs that of the other parameters.
    module
        The layer the parameter belongs to; it gets the quantization state as its `quant_state`.
    bnb_quantized
        Whether `data` are codes.

    Notes
    -----
    `torch.nn.functional.linear` accepts a quantized parameter as its weight and multiplies by the codes. With weights
    of three dimensions, a matrix for each expert, ``weight[e]`` is such a parameter again: a view of the codes of one.
    """

    blocksize: int
    compress_statistics: bool
    quant_type: str
    quant_state: QuantState | None
    quant_storage: torch.dtype
    bnb_quantized: bool
    part: tuple[int, int] | None  # the first element and the number of those that this is, of the whole of the state

    def __new__(
        cls,
        data: torch.Tensor | None = None,
        requires_grad: bool = False,
        quant_state: QuantState | None = None,
        blocksize: int | None = None,
        compress_statistics: bool = True,
        quant_type: str = "fp4",
        quant_storage: torch.dtype = torch.uint8,
        module: torch.nn.Module | None = None,
        bnb_quantized: bool = False,
        **kwargs: Any,
    ) -> Params4bit:
        del kwargs  # loaders hand over the __dict__ of another parameter, with whatever they put there
        self = torch.Tensor._make_subclass(cls, torch.empty(0) if data is None else data, requires_grad)
        self.blocksize = 64 if blocksize is None else blocksize
        self.compress_statistics = bool(compress_statistics)
        self.quant_type = quant_type
        self.quant_state = quant_state
        self.quant_storage = quant_storage
        self.bnb_quantized = bnb_quantized
        self.module = module
        self.part = None
        return self

    @classmethod
    def from_prequantized(
        cls,
        data: torch.Tensor,
        quantized_stats: dict[str, Any],
        requires_grad: bool = False,
        device: Any = None,
        module: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> Params4bit:
        """A parameter from what a checkpoint has.

        Parameters
        ----------
        data
            The codes.
        quantized_stats
            The tensors that belong to them, as `QuantState.from_dict` takes them.
        device
            Where all of it goes; None leaves it where it is.
        module
            The layer the parameter belongs to.
        """
        del kwargs
        state = QuantState.from_dict(quantized_stats, device)
        return cls.from_state(data if device is None else data.to(device), state, requires_grad, module)

    @classmethod
    def from_state(
        cls,
        data: torch.Tensor,
        quant_state: QuantState,
        requires_grad: bool = False,
        module: torch.nn.Module | None = None,
    ) -> Params4bit:
        """A parameter from what `quantize_4bit` returned."""
        if quant_state.quant_type is None:
            raise InvalidArgument("Params4bit: the state is that of 8-bit codes, it has no quant_type")
        self = cls(
            data, requires_grad, quant_state, quant_state.blocksize, quant_state.nested, quant_state.quant_type,
            data.dtype, module, bnb_quantized=True,
        )  # fmt: skip
        if module is not None:
            module.quant_state = quant_state  # type: ignore[assignment]
        return self

    @property
    def holds_codes(self) -> bool:
        return self.bnb_quantized

    def _quantize(self, weights: torch.Tensor) -> None:
        codes, state = quantize_4bit(
            weights,
            blocksize=self.blocksize,
            compress_statistics=self.compress_statistics,
            quant_type=self.quant_type,
            quant_storage=self.quant_storage,
        )
        self.data = codes
        self.quant_state = state
        self.bnb_quantized = True
        if self.module is not None:
            self.module.quant_state = state  # type: ignore[assignment]

    def _move_statistics(self, device: torch.device) -> None:
        if self.quant_state is not None:
            self.quant_state.to(device)

    def statistics(self) -> list[torch.Tensor]:
        return [] if self.quant_state is None else self.quant_state.tensors()

    @property
    def codes(self) -> torch.Tensor:
        """`data`, without the detour that every attribute of a tensor takes through `__torch_function__`."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.data

    @property
    def logical_shape(self) -> torch.Size:
        """The shape of the weights, whether they are quantized or not."""
        return self.shape if self.quant_state is None else torch.Size(self.quant_state.shape)

    def dequantize(self) -> torch.Tensor:
        """The weights in their dtype and shape; of what `chunk`, `split` and `narrow` return, the part that it is."""
        if not self.holds_codes:
            return self.data
        data, state = self.data, self._known_state()
        if self.part is not None:
            start, count = self.part
            state = state_of_part(state, start, _part_shape(state.shape, count))
        return dequantize_4bit(data, state)

    def _known_state(self) -> QuantState:
        if self.quant_state is None:
            raise RuntimeError("Params4bit: the codes have no quantization state; it was lost in a conversion")
        return self.quant_state

    def view_of(self, index: int) -> Params4bit:
        """The weight of one expert: views of its codes, and of its scales where blocks do not cross experts.

        Parameters
        ----------
        index
            Its number along the first dimension of the weights; negative ones count from the end.

        Raises
        ------
        InvalidArgument
            The weights have fewer than three dimensions, or experts do not begin at a byte.
        IndexError
            There is no such expert.
        """
        state = self._known_state()
        if len(state.shape) < 3:
            raise InvalidArgument(f"view_of: weights of shape {tuple(state.shape)} are not those of several experts")
        experts, shape = state.shape[0], tuple(state.shape[1:])
        if not -experts <= index < experts:
            raise IndexError(f"there is no expert {index}, there are {experts}")
        start = index % experts * prod(shape)
        part = state_of_part(state, start, shape)
        codes = self.data.view(torch.uint8).flatten()[start // 2 : (start + prod(shape) + 1) // 2]
        return Params4bit.from_state(codes.view(-1, 1), part)

    def __getitem__(self, index: Any) -> Any:
        if not self.holds_codes or self.quant_state is None or len(self.quant_state.shape) < 3:
            return super().__getitem__(index)
        return self.view_of(_as_index(index))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = _HANDLERS.get(func)
        if handler is None:
            return super().__torch_function__(func, types, args, kwargs)
        return handler(super().__torch_function__, func, types, args, kwargs)

    # FSDP looks for the tensors of a state dict by their dotted names, "weight.absmax" for example.

    @property
    def absmax(self) -> torch.Tensor:
        """That of the quantization state."""
        return self._of_state("absmax").absmax

    @property
    def code(self) -> torch.Tensor:
        """That of the quantization state."""
        return self._of_state("code").code

    @property
    def quant_map(self) -> torch.Tensor:
        """`code`, by its name in state dicts."""
        return self._of_state("quant_map").code

    @property
    def offset(self) -> torch.Tensor | None:
        """That of the quantization state."""
        return self._of_state("offset").offset

    @property
    def state2(self) -> QuantState | None:
        """That of the quantization state."""
        return self._of_state("state2").state2

    @property
    def nested_absmax(self) -> torch.Tensor:
        """absmax of the nested state."""
        return self._of_nested("nested_absmax").absmax

    @property
    def nested_blocksize(self) -> int | None:
        """Block size of the nested state."""
        return self._of_nested("nested_blocksize").blocksize

    @property
    def nested_quant_map(self) -> torch.Tensor:
        """Code of the nested state."""
        return self._of_nested("nested_quant_map").code

    @property
    def nested_dtype(self) -> torch.dtype:
        """Dtype of the nested state."""
        return self._of_nested("nested_dtype").dtype

    @property
    def nested_offset(self) -> torch.Tensor | None:
        """`offset`, by its name in state dicts."""
        return self._of_state("nested_offset").offset

    def _of_state(self, name: str) -> QuantState:
        state = vars(self).get("quant_state")
        if state is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return state

    def _of_nested(self, name: str) -> QuantState:
        nested = self._of_state(name).state2
        if nested is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return nested


def _as_index(index: Any) -> int:
    """The number of an expert: an int, or a tensor with one integer."""
    if isinstance(index, torch.Tensor) and index.numel() == 1 and index.dtype != torch.bool:
        return int(index)
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise TypeError(f"a quantized weight of several experts is indexed by the number of one, not by {index!r}")
    return index.__index__()


def _part_shape(shape: Any, count: int) -> tuple[int, ...]:
    """Whole rows if the part is some; else a vector."""
    row = prod(shape[1:])
    return (count // row, *shape[1:]) if row and count % row == 0 else (count,)


torch.serialization.add_safe_globals([Params4bit])

# ---------------------------------------------------------------------------------------------------------------------
# What torch functions do with a Params4bit

Plain = Callable[..., Any]


def _cut(plain: Plain, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """chunk, split, narrow: parts of the codes that share the state of the whole, which FSDP saves with them."""
    whole: Params4bit = args[0]
    result = plain(func, types, args, kwargs)
    parts = result if isinstance(result, (tuple, list)) else (result,)
    made = tuple(_part(whole, data) for data in parts)
    return made if isinstance(result, (tuple, list)) else made[0]


def _part(whole: Params4bit, data: torch.Tensor) -> Params4bit:
    made: Any = whole.with_data(data)
    made.part = None
    if whole.holds_codes and data.is_contiguous():
        per_item = 2 * data.element_size()
        start = (data.storage_offset() - whole.codes.storage_offset()) * per_item
        start += 0 if whole.part is None else whole.part[0]
        made.part = (start, max(0, min(data.numel() * per_item, prod(whole.logical_shape) - start)))
    return made


def _linear(plain: Plain, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """`linear(input, weight, bias)` with a quantized weight."""
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    if not isinstance(weight, Params4bit) or not weight.holds_codes:
        return plain(func, types, args, kwargs)
    x = args[0] if args else kwargs["input"]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    return matmul_4bit(x, weight.codes, weight._known_state(), bias=bias)


_HANDLERS: dict[Any, Callable[[Plain, Any, Any, Any, Any], Any]] = {
    torch.chunk: _cut,
    torch.Tensor.chunk: _cut,
    torch.split: _cut,
    torch.Tensor.split: _cut,
    torch.narrow: _cut,
    torch.Tensor.narrow: _cut,
    torch.nn.functional.linear: _linear,
}
