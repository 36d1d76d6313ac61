# SPDX-License-Identifier: MIT
"""What each format does to each layer, and through it to the model."""

# What PyTorch's classes have is without types in places.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from libbnb.checkpoint.compare import LayerError
from libbnb.nn import QuantizationConfig
from libbnb.quality.layers import Layer, make, weights_only
from libbnb.quality.model import Model, Prediction, Replay, predict, replaced
from libbnb.quality.text import Windows


@dataclass(frozen=True)
class LayerQuality:
    """What a format does to a layer of a model, on a text.

    Attributes
    ----------
    name, module, format : str
        The weight in the checkpoint, the module in the model, and the format as it was given.
    elements, nbytes, dense_nbytes : int
        Elements of the weight, and bytes of it quantized, scales included, and as it is.
    weight_error : float
        Relative error of the weights: root of sum (x - y)^2 / sum x^2.
    output_error : float or None
        The same of the layer's outputs for the activations that it gets in the unchanged model; None if the text never
        reached the layer, or its outputs are all zero.
    output_error_weights_only : float or None
        Of outputs of the quantized weights with activations as they are, for a format that quantizes those, too.
    sensitivity : float
        KL(dense || quantized) of the model's predictions when only this layer is quantized: mean over tokens, in nats.
    loss_increase : float
        By how much the model's loss grows then, in nats per token.
    """

    name: str
    module: str
    format: str
    elements: int
    nbytes: int
    dense_nbytes: int
    weight_error: float
    output_error: float | None
    output_error_weights_only: float | None
    sensitivity: float
    loss_increase: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class _Sums:
    """Of one layer and format, over the windows."""

    signal: float = 0.0
    noise: float = 0.0
    noise_weights_only: float | None = None
    divergence: list[float] = field(default_factory=lambda: list[float]())
    loss_increase: list[float] = field(default_factory=lambda: list[float]())


def measure_layers(
    model: Model,
    layers: dict[tuple[str, str], Layer],
    formats: dict[str, QuantizationConfig],
    windows: Windows,
    errors: dict[tuple[str, str], LayerError],
    dense_nbytes: dict[str, int],
    advance: Callable[[str], None],
) -> list[LayerQuality]:
    """Errors and sensitivities of all layers; one quantized layer at a time is in memory.

    Parameters
    ----------
    model
        The unchanged model; it is changed meanwhile, and as it was afterwards.
    layers
        By name of the weight and label of the format: what is to be measured.
    formats
        By label.
    windows
        The text.
    errors
        What is known of the weights, by the same keys as `layers`.
    dense_nbytes
        Sizes of the weights as they are, by name.
    advance
        Is told the name of each layer that was measured with a format in a window.
    """
    sums = {key: _Sums() for key in layers}
    replay = Replay(model)
    replay.check(model, windows.study[0], [layer.module for layer in layers.values()])
    for window in windows.study:
        with replay.recording(), _output_errors(model, layers, formats, sums):
            dense = predict(model, window, windows.prefix)
        for key, layer in layers.items():
            _sensitivity(model, layer, formats[key[1]], replay, (window, windows.prefix), dense, sums[key])
            advance(layer.name)
    return [
        _quality(layer, label, errors[name, label], dense_nbytes[name], sums[name, label])
        for (name, label), layer in layers.items()
    ]


def _sensitivity(
    model: Model,
    layer: Layer,
    settings: QuantizationConfig,
    replay: Replay,
    text: tuple[torch.Tensor, int],
    dense: Prediction,
    sums: _Sums,
) -> None:
    with replaced(model, {layer.module: make(model, layer, settings)}), replay.before(layer.module):
        changed = predict(model, *text)
    sums.divergence.append(dense.divergence_of(changed))
    sums.loss_increase.append(changed.loss - dense.loss)


@contextmanager
def _output_errors(
    model: Model,
    layers: dict[tuple[str, str], Layer],
    formats: dict[str, QuantizationConfig],
    sums: dict[tuple[str, str], _Sums],
) -> Generator[None]:
    """While the model runs inside, each layer is also tried in all formats on the activations it gets."""

    def trying(layer: Layer) -> Any:
        def try_all(_module: Any, given: Any, output: torch.Tensor) -> None:
            for label, settings in formats.items():
                if (layer.name, label) in sums:
                    _add_errors(sums[layer.name, label], make(model, layer, settings), given[0], output)

        return try_all

    by_module = {layer.module: layer for layer in layers.values()}
    hooks = [model.get_submodule(name).register_forward_hook(trying(layer)) for name, layer in by_module.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add_errors(sums: _Sums, quantized: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    sums.signal += _squares(y)
    sums.noise += _squares(quantized(x).float() - y.float())
    weights = weights_only(quantized)
    if weights is not None:
        bias: Any = quantized.bias
        product = torch.nn.functional.linear(x.float(), weights, None if bias is None else bias.float())
        sums.noise_weights_only = _squares(product - y.float()) + (sums.noise_weights_only or 0.0)


def _squares(values: torch.Tensor) -> float:
    return float(values.float().square().sum(dtype=torch.float64))


def _relative(noise: float | None, signal: float) -> float | None:
    return None if noise is None or not signal else math.sqrt(noise / signal)


def _quality(layer: Layer, label: str, error: LayerError, dense_nbytes: int, sums: _Sums) -> LayerQuality:
    return LayerQuality(
        layer.name,
        layer.module,
        label,
        error.elements,
        error.nbytes,
        dense_nbytes,
        error.relative_error,
        _relative(sums.noise, sums.signal),
        _relative(sums.noise_weights_only, sums.signal),
        math.fsum(sums.divergence) / len(sums.divergence),
        math.fsum(sums.loss_increase) / len(sums.loss_increase),
    )
