# SPDX-License-Identifier: MIT
"""libbnb compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from libbnb.checkpoint import CheckpointError, LayerError, compare_formats
from libbnb.checkpoint.formats import parse_format
from libbnb.cli.calibrate import calibrate
from libbnb.cli.console import Bar, out, print_json, reporting, size, table, use_threads

_FORMATS = ["nf4", "fp4", "int8", "fp8"]
_NAMED_LAYERS = 64  # a chart of more layers has numbers instead of names


def compare(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A safetensors file, or a model folder.")],
    format: Annotated[
        list[str],
        typer.Option(
            "--format",
            "-f",
            help="A format, if wanted with a block size and +dq for double quantization: nf4, nf4:128, nf4:64+dq, "
            "int8. May be repeated.",
        ),
    ] = _FORMATS,
    include: Annotated[list[str] | None, typer.Option(help="As in quantize.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="As in quantize.")] = None,
    worst: Annotated[int | None, typer.Option(min=1, help="Only the N layers with the largest error.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a chart: .png, .svg or .pdf.")] = None,
    text: Annotated[
        Path | None, typer.Option("--calibrate", metavar="TEXT", help="A text file: measure the whole model on it.")
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="With --calibrate: windows of the text.")] = 8,
    window: Annotated[int, typer.Option(min=2, help="With --calibrate: tokens of a window.")] = 256,
    budget: Annotated[
        str | None,
        typer.Option(help="With --calibrate: suggest layers to leave alone for 4.5bits a weight, or a model of 1.2GB."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="With --calibrate: write a report.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with [all].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Measure how much each format would change each weight, and what it would save. Nothing is quantized on disk.

    Relative error: the root of sum (x - y)^2 / sum x^2. SQNR: the same as a signal to noise ratio, in decibels; 6 dB
    more is half the error. Sizes count the scales.

    With --calibrate, the model (a causal language model with its tokenizer) is run on the text: error of each layer's
    outputs, how much the predictions change when only this layer is quantized, and whole models.
    """
    with reporting():
        use_threads(threads)
        if text is not None:
            if plot is not None:
                raise typer.BadParameter("--plot is for weights alone; with --calibrate, --html has the charts")
            sizes = (windows, window)
            calibrate(source, text, format, include, exclude, sizes, budget, html, worst, as_json)
            return
        if budget is not None or html is not None:
            raise typer.BadParameter(f"{'--budget' if budget is not None else '--html'} needs --calibrate")
        if plot is not None:
            check_plot(plot)
        with Bar("compare") as bar:
            results = compare_formats(source, {name: parse_format(name) for name in format}, include, exclude, bar)
        totals = [_total(name, [result for result in results if result.format == name]) for name in format]
        if plot is not None:
            draw(results, format, plot)
        if as_json:
            print_json({"layers": [result.as_dict() for result in results], "totals": totals})
        else:
            _print_layers(results, format, worst)
            out.print()
            _print_totals(totals)


def _total(name: str, results: list[LayerError]) -> dict[str, Any]:
    """All layers of a format: the mean error weighted by elements, and the worst layer."""
    elements, nbytes = sum(result.elements for result in results), sum(result.nbytes for result in results)
    mean_square = sum(result.elements * result.relative_error**2 for result in results) / max(1, elements)
    worst = max(results, key=lambda result: result.relative_error)
    return {
        "format": name,
        "layers": len(results),
        "elements": elements,
        "nbytes": nbytes,
        "bits_per_weight": 8 * nbytes / max(1, elements),
        "relative_error": math.sqrt(mean_square),
        "sqnr_db": -10 * math.log10(mean_square) if mean_square > 0 else None,
        "worst_layer": worst.name,
        "worst_relative_error": worst.relative_error,
    }


def _print_layers(results: list[LayerError], formats: list[str], worst: int | None) -> None:
    by_layer: dict[str, dict[str, LayerError]] = {}
    for result in results:
        by_layer.setdefault(result.name, {})[result.format] = result
    names = list(by_layer)
    if worst is not None:
        names.sort(key=lambda name: -max(result.relative_error for result in by_layer[name].values()))
        names = names[:worst]
    if len(formats) == 1:
        rows = table("layer", "relative error", "SQNR dB", "max error", "size")
        for name in names:
            one = by_layer[name][formats[0]]
            rows.add_row(name, _percent(one), _decibels(one.sqnr_db), f"{one.max_error:.3g}", size(one.nbytes))
    else:
        rows = table("relative error of layer", *formats)
        for name in names:
            rows.add_row(name, *(_percent(by_layer[name].get(format)) for format in formats))
    out.print(rows)


def _print_totals(totals: list[dict[str, Any]]) -> None:
    rows = table("format", "relative error", "SQNR dB", "worst layer", "bits/weight", "size")
    for total in totals:
        rows.add_row(
            total["format"], f"{100 * total['relative_error']:.2f}%", _decibels(total["sqnr_db"]),
            f"{100 * total['worst_relative_error']:.2f}%", f"{total['bits_per_weight']:.2f}", size(total["nbytes"]),
        )  # fmt: skip
    out.print(rows)


def _percent(result: LayerError | None) -> str:
    return "-" if result is None else f"{100 * result.relative_error:.2f}%"


def _decibels(value: float | None) -> str:
    return "exact" if value is None or math.isinf(value) else f"{value:.1f}"


# ---------------------------------------------------------------------------------------------------------------------
# The chart


def check_plot(path: Path) -> None:
    """Find out before the work whether the chart can be drawn.

    Raises
    ------
    CheckpointError
        matplotlib is missing, or cannot write such a file.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError:
        raise CheckpointError("--plot needs matplotlib: pip install matplotlib") from None
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise CheckpointError(f"{path}: the name must end in one of .{', .'.join(known)}")
    if not path.absolute().parent.is_dir():
        raise CheckpointError(f"{path}: there is no folder {path.absolute().parent}")


def draw(results: list[LayerError], formats: list[str], path: Path) -> None:
    """SQNR of every layer, a line per format."""
    import matplotlib.figure

    position = {name: index for index, name in enumerate(dict.fromkeys(result.name for result in results))}
    named = len(position) <= _NAMED_LAYERS
    figure: Any = matplotlib.figure.Figure(figsize=(10, 7 if named else 5), layout="constrained")
    axes: Any = figure.add_subplot()
    for format in formats:
        mine = [result for result in results if result.format == format and math.isfinite(result.sqnr_db)]
        bits = 8 * sum(result.nbytes for result in mine) / max(1, sum(result.elements for result in mine))
        axes.plot(
            [position[result.name] for result in mine], [result.sqnr_db for result in mine],
            marker=".", linewidth=1, label=f"{format} ({bits:.2f} bits)",
        )  # fmt: skip
    if named:
        axes.set_xticks(
            range(len(position)), [name.removesuffix(".weight") for name in position], rotation=90, fontsize=6
        )
    else:
        axes.set_xlabel("layer, in the order of the file")
    axes.set_ylabel("SQNR in dB (higher is better)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(formats), frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
