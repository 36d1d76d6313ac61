# SPDX-License-Identifier: MIT
"""AdamW (arXiv:1711.05101) with states in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim._arguments import refuse, refuse_bits, warn_ignored
from libbnb.optim.optimizer import Optimizer2State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class AdamW(Optimizer2State):
    """AdamW (arXiv:1711.05101) with states in `optim_bits` bits.

    Weight decay is decoupled: Adam with a `weight_decay` is AdamW. `amsgrad` is ignored, with a warning; the variants
    in 8 bits refuse it, and any `optim_bits` but the default. The other parameters are those of `Optimizer2State`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("AdamW", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, optim_bits, args, min_8bit_size, is_paged=is_paged, **options
        )


class AdamW8bit(Optimizer2State):
    """AdamW with states in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        refuse("AdamW8bit", amsgrad=amsgrad)
        refuse_bits("AdamW8bit", optim_bits, 32)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, 8, args, min_8bit_size, is_paged=is_paged, **options
        )


class AdamW32bit(Optimizer2State):
    """AdamW with states in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("AdamW32bit", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, 32, args, min_8bit_size, is_paged=is_paged, **options
        )


class PagedAdamW(Optimizer2State):
    """AdamW with states in `optim_bits` bits that the system pages."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("PagedAdamW", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, optim_bits, args, min_8bit_size, is_paged=True, **options
        )


class PagedAdamW8bit(Optimizer2State):
    """AdamW with states in 8 bits that the system pages."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        refuse("PagedAdamW8bit", amsgrad=amsgrad)
        refuse_bits("PagedAdamW8bit", optim_bits, 32)
        super().__init__("adam", params, lr, betas, eps, weight_decay, 8, args, min_8bit_size, is_paged=True, **options)


class PagedAdamW32bit(Optimizer2State):
    """AdamW with states in fp32 that the system pages."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        warn_ignored("PagedAdamW32bit", amsgrad=amsgrad)
        super().__init__(
            "adam", params, lr, betas, eps, weight_decay, 32, args, min_8bit_size, is_paged=True, **options
        )
