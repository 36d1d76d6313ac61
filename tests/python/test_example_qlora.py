# SPDX-License-Identifier: MIT
"""examples/python/qlora.py runs, learns, and takes less memory the less there is to keep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "qlora.py"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is Linux's")
def test_qlora(tmp_path: Path) -> None:
    for name in ("torch", "peft", "accelerate", "matplotlib"):
        pytest.importorskip(name)
    pytest.importorskip("transformers", minversion="5.0")
    out, plot = tmp_path / "runs.json", tmp_path / "runs.png"
    command = [
        sys.executable,
        str(EXAMPLE),
        "--steps",
        "6",
        "--base-steps",
        "8",
        "--json",
        str(out),
        "--plot",
        str(plot),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BNB_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    full, eight_bits, qlora = document["rows"]
    assert plot.stat().st_size > 1000 and document["machine"]["torch"]
    assert all(row["after"] < row["before"] and len(row["losses"]) == 6 for row in (full, eight_bits, qlora))
    assert abs(full["after"] - eight_bits["after"]) < 0.05
    assert qlora["trained"] < full["trained"] / 10 and qlora["model_bytes"] < full["model_bytes"] / 4
    assert qlora["peak_bytes"] < eight_bits["peak_bytes"] < full["peak_bytes"]
