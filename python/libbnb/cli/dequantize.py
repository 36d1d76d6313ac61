# SPDX-License-Identifier: MIT
"""libbnb dequantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libbnb.checkpoint import dequantize_checkpoint
from libbnb.cli.console import Bar, parse_bytes, print_json, reporting
from libbnb.cli.quantize import show
from libbnb.cli.together import together


def dequantize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A checkpoint that libbnb or bitsandbytes quantized.")],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="A new folder; or a new file, if its name ends in .safetensors.")
    ],
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16 for all floats [each weight as it was, the others untouched]."),
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest size of one weight file.")] = "5GB",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with [all].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Turn a quantized checkpoint back into a plain one.

    What quantization lost does not come back: the weights are those that the quantized model computes with.

    Under torchrun the processes share the work; the result is the same.
    """
    max_shard_bytes = parse_bytes(max_shard_size)
    interrupted = f"interrupted; add --resume to go on ({destination}.partial holds what is done)"
    with reporting(interrupted), together(threads) as team:
        with Bar("dequantize", shown=team is None or team.leads) as bar:
            summary = dequantize_checkpoint(source, destination, dtype, max_shard_bytes, resume, bar, team)
        if team is not None and not team.leads:
            return
        if as_json:
            print_json(summary.as_dict())
        else:
            show(summary)
