# SPDX-License-Identifier: MIT
"""Several processes on this machine that meet through torch.distributed, for tests; a test file is its own worker."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun gives to a process."""
    return os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "OMP_NUM_THREADS": "1",
    }


def run(commands: Sequence[Sequence[str | Path]], timeout: float = 120) -> list[tuple[int, str]]:
    """Exit status and everything said, of processes that run a command each, side by side."""
    port = free_port()
    started = [
        subprocess.Popen(
            [str(part) for part in command],
            env=environment(rank, len(commands), port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def succeed(file: str, *arguments: str | Path, size: int = 2, timeout: float = 120) -> None:
    """Run a test file as `size` workers; all must end well."""
    ended = run([[sys.executable, file, *arguments]] * size, timeout)
    assert [status for status, _ in ended] == [0] * size, "\n".join(text for _, text in ended)


def leave() -> NoReturn:
    """End a worker that met the others through torch.distributed, when all have come here.

    Without the interpreter's own end: now and then a thread that PyTorch still has at that time ends the process with
    "terminate called", after all work is done.
    """
    import torch.distributed as distributed

    distributed.barrier()  # a process that ends early may take the store with it
    distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def torchrun(*arguments: str | Path, size: int = 2, timeout: float = 120) -> tuple[int, str, str]:
    """Exit status, output and errors of `torchrun --nproc-per-node size arguments`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
    command += ["--master-port", str(free_port()), *map(str, arguments)]
    clean = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=clean)
    return ended.returncode, ended.stdout, ended.stderr
