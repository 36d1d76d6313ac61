# SPDX-License-Identifier: MIT
"""BitNetConfig: how layers of BitNet b1.58 (arXiv:2402.17764) quantize."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from libbnb._errors import InvalidArgument


@dataclass(frozen=True)
class BitNetConfig:
    """How a `BitLinear` quantizes its weights and its activations.

    Attributes
    ----------
    group_size
        Weights of a row that share a scale, a divisor of the row's length. None means one scale for the whole weight,
        as in the paper.
    activation_bits
        2 to 8: activations become whole numbers of -(2^(bits-1) - 1) to 2^(bits-1) - 1.
    per_token
        Whether each row of activations has a scale of its own, or all of a call share one.
    use_ste
        Whether gradients pass through rounding as if it were not there (the straight-through estimator,
        arXiv:1308.3432). If not, rounding has the derivative that it has, zero: neither the weights nor what comes
        before the layer learns.
    rms_norm
        Whether activations are divided by their root mean square (arXiv:1910.07467, without a gain) before they are
        quantized.
    eps
        What is added to the mean square.

    Raises
    ------
    InvalidArgument, TypeError
        A setting has a value that it cannot have.
    """

    group_size: int | None = None
    activation_bits: int = 8
    per_token: bool = True
    use_ste: bool = True
    rms_norm: bool = True
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("per_token", "use_ste", "rms_norm"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}, must be a bool")
        if self.group_size is not None:
            _whole(self.group_size, "group_size")
            if self.group_size < 1:
                raise InvalidArgument(f"group_size is {self.group_size}, must be 1 or more, or None")
        _whole(self.activation_bits, "activation_bits")
        if not 2 <= self.activation_bits <= 8:
            raise InvalidArgument(f"activation_bits is {self.activation_bits}, must be 2 to 8")
        if not 0.0 <= float(self.eps) < float("inf"):
            raise InvalidArgument(f"eps is {self.eps}, must be finite and not negative")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> BitNetConfig:
        """The config that `to_dict` made a dict of.

        Raises
        ------
        InvalidArgument
            A key is no setting, or has a value that it cannot have.
        """
        unknown = config_dict.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise InvalidArgument(f"{sorted(unknown)} are no settings of a BitNetConfig")
        return cls(**config_dict)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return asdict(self)

    @property
    def largest_activation(self) -> int:
        """What the largest magnitude of a row becomes."""
        return 2 ** (self.activation_bits - 1) - 1


def _whole(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, must be a whole number")
