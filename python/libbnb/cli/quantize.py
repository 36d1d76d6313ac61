# SPDX-License-Identifier: MIT
"""libbnb quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libbnb.checkpoint import FORMAT_NAMES, Summary, make_format, quantize_checkpoint
from libbnb.cli.console import Bar, count, out, parse_bytes, print_json, reporting, size
from libbnb.cli.together import together


def quantize(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A safetensors file, or a model folder (sharded or not).")
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="A new folder; or a new file, if its name ends in .safetensors.")
    ],
    format: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMAT_NAMES) + ".")] = "nf4",
    blocksize: Annotated[
        int | None, typer.Option(help="Elements per scale [nf4, fp4: 64; fp8: a row; int8: always a row].")
    ] = None,
    double_quant: Annotated[
        bool, typer.Option("--double-quant/--no-double-quant", help="nf4, fp4: quantize the scales to 8 bits, too.")
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Glob on tensor names; may be repeated. Quantize exactly the float matrices that match."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Glob on tensor names; may be repeated. Never quantize what matches.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest size of one weight file.")] = "5GB",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with [all].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Quantize a checkpoint.

    Without --include, the weights of Linear layers are quantized: two-dimensional float tensors whose names end in
    .weight. Left alone: embeddings, norms, output heads (lm_head, classifier, score, ...), matrices with as many rows
    as the vocabulary, and, in mixtures of experts, experts and routers. This is what transformers does with
    bitsandbytes, and nf4, fp4 and int8 results load there with from_pretrained.

    Memory stays within a few chunks of 16 MB, whatever the size of the model. The result appears under its name only
    when it is complete; until then it is in DST.partial.

    Under torchrun the processes share the work; the result is the same.
    """
    max_shard_bytes = parse_bytes(max_shard_size)
    interrupted = f"interrupted; add --resume to go on ({destination}.partial holds what is done)"
    with reporting(interrupted), together(threads) as team:
        chosen = make_format(format, blocksize, double_quant)
        with Bar(format, shown=team is None or team.leads) as bar:
            summary = quantize_checkpoint(
                source, destination, chosen, include, exclude, max_shard_bytes, resume, bar, team
            )
        if team is not None and not team.leads:
            return
        if as_json:
            print_json(summary.as_dict())
        else:
            show(summary)


def show(summary: Summary) -> None:
    """The summary for people."""
    converted, everything = summary.parameters_converted, summary.parameters
    ratio = summary.bytes_before / max(1, summary.bytes_after)
    change = f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"
    rate = summary.bytes_before / max(summary.seconds, 1e-9) / 1e9
    out.print(f"{summary.source} -> {summary.destination}", markup=False, soft_wrap=True)
    out.print(
        f"{summary.converted} of {summary.tensors} tensors, {count(converted)} of {count(everything)} parameters "
        f"to {summary.format}",
        markup=False,
        soft_wrap=True,
    )
    out.print(
        f"{size(summary.bytes_before)} -> {size(summary.bytes_after)}, {change}, "
        f"in {summary.seconds:.2f} s ({rate:.2f} GB/s)"
        + (f", {summary.processes} processes" if summary.processes > 1 else "")
    )
    if summary.resumed_steps:
        out.print(f"{summary.resumed_steps} tensors were done by the interrupted run")
    for reason, names in summary.kept.items():
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        out.print(f"left alone ({reason}): {shown}", markup=False, soft_wrap=True)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
