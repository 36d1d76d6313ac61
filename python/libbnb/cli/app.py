# SPDX-License-Identifier: MIT
"""The commands, one file each."""

from __future__ import annotations

from typing import Annotated

import typer

import libbnb
from libbnb.cli.bench import bench
from libbnb.cli.compare import compare
from libbnb.cli.dequantize import dequantize
from libbnb.cli.doctor import doctor
from libbnb.cli.export_gguf import export_gguf
from libbnb.cli.inspect import inspect
from libbnb.cli.quantize import quantize

app = typer.Typer(
    name="libbnb",
    help="k-bit quantization: shrink checkpoints, look into them, measure what it costs.",
    epilog="Exit status: 0 done, 1 an input or the machine is at fault, 2 the command line is, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"libbnb {libbnb.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """k-bit quantization: shrink checkpoints, look into them, measure what it costs."""


for _command in (quantize, dequantize, inspect, compare, doctor, bench):
    app.command()(_command)
app.command("export-gguf")(export_gguf)
