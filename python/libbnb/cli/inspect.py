# SPDX-License-Identifier: MIT
"""libbnb inspect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from libbnb.checkpoint import Entry, describe_checkpoint
from libbnb.cli import inspect_gguf
from libbnb.cli.console import out, print_json, print_totals, reporting, size, table
from libbnb.cli.gguf_package import is_gguf, need_gguf


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A safetensors or GGUF file, or a model folder.")],
    summary: Annotated[bool, typer.Option("--summary", help="Only the totals.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what is in a checkpoint: tensors, formats, shapes, sizes.

    A quantized weight and its scales are one line; its size and its bits per weight count the scales. Of a GGUF file
    the metadata are shown, too, and how many weights of ternary tensors are zero.
    """
    with reporting():
        if is_gguf(path):
            need_gguf()
            _inspect_gguf(path, summary, as_json)
            return
        entries = describe_checkpoint(path)
        totals = _totals(entries)
        if as_json:
            tensors = [asdict(entry) | {"bits_per_weight": entry.bits_per_weight} for entry in entries]
            print_json({"tensors": tensors, "totals": totals})
            return
        if not summary:
            _print_tensors(entries)
            out.print()
        print_totals(totals)


def _inspect_gguf(path: Path, summary: bool, as_json: bool) -> None:
    description = inspect_gguf.describe(path, with_sparsity=as_json or not summary)
    if as_json:
        print_json(description)
        return
    if not summary:
        inspect_gguf.print_metadata(description)
        inspect_gguf.print_tensors(description)
    print_totals(description["totals"])


def _totals(entries: list[Entry]) -> list[dict[str, Any]]:
    """One row per format, the largest first, then one for all."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_format(entry), []).append(entry)
    rows = [_total(name, group) for name, group in groups.items()]
    rows.sort(key=lambda row: -row["nbytes"])
    return [*rows, _total("all", entries)]


def _total(name: str, entries: list[Entry]) -> dict[str, Any]:
    elements, nbytes = sum(entry.elements for entry in entries), sum(entry.nbytes for entry in entries)
    bits = 8 * nbytes / elements if elements else 0.0
    return {"format": name, "tensors": len(entries), "elements": elements, "nbytes": nbytes, "bits_per_weight": bits}


def _format(entry: Entry) -> str:
    return f"{entry.format} ({entry.detail})" if entry.detail else entry.format


def _print_tensors(entries: list[Entry]) -> None:
    rows = table("tensor", "format", "shape", "bits/weight", "size")
    for entry in entries:
        shape = " x ".join(map(str, entry.shape)) or "scalar"
        rows.add_row(entry.name, _format(entry), shape, f"{entry.bits_per_weight:.2f}", size(entry.nbytes))
    out.print(rows)
