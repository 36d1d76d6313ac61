# SPDX-License-Identifier: MIT
"""Lion (arXiv:2302.06675) with its state in 32 or 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb.optim.optimizer import Optimizer1State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class Lion(Optimizer1State):
    """Lion (arXiv:2302.06675) with its state in `optim_bits` bits. The parameters are those of `Optimizer1State`."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            "lion", params, lr, betas, 0.0, weight_decay, optim_bits, args, min_8bit_size, is_paged=is_paged, **options
        )


class Lion8bit(Optimizer1State):
    """Lion with its state in 8 bits."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            "lion", params, lr, betas, 0.0, weight_decay, 8, args, min_8bit_size, is_paged=is_paged, **options
        )


class Lion32bit(Optimizer1State):
    """Lion with its state in fp32."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
        is_paged: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            "lion", params, lr, betas, 0.0, weight_decay, 32, args, min_8bit_size, is_paged=is_paged, **options
        )


class PagedLion(Optimizer1State):
    """Lion with its state in `optim_bits` bits, paged by the system."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0,
        optim_bits: int = 32,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            "lion", params, lr, betas, 0.0, weight_decay, optim_bits, args, min_8bit_size, is_paged=True, **options
        )


class PagedLion8bit(Optimizer1State):
    """Lion with its state in 8 bits, paged by the system."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        super().__init__("lion", params, lr, betas, 0.0, weight_decay, 8, args, min_8bit_size, is_paged=True, **options)


class PagedLion32bit(Optimizer1State):
    """Lion with its state in fp32, paged by the system."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0,
        args: Any = None,
        min_8bit_size: int = 4096,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            "lion", params, lr, betas, 0.0, weight_decay, 32, args, min_8bit_size, is_paged=True, **options
        )
