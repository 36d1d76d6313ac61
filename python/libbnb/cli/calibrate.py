# SPDX-License-Identifier: MIT
"""libbnb compare --calibrate: a whole model on a text."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from libbnb.checkpoint import CheckpointError
from libbnb.checkpoint.formats import parse_format
from libbnb.cli.console import Steps, out, parse_bytes, print_json, size, table

if TYPE_CHECKING:
    from libbnb.quality import Budget, Study


def calibrate(
    source: Path,
    text: Path,
    formats: list[str],
    include: list[str] | None,
    exclude: list[str] | None,
    windows: tuple[int, int],
    budget: str | None,
    html: Path | None,
    worst: int | None,
    as_json: bool,
) -> None:
    """Carry out a study and show it."""
    for name in ("torch", "transformers"):
        if find_spec(name) is None:
            raise CheckpointError(f"--calibrate needs {name}: pip install 'libbnb[torch]' transformers")
    from libbnb.quality import study_model
    from libbnb.quality.report import check_report, write_report

    if html is not None:
        check_report(html)
    with Steps() as bar:
        parsed = {name: parse_format(name) for name in formats}
        limit = None if budget is None else parse_budget(budget)
        study = study_model(source, text, parsed, limit, include, exclude, *windows, bar)
    if html is not None:
        write_report(study, html)
    if as_json:
        print_json(study.as_dict())
    else:
        show(study, worst)


def parse_budget(text: str) -> Budget:
    """ "4.5bits" for each weight, or "1.2GB" for the whole model."""
    from libbnb.quality import Budget

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*bits?\s*", text.lower())
    if match:
        if float(match[1]) <= 0:
            raise typer.BadParameter(f"{text!r} is no budget: 4.5bits, 1.2GB")
        return Budget(bits=float(match[1]))
    return Budget(nbytes=parse_bytes(text))


def show(study: Study, worst: int | None) -> None:
    """The study for people."""
    for format in study.curves:
        ranking = study.ranking(format)
        rows = table(f"{format}, most sensitive first", "KL", "loss", "weights", "outputs", "weights only", "size")
        for one in ranking[:worst]:
            rows.add_row(
                one.module, f"{one.sensitivity:.2e}", f"{one.loss_increase:+.2e}", _percent(one.weight_error),
                _percent(one.output_error), _percent(one.output_error_weights_only), size(one.nbytes),
            )  # fmt: skip
        out.print(rows)
        out.print()
    rows = table("model", "layers quantized", "size", "bits/weight", "loss", "perplexity", "KL")
    for model in study.models:
        rows.add_row(
            model.label, f"{model.quantized} of {model.layers}", size(model.nbytes), f"{model.bits_per_weight:.2f}",
            f"{model.loss:.4f}", f"{model.perplexity:.4g}", f"{model.divergence:.2e}",
        )  # fmt: skip
    out.print(rows)
    _show_suggestions(study)


def _show_suggestions(study: Study) -> None:
    from libbnb.quality.report import command, config

    best = study.best
    for one in study.suggestions:
        out.print()
        title = f"suggested, {one.format}{' (the best)' if one is best and len(study.suggestions) > 1 else ''}"
        told = (
            f"layers that stay: {len(one.keep)}; KL {one.predicted:.2e} predicted, {one.model.divergence:.2e} measured"
        )
        out.print(f"{title}: {told}", markup=False, soft_wrap=True)
        lines = [command(one), config(one)] if command(one) else _by_format(one.formats, one.keep)
        for line in lines:
            out.print(f"  {line}", markup=False, soft_wrap=True)


def _by_format(formats: dict[str, str], keep: list[str]) -> list[str]:
    lines = [
        f"{format}: {', '.join(name.removesuffix('.weight') for name, of in formats.items() if of == format)}"
        for format in dict.fromkeys(formats.values())
    ]
    return [*lines, f"as they are: {', '.join(keep) or 'none'}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}%"
