# SPDX-License-Identifier: MIT
"""LAMB (arXiv:1904.00962) with states in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim._arguments import refuse, refuse_max_unorm, warn_ignored
from libbnb.optim.optimizer import Optimizer2State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class LAMB(Optimizer2State):
    """LAMB (arXiv:1904.00962): Adam whose updates have at most `max_unorm` times the norm of their parameter.

    Biases are always corrected and weight decay is always decoupled: `bias_correction` and `adam_w_mode` are ignored,
    with a warning where they are False, and so is `amsgrad`. The variant in 8 bits refuses `amsgrad` and any
    `max_unorm` but 1. The other parameters are those of `Optimizer2State`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("LAMB", amsgrad=amsgrad)
        warn_ignored("LAMB", bias_correction=not bias_correction, adam_w_mode=not adam_w_mode)
        super().__init__(
            "lamb", params, lr, betas, eps, weight_decay, optim_bits, args, min_8bit_size, max_unorm, **options
        )


class LAMB8bit(Optimizer2State):
    """LAMB with states in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        refuse("LAMB8bit", amsgrad=amsgrad)
        refuse_max_unorm("LAMB8bit", max_unorm)
        warn_ignored("LAMB8bit", bias_correction=not bias_correction, adam_w_mode=not adam_w_mode)
        super().__init__("lamb", params, lr, betas, eps, weight_decay, 8, args, min_8bit_size, max_unorm, **options)


class LAMB32bit(Optimizer2State):
    """LAMB with states in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        args: Any = None,
        min_8bit_size: int = 4096,
        max_unorm: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("LAMB32bit", amsgrad=amsgrad)
        warn_ignored("LAMB32bit", bias_correction=not bias_correction, adam_w_mode=not adam_w_mode)
        super().__init__("lamb", params, lr, betas, eps, weight_decay, 32, args, min_8bit_size, max_unorm, **options)
