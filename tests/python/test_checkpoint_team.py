# SPDX-License-Identifier: MIT
"""Several processes that quantize one checkpoint: the bytes of one, failures that end all, killed ones, --resume."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("torch")

import torch

import processes
from checkpoints import CONFIG, digests, save_model, small_model
from libbnb.checkpoint import (
    CheckpointError,
    Summary,
    Team,
    TeamError,
    dequantize_checkpoint,
    joined,
    make_format,
    quantize_checkpoint,
)
from libbnb.checkpoint.formats import parse_format

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]
posix = pytest.mark.skipif(os.name != "posix", reason="uses signals that only POSIX has")

SHARD = 20_000  # bytes: several files


class Stop(Exception):
    """Ends a run from inside."""


class Stopping:
    """A team whose process fails after some chunks of its own."""

    def __init__(self, team: Team, chunks: int, error: BaseException) -> None:
        self.left = chunks
        self.error = error
        self.advance = team.advance
        team.advance = self  # type: ignore[method-assign]

    def __call__(self, name: str, nbytes: int, elements: int) -> None:
        self.advance(name, nbytes, elements)
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = save_model(tmp_path / "model", small_model(rng), shards=2, config=CONFIG)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def as_team(work: Callable[[Team], Any], size: int = 2, machines: str = "aaaa", silence: float = 20) -> list[Any]:
    """Results or errors of threads that work as the processes of a team would."""
    store = torch.distributed.HashStore()
    results: list[Any] = [None] * size

    def one(rank: int) -> None:
        try:
            with Team(store, rank, size, machines[rank], 20, silence) as team:
                results[rank] = work(team)
        except BaseException as error:  # for the test to look at
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), results
    return results


def run(model: Path, out: Path, spec: str = "nf4", **options: Any) -> Callable[[Team], Summary]:
    return lambda team: quantize_checkpoint(model, out, parse_format(spec), max_shard_bytes=SHARD, team=team, **options)


@pytest.mark.parametrize("spec", ["nf4+dq", "int8", "fp8"])
@pytest.mark.parametrize("machines", ["aa", "ab", "aba"])
def test_same_bytes(model: Path, tmp_path: Path, spec: str, machines: str) -> None:
    alone = quantize_checkpoint(model, tmp_path / "alone", parse_format(spec), max_shard_bytes=SHARD)
    told = [summary.as_dict() for summary in as_team(run(model, tmp_path / "out", spec), len(machines), machines)]
    assert digests(tmp_path / "out") == digests(tmp_path / "alone") and len(alone.files) > 3
    assert not (tmp_path / "out.partial").exists()
    for summary in told:
        assert summary["processes"] == len(machines)
        same = alone.as_dict().keys() - {"destination", "seconds", "processes"}
        assert {key: summary[key] for key in same} == {key: alone.as_dict()[key] for key in same}


def test_everybody_works(model: Path, tmp_path: Path) -> None:
    """The steps are done once, by several; the first process is told of all bytes."""

    class Counts:
        def __init__(self) -> None:
            self.total = self.nbytes = 0
            self.names: set[str] = set()

        def start(self, total_bytes: int, done_bytes: int) -> None:
            self.total = total_bytes - done_bytes

        def advance(self, name: str, nbytes: int, elements: int) -> None:
            self.names.add(name)
            self.nbytes += nbytes

    told = [Counts(), Counts()]

    def work(team: Team) -> None:
        run(model, tmp_path / "out", progress=told[team.rank])(team)
        assert team.worked[0] > 0

    assert as_team(work) == [None, None]
    assert told[1].total == told[1].nbytes == 0
    assert any(name.endswith("q_proj.weight") for name in told[0].names)
    assert 0 < told[0].nbytes == told[0].total


def test_one_file(model: Path, tmp_path: Path) -> None:
    source = next(model.glob("*.safetensors"))
    quantize_checkpoint(source, tmp_path / "alone.safetensors", make_format("nf4"))
    summaries = as_team(run(source, tmp_path / "out.safetensors"))
    assert (tmp_path / "out.safetensors").read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
    assert summaries[0].notes == [] and not (tmp_path / "out.safetensors.partial").exists()


def test_machine_without_a_file(model: Path, tmp_path: Path) -> None:
    """The user is told that smaller files would employ all machines."""
    summaries = as_team(
        lambda team: quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), team=team), 2, "ab"
    )
    assert summaries[0].notes[-1].startswith("1 of 2 machines had nothing to do: each writes whole files")


def test_dequantize(model: Path, tmp_path: Path) -> None:
    quantize_checkpoint(model, tmp_path / "nf4", make_format("nf4"))
    dequantize_checkpoint(tmp_path / "nf4", tmp_path / "alone", "float16", max_shard_bytes=SHARD)
    as_team(lambda team: dequantize_checkpoint(tmp_path / "nf4", tmp_path / "out", "float16", SHARD, team=team))
    assert digests(tmp_path / "out") == digests(tmp_path / "alone")


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("resumed_by", [1, 2, 4])
def test_failure_and_resume(model: Path, tmp_path: Path, failing: int, resumed_by: int) -> None:
    """One fails: all end with its words. Any number of processes goes on, to the same bytes."""
    quantize_checkpoint(model, tmp_path / "alone", make_format("nf4"), max_shard_bytes=SHARD)

    def work(team: Team) -> Any:
        if team.rank == failing:
            Stopping(team, 1, Stop("no more"))
        return run(model, tmp_path / "out")(team)

    ended = as_team(work, 3)
    assert isinstance(ended[failing], Stop)
    for rank in {0, 1, 2} - {failing}:
        assert isinstance(ended[rank], TeamError)
        assert str(ended[rank]).startswith(f"process {failing} on ") and str(ended[rank]).endswith(": Stop: no more")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="add --resume to go on with it"):
        quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), max_shard_bytes=SHARD)
    if resumed_by == 1:
        summary = quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), None, None, SHARD, resume=True)
    else:
        summary = as_team(run(model, tmp_path / "out", resume=True), resumed_by, "aabb")[0]
    # The failing one had done a step; the others as many as they could until they heard.
    assert 1 <= summary.resumed_steps <= 8
    assert digests(tmp_path / "out") == digests(tmp_path / "alone")
    assert not (tmp_path / "out.partial").exists()


def test_error_before_the_work(model: Path, tmp_path: Path) -> None:
    """The destination is refused by one process; the others hear of it, and nothing is left."""
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "file").write_text("")

    def work(team: Team) -> Any:
        return run(model, tmp_path / ("out" if team.rank else "late"))(team)

    first, second = as_team(work)
    assert "already exists" in str(first) and not isinstance(first, TeamError)
    assert isinstance(second, TeamError) and str(second).endswith(str(first))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late", "model"]


def test_another_folder(model: Path, tmp_path: Path) -> None:
    """A destination on a disk that the processes do not share: also if an older run left a folder there."""
    for left in (False, True):
        if left:
            (tmp_path / "out1.partial").mkdir()
            (tmp_path / "out1.partial" / ".journal.jsonl").write_text((tmp_path / "kept.jsonl").read_text())
        first, second = as_team(lambda team: run(model, tmp_path / f"out{team.rank}")(team))
        assert str(second).startswith(f"{tmp_path}/out1.partial: is not what process 0 made under this name")
        assert isinstance(first, TeamError) and str(first).endswith(str(second))
        (tmp_path / "out0.partial" / ".journal.jsonl").rename(tmp_path / "kept.jsonl")
        (tmp_path / "out0.partial" / ".journal.jsonl").unlink(missing_ok=True)
        for path in (tmp_path / "out0.partial").iterdir():
            path.unlink()
        (tmp_path / "out0.partial").rmdir()


def test_other_options(model: Path, tmp_path: Path) -> None:
    first, second = as_team(lambda team: run(model, tmp_path / "out", ("nf4", "fp4")[team.rank])(team))
    assert str(second) == "another format than that of process 0 ('nf4', here 'fp4')"
    assert isinstance(first, TeamError) and str(first).endswith(str(second))


@pytest.mark.parametrize("dead", [0, 1])
def test_silent_process(model: Path, tmp_path: Path, dead: int) -> None:
    """One that came and gives no sign of life any more: all others end soon."""
    release = threading.Event()

    def work(team: Team) -> Any:
        if team.rank == dead:
            team._stop.set()  # the beats
            release.wait(30)
            return None
        try:
            return run(model, tmp_path / "out")(team)
        finally:
            release.set()

    began = time.monotonic()
    ended = as_team(work, silence=1.5)
    assert isinstance(ended[1 - dead], TeamError)
    assert str(ended[1 - dead]) == f"process {dead} has not been heard of for 1.5 s"
    assert time.monotonic() - began < 25, "not by the timeout of the test"


def test_a_writer_of_an_earlier_run_is_alive(model: Path, tmp_path: Path) -> None:
    """A process of the interrupted run that still writes: the next one is told to wait."""
    fcntl = pytest.importorskip("fcntl")

    def work(team: Team) -> Any:
        if team.rank == 1:
            Stopping(team, 1, Stop())
        return run(model, tmp_path / "out")(team)

    as_team(work)
    (journal,) = (tmp_path / "out.partial").glob(".journal-*")
    with journal.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another run is writing there"):
            quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), max_shard_bytes=SHARD, resume=True)
    quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), max_shard_bytes=SHARD, resume=True)


# ---------------------------------------------------------------------------------------------------------------------
# The environment


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RANK": None}, "WORLD_SIZE is set, but not RANK"),
        ({"MASTER_PORT": None}, "WORLD_SIZE is set, but not MASTER_PORT"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', must be an integer"),
        ({"RANK": "2"}, "RANK is 2, must be from 0 to 1: WORLD_SIZE is 2"),
        ({}, "the 2 processes that WORLD_SIZE speaks of did not come together within 1 s"),
    ],
)
def test_wrong_environment(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], words: str) -> None:
    for name in ("TORCHELASTIC_USE_AGENT_STORE", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    complete: dict[str, str | None] = dict(processes.environment(0, 2, processes.free_port()))
    for name, value in (complete | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(CheckpointError, match=words), joined(join_seconds=1):
        pass


def test_alone_without_torch(python: Any) -> None:
    code = (
        "import sys\nfrom libbnb.checkpoint import joined\nwith joined() as team: print(team, 'torch' in sys.modules)"
    )
    assert python(code, WORLD_SIZE="1", RANK="0").stdout == "None False\n"


# ---------------------------------------------------------------------------------------------------------------------
# Real processes: this file is the worker, the command line with something wrong in one process


def killed_in_the_middle() -> None:
    """Process 1 dies after some work."""
    advance = Team.advance

    def killing(self: Team, name: str, nbytes: int, elements: int) -> None:
        advance(self, name, nbytes, elements)
        if self.worked[0] > 3 << 20:
            os.kill(os.getpid(), signal.SIGKILL)

    Team.advance = killing  # type: ignore[method-assign]


def worker(what: str, *arguments: str) -> None:
    """The command line or the function behind it; process 1 is killed or runs out of disk in the middle."""
    from libbnb.checkpoint import writer
    from libbnb.cli import main

    writer._SYNC_BYTES = 1 << 18
    if os.environ["RANK"] == "1" and what == "limited":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))
    elif os.environ["RANK"] == "1":
        killed_in_the_middle()
    if what == "function":
        with pytest.raises(TeamError, match="process 1 has not been heard of for 2 s"), joined(60, 2) as team:
            quantize_checkpoint(arguments[0], arguments[1], make_format("nf4"), team=team)
    else:
        sys.argv[:] = ["libbnb", *arguments]
        main()


@pytest.fixture
def larger_model(tmp_path: Path, rng: np.random.Generator) -> Path:
    weights = {f"layers.{number}.weight": rng.standard_normal((512, 512), np.float32) for number in range(12)}
    return save_model(tmp_path / "model", weights, shards=3, config=CONFIG)


@posix
def test_torchrun(larger_model: Path, tmp_path: Path) -> None:
    """A killed process leaves a run that torchrun and --resume finish; one summary is printed."""
    alone = tmp_path / "alone"
    quantize_checkpoint(larger_model, alone, make_format("nf4"), max_shard_bytes=500_000)
    command = ("quantize", larger_model, tmp_path / "out", "--max-shard-size", "500kB", "--json")
    status, out, err = processes.torchrun(__file__, "killed", *command)
    assert status != 0 and out == "" and 'Traceback (most recent call last):\n  File "' + __file__ not in err, err
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial" / ".journal-00001.jsonl").exists(), err
    done = {path.name: path.read_text().count('"done"') for path in (tmp_path / "out.partial").glob(".journal*")}
    assert done.keys() == {".journal.jsonl", ".journal-00001.jsonl"} and done[".journal-00001.jsonl"] >= 1
    status, out, err = processes.torchrun("-m", "libbnb", *command, "--resume")
    assert status == 0, err
    summary = json.loads(out)
    assert summary["processes"] == 2 and summary["resumed_steps"] == sum(done.values())
    assert digests(tmp_path / "out") == digests(alone)


@posix
def test_words_of_one(larger_model: Path, tmp_path: Path) -> None:
    """An error of the system in process 1: both end with status 1 and its words; then one process finishes."""
    alone = tmp_path / "alone"
    quantize_checkpoint(larger_model, alone, make_format("nf4"))
    command = ("quantize", larger_model, tmp_path / "out")
    (status0, said0), (status1, said1) = processes.run([[sys.executable, __file__, "limited", *command]] * 2)
    words = f"{tmp_path}/out.partial/model.safetensors: file too large"
    assert status0 == status1 == 1, said0 + said1
    assert said1 == f"libbnb: error: {words}\n"
    assert (
        said0.startswith("libbnb: error: process 1 on ") and said0.endswith(f": {words}\n") and "\n" not in said0[:-1]
    )
    quantize_checkpoint(larger_model, tmp_path / "out", make_format("nf4"), resume=True)
    assert digests(tmp_path / "out") == digests(alone)


@posix
def test_killed_without_a_launcher(larger_model: Path, tmp_path: Path) -> None:
    """Nobody ends the others when process 1 is killed: they notice."""
    command = [sys.executable, __file__, "function", larger_model, tmp_path / "out"]
    (status0, said0), (status1, _) = processes.run([command] * 2)
    assert (status0, status1) == (0, -signal.SIGKILL), said0
    assert (tmp_path / "out.partial").exists() and not (tmp_path / "out").exists()


if __name__ == "__main__":
    worker(*sys.argv[1:])
