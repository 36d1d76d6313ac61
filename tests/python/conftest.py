# SPDX-License-Identifier: MIT
"""Fixtures of several tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from kinds import KINDS, Kind

os.environ.setdefault("LIBBNB_PLUGIN", "0")  # bitsandbytes is what tests compare with; those of the plug-in turn it on

ROOT = Path(__file__).resolve().parents[2]

hypothesis.settings.register_profile("default", deadline=None, max_examples=60, print_blob=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each array library that is installed."""
    return request.param()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


@pytest.fixture(scope="session")
def native_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Meson build of the libraries, their tests and examples, warnings being errors.

    It takes minutes; LIBBNB_TEST_BUILD may name one that is there.
    """
    if path := os.environ.get("LIBBNB_TEST_BUILD"):
        return Path(path).resolve()
    folder = tmp_path_factory.mktemp("build") / "release"
    options = ["-Dwerror=true", "-Dtests=enabled", "-Dexamples=enabled"]
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    for command in ([*meson, "setup", str(folder), str(ROOT), *options], [*meson, "compile", "-C", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return folder


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a process of its own, with extra environment variables."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BNB_")}
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=clean | environment,
        )

    return run
