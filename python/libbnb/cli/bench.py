# SPDX-License-Identifier: MIT
"""libbnb bench."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

import libbnb
from libbnb.cli.bench_device import Device, device_of
from libbnb.cli.bench_operations import ROW, Data, operations
from libbnb.cli.console import err, out, print_json, reporting, table, use_threads

_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Result:
    """One measurement.

    Attributes
    ----------
    operation, dtype : str
        What ran, on which floats.
    milliseconds : float
        Median time of one call.
    elements_per_second, bytes_per_second : float
        Floats processed, of a product its weights; bytes that had to be read and written.
    fraction_of_copy : float
        Bytes per second, as a fraction of what copying memory reaches in the same run.
    flops_per_second : float or None
        Multiplications and additions of a product.
    """

    operation: str
    dtype: str
    milliseconds: float
    elements_per_second: float
    bytes_per_second: float
    fraction_of_copy: float
    flops_per_second: float | None = None


def bench(
    device: Annotated[str, typer.Option(help="cpu, cuda, hip, mps or metal; also cuda:1.")] = "cpu",
    elements: Annotated[int, typer.Option(min=ROW, help="Floats per call.")] = 16_777_216,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "bfloat16",
    seconds: Annotated[float, typer.Option(min=0.01, help="Time per operation.")] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with, on the CPU [all].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Measure the operations on this machine, beside plain copying of memory.

    Medians of repeated calls; buffers take turns; on a GPU, the clock is looked at when its work is done. Half a
    minute, meant for a first look: benchmarks/ in the source compares with other libraries.
    """
    if dtype not in _DTYPES:
        raise typer.BadParameter(f"{dtype!r} must be float32, float16 or bfloat16")
    with reporting():
        use_threads(threads)
        place = device_of(device)
        data = Data.make(place, max(1, elements // ROW), dtype)
        copying = place.median(place.copies(data.back, data.floats), seconds)
        copy_rate = 2 * data.size * data.itemsize / copying
        results: list[Result] = []
        missing: dict[str, str] = {}
        for name, make in operations().items():
            if err.is_terminal:
                err.print(f"{name} ...", end="\r")
            try:
                operation = make(data)
                one = place.median(operation.calls, seconds)
            except (libbnb.Error, RuntimeError, TypeError) as error:  # PyTorch's are the other ones
                if place.kind == "cpu" and not isinstance(error, libbnb.Unsupported):
                    raise
                missing[name] = str(error)  # what else there is should be measured
                continue
            rate = operation.nbytes / one
            flops = operation.flops / one if operation.flops else None
            results.append(Result(name, dtype, one * 1e3, data.size / one, rate, rate / copy_rate, flops))
        if as_json:
            print_json(
                {
                    "info": {key: libbnb.info()[key] for key in ("version", "library", "isa", "num_threads")},
                    "device": {"kind": place.kind, "name": place.name, "system": platform.platform()},
                    "elements": data.size,
                    "copy_bytes_per_second": copy_rate,
                    "results": [asdict(result) for result in results],
                    "unsupported": missing,
                }
            )
        else:
            _print(place, dtype, data.size, copy_rate, results, missing)


def _print(
    device: Device, dtype: str, elements: int, copy_rate: float, results: list[Result], missing: dict[str, str]
) -> None:
    info = libbnb.info()
    where = f"{info['isa']}, {info['num_threads']} threads" if device.kind == "cpu" else device.name
    out.print(f"{elements:,} {dtype} per call, {where}", markup=False)
    out.print(f"copying memory: {copy_rate / 1e9:.1f} GB/s (read + written)")
    out.print()
    rows = table("operation", "ms", "G elements/s", "GB/s", "of copy", "GFLOP/s")
    for result in results:
        flops = result.flops_per_second
        rows.add_row(
            result.operation, f"{result.milliseconds:.2f}", f"{result.elements_per_second / 1e9:.2f}",
            f"{result.bytes_per_second / 1e9:.1f}", f"{100 * result.fraction_of_copy:.0f}%",
            "" if flops is None else f"{flops / 1e9:,.0f}",
        )  # fmt: skip
    out.print(rows)
    for name, message in missing.items():
        out.print(f"{name}: not there: {message}", markup=False, soft_wrap=True)
