# SPDX-License-Identifier: MIT
"""A LoRA layer (arXiv:2106.09685) on a quantized one, which it can be merged into and taken out of again."""

# PEFT's classes are without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import check_adapters_to_merge


class Dense(torch.nn.Module):
    """A quantized layer as PEFT's code for plain ones reads it: with float weights. Products are still those of codes.

    Parameters
    ----------
    layer
        The quantized layer.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        vars(self)["layer"] = layer  # not as a module of this one
        self.floats: torch.nn.Parameter | None = None

    @property
    def weight(self) -> torch.nn.Parameter:
        """The weights as fp32, dequantized when they are asked for: they stay here, and may be written to."""
        if self.floats is None:
            weights = vars(self)["layer"].dequantized_weight().detach()
            self.floats = torch.nn.Parameter(weights.to(torch.float32, copy=True), requires_grad=False)
        return self.floats

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """That of the quantized layer."""
        return vars(self)["layer"](input)


class LoraLinear(Linear):
    """PEFT's LoRA layer, for `Linear4bit`, `Linear8bitLt` and `LinearFP8`.

    Notes
    -----
    Merging adds all merged adapters to the dequantized weights and quantizes the sum, once, in the format of the layer.
    The codes from before are kept, so that taking adapters out again gives the very bits back. What `merge_and_unload`
    leaves of a layer has the merged codes alone.
    """

    _before: dict[str, Any] | None = None  # weight and bias of the quantized layer, while adapters are merged into it

    @contextmanager
    def _as_plain(self) -> Generator[Dense]:
        """PEFT's code finds a layer with float weights in the place of the quantized one."""
        layer = self.base_layer
        dense = Dense(self.get_base_layer())
        self.base_layer = dense
        try:
            yield dense
        finally:
            self.base_layer = layer

    def _is_plain(self) -> bool:
        layer: Any = self.base_layer
        return isinstance(layer, Dense)

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Adds an adapter. Those that begin as a part of the weights (PiSSA, OLoRA) leave the rest, quantized again."""
        layer: Any = self.get_base_layer()
        with self._as_plain() as dense:
            super().update_layer(adapter_name, *args, **kwargs)
        if dense.floats is not None and not torch.equal(dense.weight, Dense(layer).weight):
            layer.requantize(dense.weight.detach())

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """That of PEFT. DoRA reads the weights, too, for their norms."""
        reads = not self.merged and any(self.use_dora.get(name) for name in self.active_adapters)
        if not reads:
            return super().forward(x, *args, **kwargs)
        with self._as_plain():
            return super().forward(x, *args, **kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Merges adapters into the quantized weights.

        Parameters
        ----------
        safe_merge
            Whether merged weights are looked at first.
        adapter_names
            Those to merge; None means the active ones.

        Raises
        ------
        ValueError
            A merged weight is NaN or infinite, and `safe_merge`: nothing has changed.
        """
        if self._is_plain():  # PEFT's code for DoRA merges, and unmerges, while it merges
            super().merge(safe_merge, adapter_names)
            return
        names = [name for name in check_adapters_to_merge(self, adapter_names) or [] if name in self.lora_A]
        if not names:
            return
        layer: Any = self.get_base_layer()
        before = {"weight": layer.weight, "bias": layer.bias}
        merged = list(self.merged_adapters)
        if merged:
            self.unmerge()  # what is rounded is the sum of all of them
        original = {"weight": layer.weight, "bias": layer.bias}
        try:
            with self._as_plain() as dense:
                if layer.bias is not None:
                    dense.bias = torch.nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
                super().merge(safe_merge, merged + names)
        except Exception:
            self.merged_adapters[:] = merged
            _put(layer, before)
            self._before = original if merged else None
            raise
        layer.requantize(dense.weight.detach())
        layer.bias = dense.bias
        self._before = original

    def unmerge(self) -> None:
        """Gives the layer back the weights that it had before adapters were merged."""
        if self._is_plain():
            super().unmerge()
            return
        if not self.merged or self._before is None:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        _put(self.get_base_layer(), self._before)
        self._before = None
        self.merged_adapters.clear()


class LoraBitLinear(LoraLinear):
    """PEFT's LoRA layer for a `BitLinear`: what `BitNetAdapter` is without PEFT. It packs the layer."""

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Adds an adapter.

        Raises
        ------
        ValueError
            It begins as a part of the weights (PiSSA, OLoRA): the rest would not be ternary.
        """
        layer: Any = self.get_base_layer()
        layer.pack()
        with self._as_plain() as dense:
            Linear.update_layer(self, adapter_name, *args, **kwargs)
        if dense.floats is not None and not torch.equal(dense.weight, Dense(layer).weight):
            raise ValueError(f"adapter {adapter_name!r} takes a part out of the weights: the rest would not be ternary")

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses: the sum of ternary weights and an adapter is not ternary. `unload` leaves the adapter away.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("an adapter cannot be merged into ternary weights: their sum is not ternary")


def _put(layer: Any, parts: dict[str, Any]) -> None:
    """Makes parameters from before those of a layer again, wherever it is now."""
    device = layer.weight.device
    layer.weight = parts["weight"].to(device)
    if parts["bias"] is not None:
        layer.bias = torch.nn.Parameter(parts["bias"].detach().to(layer.bias), parts["bias"].requires_grad)
    if hasattr(layer, "quant_state"):
        layer.quant_state = layer.weight.quant_state
    if hasattr(layer, "state"):
        layer.state.reset_grads()
