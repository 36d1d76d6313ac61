# SPDX-License-Identifier: MIT
"""The pictures of a study, as SVG."""

# matplotlib's methods are typed in parts.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np

from libbnb.quality.measure import LayerQuality
from libbnb.quality.study import Study

_INCH_PER_LAYER = 0.13
_NAMED_LAYERS = 150  # more have numbers instead of names
_SMALLEST = 1e-9  # nats; below is the noise of float32


def size_against_quality(study: Study) -> str:
    """Whole models: KL to the dense one over size, what was predicted on the way, and what was measured."""
    figure, axes = _figure(10.0, 4.8)
    for index, (label, path) in enumerate(study.curves.items()):
        x, y = zip(*((size / 1e6, cost if cost > _SMALLEST else math.nan) for size, cost in path), strict=True)
        axes.step(x, y, where="post", color=f"C{index}", linewidth=1, alpha=0.7, label=f"{label}: sum of sensitivities")
    for model in study.models[1:]:
        index = _color(study, model.label)
        suggested = model.label.endswith("suggested")
        axes.plot(
            model.nbytes / 1e6, max(model.divergence, _SMALLEST), marker="*" if suggested else "o",
            markersize=13 if suggested else 7, color=f"C{index}", markeredgecolor="black", markeredgewidth=0.6,
            linestyle="", label=f"{model.label}: measured",
        )  # fmt: skip
    axes.axvline(study.nbytes / 1e6, color="gray", linestyle=":", linewidth=1, label="dense")
    axes.set_yscale("log")
    axes.set_xlabel("size of the model in MB")
    axes.set_ylabel("KL to the dense model, nats per token")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _svg(figure)


def _color(study: Study, label: str) -> int:
    """A format has the same color everywhere; mixtures come behind them."""
    formats = list(study.curves)
    name = label.removesuffix(", suggested")
    return formats.index(name) if name in formats else len(formats)


def sensitivities(study: Study) -> str:
    """KL of each layer, a line of points per format, in the order of the checkpoint; rings where it should stay."""
    named = _positions(study)
    figure, axes = _figure(_width(len(named)), 4.8)
    best = study.best
    for index, format in enumerate(study.curves):
        mine = [one for one in study.layers if one.format == format]
        axes.plot(
            [named[one.module] for one in mine], [max(one.sensitivity, _SMALLEST) for one in mine],
            marker=".", linestyle="-", linewidth=0.6, color=f"C{index}", label=format,
        )  # fmt: skip
    if best is not None and best.keep:
        kept = [one for one in study.layers if one.name not in best.formats]
        axes.plot(
            [named[one.module] for one in kept], [max(one.sensitivity, _SMALLEST) for one in kept],
            marker="o", linestyle="", markersize=9, markerfacecolor="none", color="black", label="suggested to stay",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylabel("sensitivity: KL, nats per token")
    _name_layers(axes, named)
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    return _svg(figure)


def output_errors(study: Study) -> str:
    """Relative error of each layer's outputs, and dashed what the weights alone do where activations are quantized."""
    named = _positions(study)
    figure, axes = _figure(_width(len(named)), 4.8)
    for index, format in enumerate(study.curves):
        mine = [one for one in study.layers if one.format == format and one.output_error is not None]
        x = [named[one.module] for one in mine]
        axes.plot(x, [one.output_error for one in mine], marker=".", linewidth=0.6, color=f"C{index}", label=format)
        if any(one.output_error_weights_only is not None for one in mine):
            y = [one.output_error_weights_only for one in mine]
            axes.plot(x, y, linestyle="--", linewidth=0.8, color=f"C{index}", label=f"{format}, weights only")
    axes.set_yscale("log")
    axes.set_ylabel("relative error of outputs")
    _name_layers(axes, named)
    figure.legend(loc="outside upper center", ncols=6, frameon=False)
    return _svg(figure)


def heat_map(study: Study, format: str) -> str | None:
    """Sensitivities by block and kind of layer; None for a model that is not made of blocks."""
    cells: dict[tuple[int, str], float] = {}
    for one in study.layers:
        place = _block_and_kind(one)
        if one.format == format and place is not None:
            cells[place] = max(one.sensitivity, _SMALLEST)
    blocks, kinds = sorted({block for block, _ in cells}), list(dict.fromkeys(kind for _, kind in cells))
    if len(blocks) < 2 or len(kinds) < 2:
        return None
    values = [[math.log10(cells[block, kind]) if (block, kind) in cells else math.nan for block in blocks]
              for kind in kinds]  # fmt: skip
    figure, axes = _figure(min(14.0, 3.0 + 0.32 * len(blocks)), 1.4 + 0.3 * len(kinds))
    image = axes.imshow(np.array(values), aspect="auto", cmap="inferno")
    axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks], fontsize=8)
    axes.set_xlabel("block")
    figure.colorbar(image, ax=axes, label="log10 of KL")
    return _svg(figure)


def _block_and_kind(one: LayerQuality) -> tuple[int, str] | None:
    match = re.fullmatch(r"(?:.*?\.)?(\d+)\.(.+)", one.module)
    return (int(match[1]), match[2]) if match else None


def _positions(study: Study) -> dict[str, int]:
    return {name: position for position, name in enumerate(dict.fromkeys(one.module for one in study.layers))}


def _name_layers(axes: Any, named: dict[str, int]) -> None:
    if len(named) <= _NAMED_LAYERS:
        axes.set_xticks(range(len(named)), list(named), rotation=90, fontsize=6)
    else:
        axes.set_xlabel("layer, in the order of the checkpoint")
    axes.set_xlim(-0.7, len(named) - 0.3)
    axes.grid(alpha=0.3)


def _width(layers: int) -> float:
    return min(14.0, max(7.0, 2.0 + _INCH_PER_LAYER * layers))


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib.figure

    figure: Any = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any) -> str:
    """The figure as text, the same for the same figure."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "libbnb"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
