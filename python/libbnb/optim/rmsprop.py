# SPDX-License-Identifier: MIT
"""RMSprop with its state in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim._arguments import check_rmsprop, warn_ignored
from libbnb.optim.optimizer import Optimizer1State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class RMSprop(Optimizer1State):
    """RMSprop with its state in `optim_bits` bits.

    `alpha` is the decay of the mean of squares and must not be 0; `centered` must be False. `momentum` is ignored,
    with a warning. Weight decay is added to the gradient. The other parameters are those of `Optimizer1State`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        check_rmsprop("RMSprop", alpha, centered)
        warn_ignored("RMSprop", momentum=momentum)
        super().__init__(
            "rmsprop", params, lr, (alpha, momentum), eps, weight_decay, optim_bits, args, min_8bit_size, **options
        )


class RMSprop8bit(Optimizer1State):
    """RMSprop with its state in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        check_rmsprop("RMSprop8bit", alpha, centered)
        warn_ignored("RMSprop8bit", momentum=momentum)
        super().__init__("rmsprop", params, lr, (alpha, momentum), eps, weight_decay, 8, args, min_8bit_size, **options)


class RMSprop32bit(Optimizer1State):
    """RMSprop with its state in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        check_rmsprop("RMSprop32bit", alpha, centered)
        warn_ignored("RMSprop32bit", momentum=momentum)
        super().__init__(
            "rmsprop", params, lr, (alpha, momentum), eps, weight_decay, 32, args, min_8bit_size, **options
        )
