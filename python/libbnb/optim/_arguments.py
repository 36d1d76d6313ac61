# SPDX-License-Identifier: MIT
"""Arguments that optimizers have because bitsandbytes' have them, and what becomes of them."""

from __future__ import annotations

import warnings
from typing import Any

from libbnb._errors import InvalidArgument, Unsupported


def warn_ignored(name: str, **arguments: Any) -> None:
    """Warns of arguments that are set but do nothing."""
    for argument, value in arguments.items():
        if value:
            warnings.warn(f"{name}: {argument} is ignored", UserWarning, stacklevel=3)


def refuse(name: str, **arguments: Any) -> None:
    """Raises InvalidArgument for arguments that are set."""
    for argument, value in arguments.items():
        if value:
            raise InvalidArgument(f"{name} does not support {argument}={value}")


def refuse_bits(name: str, optim_bits: int, only: int) -> None:
    """Raises InvalidArgument for an `optim_bits` that is not the default of a class that always has 8."""
    if optim_bits != only:
        raise InvalidArgument(f"{name} only supports optim_bits={only} (default value for compatibility)")


def refuse_max_unorm(name: str, max_unorm: float) -> None:
    """Raises InvalidArgument for a `max_unorm` that is not the default."""
    if max_unorm != 1.0:
        raise InvalidArgument(f"{name} only supports max_unorm=1.0 (default value for compatibility)")


def need_momentum(name: str, momentum: float) -> None:
    """Raises Unsupported without a momentum."""
    if momentum == 0:
        raise Unsupported(f"{name} without momentum is not supported!")


def check_rmsprop(name: str, alpha: float, centered: bool) -> None:
    """Raises Unsupported for variants of RMSprop that there are none of."""
    if alpha == 0:
        raise Unsupported(f"{name} with alpha==0.0 is not supported!")
    if centered:
        raise Unsupported(f"{name}: centered is not supported!")
