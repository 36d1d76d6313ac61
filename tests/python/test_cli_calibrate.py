# SPDX-License-Identifier: MIT
"""libbnb compare --calibrate: what it prints, writes and refuses. The numbers are those of test_quality.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("safetensors")

from typer.testing import CliRunner

import language_models
from checkpoints import CONFIG, save_model, small_model
from libbnb.cli.app import app
from libbnb.cli.calibrate import parse_budget
from libbnb.quality import Budget

pytestmark = pytest.mark.torch

WINDOWS = ("--windows", 1, "--window", 32)


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs `compare` in this process; checks its exit status."""

    def call(*arguments: Any, code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["compare", *(str(argument) for argument in arguments)])
        assert result.exit_code == code, result.output + str(result.exception)
        return result

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate") / "model"
    folder.mkdir()
    llama = language_models.trained_llama(language_models.save_tokenizer(folder), steps=5)
    llama.save_pretrained(folder)
    (folder.parent / "text.txt").write_text(language_models.text(200))
    return folder


@pytest.fixture
def text(model: Path) -> Path:
    return model.parent / "text.txt"


def test_for_people(run: Any, model: Path, text: Path, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    shown = run(
        model,
        "--calibrate",
        text,
        "-f",
        "nf4",
        "-f",
        "int8",
        *WINDOWS,
        "--budget",
        "6bits",
        "--worst",
        2,
        "--html",
        html,
    ).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert shown.count("most sensitive first") == 2 and sum(line[:1] != [] and "proj" in line[0] for line in lines) >= 4
    assert ["dense", "0", "of", "14"] in [line[:4] for line in lines]
    assert ["nf4,", "suggested"] in [line[:2] for line in lines]
    assert "suggested, nf4" in shown and "libbnb quantize SRC DST --format nf4 --exclude model.layers." in shown
    assert 'llm_int8_skip_modules=["' in shown and "suggested, nf4 + int8" in shown
    assert html.read_text().startswith("<!doctype html>")


def test_for_machines(run: Any, model: Path, text: Path) -> None:
    """A size for the whole model; int8 alone is too large for it, so that is left out."""
    result = run(model, "--calibrate", text, "-f", "nf4", "-f", "int8", *WINDOWS, "--budget", "100kB", "--json")
    document = json.loads(result.stdout)
    assert not result.stderr
    assert document["budget"] == {"bits": None, "nbytes": 100_000} and document["text"]["windows"] == 1
    assert len(document["layers"]) == 28 and document["models"][0]["label"] == "dense"
    assert {one["format"] for one in document["suggestions"]} == {"nf4", "nf4 + int8"}
    assert all(one["model"]["nbytes"] <= 100_000 for one in document["suggestions"])
    without = json.loads(run(model, "--calibrate", text, "-f", "nf4+dq", *WINDOWS, "--json").stdout)
    assert without["suggestions"] == [] and without["best"] is None and len(without["models"]) == 2


def test_everything_fits(run: Any, model: Path, text: Path) -> None:
    """A budget above the dense model: nothing has to be quantized, so nothing is suggested to be."""
    shown = run(model, "--calibrate", text, "-f", "nf4", *WINDOWS, "--budget", "1GB").stdout
    assert "suggested, nf4: layers that stay: 14; KL 0.00e+00 predicted, 0.00e+00 measured" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["MODEL", "--budget", "4.5bits"], 2, "--budget needs --calibrate"),
        (["MODEL", "--html", "x.html"], 2, "--html needs --calibrate"),
        (["MODEL", "--calibrate", "TEXT", "--plot", "x.png"], 2, "--plot is for weights alone"),
        (["MODEL", "--calibrate", "TEXT", "--budget", "4.5 apples"], 2, "'4.5 apples' is no size"),
        (["MODEL", "--calibrate", "TEXT", "--budget", "0bits"], 2, "'0bits' is no budget"),
        (["MODEL", "--calibrate", "TEXT", "--budget", "2bits"], 1, "a budget of 2 bits per weight is too small"),
        (["MODEL", "--calibrate", "TEXT", "--html", "nowhere/x.html"], 1, "there is no folder"),
        (["MODEL", "--calibrate", "nothing.txt"], 1, "nothing.txt: no such file"),
        (["MODEL", "--calibrate", "TEXT", "-f", "nf5"], 1, "format is 'nf5'"),
        (["PLAIN", "--calibrate", "TEXT"], 1, "transformers cannot load it as a causal language model"),
        (["FILE", "--calibrate", "TEXT"], 1, "has no config.json"),
    ],
)
def test_mistakes(
    run: Any,
    model: Path,
    text: Path,
    tmp_path: Path,
    rng: np.random.Generator,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    plain = save_model(tmp_path / "plain", small_model(rng), config=CONFIG | {"model_type": "no such model"})
    names = {"MODEL": model, "TEXT": text, "PLAIN": plain, "FILE": plain / "model.safetensors"}
    result = run(*(names.get(argument, argument) for argument in arguments), *WINDOWS, code=code)
    said = " ".join(result.stderr.replace("│", " ").split())
    assert words in said and not result.stdout and "Traceback" not in result.output
    if code == 1:
        assert result.stderr.startswith("libbnb: error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_what_is_missing_is_named(
    run: Any, model: Path, text: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    import importlib.util

    from libbnb.cli import calibrate

    real = importlib.util.find_spec
    monkeypatch.setattr(calibrate, "find_spec", lambda name: None if name == module else real(name))
    result = run(model, "--calibrate", text, code=1)
    assert result.stderr == (f"libbnb: error: --calibrate needs {module}: pip install 'libbnb[torch]' transformers\n")


def test_budgets() -> None:
    assert parse_budget("4.5bits") == parse_budget(" 4.5 bit ") == Budget(bits=4.5)
    assert parse_budget("1.2GB") == Budget(nbytes=1_200_000_000)
