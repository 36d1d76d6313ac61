# SPDX-License-Identifier: MIT
"""The whole study: measure layers, suggest what to leave alone for a budget, measure the models that come of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from libbnb.checkpoint.compare import compare_formats
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats import Format
from libbnb.checkpoint.quantize import decide
from libbnb.checkpoint.select import module_of, skip_modules
from libbnb.checkpoint.source import Source, open_source
from libbnb.nn import QuantizationConfig
from libbnb.quality.budget import Allocation, Budget, Option, allocate
from libbnb.quality.layers import Layer, find_layers, make, settings_of
from libbnb.quality.measure import LayerQuality, measure_layers
from libbnb.quality.model import Model, load_model, predict, replaced
from libbnb.quality.text import Windows, read_windows

DENSE = "dense"  # the label of what is not quantized
MIXED = "mixed"


class Progress(Protocol):
    """Is told what happens."""

    def start(self, what: str, steps: int) -> None:
        """A part of the work begins that has so many steps."""
        ...

    def advance(self, name: str) -> None:
        """One more step is done; it was about `name`."""
        ...


class _Silent:
    def start(self, what: str, steps: int) -> None: ...

    def advance(self, name: str) -> None: ...


@dataclass(frozen=True)
class ModelQuality:
    """A whole model, measured.

    Attributes
    ----------
    label : str
        "dense", a format, or a format with "suggested".
    quantized, layers : int
        How many of the layers are quantized.
    nbytes : int
        Of all tensors of the checkpoint that it would be.
    bits_per_weight : float
        Of the layers, scales included.
    loss, perplexity : float
        Mean negative log likelihood of a token in nats, and e to it.
    divergence : float
        KL(dense || this), mean over tokens, in nats.
    """

    label: str
    quantized: int
    layers: int
    nbytes: int
    bits_per_weight: float
    loss: float
    perplexity: float
    divergence: float


@dataclass(frozen=True)
class Suggestion:
    """What to leave alone.

    Attributes
    ----------
    format : str
        The one format, or "mixed": each layer its own.
    formats : dict
        The format of each layer that is quantized, by the name of its weight.
    keep : list of str
        Layers that stay as they are, most sensitive first: `libbnb quantize --exclude` takes each.
    skip_modules : list of str or None
        `llm_int8_skip_modules` of a QuantizationConfig that says the same; None where the default does, and where
        layers have several formats.
    predicted : float
        The sum of the sensitivities of the quantized layers.
    model : ModelQuality
        The result, measured.
    """

    format: str
    formats: dict[str, str]
    keep: list[str]
    skip_modules: list[str] | None
    predicted: float
    model: ModelQuality


@dataclass(frozen=True)
class Study:
    """Everything that was found out.

    Attributes
    ----------
    model : str
        Name of the model's folder.
    parameters, nbytes : int
        Of the checkpoint as it is.
    text : dict
        What was read: its name, tokens, windows for each purpose, and whether those for whole models are others.
    layers : list of LayerQuality
        By weight, then by format.
    models : list of ModelQuality
        The dense one, each format for all layers, then the suggestions.
    suggestions : list of Suggestion
        For the budget; none without one.
    curves : dict
        For each format, sizes in bytes and sums of sensitivities on the way from all layers quantized to none.
    budget : Budget or None
        What was asked for.
    """

    model: str
    parameters: int
    nbytes: int
    text: dict[str, Any]
    layers: list[LayerQuality]
    models: list[ModelQuality]
    suggestions: list[Suggestion]
    curves: dict[str, list[tuple[int, float]]]
    budget: Budget | None

    @property
    def best(self) -> Suggestion | None:
        """The suggestion whose model differs least from the dense one."""
        return min(self.suggestions, key=lambda one: one.model.divergence, default=None)

    def ranking(self, format: str) -> list[LayerQuality]:
        """Layers in a format, most sensitive first."""
        return sorted((one for one in self.layers if one.format == format), key=lambda one: -one.sensitivity)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = {
            name: value for name, value in vars(self).items() if name not in ("layers", "curves", "budget")
        }
        best = self.best
        return _without_infinity(
            values
            | {
                "layers": [layer.as_dict() for layer in self.layers],
                "models": [asdict(model) for model in self.models],
                "suggestions": [asdict(suggestion) for suggestion in self.suggestions],
                "best": None if best is None else best.format,
                "budget": None if self.budget is None else asdict(self.budget),
            }
        )


def _without_infinity(value: Any) -> Any:
    """For JSON, which has no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: _without_infinity(one) for key, one in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_without_infinity(one) for one in cast(list[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def study_model(
    source: Path | str,
    text: Path | str,
    formats: dict[str, Format],
    budget: Budget | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    windows: int = 8,
    window: int = 256,
    progress: Progress | None = None,
) -> Study:
    """Measure formats on a model and a text, and suggest which layers to leave alone.

    The model is in memory once, in the dtype of its checkpoint, with one quantized layer beside it; for whole models,
    with all layers quantized beside it. There is one run of the model for each layer, format and window.

    Parameters
    ----------
    source
        A folder with a causal language model and its tokenizer.
    text
        A file in UTF-8 that is like what the model will read.
    formats
        Formats by the name that results carry.
    budget
        How large the model may be; without it there are no suggestions.
    include, exclude
        As in `quantize_checkpoint`.
    windows, window
        Windows for sensitivities, as many again for whole models, and tokens of a window.
    progress
        Is told what happens.

    Returns
    -------
    Study
        What was found out.

    Raises
    ------
    CheckpointError
        The model or the text cannot be read, a format has no layers to run with, or the budget is too small.
    """
    settings = {label: settings_of(format) for label, format in formats.items()}
    progress = progress or _Silent()
    opened = open_source(Path(source))
    errors = {(one.name, one.format): one for one in compare_formats(source, formats, include, exclude)}
    model, tokenizer = load_model(Path(source))
    longest = getattr(model.config, "max_position_embeddings", None) or window
    pieces = read_windows(Path(text), tokenizer, windows, min(window, longest - 1))
    found = {layer.name: layer for layer in find_layers(model, list(dict.fromkeys(name for name, _ in errors)))}
    keys = {key: found[key[0]] for key in errors if key[0] in found}
    if not keys:
        raise CheckpointError(f"{source}: none of its weights is that of a linear layer of the model in transformers")
    sizes = {name: opened.tensors[name].nbytes for name in found}
    desk = _Desk(model, opened, pieces, settings, found, {}, progress)
    progress.start("layers", len(keys) * len(pieces.study))
    measured = measure_layers(model, keys, settings, pieces, errors, sizes, progress.advance)
    desk.qualities.update({(one.name, one.format): one for one in measured})
    suggestions = _allocations(desk, formats, budget)  # before anything more is measured: the budget may be too small
    return _finish(desk, formats, budget, suggestions, (include or [], exclude or []), Path(text).name)


@dataclass(frozen=True)
class _Desk:
    """What lies on the table while whole models are measured."""

    model: Model
    source: Source
    windows: Windows
    settings: dict[str, QuantizationConfig]
    layers: dict[str, Layer]
    qualities: dict[tuple[str, str], LayerQuality]
    progress: Progress

    @property
    def elements(self) -> int:
        """Of all layers."""
        return sum(self.source.tensors[name].size for name in self.layers)

    @property
    def other_bytes(self) -> int:
        """Of the tensors that stay as they are in any case."""
        return sum(tensor.nbytes for name, tensor in self.source.tensors.items() if name not in self.layers)

    def options(self, labels: list[str]) -> dict[str, list[Option]]:
        """What each layer may become: it may always stay as it is."""
        return {
            name: [
                Option(DENSE, self.source.tensors[name].nbytes, 0.0),
                *(
                    Option(label, self.qualities[name, label].nbytes, self.qualities[name, label].sensitivity)
                    for label in labels
                    if (name, label) in self.qualities
                ),
            ]
            for name in self.layers
        }

    def measure(self, label: str, formats: dict[str, str]) -> ModelQuality:
        """The model with layers quantized: `formats` by the names of weights."""
        layers = {
            self.layers[name].module: make(self.model, self.layers[name], self.settings[format])
            for name, format in formats.items()
        }
        losses: list[float] = []
        divergences: list[float] = []
        for window in self.windows.check:
            dense = predict(self.model, window, self.windows.prefix)
            with replaced(self.model, layers):
                changed = predict(self.model, window, self.windows.prefix) if layers else dense
            losses.append(changed.loss)
            divergences.append(dense.divergence_of(changed))
            self.progress.advance(label)
        loss = math.fsum(losses) / len(losses)
        nbytes = sum(
            self.qualities[name, formats[name]].nbytes if name in formats else self.source.tensors[name].nbytes
            for name in self.layers
        )
        return ModelQuality(
            label,
            len(formats),
            len(self.layers),
            nbytes + self.other_bytes,
            8 * nbytes / self.elements,
            loss,
            math.exp(min(loss, 700.0)),  # e to more is no float
            math.fsum(divergences) / len(divergences),
        )


def _allocations(desk: _Desk, formats: dict[str, Format], budget: Budget | None) -> dict[str, Allocation]:
    """What fits into the budget, for each format that does, and for all of them together."""
    if budget is None:
        return {}
    limit = budget.limit(desk.elements, desk.other_bytes)
    labels = list(formats)
    found: dict[str, Allocation] = {}
    problems: list[str] = []
    for label in labels:
        try:
            found[label] = allocate(desk.options([label]), limit)
        except CheckpointError as error:
            problems.append(f"{label}: {error}")
    if len(labels) > 1:
        try:
            found[MIXED] = allocate(desk.options(labels), limit)
        except CheckpointError as error:
            problems.append(f"{MIXED}: {error}")
    if not found:
        raise CheckpointError(f"a budget of {budget} is too small. {'; '.join(problems)}")
    # Formats alone may be what is best for each layer, too.
    if any(found[MIXED].labels == one.labels for label, one in found.items() if MIXED in found and label != MIXED):
        del found[MIXED]
    return found


def _finish(
    desk: _Desk,
    formats: dict[str, Format],
    budget: Budget | None,
    allocations: dict[str, Allocation],
    patterns: tuple[list[str], list[str]],
    text: str,
) -> Study:
    desk.progress.start("models", (1 + len(formats) + len(allocations)) * len(desk.windows.check))
    models = [desk.measure(DENSE, {})]
    for label in formats:
        models.append(desk.measure(label, {name: label for name, of in desk.qualities if of == label}))
    suggestions = [_suggestion(desk, label, one, formats, patterns) for label, one in allocations.items()]
    tensors = desk.source.tensors.values()
    return Study(
        desk.source.path.resolve().name,
        sum(tensor.size for tensor in tensors),
        sum(tensor.nbytes for tensor in tensors),
        {
            "name": text,
            "tokens": desk.windows.tokens,
            "windows": len(desk.windows.study),
            "check_windows": len(desk.windows.check),
            "window_tokens": desk.windows.study[0].shape[1] - desk.windows.prefix,
            "held_out": desk.windows.held_out,
        },
        list(desk.qualities.values()),
        [*models, *(suggestion.model for suggestion in suggestions)],
        suggestions,
        {label: _curve(desk, [label]) for label in formats},
        budget,
    )


def _curve(desk: _Desk, labels: list[str]) -> list[tuple[int, float]]:
    path = allocate(desk.options(labels), math.inf).path
    return [(nbytes + desk.other_bytes, cost) for nbytes, cost in path]


def _suggestion(
    desk: _Desk, label: str, allocation: Allocation, formats: dict[str, Format], patterns: tuple[list[str], list[str]]
) -> Suggestion:
    chosen = {name: format for name, format in allocation.labels.items() if format != DENSE}
    if label == MIXED:
        label = " + ".join(format for format in formats if format in Counter(chosen.values())) or DENSE

    def worst(name: str) -> float:
        return max((one.sensitivity for (of, _), one in desk.qualities.items() if of == name), default=0.0)

    keep = [module_of(name) for name in sorted(set(desk.layers) - set(chosen), key=lambda name: -worst(name))]
    skips = None
    if label in formats and chosen:
        include, exclude = patterns
        skips = skip_modules(decide(desk.source, formats[label], include, [*exclude, *keep]))
    model = desk.measure(f"{label}, suggested", chosen)
    return Suggestion(label, chosen, keep, skips, allocation.cost, model)
