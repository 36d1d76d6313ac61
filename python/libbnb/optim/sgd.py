# SPDX-License-Identifier: MIT
"""SGD with momentum with its state in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim._arguments import need_momentum, warn_ignored
from libbnb.optim.optimizer import Optimizer1State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class SGD(Optimizer1State):
    """SGD with momentum, its state in `optim_bits` bits.

    There must be a `momentum`. `dampening` and `nesterov` are ignored, with a warning. Weight decay is added to the
    gradient. The other parameters are those of `Optimizer1State`.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        need_momentum("SGD", momentum)
        warn_ignored("SGD", dampening=dampening, nesterov=nesterov)
        super().__init__(
            "momentum", params, lr, (momentum, dampening), 0.0, weight_decay, optim_bits, args, min_8bit_size, **options
        )


class SGD8bit(Optimizer1State):
    """SGD with its state in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        need_momentum("SGD8bit", momentum)
        warn_ignored("SGD8bit", dampening=dampening, nesterov=nesterov)
        super().__init__(
            "momentum", params, lr, (momentum, dampening), 0.0, weight_decay, 8, args, min_8bit_size, **options
        )


class SGD32bit(Optimizer1State):
    """SGD with its state in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        need_momentum("SGD32bit", momentum)
        warn_ignored("SGD32bit", dampening=dampening, nesterov=nesterov)
        super().__init__(
            "momentum", params, lr, (momentum, dampening), 0.0, weight_decay, 32, args, min_8bit_size, **options
        )
