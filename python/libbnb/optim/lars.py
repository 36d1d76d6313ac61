# SPDX-License-Identifier: MIT
"""LARS (arXiv:1708.03888) with its state in 32 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional import gradient_norm
from libbnb.optim._arguments import need_momentum, warn_ignored
from libbnb.optim.optimizer import Optimizer1State

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from libbnb.optim.optimizer import Options


class LARS(Optimizer1State):
    """LARS (arXiv:1708.03888): momentum whose updates have at most `max_unorm` times the norm of their parameter.

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
        max_unorm: float = 0.02,
        **options: Unpack[Options],
    ) -> None:
        need_momentum("LARS", momentum)
        warn_ignored("LARS", dampening=dampening, nesterov=nesterov)
        super().__init__(
            "lars",
            params,
            lr,
            (momentum, dampening),
            0.0,
            weight_decay,
            optim_bits,
            args,
            min_8bit_size,
            max_unorm,
            **options,
        )


class LARS8bit(Optimizer1State):
    """LARS with its state in 8 bits."""

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
        max_unorm: float = 0.02,
        **options: Unpack[Options],
    ) -> None:
        need_momentum("LARS8bit", momentum)
        warn_ignored("LARS8bit", dampening=dampening, nesterov=nesterov)
        super().__init__(
            "lars", params, lr, (momentum, dampening), 0.0, weight_decay, 8, args, min_8bit_size, max_unorm, **options
        )


class LARS32bit(Optimizer1State):
    """LARS with its state in fp32."""

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
        max_unorm: float = 0.02,
        **options: Unpack[Options],
    ) -> None:
        need_momentum("LARS32bit", momentum)
        warn_ignored("LARS32bit", dampening=dampening, nesterov=nesterov)
        super().__init__(
            "lars", params, lr, (momentum, dampening), 0.0, weight_decay, 32, args, min_8bit_size, max_unorm, **options
        )


class PytorchLARS(torch.optim.Optimizer):
    """LARS written with operations of PyTorch, states in the dtype of the parameter.

    Parameters
    ----------
    params
        Parameters or parameter groups.
    lr, momentum, dampening, weight_decay, nesterov
        As those of torch.optim.SGD.
    max_unorm
        Above 0: updates are scaled down to a norm of max_unorm times the norm of their parameter, which must be
        float32.

    Raises
    ------
    InvalidArgument
        A hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        max_unorm: float = 0.02,
    ) -> None:
        if lr < 0.0:
            raise InvalidArgument(f"Invalid learning rate: {lr}")
        if momentum < 0.0:
            raise InvalidArgument(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise InvalidArgument(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise InvalidArgument("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "max_unorm": max_unorm,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of every parameter that has a gradient; returns what the closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(group, p)
        return loss

    def _update(self, group: dict[str, Any], p: torch.Tensor) -> None:
        assert p.grad is not None
        update = p.grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else p.grad
        momentum = group["momentum"]
        if momentum:
            buffer = self.state[p].get("momentum_buffer")
            if buffer is None:
                buffer = self.state[p]["momentum_buffer"] = update.clone()
            else:
                buffer.mul_(momentum).add_(update, alpha=1 - group["dampening"])
            update = update.add(buffer, alpha=momentum) if group["nesterov"] else buffer
        scale = 1.0
        if group["max_unorm"] > 0.0:
            if p.dtype != torch.float32:
                raise InvalidArgument(f"PytorchLARS: a parameter has dtype {p.dtype}, must be float32 with max_unorm")
            limit = group["max_unorm"] * float(gradient_norm(p.detach()))
            norm = float(gradient_norm(update))
            scale = limit / norm if norm > limit else 1.0
        p.add_(update, alpha=-group["lr"] * scale)
