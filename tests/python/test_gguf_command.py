# SPDX-License-Identifier: MIT
"""libbnb export-gguf, and libbnb inspect of GGUF files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("safetensors")
pytest.importorskip("gguf")
pytest.importorskip("tokenizers")

from typer.testing import CliRunner

from gguf_models import BITNET_CONFIG, VOCABULARY, model_folder
from libbnb.cli.app import app
from libbnb.integrations.gguf import GGUFFile, export_gguf


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.gguf"


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs a command in this process; checks its exit status."""

    def call(*arguments: Any, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output + str(result.exception)
        return result

    return call


def test_command(run: Any, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng, BITNET_CONFIG)
    text = run("export-gguf", folder, "--out", out, "--type", "tq2_0", "--ternarize").stdout
    assert "a complete bitnet model: 24 tensors (1 Q8_0, 9 F32, 14 TQ2_0)" in text
    assert "already exists" in run("export-gguf", folder, "--out", out, code=1).stderr
    summary = json.loads(run("export-gguf", folder, "--out", out, "-t", "q4_0", "--force", "--json").stdout)
    assert summary["complete"] and summary["types"] == {"Q8_0": 1, "F32": 9, "Q4_0": 14}
    for arguments, words in (
        (["--type", "tq1_0"], "is not ternary"),
        (["--type", "q3"], "quant_type is 'q3'"),
        (["--embedding-type", "tq1_0"], "embedding_type is tq1_0"),
    ):
        result = run("export-gguf", folder, "--out", tmp_path / "other.gguf", *arguments, code=1)
        assert words in result.stderr and result.stderr.startswith("libbnb: error: ") and not result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.gguf"]


def test_command_inspects(run: Any, tmp_path: Path, out: Path, rng: np.random.Generator) -> None:
    folder = model_folder(tmp_path / "model", rng, BITNET_CONFIG)
    content = GGUFFile(Path(export_gguf(folder, out, "tq1_0", ternarize=True).destination))
    text = run("inspect", out).stdout
    assert "bitnet.block_count" in text and "blk.0.attn_q.weight" in text and "TQ1_0" in text and "zeros" in text
    document = json.loads(run("inspect", out, "--json").stdout)
    assert document["metadata"]["general.architecture"] == "bitnet"
    assert document["metadata"]["tokenizer.ggml.tokens"]["length"] == VOCABULARY
    for tensor in document["tensors"]:
        values = content.dequantize(tensor["name"])
        assert tensor["sparsity"] == (float((values == 0).mean()) if tensor["format"] == "TQ1_0" else None)
    assert document["totals"][-1]["tensors"] == len(document["tensors"])
    assert "blk" not in run("inspect", out, "--summary").stdout
    out.write_bytes(out.read_bytes()[:-1])
    result = run("inspect", out, code=1)
    assert "it was cut off" in result.stderr and result.stderr.count("\n") == 1


def test_command_without_the_package(run: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libbnb.cli.gguf_package.find_spec", lambda name: None)
    out.write_bytes(b"GGUF")
    for arguments in (["inspect", out], ["export-gguf", out]):
        assert "pip install 'libbnb[gguf]'" in run(*arguments, code=1).stderr


def test_import_without_the_package(python: Any) -> None:
    result = python(
        "import sys; sys.modules['gguf'] = None\n"
        "try:\n    import libbnb.integrations.gguf\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert "pip install 'libbnb[gguf]'" in result.stdout, result.stderr
