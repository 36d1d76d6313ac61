# SPDX-License-Identifier: MIT
"""The C and C++ tests: runs each of their suites."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("suite", ["conformance", "examples", "headers", "lint", "unit"])
def test_suite(native_build: Path, suite: str) -> None:
    out = run(
        sys.executable,
        "-m",
        "mesonbuild.mesonmain",
        "test",
        "-C",
        native_build,
        "--no-rebuild",
        "--print-errorlogs",
        "--suite",
        suite,
    )
    assert "No tests" not in out
