# SPDX-License-Identifier: MIT
"""Adam (arXiv:1412.6980) with states in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim._arguments import refuse, refuse_bits, warn_ignored
from libbnb.optim.optimizer import Optimizer2State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class Adam(Optimizer2State):
    """Adam (arXiv:1412.6980) with states in `optim_bits` bits.

    Weight decay is decoupled: Adam with a `weight_decay` is AdamW. `amsgrad` is ignored, with a warning; the variants
    in 8 bits refuse it, and any `optim_bits` but the default. The other parameters are those of `Optimizer2State`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("Adam", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, optim_bits, args, min_8bit_size, is_paged=is_paged, **options
        )


class Adam8bit(Optimizer2State):
    """Adam with states in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        refuse("Adam8bit", amsgrad=amsgrad)
        refuse_bits("Adam8bit", optim_bits, 32)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, 8, args, min_8bit_size, is_paged=is_paged, **options
        )


class Adam32bit(Optimizer2State):
    """Adam with states in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("Adam32bit", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, 32, args, min_8bit_size, is_paged=is_paged, **options
        )


class PagedAdam(Optimizer2State):
    """Adam with states in `optim_bits` bits that the system pages."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("PagedAdam", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, optim_bits, args, min_8bit_size, is_paged=True, **options
        )


class PagedAdam8bit(Optimizer2State):
    """Adam with states in 8 bits that the system pages."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        refuse("PagedAdam8bit", amsgrad=amsgrad)
        refuse_bits("PagedAdam8bit", optim_bits, 32)
        super().__init__("adam", params, lr, betas, eps, weight_decay, 8, args, min_8bit_size, is_paged=True, **options)


class PagedAdam32bit(Optimizer2State):
    """Adam with states in fp32 that the system pages."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("PagedAdam32bit", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, 32, args, min_8bit_size, is_paged=True, **options
        )
