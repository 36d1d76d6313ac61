# SPDX-License-Identifier: MIT
"""Fixtures of several tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest

from kinds import KINDS, Kind

os.environ.setdefault("LIBBNB_PLUGIN", "0")  # bitsandbytes is what tests compare with; those of the plug-in turn it on

hypothesis.settings.register_profile("default", deadline=None, max_examples=60, print_blob=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each array library that is installed."""
    return request.param()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


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
