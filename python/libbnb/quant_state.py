# SPDX-License-Identifier: MIT
"""QuantState: what is needed, besides the codes, to get a quantized tensor back; in memory and in checkpoints."""

from __future__ import annotations

import json
from math import prod
from typing import Any, ClassVar

import numpy as np

from libbnb._errors import InvalidArgument
from libbnb._native import QUANT_TYPES
from libbnb.arrays import Array, ArrayKind, kind_of
from libbnb.codebooks import create_dynamic_map, table_4bit

_PREFIX = "bitsandbytes__"
_PACKED_KEY = f"quant_state.{_PREFIX}"
LONGEST_OFFSET = -1.1754942106924411e-38  # no float32 has a longer text


class QuantState:
    """State of a blockwise or 4-bit quantized tensor, with the fields and the serialized form of bitsandbytes.

    Parameters
    ----------
    absmax
        Scale of each block: float32, shape (nb,) with nb = ceil(n / blocksize); uint8 if itself quantized (nested).
    shape
        Shape of the tensor before it was quantized; None for 8-bit states, whose codes have it.
    code
        The values that codes stand for, float32: 16 or 256 of them. None for the table of `quant_type` (and for the
        signed dynamic map if that is None, too); the attribute gives the table in either case.
    blocksize
        Elements per block.
    quant_type
        "nf4" or "fp4"; None for 8-bit states.
    dtype
        Dtype of the tensor before it was quantized, as its array library spells it.
    offset, state2
        For a nested state (arXiv:2305.14314, section 3): the mean of absmax, float32, shape (), and the 8-bit state of
        absmax - offset.
    """

    valid_quant_types: ClassVar[tuple[str, ...]] = ("fp4", "nf4")
    valid_qs_type_keys: ClassVar[list[str]] = [_PREFIX + name for name in valid_quant_types]
    valid_qs_keys: ClassVar[list[str]] = [
        "absmax",
        "quant_map",
        "nested_absmax",
        "nested_quant_map",
        "quant_state",
        "quant_type",
        "blocksize",
        "dtype",
        "shape",
        "nested_blocksize",
        "nested_dtype",
        "nested_offset",
    ]

    def __init__(
        self,
        absmax: Array,
        shape: Any = None,
        code: Array | None = None,
        blocksize: int | None = None,
        quant_type: str | None = None,
        dtype: Any = None,
        offset: Array | None = None,
        state2: QuantState | None = None,
    ) -> None:
        self.absmax = absmax
        self.shape = shape
        self.standard_code = code is None
        self._code = code
        self.dtype = dtype
        self.blocksize = blocksize
        self.quant_type = quant_type
        self.offset = offset
        self.state2 = state2

    @property
    def nested(self) -> bool:
        """Whether absmax is itself quantized."""
        return self.state2 is not None

    @property
    def code(self) -> Array:
        """The values that codes stand for."""
        if self._code is None:
            self._code = kind_of(self.absmax, "absmax").from_numpy(self._standard(), self.absmax)
            self.standard_code = False  # it is in the caller's hands now, who may write to it
        return self._code

    def _standard(self) -> Any:
        return create_dynamic_map() if self.quant_type is None else table_4bit(QUANT_TYPES[self.quant_type])

    @code.setter
    def code(self, code: Array | None) -> None:
        self._code = code
        self.standard_code = code is None

    def __getattr__(self, name: str) -> Any:
        # FSDP walks the dotted keys of a state dict with getattr, "quant_state.bitsandbytes__nf4" among them.
        if name.startswith(_PREFIX):
            packed = self.as_dict(packed=True)
            if "quant_state." + name in packed:
                return packed["quant_state." + name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, index: int | slice) -> Any:
        """The list that stood for a state in bitsandbytes before there was a class."""
        nested = [self.offset, self.state2] if self.nested else None
        return [self.absmax, self.shape, self.dtype, self.blocksize, nested, self.quant_type][index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantState):
            return False
        return (
            (self.shape, self.dtype, self.blocksize, self.quant_type)
            == (other.shape, other.dtype, other.blocksize, other.quant_type)
            and _close(self.absmax, other.absmax)
            and _close(self.code, other.code)
            and _close(self.offset, other.offset)
            and self.state2 == other.state2
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ("quant_type", "blocksize", "dtype", "shape", "nested")
        return f"QuantState({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"

    def to(self, device: Any) -> QuantState:
        """Moves the state's arrays to a device, in place.

        Parameters
        ----------
        device
            A device of the array library.

        Returns
        -------
        QuantState
            The state itself.
        """
        kind = kind_of(self.absmax, "absmax")
        self.absmax = kind.to_device(self.absmax, device)
        if self._code is not None:
            self._code = kind.to_device(self._code, device)
        if self.offset is not None:
            self.offset = kind.to_device(self.offset, device)
        if self.state2 is not None:
            self.state2.to(device)
        return self

    def tensors(self) -> list[Array]:
        """The arrays of the state, themselves; of a code only one that has other values than the standard one."""
        kind = kind_of(self.absmax, "absmax")
        own = not self.standard_code and not np.array_equal(kind.to_numpy(self._code), self._standard())
        parts = [self.absmax, self._code if own else None, self.offset]
        nested = [] if self.state2 is None else self.state2.tensors()
        return [part for part in parts if part is not None] + nested

    def as_dict(self, packed: bool = False, padded: bool = False) -> dict[str, Any]:
        """The state as bitsandbytes puts it into a state dict.

        Parameters
        ----------
        packed
            Whether everything that is no array goes, as JSON, into one uint8 array under the key
            "quant_state.bitsandbytes__nf4" (or fp4), as checkpoint files need it. States without a quant_type have no
            such form.
        padded
            Whether the JSON ends in blanks, so that it is as long with any offset: for files whose layout is decided
            before their content is known, and for loaders that want tensors of the same shape.

        Returns
        -------
        dict
            Arrays and plain values by name. The arrays are those of the state, not copies, but for nested_quant_map.
        """
        kind = kind_of(self.absmax, "absmax")
        arrays: dict[str, Any] = {"absmax": self.absmax, "quant_map": self.code}
        values: dict[str, Any] = {
            "quant_type": self.quant_type,
            "blocksize": self.blocksize,
            "dtype": None if self.dtype is None else kind.dtype_name(self.dtype),
            "shape": tuple(self.shape) if self.shape is not None else None,
        }
        if self.state2 is not None:
            arrays["nested_absmax"] = self.state2.absmax
            # A copy: writers of safetensors drop all but one of the tensors that share memory.
            arrays["nested_quant_map"] = kind.from_numpy(kind.to_numpy(self.state2.code), self.absmax)
            values["nested_blocksize"] = self.state2.blocksize
            values["nested_dtype"] = kind.dtype_name(self.state2.dtype)
            values["nested_offset"] = float(kind.to_numpy(self.offset))
        if not packed or self.quant_type is None:
            return arrays | values
        text = json.dumps(values)
        if padded and self.state2 is not None:
            text = text.ljust(len(json.dumps(values | {"nested_offset": LONGEST_OFFSET})))
        array = kind.from_numpy(np.frombuffer(text.encode(), np.uint8), self.absmax)
        return arrays | {_PACKED_KEY + self.quant_type: array}

    @classmethod
    def from_dict(cls, qs_dict: dict[str, Any], device: Any = None) -> QuantState:
        """The state that `as_dict` of libbnb or of bitsandbytes, or a checkpoint file, describes.

        Parameters
        ----------
        qs_dict
            Packed or not; keys may carry prefixes that end in a dot. It is not changed.
        device
            Where the arrays go; None leaves them where they are.

        Returns
        -------
        QuantState
            With the arrays of the dict, not copies, unless they had to move.

        Raises
        ------
        InvalidArgument
            Keys are missing or unknown, or a value cannot be one of a state.
        """
        fields = _unpacked(qs_dict)
        unknown = fields.keys() - set(cls.valid_qs_keys)
        if unknown:
            raise InvalidArgument(f"from_dict: {sorted(unknown)} are no keys of a quantization state")
        absmax = _field(fields, "absmax")
        kind = kind_of(absmax, "absmax")

        def place(array: Array) -> Array:
            return array if device is None else kind.to_device(array, device)

        offset = state2 = None
        if "nested_absmax" in fields:
            offset = place(kind.from_numpy(np.array(_number(fields, "nested_offset"), np.float32), absmax))
            state2 = cls(
                absmax=place(fields["nested_absmax"]),
                code=place(_field(fields, "nested_quant_map")),
                blocksize=_length(fields, "nested_blocksize"),
                dtype=_dtype(kind, fields, "nested_dtype"),
            )
        return cls(
            absmax=place(absmax),
            shape=_shape(kind, fields),
            code=place(_field(fields, "quant_map")),
            blocksize=_length(fields, "blocksize"),
            quant_type=_quant_type(fields),
            dtype=_dtype(kind, fields, "dtype"),
            offset=offset,
            state2=state2,
        )


def _close(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    first, second = (kind_of(x, "state").to_numpy(x) for x in (a, b))
    return first.shape == second.shape and bool(np.allclose(first, second, atol=1e-6))


def _unpacked(qs_dict: dict[str, Any]) -> dict[str, Any]:
    """The dict without prefixes, its JSON read."""
    packed = [key for key in qs_dict if _PREFIX in key]
    if len(packed) > 1 or (not packed and not any(key.split(".")[-1] == "quant_type" for key in qs_dict)):
        raise InvalidArgument(
            f"from_dict: there must be one key ending in one of {QuantState.valid_qs_type_keys}, or the fields "
            f"themselves; got {sorted(qs_dict)}"
        )
    fields = {key.split(".")[-1]: value for key, value in qs_dict.items() if key not in packed}
    for key in packed:
        if key.split(".")[-1] not in QuantState.valid_qs_type_keys:
            raise InvalidArgument(f"from_dict: {key} must end in one of {QuantState.valid_qs_type_keys}")
        text = kind_of(qs_dict[key], key).to_numpy(qs_dict[key])
        try:
            values = json.loads(text.tobytes())
        except ValueError as error:
            raise InvalidArgument(f"from_dict: {key} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise InvalidArgument(f"from_dict: {key} is not a JSON object")
        fields |= values
    return fields


def _field(fields: dict[str, Any], name: str) -> Any:
    if fields.get(name) is None:
        raise InvalidArgument(f"from_dict: {name} is missing")
    return fields[name]


def _length(fields: dict[str, Any], name: str) -> int:
    value = _field(fields, name)
    if type(value) is not int or not 1 <= value < 2**63:
        raise InvalidArgument(f"from_dict: {name} is {value!r}, must be a positive int")
    return value


def _number(fields: dict[str, Any], name: str) -> float:
    value = _field(fields, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(f"from_dict: {name} is {value!r}, must be a number")
    return float(value)


def _quant_type(fields: dict[str, Any]) -> str | None:
    value = fields.get("quant_type")
    if value is not None and value not in QuantState.valid_quant_types:
        raise InvalidArgument(f"from_dict: quant_type is {value!r}, must be one of {QuantState.valid_quant_types}")
    return value


def _dtype(kind: ArrayKind, fields: dict[str, Any], name: str) -> Any:
    value = _field(fields, name)
    if value not in ("float32", "float16", "bfloat16"):
        raise InvalidArgument(f"from_dict: {name} is {value!r}, must be float32, float16 or bfloat16")
    return kind.dtype(value, name)


def _shape(kind: ArrayKind, fields: dict[str, Any]) -> Any:
    value = fields.get("shape")
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(type(n) is int and n >= 0 for n in value):  # type: ignore[misc]
        raise InvalidArgument(f"from_dict: shape is {value!r}, must be a list of lengths")
    if prod(value) >= 2**63:  # type: ignore[arg-type]
        raise InvalidArgument(f"from_dict: shape is {value!r}, which has more elements than 64 bits can count")
    return kind.shape(tuple(value))  # type: ignore[arg-type]
