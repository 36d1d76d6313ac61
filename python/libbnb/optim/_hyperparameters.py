# SPDX-License-Identifier: MIT
"""What the constructors of all optimizers check."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from libbnb import _lists
from libbnb._errors import InvalidArgument
from libbnb.optim._batch import TWO_STATES


def check_name(optimizer_name: str, two_states: bool) -> None:
    """Raises unless it is an optimizer with one or with two averages."""
    _lists.optimizer_number(optimizer_name)
    if (optimizer_name in TWO_STATES) is not two_states:
        base = "Optimizer1State" if two_states else "Optimizer2State"
        raise InvalidArgument(f"optimizer_name is {optimizer_name!r}, which belongs to {base}")


def check_hyperparameters(lr: Any, betas: Any, eps: Any, weight_decay: Any) -> None:
    """Raises for what is out of range, in the words of torch."""
    if not 0.0 <= lr:
        raise InvalidArgument(f"Invalid learning rate: {lr}")
    if not 0.0 <= eps:
        raise InvalidArgument(f"Invalid epsilon value: {eps}")
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise InvalidArgument(f"Invalid beta parameter at index {i}: {beta}")
    if not 0.0 <= weight_decay:
        raise InvalidArgument(f"Invalid weight_decay value: {weight_decay}")


def arguments(args: Any, **values: Any) -> Any:
    """`args` if the caller has them, else the values as attributes."""
    return SimpleNamespace(**values) if args is None else args
