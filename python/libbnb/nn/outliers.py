# SPDX-License-Identifier: MIT
"""Columns that matter more than others: how they are found, and a layer that keeps their weights as floats."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any, TypeVar

import torch

from libbnb.functional import int8_vectorwise_quant, linear_int8

Layer = TypeVar("Layer", bound="OutlierAwareLinear")

_LARGE_ACTIVATION = 6.0  # arXiv:2208.07339, section 3.2
_FIRST_LAYER_ZSCORE = 3.0
_BUFFERS = ("weight_int8", "weight_scales", "outlier_indices", "outlier_weights")


def find_outlier_dims(
    weight: torch.Tensor, reduction_dim: int = 0, zscore: float = 4.0, topk: int | None = None
) -> torch.Tensor:
    """The positions along one dimension of a matrix where its standard deviation stands out.

    Parameters
    ----------
    weight
        A matrix.
    reduction_dim
        The dimension over which the deviation is taken; positions are along the other one.
    zscore
        How many standard deviations of the deviations a position must lie above their mean.
    topk
        If given, so many positions of the largest deviations instead.

    Returns
    -------
    torch.Tensor
        int64.
    """
    deviation = weight.float().std(reduction_dim)
    if topk is not None:
        return torch.topk(deviation, topk).indices
    score = (deviation - deviation.mean()) / deviation.std()
    return torch.where(score > zscore)[0]


class OutlierTracer:
    """Finds the outlier columns of the inputs of all linear layers of a model, while it runs once.

    Those of the first layer are the columns of its input with a large deviation or with an element above 6; those of
    other layers, the columns of their weights with a large deviation. ``initialize(model)`` begins; the next forward
    pass fills it.
    """

    _instance: OutlierTracer | None = None

    def __init__(self) -> None:
        raise RuntimeError("OutlierTracer: call get_instance()")

    @classmethod
    def get_instance(cls) -> OutlierTracer:
        """The only instance."""
        if cls._instance is None:
            cls._instance = cls.__new__(cls)
            cls._instance._forget()
        return cls._instance

    def _forget(self) -> None:
        self.initialized = False
        self.hvalue2outlier_idx: dict[int, torch.Tensor] = {}
        self.hooks: list[Any] = []
        self._is_first = True

    def initialize(self, model: torch.nn.Module) -> None:
        """Watches the linear layers of a model, and forgets what was known of others."""
        for hook in self.hooks:
            hook.remove()
        self._forget()
        self.initialized = True
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                self.hooks.append(module.register_forward_pre_hook(self._watch))

    def is_initialized(self) -> bool:
        """Whether a model is, or was, watched."""
        return self.initialized

    def get_hvalue(self, weight: torch.Tensor) -> int:
        """What a weight is known by: the address of its memory."""
        return weight.data.data_ptr()

    def get_outliers(self, weight: torch.Tensor) -> torch.Tensor | None:
        """The outlier columns of the inputs that are multiplied by a weight, None if they are not known."""
        return self.hvalue2outlier_idx.get(self.get_hvalue(weight))

    def _watch(self, module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        key = self.get_hvalue(module.weight)
        if key in self.hvalue2outlier_idx:  # the second pass: all layers were seen
            for hook in self.hooks:
                hook.remove()
            self.hooks = []
            return
        found = find_outlier_dims(module.weight)
        if self._is_first:
            self._is_first = False
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1])
            large = torch.where((x.abs() > _LARGE_ACTIVATION).any(0))[0]
            found = torch.cat([find_outlier_dims(x, 0, _FIRST_LAYER_ZSCORE), large]).unique()
        self.hvalue2outlier_idx[key] = found


class OutlierAwareLinear(torch.nn.Linear):
    """``y = x @ W^T + bias`` in int8, but for fixed columns of W, which stay floats.

    The columns are those that `OutlierTracer` knows for the weight, if it does; else those with an element above
    `threshold` times the mean magnitude of W. They are chosen and the others quantized at the first call; from then on
    the float weight is gone, but for those columns.

    Parameters
    ----------
    input_features, output_features
        Lengths of x and y along the last axis.
    bias
        Whether there is one.
    device
        Where the weights are made.
    threshold
        What makes a column an outlier.

    Notes
    -----
    In a subclass, `quantize_weight` decides what becomes of the weight, and `forward_with_outliers` how it is used.
    """

    weight: torch.nn.Parameter | None  # type: ignore[assignment]
    weight_int8: torch.Tensor
    weight_scales: torch.Tensor
    outlier_indices: torch.Tensor
    outlier_weights: torch.Tensor

    def __init__(
        self,
        input_features: int,
        output_features: int,
        bias: bool = True,
        device: Any = None,
        threshold: float = 6.0,
    ) -> None:
        super().__init__(input_features, output_features, bias, device)
        self.threshold = threshold
        self.outlier_dim: torch.Tensor | None = None
        self.is_quantized = False

    @classmethod
    def from_linear(cls: type[Layer], linear: torch.nn.Linear, threshold: float = 6.0) -> Layer:
        """A quantized layer with the weights of another one, on its device.

        Parameters
        ----------
        linear
            A layer with float weights. It is not changed; the bias is shared.
        threshold
            What makes a column an outlier.
        """
        made = cls(linear.in_features, linear.out_features, False, "meta", threshold)
        made.weight = torch.nn.Parameter(linear.weight.detach(), requires_grad=False)
        made.bias = linear.bias
        made.train(linear.training)
        made._make_ready()
        return made

    def find_outliers(self, w: torch.Tensor) -> torch.Tensor:
        """The columns that stay floats."""
        known = OutlierTracer.get_instance().get_outliers(w)
        if known is not None:
            return known
        magnitude = w.detach().abs().float()
        return torch.where(magnitude.amax(0) > self.threshold * magnitude.mean())[0]

    def quantize_weight(self, w: torch.Tensor, outlier_idx: torch.Tensor) -> None:
        """Keeps the outlier columns of a weight, and the others in int8."""
        w = w.detach()
        codes, scales, _ = int8_vectorwise_quant(w.index_fill(1, outlier_idx, 0))
        for name, tensor in zip(_BUFFERS, (codes, scales, outlier_idx, w[:, outlier_idx]), strict=True):
            self.register_buffer(name, tensor)

    def forward_with_outliers(self, x: torch.Tensor, outlier_idx: torch.Tensor) -> torch.Tensor:
        """The product: outlier columns as floats, the others in int8."""
        if not outlier_idx.numel():
            return linear_int8(x, self.weight_int8, self.weight_scales.float(), bias=self.bias)
        rest = linear_int8(
            x.index_fill(-1, outlier_idx, 0), self.weight_int8, self.weight_scales.float(), bias=self.bias
        )
        return rest + torch.nn.functional.linear(x[..., outlier_idx], self.outlier_weights.to(x.dtype))

    def _make_ready(self) -> None:
        weight: Any = self.weight
        self.outlier_dim = self.find_outliers(weight)
        self.quantize_weight(weight, self.outlier_dim)
        self.is_quantized = True
        self.weight = None

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        if prefix + "weight_int8" in state_dict and not self.is_quantized:
            weight: Any = self.weight
            for name in _BUFFERS:  # of the sizes that are coming: how many outliers there are is up to the weight
                if prefix + name in state_dict:
                    self.register_buffer(name, torch.empty_like(state_dict[prefix + name], device=weight.device))
            self.outlier_dim = self.outlier_indices
            self.is_quantized = True
            self.weight = None
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.is_quantized:
            self._make_ready()
        return self.forward_with_outliers(x, self.outlier_indices)
