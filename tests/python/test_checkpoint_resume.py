# SPDX-License-Identifier: MIT
"""Killed runs, full disks, two runs at once: nothing half-written under a final name; --resume gives the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")

from checkpoints import CONFIG, digests, save_model, small_model
from libbnb.checkpoint import CheckpointError, dequantize_checkpoint, make_format, quantize_checkpoint
from libbnb.checkpoint.formats import parse_format
from libbnb.checkpoint.journal import JOURNAL

linux = pytest.mark.skipif(sys.platform != "linux", reason="uses what only Linux has")


class Stop(Exception):
    """Ends a run from inside."""


class StopAfter:
    """Progress that ends the run after some tensors."""

    def __init__(self, tensors: int, error: BaseException | None = None) -> None:
        self.left = tensors
        self.error = error or Stop()
        self.done_before = 0

    def start(self, total_bytes: int, done_bytes: int) -> None:
        self.done_before = done_bytes

    def advance(self, name: str, nbytes: int, elements: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = save_model(tmp_path / "model", small_model(rng), shards=2, config=CONFIG)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), MemoryError()], ids=["error", "ctrl-c", "memory"])
@pytest.mark.parametrize("spec", ["nf4+dq", "int8"])
def test_every_place_of_interruption(model: Path, spec: str, error: BaseException, tmp_path: Path) -> None:
    """Stopped after each tensor in turn, then resumed: the same files; never the final name before."""
    quantize_checkpoint(model, tmp_path / "whole", parse_format(spec), max_shard_bytes=60_000)
    for tensors in range(1, 8):
        with pytest.raises(type(error)):
            quantize_checkpoint(
                model, tmp_path / "out", parse_format(spec), max_shard_bytes=60_000, progress=StopAfter(tensors, error)
            )
        assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").is_dir()
        with pytest.raises(CheckpointError, match="add --resume to go on with it, or delete it"):
            quantize_checkpoint(model, tmp_path / "out", parse_format(spec), max_shard_bytes=60_000)
        summary = quantize_checkpoint(model, tmp_path / "out", parse_format(spec), max_shard_bytes=60_000, resume=True)
        assert summary.resumed_steps == tensors
        assert digests(tmp_path / "out") == digests(tmp_path / "whole")
        assert not (tmp_path / "out.partial").exists()
        shutil.rmtree(tmp_path / "out")


def test_dequantize_resumes(model: Path, tmp_path: Path) -> None:
    quantize_checkpoint(model, tmp_path / "nf4", make_format("nf4"))
    dequantize_checkpoint(tmp_path / "nf4", tmp_path / "whole")
    with pytest.raises(Stop):
        dequantize_checkpoint(tmp_path / "nf4", tmp_path / "out", progress=StopAfter(4))
    with pytest.raises(CheckpointError, match="another dtype"):
        dequantize_checkpoint(tmp_path / "nf4", tmp_path / "out", dtype="float16", resume=True)
    assert dequantize_checkpoint(tmp_path / "nf4", tmp_path / "out", resume=True).resumed_steps == 4
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_resume_of_something_else(model: Path, tmp_path: Path) -> None:
    """Other options or another source: an error that says what differs, and the partial result stays."""

    def run(spec: str, **changes: Any) -> None:
        quantize_checkpoint(model, tmp_path / "out", parse_format(spec), resume=True, **changes)

    with pytest.raises(Stop):
        run("nf4", progress=StopAfter(3))
    before = digests(tmp_path / "out.partial")
    for spec, changes, words in (
        ("fp4", {}, "another format"),
        ("nf4:128", {}, "another block size"),
        ("nf4+dq", {}, "another double quantization"),
        ("nf4", {"exclude": ["*q_proj*"]}, "another exclude"),
        ("nf4", {"max_shard_bytes": 1000}, "another shard size"),
    ):
        with pytest.raises(CheckpointError, match=words):
            run(spec, **changes)
    os.utime(model / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="another source files"):
        run("nf4")
    assert digests(tmp_path / "out.partial") == before


@pytest.mark.parametrize("cut", [0, 1, 10, 40])
def test_journal_cut_off(model: Path, cut: int, tmp_path: Path) -> None:
    """A crash may cut the journal anywhere: what it does not tell is done again."""
    quantize_checkpoint(model, tmp_path / "whole", make_format("nf4"))
    with pytest.raises(Stop):
        quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), progress=StopAfter(6))
    journal = tmp_path / "out.partial" / JOURNAL
    text = journal.read_bytes()
    journal.write_bytes(text[: len(text) - cut] + b'{"do' if cut else b"")
    quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), resume=True)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_error_before_anything_is_done_leaves_nothing(model: Path, tmp_path: Path) -> None:
    class Fails(StopAfter):
        def start(self, total_bytes: int, done_bytes: int) -> None:
            raise Stop

    with pytest.raises(Stop):
        quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), progress=Fails(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@linux
def test_two_runs_at_once(model: Path, tmp_path: Path) -> None:
    """The second one is told, and does not harm the first."""

    class Second(StopAfter):
        def advance(self, name: str, nbytes: int, elements: int) -> None:
            with pytest.raises(CheckpointError, match="another run is writing there"):
                quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), resume=True)

    quantize_checkpoint(model, tmp_path / "whole", make_format("nf4"))
    quantize_checkpoint(model, tmp_path / "out", make_format("nf4"), progress=Second(1))
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


# ---------------------------------------------------------------------------------------------------------------------
# Real processes

_RUN = """
import sys
from libbnb.checkpoint import writer
writer._SYNC_BYTES = 4 << 20
{before}
sys.argv[0] = "libbnb"
from libbnb.cli import main
main()
"""


def _start(*arguments: str | Path, before: str = "", prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-c", _RUN.format(before=before), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


@pytest.fixture
def large_model(tmp_path: Path, rng: np.random.Generator) -> Path:
    """100 MB, so that a run takes long enough to be killed in the middle."""
    weights = {f"layers.{number}.weight": rng.standard_normal((1024, 2048), np.float32) for number in range(12)}
    return save_model(tmp_path / "model", weights, shards=3, config=CONFIG)


@linux
@pytest.mark.slow
def test_killed_process(large_model: Path, tmp_path: Path) -> None:
    """SIGKILL at many moments, then --resume: the bytes of an uninterrupted run."""
    quantize_checkpoint(large_model, tmp_path / "whole", make_format("nf4", None, True))
    arguments = ("quantize", large_model, tmp_path / "out", "--double-quant")
    resumed = 0
    for kilobytes in (1, 4_000, 8_000, 12_000, 13_000):
        process = _start(*arguments)
        _wait_for_journal(tmp_path / "out.partial", kilobytes, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / "out").exists():  # it was faster than the signal
            shutil.rmtree(tmp_path / "out")
            continue
        code, text = _finish(_start(*arguments, "--resume", "--json"))
        assert code == 0, text
        resumed += json.loads(text)["resumed_steps"] > 0
        assert digests(tmp_path / "out") == digests(tmp_path / "whole")
        assert not (tmp_path / "out.partial").exists()
        shutil.rmtree(tmp_path / "out")
    assert resumed >= 1


def _wait_for_journal(folder: Path, kilobytes: int, process: subprocess.Popen[str]) -> None:
    """Until the journal says that so many steps, of 1.1 MB each, are done; or the process ends."""
    journal = folder / JOURNAL
    while process.poll() is None:
        try:
            written = journal.read_bytes()
        except FileNotFoundError:  # not yet, or no longer: a run that succeeds removes it
            written = b""
        if written.count(b'"done"') * 1_100 >= kilobytes:
            return
        time.sleep(0.001)


@linux
@pytest.mark.slow
def test_ctrl_c(large_model: Path, tmp_path: Path) -> None:
    process = _start("quantize", large_model, tmp_path / "out")
    _wait_for_journal(tmp_path / "out.partial", 4_000, process)
    process.send_signal(signal.SIGINT)
    code, text = _finish(process)
    assert (code, (tmp_path / "out").exists()) in ((130, False), (0, True)), text
    if code:
        assert "interrupted; add --resume to go on" in text and "Traceback" not in text


@linux
def test_file_size_limit(large_model: Path, tmp_path: Path) -> None:
    """A limit on file sizes ends like a full disk: one line, and nothing left."""
    before = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    code, text = _finish(_start("quantize", large_model, tmp_path / "out", before=before))
    assert code == 1 and text.count("\n") == 1, text
    assert text.startswith(f"libbnb: error: {tmp_path}/out.partial/model.safetensors: file too large: the result has")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def _small_disk(folder: Path, megabytes: int) -> tuple[str, ...]:
    """What runs a command with a small file system at `folder`, in a mount namespace of its own."""
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs "{folder}" && exec "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")


def _may_mount(folder: Path) -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*_small_disk(folder, 1), "true"], capture_output=True, check=False).returncode == 0


@linux
@pytest.mark.parametrize("reserves", [True, False], ids=["found at once", "found while writing"])
def test_full_disk(large_model: Path, reserves: bool, tmp_path: Path) -> None:
    """A disk without room for the result: one line that says how much is missing, and no final name."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not _may_mount(disk):
        pytest.skip("this process may not mount a file system in a namespace of its own")
    before = "" if reserves else "import os\ndel os.posix_fallocate"
    # The namespace, and with it the disk, ends with the process: it lists what is there before.
    before += f"\nimport atexit, os\natexit.register(lambda: print(sorted(os.listdir({str(disk)!r}))))"
    process = _start("quantize", large_model, disk / "out", before=before, prefix=_small_disk(disk, 8))
    code, text = _finish(process)
    assert code == 1 and "no space left on device" in text and "Traceback" not in text, text
    if reserves:
        assert "the result has 14.2 MB" in text and text.startswith("[]\n")
    else:
        assert text.startswith("['out.partial']\n") or text.startswith("[]\n")
