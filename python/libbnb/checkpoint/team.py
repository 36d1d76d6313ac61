# SPDX-License-Identifier: MIT
"""The processes that carry out one plan together: what they tell each other, and how all of them end when one does.

They meet in the key-value store of torch.distributed, which torchrun starts. Nothing here is a collective operation:
those wait for the slowest process, and of a process that fails or dies the others would hear only then. Each process
looks into the store twice a second instead, also while it computes.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any

from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.progress import Progress, Silent

JOIN_SECONDS = 300.0  # for all to start: a cold import of PyTorch from a network disk may take minutes
SILENCE_SECONDS = 60.0  # after which a process, or the machine it runs on, counts as dead
_BEAT_SECONDS = 0.5
_LEAVE_SECONDS = 10.0  # for the others to hear how it ended, before the store goes
_POLL_SECONDS = 0.02

_joined = count()


class TeamError(CheckpointError):
    """A run that ended in this process because of another one."""


class Team:
    """The processes of a run, seen from one of them; to be used with `with`.

    Parameters
    ----------
    store : torch.distributed.Store
        Where they meet.
    rank : int
        The number of this process, from 0.
    size : int
        How many there are.
    machine : str
        What the processes of one machine, and no others, have in common.
    join_seconds, silence_seconds : float
        How long to wait for all to come, and for a sign of life later.
    store_is_here : bool
        Whether the store ends with this process.

    Attributes
    ----------
    machines : list of str
        `machine` of every process.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        size: int,
        machine: str,
        join_seconds: float = JOIN_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        store_is_here: bool = False,
    ) -> None:
        self.rank = rank
        self.size = size
        self.machines: list[str] = [machine]
        self._name = f"process {rank} on {socket.gethostname()}"
        self._store = store
        self._join_seconds = join_seconds
        self._silence_seconds = silence_seconds
        self._store_is_here = store_is_here
        self._trouble: str | None = None
        self._watching = threading.Thread(target=self._watch, name="libbnb team", daemon=True)
        self._stop = threading.Event()
        self._progress: Progress = Silent()
        self._worked = (0, 0)
        self._beats: dict[int, str] = {}
        self._heard: dict[int, float] = {}  # when the beat of a process changed last
        self._told: dict[int, tuple[int, int]] = {}  # what the progress has been told of others
        self._answered = time.monotonic()

    @property
    def leads(self) -> bool:
        """Whether this process prepares the folder, shows the progress and gives the result its name."""
        return self.rank == 0

    @property
    def here(self) -> int:
        """The number of processes on this machine."""
        return self.machines.count(self.machines[self.rank])

    def __enter__(self) -> Team:
        try:
            self._store.set(f"beat {self.rank}", "0 0 0")
            self._store.set(f"machine {self.rank}", self.machines[0])
            names = [f"machine {rank}" for rank in range(self.size)]
            self._store.wait(names, timedelta(seconds=self._join_seconds))
            self.machines = [self._store.get(name).decode() for name in names]
        except RuntimeError as error:
            raise TeamError(_not_together(self.rank, self.size, self._join_seconds)) from error
        now = time.monotonic()
        self._heard = dict.fromkeys(range(self.size), now)
        self._answered = now
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        self._stop.set()
        self._watching.join(_LEAVE_SECONDS)
        trouble = ""
        with suppress(RuntimeError):  # the store is gone: nobody is left to tell
            if isinstance(error, KeyboardInterrupt) and self._store.check(["trouble"]):
                trouble = self._store.get("trouble").decode()
            self._store.set(f"left {self.rank}", "")
            if self._store_is_here:
                self._see_off()
        if trouble and not trouble.startswith(self._name):
            raise TeamError(trouble) from error  # a launcher interrupts the others when one has failed: that is why

    def _see_off(self) -> None:
        """Before the store ends, the others must have read how the run did."""
        now = time.monotonic()
        waited = [f"left {rank}" for rank, when in self._heard.items() if now - when < self._silence_seconds]
        while not self._store.check(waited) and time.monotonic() - now < _LEAVE_SECONDS:
            time.sleep(_POLL_SECONDS)

    def tell(self, key: str, value: Any = None) -> None:
        """Let the others know something, once."""
        with self._answering():
            self._store.set("told " + key, json.dumps(value))

    def wait_for(self, key: str) -> Any:
        """What another process tells, as soon as it does.

        Raises
        ------
        TeamError
            A process failed, or has not been heard of for too long.
        """
        while True:
            self.check()
            with self._answering():
                if self._store.check(["told " + key]):
                    return json.loads(self._store.get("told " + key))
            time.sleep(_POLL_SECONDS)

    def fail(self, error: BaseException) -> None:
        """Have all others end with the words of this error, unless it came from one of them."""
        if isinstance(error, TeamError):
            return
        if isinstance(error, KeyboardInterrupt):
            words = "interrupted"
        else:
            words = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
        with suppress(RuntimeError):
            self._declare(f"{self._name}: {words}")

    def check(self) -> None:
        """Raise if another process failed; tell the progress what the others did."""
        silent_for = time.monotonic() - self._answered
        if self._trouble is None and silent_for > 2 * self._silence_seconds:
            self._trouble = f"no answer from the store of torch.distributed for {silent_for:.0f} s"
        if self._trouble is not None:
            raise TeamError(self._trouble)
        for rank, beat in list(self._beats.items()):
            nbytes, elements = map(int, beat.split()[1:])
            self.did(rank, nbytes, elements)

    @property
    def worked(self) -> tuple[int, int]:
        """Bytes and elements that this process has done."""
        return self._worked

    def did(self, rank: int, nbytes: int, elements: int) -> None:
        """Tell the progress what another process has done until now."""
        before = self._told.get(rank, (0, 0))
        if nbytes > before[0] or elements > before[1]:
            self._told[rank] = (nbytes, elements)
            self._progress.advance(f"(process {rank})", nbytes - before[0], elements - before[1])

    # As a Progress: it counts for the others, and is the place where a process at work notices their failures.

    def reporting_to(self, progress: Progress) -> Team:
        """A progress for the steps of this process; `progress` is told of those of all, in the leading process."""
        if self.leads:
            self._progress = progress
        return self

    def start(self, total_bytes: int, done_bytes: int) -> None:
        """Tell the progress."""
        self._progress.start(total_bytes, done_bytes)

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        """Tell the progress, and end here what ended elsewhere."""
        self._worked = (self._worked[0] + nbytes, self._worked[1] + elements)
        self._progress.advance(name, nbytes, elements)
        self.check()

    # In a thread of its own

    def _watch(self) -> None:
        for number in count(1):
            try:
                self._store.set(f"beat {self.rank}", f"{number} {self._worked[0]} {self._worked[1]}")
                if self._store.check(["trouble"]):
                    self._trouble = self._store.get("trouble").decode()
                    return
                self._listen()
            except RuntimeError as error:
                self._trouble = _connection_lost(error)
                return
            self._answered = time.monotonic()
            if self._stop.wait(_BEAT_SECONDS):
                return

    def _listen(self) -> None:
        """The leading process listens to all, the others to it."""
        ranks = [rank for rank in range(self.size) if rank != self.rank] if self.leads else [0]
        beats = self._store.multi_get([f"beat {rank}" for rank in ranks])
        now = time.monotonic()
        for rank, beat in zip(ranks, beats, strict=True):
            if self._beats.get(rank) != beat.decode():
                self._heard[rank] = now
                self._beats[rank] = beat.decode()
            elif now - self._heard[rank] > self._silence_seconds:
                self._declare(f"process {rank} has not been heard of for {self._silence_seconds:g} s")

    def _declare(self, trouble: str) -> None:
        """The first one's words stay."""
        self._store.compare_set("trouble", "", trouble)

    @contextmanager
    def _answering(self) -> Generator[None]:
        try:
            yield
        except RuntimeError as error:
            raise TeamError(self._trouble or _connection_lost(error)) from error


