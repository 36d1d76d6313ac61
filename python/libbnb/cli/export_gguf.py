# SPDX-License-Identifier: MIT
"""libbnb export-gguf."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from libbnb.cli.console import Bar, count, out, print_json, reporting, size, use_threads

if TYPE_CHECKING:
    from libbnb.integrations.gguf import GGUFSummary


def export_gguf(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A model folder, or a safetensors file.")],
    destination: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The file to write [SRC-TYPE.gguf, here].")
    ] = None,
    quant_type: Annotated[
        str,
        typer.Option(
            "--type", "-t", help="f32, f16, bf16, q8_0, q4_0, iq4_nl, mxfp4, tq1_0 or tq2_0, for linear layers."
        ),
    ] = "q8_0",
    embedding_type: Annotated[
        str | None, typer.Option(help="For token embedding and output head [TYPE if a plain float, else q8_0].")
    ] = None,
    fallback: Annotated[
        str | None, typer.Option(help="For weights whose rows do not fit TYPE, such as q8_0 or f16 [an error].")
    ] = None,
    ternarize: Annotated[
        bool, typer.Option("--ternarize", help="tq1_0, tq2_0: round weights that are not ternary to -s, 0, s.")
    ] = False,
    generic: Annotated[bool, typer.Option("--generic", help="Only tensors, whatever the model is.")] = False,
    no_tokenizer: Annotated[bool, typer.Option("--no-tokenizer", help="Leave the tokenizer out.")] = False,
    pre_tokenizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="llama.cpp's name for how the tokenizer cuts text [found out].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with [all].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Write a checkpoint as a GGUF file.

    Models of the Llama, Mistral, Qwen2 and BitNet families become complete files that llama.cpp loads: tensors,
    hyperparameters, tokenizer. Of anything else the file holds the tensors, and a note says so. Quantized checkpoints
    (nf4, fp4, int8, fp8, BitNet) are dequantized on the way, tensor by tensor.

    tq1_0 and tq2_0 are for weights that are ternary; other weights are an error without --ternarize.
    """
    with reporting():
        from libbnb.cli.gguf_package import need_gguf

        need_gguf()
        from libbnb.integrations.gguf import export_gguf as export

        use_threads(threads)
        with Bar(quant_type) as bar:
            summary = export(
                source, destination, quant_type, embedding_type=embedding_type, fallback=fallback,
                ternarize=ternarize, generic=generic, tokenizer=not no_tokenizer, pre_tokenizer=pre_tokenizer,
                force=force, progress=bar,
            )  # fmt: skip
        if as_json:
            print_json(summary.as_dict())
        else:
            show(summary)


def show(summary: GGUFSummary) -> None:
    """The summary for people."""
    types = ", ".join(f"{number} {name}" for name, number in summary.types.items())
    what = f"a complete {summary.architecture} model" if summary.complete else "tensors only"
    out.print(f"{summary.source} -> {summary.destination}", markup=False, soft_wrap=True)
    out.print(f"{what}: {summary.tensors} tensors ({types}), {count(summary.parameters)} parameters", markup=False)
    out.print(f"{size(summary.bytes_before)} -> {size(summary.bytes_after)} in {summary.seconds:.2f} s")
    for reason, names in summary.left_out.items():
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        out.print(f"left out ({reason}): {shown}", markup=False, soft_wrap=True)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
