# SPDX-License-Identifier: MIT
"""benchmarks/device.py runs from end to end without a GPU, so that its run on a machine with one is not its first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


def test_trial_on_the_host(tmp_path: Path) -> None:
    arguments = "--device cpu --elements 8192 --shapes 64x128 --rows 1 3 --seconds 0.01".split()
    command = [sys.executable, str(SCRIPT), *arguments, "--name", str(tmp_path / "trial")]
    subprocess.run(command, check=True, timeout=300)
    results = json.loads((tmp_path / "trial.json").read_text())
    assert {row["operation"] for row in results["rows"]} >= {
        *("quantize_4bit nf4", "dequantize_blockwise", "quantize_fp8", "int8_vectorwise_quant"),
        *("AdamW 8-bit", "AdamW 32-bit", "matmul_4bit nf4", "int8_scaled_mm"),
    }
    assert all(row["seconds"] > 0 and row["fraction_of_copy"] > 0 for row in results["rows"])
