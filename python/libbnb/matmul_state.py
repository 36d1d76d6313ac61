# SPDX-License-Identifier: MIT
"""MatmulLtState: what LLM.int8() products keep from call to call, with the fields of bitsandbytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_REMOVED = frozenset({"CxB", "CxBt", "formatB", "_tile_indices"})


@dataclass(eq=False)
class MatmulLtState:
    """State of the products of one layer.

    Attributes
    ----------
    CB, SCB
        The weights in int8, shape (N, K), and the largest magnitude of each of their rows, float32.
    threshold
        Columns of activations with an element of this magnitude or more are not quantized; 0 means all are.
    is_training
        Whether weights may change between calls, and gradients are those of training.
    has_fp16_weights
        Whether there are weights in full precision, of which CB and SCB are a copy.
    idx
        The outlier columns of the last product that kept them for its gradient.

    The others are fields of bitsandbytes that nothing here uses; those that it has removed (`CxB`, `CxBt`, `formatB`)
    are None.
    """

    force_no_igemmlt: bool = False
    CB: Any = None
    SB: Any = None
    SCB: Any = None
    SBt: Any = None
    CBt: Any = None
    subB: Any = None
    outlier_pool: Any = None
    idx: Any = None
    has_accumulated_gradients: bool = False
    threshold: float = 0.0
    is_training: bool = True
    has_fp16_weights: bool = True
    use_pool: bool = False

    def __getattr__(self, name: str) -> None:
        if name in _REMOVED:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def reset_grads(self) -> None:
        """Forgets the quantized weights."""
        for name in ("CB", "SB", "SCB", "SBt", "CBt"):
            setattr(self, name, None)
