# SPDX-License-Identifier: MIT
"""Carrying out a plan: read ahead, work, write; report progress; leave a complete checkpoint or a partial one."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from libbnb import __version__
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.layout import Shard, index_json, lay_out
from libbnb.checkpoint.partial import Partial, partial_path, refuse_existing
from libbnb.checkpoint.progress import Progress
from libbnb.checkpoint.read_ahead import ReadAhead
from libbnb.checkpoint.share import Share
from libbnb.checkpoint.source import Source
from libbnb.checkpoint.split import split
from libbnb.checkpoint.step import ByteArray, Step
from libbnb.checkpoint.team import Team
from libbnb.checkpoint.writer import Writer

MAX_SHARD_BYTES = 5_000_000_000


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
    processes : int
        How many worked on it.
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
    processes: int = 1

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


@dataclass
class Outcome:
    """What carrying out a plan gave.

    Attributes
    ----------
    files : list of str
        Names of the weight files.
    nbytes : int
        Of all tensors in them.
    resumed_steps : int
        The number of steps that an earlier run had done.
    notes : list of str
        What a user should know.
    """

    files: list[str]
    nbytes: int
    resumed_steps: int
    notes: list[str]


def carry_out(plan: Plan, resume: bool, progress: Progress, team: Team | None = None) -> Outcome:
    """Do it, alone or as one of a team.

    Raises
    ------
    CheckpointError
        A file could not be read or written, here or in another process of the team. What is finished stays in the
        partial folder.
    """
    to_file = plan.destination.suffix == ".safetensors"
    stem = plan.destination.stem if to_file else "model" if not plan.source.is_folder else plan.source.stem
    metadata = {"format": "pt"} | plan.source.metadata  # transformers insists on a format
    shards = lay_out(plan.steps, stem, None if to_file else plan.max_shard_bytes, metadata)
    run = _Run(plan, shards, resume)
    if team is None:
        notes: list[str] = []
        with run.partial() as partial:
            run.start(progress)
            run.work(partial, range(len(plan.steps)), progress)
            _complete(plan, partial, shards, stem)
    elif team.leads:
        notes = _lead(run, team, progress, stem)
    else:
        notes = _follow(run, team)
    names = [plan.destination.name] if to_file else [shard.file_name for shard in shards]
    return Outcome(names, sum(spec.nbytes for step in plan.steps for spec in step.outputs), len(run.done), notes)


class _Run:
    """What this process knows of a run."""

    def __init__(self, plan: Plan, shards: list[Shard], resume: bool) -> None:
        self.plan = plan
        self.shards = shards
        self.resume = resume
        self.job = _job(plan)
        self.done: set[int] = set()

    @contextmanager
    def partial(self) -> Generator[Partial]:
        """The folder of the result, made or taken over; then `done` is known."""
        with Partial(self.plan.destination, self.shards, self.job, self.resume) as partial:
            self.done = set(partial.done)
            yield partial

    def start(self, progress: Progress) -> None:
        """Tell a progress how much there is to do."""
        read = [step.bytes_read for step in self.plan.steps]
        progress.start(sum(read), sum(read[number] for number in self.done))

    def work(self, writer: Writer, numbers: Iterable[int], progress: Progress) -> None:
        """Carry out those of some steps that are not done yet."""
        mine = [(number, self.plan.steps[number]) for number in numbers if number not in self.done]
        with ReadAhead(read for _, step in mine for read in step.reads) as data:
            chunks = iter(data)
            for number, step in mine:
                taken = _Taken(step, chunks, progress)
                for piece in step.work(taken):
                    writer.write(piece)
                writer.finish_step(number)
                taken.report()

    def parts(self, machines: list[str]) -> list[list[int]]:
        """For each process of a team the numbers of the steps that it does; the same in all of them."""
        steps = {n: step.bytes_read for n, step in enumerate(self.plan.steps) if n not in self.done}
        return split(steps, {n: self.file_of(n) for n in steps}, machines)

    def file_of(self, number: int) -> str:
        """The name of the weight file that a step writes to."""
        return self._file_of[self.plan.steps[number].outputs[0].name]

    @cached_property
    def _file_of(self) -> dict[str, str]:
        return {name: shard.file_name for shard in self.shards for name in shard.offsets}


def _lead(run: _Run, team: Team, progress: Progress, stem: str) -> list[str]:
    """The part of process 0: the folder, its share of the steps, and the index when all are done."""
    token = uuid4().hex
    with run.partial() as partial:
        partial.share(token)
        team.tell("go", {"token": token, "done": sorted(run.done)})
        try:
            told = team.reporting_to(progress)
            run.start(told)
            parts = run.parts(team.machines)
            run.work(partial, parts[0], told)
            partial.sync()
            for rank in range(1, team.size):
                team.did(rank, *team.wait_for(f"share {rank}"))
            _complete(run.plan, partial, run.shards, stem)
        except BaseException as error:
            team.fail(error)  # before anything is closed, which may take a while
            raise
        team.tell("complete")
    machines = dict.fromkeys(team.machines)
    busy = {team.machines[rank] for rank, part in enumerate(parts) if part}
    if run.done or len(busy) == len(machines):
        return []
    return [
        f"{len(machines) - len(busy)} of {len(machines)} machines had nothing to do: each writes whole files, "
        f"and there are {len(run.shards)}; a smaller --max-shard-size makes more"
    ]


def _follow(run: _Run, team: Team) -> list[str]:
    """The part of every other process."""
    go = team.wait_for("go")
    run.done = set(go["done"])
    mine = run.parts(team.machines)[team.rank]
    names = {run.file_of(number) for number in mine}
    shards = [shard for shard in run.shards if shard.file_name in names]
    with Share(partial_path(run.plan.destination), shards, run.job, team.rank, go["token"]) as share:
        try:
            run.work(share, mine, team)
            share.close()
        except BaseException as error:
            team.fail(error)
            raise
    team.tell(f"share {team.rank}", team.worked)
    team.wait_for("complete")
    return []


def _complete(plan: Plan, partial: Partial, shards: list[Shard], stem: str) -> None:
    texts, companions = _small_files(plan, index_json(shards, plan.steps, stem))
    to_file = plan.destination.suffix == ".safetensors"
    partial.complete({} if to_file else texts, {} if to_file else companions)


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
