# SPDX-License-Identifier: MIT
"""The schedules of AdEMAMix (arXiv:2409.03137, section 3)."""

from __future__ import annotations

import math


def scheduled_alpha(alpha: float, step: int, t_alpha: int | None) -> float:
    """Weight of AdEMAMix's slow average: rises linearly to `alpha` over `t_alpha` steps (arXiv:2409.03137, section
    3)."""
    return alpha if t_alpha is None else min(step * alpha / t_alpha, alpha)


def scheduled_beta3(beta1: float, beta3: float, step: int, t_beta3: int | None) -> float:
    """Decay of AdEMAMix's slow average: rises from beta1 to beta3, its half-life linearly (arXiv:2409.03137, section
    3)."""
    if t_beta3 is None or beta3 <= 0.0:
        return beta3
    done = step / t_beta3
    log3 = math.log(beta3)
    if beta1 == 0.0:  # the limit of the formula below
        return min(math.exp(log3 / done), beta3)
    log1 = math.log(beta1)
    return min(math.exp(log1 * log3 / ((1.0 - done) * log3 + done * log1)), beta3)
