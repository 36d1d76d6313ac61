# SPDX-License-Identifier: MIT
"""examples/python/train_bitnet.py: a BitNet model learns, writes the same tokens packed, is exported bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "examples" / "python" / "train_bitnet.py"


def test_language_model(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "tokenizers", "gguf", "safetensors", "matplotlib"):
        pytest.importorskip(module)
    out, plot = tmp_path / "result.json", tmp_path / "plot.png"
    command = [sys.executable, str(EXAMPLE), "--steps", "12", "--json", str(out), "--plot", str(plot)]
    # One thread: what is small here takes less time so, and does not wait for cores that others keep busy.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BNB_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    document = json.loads(out.read_text())
    assert document["same_tokens"] and document["gguf"]["same_bits"] and plot.stat().st_size > 1000
    assert document["gguf"]["ternary_tensors"] == 21 and 0.1 < document["sparsity"] < 0.6
    assert document["float_bytes"] > 15.9 * document["packed_bytes"]
    for run in document["runs"].values():
        assert run["losses"][-1] < run["losses"][0] - 0.3
