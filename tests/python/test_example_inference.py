# SPDX-License-Identifier: MIT
"""The Llama of the examples on NumPy, JAX and MLX: the tokens of the same model in transformers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("safetensors")
pytest.importorskip("ml_dtypes")

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
COUNT = 24

# Modules that are None cannot be imported.
_WITHOUT_FRAMEWORKS = """
import runpy, sys
for name in ("torch", "jax", "mlx", "tensorflow", "transformers", "bitsandbytes"):
    sys.modules[name] = None
sys.argv = {arguments!r}
sys.path.insert(0, {folder!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _run(*command: str) -> str:
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def llama() -> Any:
    sys.path.insert(0, str(EXAMPLES))
    try:
        import llama
    finally:
        sys.path.remove(str(EXAMPLES))
    return llama


@pytest.fixture(scope="module")
def checkpoint(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama.make_checkpoint(tmp_path_factory.mktemp("model") / "llama")


def _by_numpy(folder: Path) -> list[int]:
    arguments = [str(EXAMPLES / "numpy_inference.py"), str(folder), "--tokens", str(COUNT), "--json"]
    return json.loads(_run("-c", _WITHOUT_FRAMEWORKS.format(arguments=arguments, folder=str(EXAMPLES))))["tokens"]


def _by_transformers(folder: Path, prompt: list[int], format: str | None = None) -> list[int]:
    """The same model in transformers, quantized by libbnb's layers if there is a format."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if format is not None:
        from libbnb.nn import quantize_model

        quantize_model(model, format)
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        written = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=COUNT, min_new_tokens=COUNT, do_sample=False
        )
    return written[0, len(prompt) :].tolist()


@pytest.mark.torch
@pytest.mark.parametrize("format", ["nf4", "int8", "fp8"])
def test_numpy_writes_what_transformers_writes(llama: Any, checkpoint: Path, format: str) -> None:
    """With no framework that could be imported; beside the model that is dequantized, and on libbnb's layers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from libbnb.checkpoint import dequantize_checkpoint

    packed = llama.quantized(checkpoint, format)
    found = _by_numpy(packed)
    assert len(found) == COUNT and len(set(found)) > 4
    assert found == _by_transformers(checkpoint, llama.PROMPT, format)
    if format != "int8":  # which quantizes activations, too
        dequantize_checkpoint(packed, checkpoint.with_name(f"plain-{format}"))
        assert found == _by_transformers(checkpoint.with_name(f"plain-{format}"), llama.PROMPT)


@pytest.mark.torch
def test_numpy_runs_what_is_not_quantized(llama: Any, checkpoint: Path) -> None:
    pytest.importorskip("transformers")
    assert _by_numpy(checkpoint) == _by_transformers(checkpoint, llama.PROMPT)


def test_numpy_example_without_arguments() -> None:
    assert _run(str(EXAMPLES / "numpy_inference.py"), "--format", "fp4").endswith("frameworks imported: none\n")


def test_jax() -> None:
    """Inside jit, 4-bit weights write what their dense values write, and adapters learn through them."""
    pytest.importorskip("jax.ffi")
    text = _run(str(EXAMPLES / "jax_inference.py"))
    found = re.search(r"same tokens: (\w+); logits differ by (\S+); NF4 itself changed them by (\S+)", text)
    assert found is not None and found[1] == "True"
    assert float(found[2]) < 1e-5 < 0.1 < float(found[3])  # float32 sums in another order; NF4 is another model
    loss = re.search(r"loss (\S+) -> (\S+)", text)
    assert loss is not None and float(loss[2]) < 0.8 * float(loss[1])


def test_mlx() -> None:
    pytest.importorskip("mlx.core", reason="MLX does not import here", exc_type=ImportError)
    text = _run(str(EXAMPLES / "mlx_inference.py"))
    found = re.search(r"same tokens: (\w+); logits differ by (\S+)", text)
    assert found is not None and found[1] == "True" and float(found[2]) < 1e-5
