# SPDX-License-Identifier: MIT
"""libbnb bench."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer

import libbnb
from libbnb.cli.console import err, out, print_json, reporting, table, use_threads

_SETS = 3  # sets of buffers that are used in turn, so that caches do not hold the data
_BLOCK = 64
_ROW = 4096

FloatArray: TypeAlias = Any


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
        Floats processed; bytes that had to be read and written.
    fraction_of_copy : float
        Bytes per second, as a fraction of what copying memory reaches in the same run.
    """

    operation: str
    dtype: str
    milliseconds: float
    elements_per_second: float
    bytes_per_second: float
    fraction_of_copy: float


def bench(
    elements: Annotated[int, typer.Option(min=_ROW, help="Floats per call.")] = 16_777_216,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "bfloat16",
    seconds: Annotated[float, typer.Option(min=0.01, help="Time per operation.")] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads to compute with [all].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Measure the operations on this machine, beside plain copying of memory.

    Medians of repeated calls; outputs are allocated before; buffers take turns. A few seconds, meant for a first look:
    benchmarks/ in the source compares with other libraries.
    """
    with reporting():
        use_threads(threads)
        kind = _dtype(dtype)
        rows = max(1, elements // _ROW)
        rng = np.random.default_rng(0)
        floats = [rng.standard_normal((rows, _ROW), np.float32).astype(kind) for _ in range(_SETS)]
        copy_rate = _copy_rate(floats, seconds)
        results: list[Result] = []
        for name, (make, nbytes) in _operations(floats).items():
            if err.is_terminal:
                err.print(f"{name} ...", end="\r")
            time_of_one = _median([make(number) for number in range(_SETS)], seconds)
            rate = nbytes / time_of_one
            results.append(Result(name, dtype, time_of_one * 1e3, floats[0].size / time_of_one, rate, rate / copy_rate))
        if as_json:
            print_json(
                {
                    "info": {key: libbnb.info()[key] for key in ("version", "isa", "num_threads")},
                    "elements": floats[0].size,
                    "copy_bytes_per_second": copy_rate,
                    "results": [asdict(result) for result in results],
                }
            )
        else:
            _print(results, copy_rate, floats[0].size)


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if name not in ("float32", "float16"):
        raise typer.BadParameter(f"{name!r} must be float32, float16 or bfloat16")
    return np.dtype(name)


def _operations(floats: list[FloatArray]) -> dict[str, tuple[Callable[[int], Callable[[], object]], int]]:
    """Name: (what makes the call for a set of buffers, bytes it has to move)."""
    size, itemsize = floats[0].size, floats[0].itemsize
    blocks = size // _BLOCK
    back = [np.empty_like(array) for array in floats]
    packed = [np.empty((size // 2, 1), np.uint8) for _ in floats]
    codes = [np.empty(array.shape, np.uint8) for array in floats]
    absmax = [np.empty(blocks, np.float32) for _ in floats]
    row_absmax = [np.empty(len(array), np.float32) for array in floats]
    state = libbnb.quantize_4bit(floats[0], quant_type="nf4")[1]
    state8 = libbnb.quantize_blockwise(floats[0], blocksize=256)[1]
    int8 = [libbnb.int8_vectorwise_quant(array) for array in floats]
    bytes_4bit, bytes_8bit = size // 2 + 4 * blocks, size + 4 * size // 256
    bytes_rows = size + 4 * len(floats[0])
    return {
        "quantize nf4": (
            lambda i: lambda: libbnb.quantize_4bit(floats[i], absmax[i], packed[i], _BLOCK, quant_type="nf4"),
            size * itemsize + bytes_4bit,
        ),
        "dequantize nf4": (
            lambda i: lambda: libbnb.dequantize_4bit(packed[i], state, out=back[i]),
            size * itemsize + bytes_4bit,
        ),
        "quantize fp4": (
            lambda i: lambda: libbnb.quantize_4bit(floats[i], absmax[i], packed[i], _BLOCK, quant_type="fp4"),
            size * itemsize + bytes_4bit,
        ),
        "quantize blockwise 8-bit": (
            lambda i: lambda: libbnb.quantize_blockwise(floats[i], out=codes[i], blocksize=256),
            size * itemsize + bytes_8bit,
        ),
        "dequantize blockwise 8-bit": (
            lambda i: lambda: libbnb.dequantize_blockwise(codes[i], state8, out=back[i]),
            size * itemsize + bytes_8bit,
        ),
        "quantize int8": (lambda i: lambda: libbnb.int8_vectorwise_quant(floats[i]), size * itemsize + bytes_rows),
        "dequantize int8": (
            lambda i: lambda: libbnb.int8_vectorwise_dequant(int8[i][0], int8[i][1], back[i]),
            size * itemsize + bytes_rows,
        ),
        "quantize fp8": (
            lambda i: lambda: libbnb.quantize_fp8(floats[i], row_absmax[i], codes[i]), size * itemsize + bytes_rows
        ),
        "dequantize fp8": (
            lambda i: lambda: libbnb.dequantize_fp8(codes[i], row_absmax[i], back[i]), size * itemsize + bytes_rows
        ),
    }  # fmt: skip


def _median(calls: list[Callable[[], object]], seconds: float) -> float:
    """Median seconds of one call; the calls take turns, after each was called once."""
    for call in calls:
        call()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < len(calls) or time.perf_counter() < stop:
        call = calls[len(times) % len(calls)]
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _copy_rate(arrays: list[FloatArray], seconds: float) -> float:
    """Bytes per second, read and written, of copying with as many threads as operations use."""
    workers = min(libbnb.get_num_threads(), os.cpu_count() or 1)
    targets = [np.empty_like(array) for array in arrays]
    with ThreadPoolExecutor(workers) as pool:

        def call(number: int) -> Callable[[], object]:
            to, source = np.array_split(targets[number], workers), np.array_split(arrays[number], workers)
            return lambda: list(pool.map(np.copyto, to, source))

        return 2 * arrays[0].nbytes / _median([call(number) for number in range(len(arrays))], seconds)


def _print(results: list[Result], copy_rate: float, elements: int) -> None:
    info = libbnb.info()
    out.print(f"{elements:,} {results[0].dtype} per call, {info['isa']}, {info['num_threads']} threads")
    out.print(f"copying memory: {copy_rate / 1e9:.1f} GB/s (read + written)")
    out.print()
    rows = table("operation", "ms", "G elements/s", "GB/s", "of copy")
    for result in results:
        rows.add_row(
            result.operation, f"{result.milliseconds:.2f}", f"{result.elements_per_second / 1e9:.2f}",
            f"{result.bytes_per_second / 1e9:.1f}", f"{100 * result.fraction_of_copy:.0f}%",
        )  # fmt: skip
    out.print(rows)
