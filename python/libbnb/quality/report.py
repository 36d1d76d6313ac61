# SPDX-License-Identifier: MIT
"""A study as one HTML file that needs nothing else: no scripts, no styles or pictures from elsewhere."""

from __future__ import annotations

import base64
import json
import os
from html import escape
from importlib.util import find_spec
from pathlib import Path

import libbnb
from libbnb.checkpoint.errors import CheckpointError, os_errors_name
from libbnb.quality import plots
from libbnb.quality.measure import LayerQuality
from libbnb.quality.study import Study, Suggestion

_OPEN_ROWS = 25  # of the ranking; the others are folded away

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 1100px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
p.about { color: #555; margin-top: .3em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #bbb; }
tr.best { background: #fff7d6; } td.keep { font-weight: 600; }
pre { background: #f6f6f6; padding: .8em; overflow-x: auto; white-space: pre-wrap; border-radius: 4px; }
img { max-width: 100%; height: auto; } dt { font-weight: 600; } dd { margin: 0 0 .6em 1.2em; }
"""

_MEANINGS = {
    "sensitivity": "KL(dense || quantized) of the predictions for the next token when only this layer is quantized, "
    "mean over tokens, in nats. It is never negative, and 0 where nothing changed.",
    "loss increase": "By how much the mean negative log likelihood of the text grows then. It has more chance in it "
    "than the KL, and may be negative.",
    "error of weights, of outputs": "The root of sum (x - y)^2 / sum x^2: of the weights themselves, and of what the "
    "layer gives for the activations that it gets in the dense model.",
    "bits per weight": "Of the layers that can be quantized, scales included; the size is that of the whole model.",
    "suggested": "Layers stay as they are where that avoids most sensitivity per byte, until the budget is used up. "
    "The sum of sensitivities is a prediction; the table of models has what was measured.",
}


def check_report(path: Path) -> None:
    """Find out before the work whether a report can be written.

    Raises
    ------
    CheckpointError
        matplotlib is missing, or there is no such folder.
    """
    if find_spec("matplotlib") is None:
        raise CheckpointError("--html needs matplotlib: pip install matplotlib")
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.absolute().parent}"
        raise CheckpointError(f"{path}: {what}")


def write_report(study: Study, path: Path) -> None:
    """Write the report; the file appears when it is complete.

    Raises
    ------
    CheckpointError
        The file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with os_errors_name(path):
        partial.write_text(as_html(study), encoding="utf-8")
        os.replace(partial, path)


def as_html(study: Study) -> str:
    """The report as text."""
    text = study.text
    checked = _windows(text["check_windows"], "other ") if text["held_out"] else "the same one"
    about = (
        f"{study.parameters:,} parameters, {_size(study.nbytes)}. Measured by libbnb {libbnb.__version__} on "
        f"{text['name']}: {_windows(text['windows'])} of {text['window_tokens']} tokens for layers, {checked} for "
        f"models."
    )
    parts = [
        f"<h1>{escape(study.model)}</h1><p class='about'>{escape(about)}</p>",
        "<h2>Models</h2>", _models(study), _picture(plots.size_against_quality(study), "size against quality"),
        *(_suggestion(one) for one in study.suggestions),
        "<h2>Sensitivity of each layer</h2>", _picture(plots.sensitivities(study), "sensitivity of each layer"),
        *_heat_maps(study),
        "<h2>Error of each layer's outputs</h2>", _picture(plots.output_errors(study), "error of outputs"),
        *(_ranking(study, format) for format in study.curves),
        "<h2>What the numbers mean</h2><dl>",
        *(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in _MEANINGS.items()),
        "</dl>",
    ]  # fmt: skip
    head = f"<meta charset='utf-8'><title>{escape(study.model)}: quantization</title><style>{_STYLE}</style>"
    return f"<!doctype html>\n<html lang='en'><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def _windows(count: int, which: str = "") -> str:
    return f"{count} {which}window{'' if count == 1 else 's'}"


def _models(study: Study) -> str:
    best = study.best
    rows = ["<tr><th>model</th><th>layers quantized</th><th>size</th><th>bits per weight</th><th>loss</th>"
            "<th>perplexity</th><th>KL to dense</th></tr>"]  # fmt: skip
    for model in study.models:
        style = " class='best'" if best is not None and model is best.model else ""
        rows.append(
            f"<tr{style}><td>{escape(model.label)}</td><td>{model.quantized} of {model.layers}</td>"
            f"<td>{_size(model.nbytes)}</td><td>{model.bits_per_weight:.2f}</td><td>{model.loss:.4f}</td>"
            f"<td>{model.perplexity:.4g}</td><td>{model.divergence:.3g}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _suggestion(one: Suggestion) -> str:
    said = f"<h2>Suggested: {escape(one.format)}</h2><p>{len(one.keep)} of {one.model.layers} layers stay as they are."
    said += f" Predicted KL {one.predicted:.3g}, measured {one.model.divergence:.3g}.</p>"
    lines = command(one)
    if lines:
        said += f"<pre>{escape(lines)}</pre><pre>{escape(config(one))}</pre>"
    else:
        by_format = {
            format: [name for name, of in one.formats.items() if of == format] for format in one.formats.values()
        }
        lists = escape(json.dumps(by_format | {"as they are": one.keep}, indent=1))
        said += f"<details><summary>the format of each layer</summary><pre>{lists}</pre></details>"
    return said


def command(suggestion: Suggestion) -> str:
    """The `libbnb quantize` that does it, or "" where one command cannot: layers in several formats."""
    formats = set(suggestion.formats.values())
    if len(formats) != 1 or suggestion.format not in formats:
        return ""
    name, _, rest = suggestion.format.removesuffix("+dq").partition(":")
    words = ["libbnb quantize SRC DST --format", name]
    words += ["--blocksize", rest] if rest else []
    words += ["--double-quant"] if suggestion.format.endswith("+dq") else []
    return " ".join([*words, *(f"--exclude {name}" for name in suggestion.keep)])


def config(suggestion: Suggestion) -> str:
    """The same for `QuantizationConfig` and `BitsAndBytesConfig`."""
    return f"llm_int8_skip_modules={json.dumps(suggestion.skip_modules)}".replace("null", "None")


def _heat_maps(study: Study) -> list[str]:
    found: list[str] = []
    for format in study.curves:
        picture = plots.heat_map(study, format)
        if picture is not None:
            found.append(f"<h2>By block and kind: {escape(format)}</h2>{_picture(picture, f'heat map of {format}')}")
    return found


def _ranking(study: Study, format: str) -> str:
    ranking = study.ranking(format)
    quantizes = any(one.output_error_weights_only is not None for one in ranking)
    kept = {one.format: set(one.keep) for one in study.suggestions}.get(format, set[str]())
    head = "<tr><th>layer</th><th>sensitivity</th><th>loss increase</th><th>error of weights</th>"
    head += "<th>of outputs</th>" + ("<th>weights only</th>" if quantizes else "") + "<th>size</th></tr>"
    rows = [_row(one, quantizes, one.name.rpartition(".")[0] in kept) for one in ranking]
    table = f"<table>{head}{''.join(rows[:_OPEN_ROWS])}</table>"
    if len(rows) > _OPEN_ROWS:
        rest = f"<table>{head}{''.join(rows[_OPEN_ROWS:])}</table>"
        table += f"<details><summary>{len(rows) - _OPEN_ROWS} more</summary>{rest}</details>"
    return f"<h2>Ranking: {escape(format)}</h2>{table}"


def _row(one: LayerQuality, quantizes: bool, stays: bool) -> str:
    cells = [
        f"{one.sensitivity:.3g}",
        f"{one.loss_increase:+.3g}",
        _percent(one.weight_error),
        _percent(one.output_error),
    ]
    cells += [_percent(one.output_error_weights_only)] if quantizes else []
    name = f"<td{' class=keep' if stays else ''}>{escape(one.module)}{' (stays)' if stays else ''}</td>"
    return f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in [*cells, _size(one.nbytes)])}</tr>"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}%"


def _size(nbytes: float) -> str:
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if nbytes >= pair[0]), (1e3, "kB"))
    return f"{nbytes / unit:.{1 if nbytes >= 10 * unit else 2}f} {name}"


def _picture(svg: str, description: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return f"<img alt='{escape(description)}' src='data:image/svg+xml;base64,{data}'>"
