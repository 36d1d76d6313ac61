# SPDX-License-Identifier: MIT
"""examples/python/train_lm.py runs, and every optimizer in it learns the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "train_lm.py"


def test_language_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "runs.json", tmp_path / "plot.png"
    command = [sys.executable, str(EXAMPLE), "--steps", "8", "--json", str(out), "--plot", str(plot)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    runs = json.loads(out.read_text())["runs"]
    assert {"PyTorch AdamW, fp32", "libbnb AdamW8bit"} <= runs.keys() and plot.stat().st_size > 1000
    losses = [run["held_out_loss"] for run in runs.values()]
    assert max(losses) - min(losses) < 0.05 and max(losses) < 4.0
    assert all(run["losses"][-1] < run["losses"][0] for run in runs.values())
