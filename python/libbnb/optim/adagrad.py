# SPDX-License-Identifier: MIT
"""Adagrad with its state in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim._arguments import refuse, refuse_bits
from libbnb.optim.optimizer import Optimizer1State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class Adagrad(Optimizer1State):
    """Adagrad with its state in `optim_bits` bits.

    `lr_decay` and `initial_accumulator_value` must be 0. Weight decay is added to the gradient. The other parameters
    are those of `Optimizer1State`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        refuse("Adagrad", lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value)
        super().__init__(
            "adagrad", params, lr, (0.0, 0.0), eps, weight_decay, optim_bits, args, min_8bit_size, **options
        )


class Adagrad8bit(Optimizer1State):
    """Adagrad with its state in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        optim_bits: int = 8,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        refuse("Adagrad8bit", lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value)
        refuse_bits("Adagrad8bit", optim_bits, 8)
        super().__init__("adagrad", params, lr, (0.0, 0.0), eps, weight_decay, 8, args, min_8bit_size, **options)


class Adagrad32bit(Optimizer1State):
    """Adagrad with its state in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        refuse("Adagrad32bit", lr_decay=lr_decay, initial_accumulator_value=initial_accumulator_value)
        super().__init__("adagrad", params, lr, (0.0, 0.0), eps, weight_decay, 32, args, min_8bit_size, **options)