def _connection_lost(error: RuntimeError) -> str:
    reason = str(error).partition("\n")[0]
    return f"lost the store of torch.distributed, where the processes meet ({reason})"


def _not_together(rank: int, size: int, seconds: float) -> str:
    return (
        f"process {rank}: the {size} processes that WORLD_SIZE speaks of did not come together within {seconds:g} s; "
        "to run alone, unset WORLD_SIZE"
    )


@contextmanager
def joined(join_seconds: float = JOIN_SECONDS, silence_seconds: float = SILENCE_SECONDS) -> Generator[Team | None]:
    """The team of the processes that torchrun (or another launcher with its environment) started with this one.

    None for a process that runs alone; PyTorch is not imported then. Every process of the team must come here.

    Parameters
    ----------
    join_seconds
        How long to wait for the other processes.
    silence_seconds
        How long a process may give no sign of life, in a thread apart from its work, before all end.

    Raises
    ------
    CheckpointError
        The environment is incomplete, PyTorch is missing, or not all came.
    """
    size = _integer("WORLD_SIZE", "1")
    if size == 1:
        yield None
        return
    rank = _integer("RANK", None)
    _integer("MASTER_PORT", None)
    if not 0 <= rank < size:
        raise CheckpointError(f"RANK is {rank}, must be from 0 to {size - 1}: WORLD_SIZE is {size}")
    try:
        import torch.distributed as distributed
    except ModuleNotFoundError as error:
        raise CheckpointError(
            "several processes meet through PyTorch, which is not installed: pip install torch"
        ) from error
    store = _store(distributed, rank, size, join_seconds)
    store.set_timeout(timedelta(seconds=silence_seconds))
    # torchrun numbers the machines; of other launchers nothing is known, and whole files are safe everywhere.
    group = os.environ.get("GROUP_RANK")
    machine = f"process {rank}" if group is None else f"machine {group}"
    store_is_here = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    with Team(store, rank, size, machine, join_seconds, silence_seconds, store_is_here) as team:
        yield team


def _store(distributed: Any, rank: int, size: int, join_seconds: float) -> Any:
    if not distributed.is_available():
        raise CheckpointError("several processes meet through torch.distributed, which this PyTorch was built without")
    try:
        store, _, _ = next(distributed.rendezvous("env://", rank, size, timeout=timedelta(seconds=join_seconds)))
    except (RuntimeError, ValueError) as error:
        raise TeamError(f"{_not_together(rank, size, join_seconds)} ({str(error).partition(chr(10))[0]})") from error
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return distributed.PrefixStore(f"libbnb {attempt} {next(_joined)}", store)


def _integer(name: str, default: str | None) -> int:
    """An environment variable of torchrun."""
    text = os.environ.get(name, default)
    if text is None:
        raise CheckpointError(
            f"WORLD_SIZE is set, but not {name}: start the processes with torchrun, or unset WORLD_SIZE"
        )
    try:
        return int(text)
    except ValueError:
        raise CheckpointError(f"{name} is {text!r}, must be an integer") from None
