# SPDX-License-Identifier: MIT
"""What the commands share: where they print, how they fail, how numbers look, the progress bar."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

import libbnb

# Results go to stdout, everything else to stderr: `--json` can be piped.
out = Console(highlight=False)
if not out.is_terminal:
    out.width = 10_000  # a file or a pipe has no width that names would have to be cut for
err = Console(stderr=True, highlight=False)

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@contextmanager
def reporting(on_interrupt: str = "interrupted") -> Generator[None]:
    """Errors of libbnb become one line on stderr and exit status 1; Ctrl-C becomes 130."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"libbnb: {on_interrupt}", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except MemoryError as error:
        err.print(f"libbnb: error: out of memory ({error})", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except libbnb.Error as error:
        err.print(f"libbnb: error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2))


def use_threads(threads: int | None) -> None:
    """Apply `--threads`."""
    if threads is not None:
        libbnb.set_num_threads(threads)


def parse_bytes(text: str) -> int:
    """ "5GB", "500 MiB" or "1000000" as a number of bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", text.upper())
    if not match or match[2] == "I" or float(match[1]) * _UNITS[match[2]] < 1:
        raise typer.BadParameter(f"{text!r} is no size: 5GB, 500MiB, 1000000")
    return int(float(match[1]) * _UNITS[match[2]])


def size(nbytes: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(nbytes) < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.{1 if nbytes >= 10 else 2}f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.2f} TB"


def count(number: float) -> str:
    """A number of things for people: 22.7 M."""
    for unit in ("", " k", " M"):
        if abs(number) < 1000:
            return f"{number:.0f}" if not unit else f"{number:.{1 if number >= 10 else 2}f}{unit}"
        number /= 1000
    return f"{number:.2f} G"


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table: the first column is text, the others are numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        justify = "left" if position == 0 else "right"
        made.add_column(escape(column), justify=justify, no_wrap=position > 0, overflow="fold")
    return made


def print_totals(totals: list[dict[str, Any]]) -> None:
    """A line per format."""
    rows = table("format", "tensors", "parameters", "bits/weight", "size")
    for total in totals:
        rows.add_row(
            total["format"], str(total["tensors"]), count(total["elements"]), f"{total['bits_per_weight']:.2f}",
            size(total["nbytes"]),
        )  # fmt: skip
    out.print(rows)


class _Rate(ProgressColumn):
    """GB/s and parameters/s since the work started, not counting what an earlier run had done."""

    def render(self, task: Task) -> Text:
        seconds = time.perf_counter() - task.fields["started"]
        nbytes = task.completed - task.fields["done_before"]
        if nbytes <= 0 or seconds <= 0:
            return Text("")
        return Text(f"{nbytes / seconds / 1e9:.2f} GB/s  {count(task.fields['elements'] / seconds)}params/s")


class Bar:
    """A progress bar on stderr, if that is a terminal and the bar is to be shown; to be used with `with`."""

    def __init__(self, verb: str, shown: bool = True) -> None:
        self._verb = verb
        self._elements = 0
        self._task: Any = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[name]}", style="dim"),
            console=err,
            transient=True,
            disable=not (shown and err.is_terminal),
        )

    def __enter__(self) -> Bar:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def start(self, total_bytes: int, done_bytes: int) -> None:
        """The work is to read so many bytes; some were done by an earlier run."""
        self._task = self._progress.add_task(
            self._verb, total=total_bytes, completed=done_bytes,
            name="", elements=0, done_before=done_bytes, started=time.perf_counter(),
        )  # fmt: skip

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        """So many more bytes of the tensor `name` were read and worked on, and so many of its elements."""
        self._elements += elements
        self._progress.update(self._task, advance=nbytes, name=_shortened(name), elements=self._elements)


class Steps:
    """A progress bar of several parts that are counted; to be used with `with`."""

    def __init__(self) -> None:
        self._task: Any = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[name]}", style="dim"),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )

    def __enter__(self) -> Steps:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def start(self, what: str, steps: int) -> None:
        """The next part has so many steps."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=steps, name="")

    def advance(self, name: str) -> None:
        """One step, about `name`, is done."""
        self._progress.update(self._task, advance=1, name=_shortened(name))


def _shortened(name: str) -> str:
    return name if len(name) <= 32 else "..." + name[-29:]
