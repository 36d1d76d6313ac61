# SPDX-License-Identifier: MIT
"""A command that torchrun started several times: the processes are one team, each with its share of the threads."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import libbnb
from libbnb.checkpoint import Team, joined
from libbnb.cli.console import use_threads


@contextmanager
def together(threads: int | None) -> Generator[Team | None]:
    """The team of this command, None if it runs alone; `--threads` is applied.

    Without `--threads` and BNB_NUM_THREADS, the processes of one machine share its CPUs.
    """
    with joined() as team:
        if team is not None and threads is None and "BNB_NUM_THREADS" not in os.environ:
            threads = max(1, libbnb.get_num_threads() // team.here)
        use_threads(threads)
        if team is None:
            yield None
            return
        # torchrun ends the others like this when one of them is gone: they keep what they have done.
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield team
        finally:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
