# SPDX-License-Identifier: MIT
"""Carrying out a plan: read ahead, work, write; report progress; leave a complete checkpoint or a partial one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from libbnb import __version__
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.layout import index_json, lay_out
from libbnb.checkpoint.partial import Partial, refuse_existing
from libbnb.checkpoint.read_ahead import ReadAhead
from libbnb.checkpoint.source import Source
from libbnb.checkpoint.step import ByteArray, Step

MAX_SHARD_BYTES = 5_000_000_000


class Progress(Protocol):
    """What is told while a plan is carried out."""

    def start(self, total_bytes: int, done_bytes: int) -> None:
        """The work is to read so many bytes; some were done by an earlier run."""

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        """So many more bytes of the tensor `name` were read and worked on, and so many of its elements."""


class Silent:
    """Progress for programs."""

    def start(self, total_bytes: int, done_bytes: int) -> None:
        """Say nothing."""

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        """Say nothing."""


@dataclass
class Plan:
    """What will be read, made and written.

    Attributes
    ----------
    source : Source
        The checkpoint that is read.
    destination : Path
        Where the result will be: a folder, or a file if its name ends in .safetensors.
    steps : list of Step
        The work, in the order of the source's data.
    options : dict
        Whatever decides the bytes besides the source.
    config : dict or None
        The new config.json.
    max_shard_bytes : int
        Limit for one weight file.
    """

    source: Source
    destination: Path
    steps: list[Step]
    options: dict[str, Any]
    config: dict[str, Any] | None
    max_shard_bytes: int = MAX_SHARD_BYTES


@dataclass
class Summary:
    """What was done.

    Attributes
    ----------
    source, destination : str
        Paths.
    format : str
        What weights were turned into: "nf4", ..., or a dtype.
    tensors, converted : int
        Tensors of the model, and how many of them have a new format.
    parameters, parameters_converted : int
        Their elements.
    bytes_before, bytes_after : int
        Of all tensors.
    seconds : float
        Time for reading, working and writing.
    kept : dict
        Reason: names of the float matrices that were left alone.
    notes : list of str
        What a user should know.
    files : list of str
        Names of the weight files.
    resumed_steps : int
        Tensors that an earlier, interrupted run had finished.
    """

    source: str = ""
    destination: str = ""
    format: str = ""
    tensors: int = 0
    converted: int = 0
    parameters: int = 0
    parameters_converted: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    kept: dict[str, list[str]] = field(default_factory=lambda: dict[str, list[str]]())
    notes: list[str] = field(default_factory=lambda: list[str]())
    files: list[str] = field(default_factory=lambda: list[str]())
    resumed_steps: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def checked_destination(source: Source, destination: Path) -> Path:
    """The absolute destination, if something can be written there.

    Raises
    ------
    CheckpointError
        There is something already, or a folder would have to become a file.
    """
    destination = destination.absolute()
    if source.is_folder and destination.suffix == ".safetensors":
        raise CheckpointError(f"{destination}: {source.path} is a folder, so this must be the name of a folder, too")
    refuse_existing(destination)
    return destination


def carry_out(plan: Plan, resume: bool, progress: Progress) -> tuple[list[str], int, int]:
    """Do it.

    Returns
    -------
    tuple
        Names of the weight files, bytes of all tensors in them, and the number of steps an earlier run had done.

    Raises
    ------
    CheckpointError
        A file could not be read or written. What is finished stays in the partial folder.
    """
    to_file = plan.destination.suffix == ".safetensors"
    stem = plan.destination.stem if to_file else "model" if not plan.source.is_folder else plan.source.stem
    metadata = {"format": "pt"} | plan.source.metadata  # transformers insists on a format
    shards = lay_out(plan.steps, stem, None if to_file else plan.max_shard_bytes, metadata)
    with Partial(plan.destination, shards, _job(plan), resume) as partial:
        resumed = len(partial.done)
        todo = [(number, step) for number, step in enumerate(plan.steps) if number not in partial.done]
        total = sum(step.bytes_read for step in plan.steps)
        progress.start(total, total - sum(step.bytes_read for _, step in todo))
        with ReadAhead(read for _, step in todo for read in step.reads) as data:
            chunks = iter(data)
            for number, step in todo:
                taken = _Taken(step, chunks, progress)
                for piece in step.work(taken):
                    partial.write(piece)
                partial.finish_step(number)
                taken.report()
        texts, companions = _small_files(plan, index_json(shards, plan.steps, stem))
        partial.complete({} if to_file else texts, {} if to_file else companions)
    names = [plan.destination.name] if to_file else [shard.file_name for shard in shards]
    return names, sum(spec.nbytes for step in plan.steps for spec in step.outputs), resumed


class _Taken:
    """The chunks of one step, each reported when the next is taken, the last by the caller: then it is worked on."""

    def __init__(self, step: Step, chunks: Iterator[ByteArray], progress: Progress) -> None:
        self._step = step
        self._reads = iter(step.reads)
        self._chunks = chunks
        self._progress = progress
        self._current = 0  # bytes

    def __iter__(self) -> Iterator[ByteArray]:
        return self

    def __next__(self) -> ByteArray:
        read = next(self._reads)
        if self._current:
            self.report()
        self._current = read.nbytes
        return next(self._chunks)

    def report(self) -> None:
        """Tell that the current chunk is done."""
        share = self._current / max(1, self._step.bytes_read)
        self._progress.advance(self._step.name, self._current, round(share * self._step.elements))


def _small_files(plan: Plan, index: tuple[str, str] | None) -> tuple[dict[str, str], dict[Path, Path]]:
    texts = dict([index]) if index else {}
    if plan.config is not None:
        texts["config.json"] = to_json(plan.config)
    return texts, {relative: plan.source.path / relative for relative in plan.source.companions}


def to_json(value: Any) -> str:
    """JSON as transformers writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _job(plan: Plan) -> dict[str, Any]:
    """What must be equal for a run to be continued. The names are used in messages."""
    files = [[file.path.name, file.size, file.mtime_ns] for file in plan.source.files]
    return {
        "libbnb version": __version__,
        "source": str(plan.source.path.absolute()),
        "source files": files,
        **plan.options,
        "shard size": plan.max_shard_bytes,
    }


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
