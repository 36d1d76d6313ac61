# SPDX-License-Identifier: MIT
"""The command line: what it prints, for people and as JSON, how it fails, and its exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("safetensors")

from typer.testing import CliRunner

import libbnb
from checkpoints import CONFIG, save_model, small_model
from libbnb.checkpoint import Checkpoint
from libbnb.cli.app import app
from libbnb.cli.console import count, parse_bytes, size


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs a command in this process; checks its exit status."""

    def call(*arguments: Any, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output + str(result.exception)
        return result

    return call


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    return save_model(tmp_path / "model", small_model(rng), shards=2, config=CONFIG)


def test_quantize_and_back(run: Any, model: Path, tmp_path: Path) -> None:
    text = run("quantize", model, tmp_path / "out", "--format", "fp4", "--blocksize", 32).stdout
    assert "3 of 8 tensors, 8.76 k of 73.0 k parameters to fp4" in text
    assert "left alone (embedding): model.embed_tokens.weight" in text
    assert {weight.detail for weight in Checkpoint(tmp_path / "out").packed.values()} == {"block 32"}
    summary = json.loads(run("dequantize", tmp_path / "out", tmp_path / "plain", "--dtype", "float16", "--json").stdout)
    assert summary["converted"] == 3 and summary["format"] == "float16"
    assert not Checkpoint(tmp_path / "plain").packed


def test_quantize_json(run: Any, model: Path, tmp_path: Path) -> None:
    arguments = ("--double-quant", "--include", "*proj*", "--exclude", "*down*", "--max-shard-size", "50kB", "--json")
    summary = json.loads(run("quantize", model, tmp_path / "out", *arguments).stdout)
    assert summary["format"] == "nf4" and summary["converted"] == 2
    assert summary["kept"]["excluded"] == ["model.layers.1.mlp.down_proj.weight"]
    assert len(summary["files"]) > 1 and summary["seconds"] > 0
    assert summary["bytes_after"] == Checkpoint(tmp_path / "out").nbytes
    assert all(weight.detail == "block 64, nested" for weight in Checkpoint(tmp_path / "out").packed.values())


def test_threads(run: Any, model: Path, tmp_path: Path) -> None:
    before = libbnb.get_num_threads()
    try:
        run("quantize", model, tmp_path / "out", "--threads", 1)
        assert libbnb.get_num_threads() == 1
    finally:
        libbnb.set_num_threads(0)
    assert libbnb.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["quantize", "nothing", "OUT"], 1, "nothing: no such file or directory"),
        (["quantize", "MODEL", "MODEL"], 1, "already exists; delete it or choose another name"),
        (["quantize", "MODEL", "OUT", "--format", "nf5"], 1, "format is 'nf5', must be one of nf4, fp4, int8, fp8"),
        (["quantize", "MODEL", "OUT", "--format", "int8", "--blocksize", "64"], 1, "int8 has no block size"),
        (["quantize", "MODEL", "OUT", "--blocksize", "7"], 1, "must be even"),
        (["quantize", "MODEL", "OUT", "--include", "nothing*"], 1, "no tensor to quantize"),
        (["quantize", "MODEL", "OUT", "--max-shard-size", "5 apples"], 2, "'5 apples' is no size"),
        (["quantize", "MODEL", "OUT", "--threads", "0"], 2, "threads"),
        (["quantize", "MODEL"], 2, "DST"),
        (["dequantize", "MODEL", "OUT"], 1, "nothing in it is quantized"),
        (["inspect", "nothing"], 1, "no such file"),
        (["compare", "MODEL", "--format", "nf4:x"], 1, "must be a block size"),
        (["compare", "MODEL", "--plot", "chart.xyz"], 1, "must end in one of"),
        (["compare", "MODEL", "--plot", "nowhere/chart.png"], 1, "there is no folder"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_mistakes(run: Any, model: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    """One line on stderr that says what is wrong, nothing on stdout, nothing written."""
    names = {"MODEL": str(model), "OUT": str(tmp_path / "out")}
    result = run(*(names.get(argument, argument) for argument in arguments), code=code)
    assert words in " ".join(result.stderr.split()) and not result.stdout
    assert "Traceback" not in result.output
    if code == 1:
        assert result.stderr.startswith("libbnb: error: ") and result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_inspect(run: Any, model: Path, tmp_path: Path) -> None:
    run("quantize", model, tmp_path / "out")
    text = run("inspect", tmp_path / "out").stdout
    assert "model.layers.0.attn.q_proj.weight" in text and "nf4 (block 64)" in text and "128 x 64" in text
    assert "absmax" not in text
    only_totals = run("inspect", tmp_path / "out", "--summary").stdout
    assert "q_proj" not in only_totals and only_totals.splitlines()[-1].startswith("all")
    document = json.loads(run("inspect", tmp_path / "out", "--json").stdout)
    assert len(document["tensors"]) == 8
    assert document["totals"][-1]["nbytes"] == Checkpoint(tmp_path / "out").nbytes


def test_compare(run: Any, model: Path, tmp_path: Path) -> None:
    text = run("compare", model, "-f", "nf4", "-f", "int8", "--plot", tmp_path / "chart.png").stdout
    assert "relative error of layer" in text and "worst layer" in text
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads(run("compare", model, "-f", "nf4", "-f", "nf4:128+dq", "--json").stdout)
    assert len(document["layers"]) == 6 and [total["format"] for total in document["totals"]] == ["nf4", "nf4:128+dq"]
    nf4, smaller = document["totals"]
    assert nf4["relative_error"] < smaller["relative_error"] and nf4["layers"] == 3
    one = run("compare", model, "-f", "int8", "--worst", "1").stdout
    assert one.count("proj.weight") == 1 and "max error" in one


def test_doctor(run: Any) -> None:
    text = run("doctor").stdout
    assert libbnb.__version__ in text and "self-test" in text and str(libbnb.info()["isa"]) in text
    document = json.loads(run("doctor", "--json").stdout)
    assert document["ok"] is True
    topics = [finding["topic"] for finding in document["findings"]]
    assert {"library", "instruction set", "threads", "CPU", "numpy"} <= set(topics)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"BNB_CPU_ISA": "nonsense"}, "BNB_CPU_ISA"),
        ({"BNB_LIB_PATH": "/nowhere/lib.so"}, "there is no file /nowhere/lib.so"),
    ],
)
def test_doctor_finds_what_is_wrong(python: Any, variables: dict[str, str], words: str) -> None:
    result = python("import sys; sys.argv[1:] = ['doctor']; from libbnb.cli import main; main()", **variables)
    assert result.returncode == 1 and words in result.stdout and "ERROR: " in result.stdout and not result.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LIBBNB_PLUGIN": "1"}, "active: 19 operators run on libbnb"),
        ({"LIBBNB_PLUGIN": "0"}, "turned off: LIBBNB_PLUGIN=0"),
        ({"LIBBNB_PLUGIN": "1", "BNB_LIB_PATH": "/nowhere/lib.so"}, "not active"),
    ],
)
def test_doctor_tells_of_the_plugin(python: Any, variables: dict[str, str], words: str) -> None:
    pytest.importorskip("bitsandbytes")
    result = python("import sys; sys.argv[1:] = ['doctor', '--json']; from libbnb.cli import main; main()", **variables)
    findings = [one for one in json.loads(result.stdout)["findings"] if one["topic"] == "bitsandbytes plug-in"]
    assert len(findings) == 1 and findings[0]["found"].startswith(words), findings
    assert ("there is no file" in findings[0]["advice"]) == (words == "not active")


def test_bench(run: Any) -> None:
    arguments = ("--elements", 65536, "--seconds", 0.01, "--dtype", "float32")
    document = json.loads(run("bench", *arguments, "--json").stdout)
    names = [result["operation"] for result in document["results"]]
    assert names[:2] == ["quantize nf4", "dequantize nf4"] and document["copy_bytes_per_second"] > 0
    assert {"product nf4, 1 row", "product fp8, 256 rows", "step of AdamW 8-bit"} < set(names)
    assert all(result["milliseconds"] > 0 and result["fraction_of_copy"] > 0 for result in document["results"])
    assert all((result["flops_per_second"] or 0) > 0 for result in document["results"] if "product" in str(result))
    assert document["device"]["kind"] == "cpu" and document["device"]["name"] and document["unsupported"] == {}
    assert "copying memory" in run("bench", *arguments).stdout
    run("bench", "--dtype", "int7", code=2)


def test_bench_without_such_a_device(run: Any) -> None:
    for name in ("cuda", "cuda:1", "hip", "mps", "metal"):
        if not libbnb.is_available(name):
            error = run("bench", "--device", name, code=1).stderr
            assert error.startswith(f"libbnb: error: device {name}: the library in use, ") and "no such device" in error
    assert "must be one of cpu, cuda" in run("bench", "--device", "tpu", code=1).stderr


def test_bench_says_what_a_device_cannot(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Any:
        raise libbnb.Unsupported("cgemm_fp8 has no kernel")

    monkeypatch.setattr(libbnb, "matmul_fp8", missing)
    arguments = ("bench", "--elements", 8192, "--seconds", 0.01)
    document = json.loads(run(*arguments, "--json").stdout)
    expected = {f"product fp8, {rows}": "cgemm_fp8 has no kernel" for rows in ("1 row", "256 rows")}
    assert document["unsupported"] == expected and len(document["results"]) > 10
    assert "product fp8, 1 row: not there: cgemm_fp8 has no kernel" in run(*arguments).stdout


@pytest.fixture
def gpu() -> Any:
    """What measures GPUs, on PyTorch's CPU: everything but how it waits."""
    torch = pytest.importorskip("torch")
    from libbnb.cli.bench_device import Gpu

    class StandIn(Gpu):
        waits = 0

        def wait(self) -> None:
            self.waits += 1

    return StandIn(torch, "cpu")


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_bench_of_tensors(gpu: Any, dtype: str) -> None:
    from libbnb.cli.bench_operations import Data, operations

    data = Data.make(gpu, 16, dtype)
    for name, make in operations().items():
        operation = make(data)
        for call in operation.calls:
            call()
        assert operation.nbytes >= data.size // 2 and (operation.flops > 0) == name.startswith("product"), name
    assert all(bool(array.isfinite().all()) for array in data.back)
    for call in gpu.copies(data.back, data.floats):
        call()
    assert all(bool((a == b).all()) for a, b in zip(data.back, data.floats, strict=True))


@pytest.mark.torch
def test_bench_goes_on_where_pytorch_cannot(run: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from libbnb.cli import bench

    def missing(*arguments: Any, **options: Any) -> Any:
        raise TypeError("no such dtype on MPS")

    monkeypatch.setattr(libbnb, "matmul_fp8", missing)
    arguments = ("bench", "--elements", 8192, "--seconds", 0.01, "--json")
    assert isinstance(run(*arguments, code=1).exception, TypeError)
    gpu.kind = "mps"
    monkeypatch.setattr(bench, "device_of", lambda name: gpu)
    document = json.loads(run(*arguments).stdout)
    assert set(document["unsupported"].values()) == {"no such dtype on MPS"} and len(document["results"]) > 10


@pytest.mark.torch
def test_the_clock_of_gpus_waits(gpu: Any) -> None:
    """Between two looks at the clock there are enough calls, and the device is waited for at both."""
    waits: list[int] = []
    median = gpu.median([lambda: waits.append(gpu.waits)] * 3, 0.01)
    assert 0 < median < 1e-3
    assert gpu.waits % 2 == 0 and gpu.waits > 2
    called_between = [waits.count(number) for number in range(1, gpu.waits, 2)]
    assert called_between[-1] > 3 and called_between[-1] % 3 == 0
    assert sum(called_between) + 3 == len(waits)  # the first three are those that warm up


@pytest.mark.torch
def test_self_test_of_devices(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from libbnb.cli.self_test import differences

    assert differences(gpu) == []
    array = gpu.array
    monkeypatch.setattr(gpu, "array", lambda values: array(values) * 1.0001)  # as if the GPU computed something else
    wrong = {one.operation: one.how for one in differences(gpu) if one.is_error}
    assert set(wrong) >= {"nf4", "fp4", "int8", "fp8", "product nf4"}
    assert "bytes differ" in wrong["nf4"] and "relative error" in wrong["product nf4"]

    for exception, how in (
        (libbnb.Unsupported("no kernel"), ("not there: no kernel", False)),
        (libbnb.DeviceError("no memory"), ("no memory", True)),
        (RuntimeError("no idea"), ("no idea", True)),
        (TypeError("no such dtype"), ("no such dtype", True)),
    ):

        def fails(values: Any, exception: Exception = exception) -> Any:
            raise exception

        monkeypatch.setattr(gpu, "array", fails)
        assert {(one.how, one.is_error) for one in differences(gpu)} == {how}


INFO = libbnb.info()


def library(**changes: Any) -> Any:
    """What info() would say with other backends."""
    return {**INFO, "backends": [{"name": "cpu", "devices": 1}], "skipped": {}, **changes}


BOTH = [{"name": "cpu", "devices": 1}, {"name": "cuda", "devices": 2}]
NONE = [{"name": "cpu", "devices": 1}, {"name": "cuda", "devices": 0}]


@pytest.mark.parametrize(
    ("info", "advice"),
    [
        ({"backends": BOTH}, ""),
        ({"backends": NONE}, "cuda finds none"),
        ({"skipped": {"cuda": "no device that it can use"}}, "does not work: no device that it can use"),
        ({"chosen_by": "BNB_BACKEND"}, "BNB_BACKEND names a library that does not have cuda"),
        ({}, "build it with -Dcuda=enabled"),
    ],
)
def test_doctor_says_why_a_gpu_is_not_used(monkeypatch: pytest.MonkeyPatch, info: Any, advice: str) -> None:
    from libbnb.cli import doctor

    monkeypatch.setattr(libbnb, "info", lambda: library(**info))
    monkeypatch.setattr(doctor, "gpus", lambda: {"cuda": "GPU 0: NVIDIA H200"})
    (finding,) = doctor._gpu()
    assert finding.found == "GPU 0: NVIDIA H200" and advice in finding.advice and bool(finding.advice) == bool(advice)


def test_doctor_shows_libraries_and_devices(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from libbnb.cli import doctor
    from libbnb.cli.self_test import Difference

    found = [Difference("nf4", "3 bytes differ"), Difference("fp8", "not there", is_error=False)]
    monkeypatch.setattr(doctor, "differences", lambda device: found)
    stream = "computed on PyTorch's own stream"
    monkeypatch.setattr(doctor, "device_of", lambda name: SimpleNamespace(kind="mps", stream=stream))
    described = {"backends": BOTH, "skipped": {"hip": "broken"}, "installed": {"hip": "libbnb_hip.so"}}
    monkeypatch.setattr(libbnb, "info", lambda: library(**described))
    listed = json.loads(run("doctor", "--json", code=1).stdout)["findings"]
    findings = {one["topic"]: one for one in listed}
    assert findings["  backend cpu"]["found"] == "1 device" and findings["  backend cuda"]["found"] == "2 devices"
    assert findings["  library hip"]["found"] == "not used: broken (libbnb_hip.so)"
    assert findings["  tensors on mps"]["found"] == stream
    tests = [(one["found"], one["is_error"]) for one in listed if one["topic"] == "self-test on cuda"]
    assert tests == [("nf4: 3 bytes differ", True), ("fp8: not there", False)]
    monkeypatch.setattr(doctor, "differences", lambda device: [])
    assert "the same as on the CPU" in run("doctor").stdout


def test_help_names_every_command_and_the_rule(run: Any) -> None:
    text = run("--help").stdout
    for command in ("quantize", "dequantize", "inspect", "compare", "doctor", "bench"):
        assert f"\n  {command} " in text
        assert "--json" in run(command, "--help").stdout
    rule = " ".join(run("quantize", "--help").stdout.split())
    assert "Left alone: embeddings, norms, output heads" in rule
    assert run("--version").stdout == f"libbnb {libbnb.__version__}\n"


@pytest.mark.parametrize("command", ["quantize", "dequantize", "inspect", "compare", "doctor", "bench"])
def test_the_manual_names_every_option(run: Any, command: str) -> None:
    """docs/cli.md has a section for each command, and every option of it is there or in the sections before."""
    manual = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    before, found, own = manual.partition(f"\n## {command}\n")
    assert found
    described = before + own.partition("\n## ")[0]
    options = set(re.findall(r"(--[a-z-]+)", run(command, "--help").stdout)) - {"--help", "--no-double-quant"}
    assert {option for option in options if f"{option}" not in described} == set()


@pytest.mark.parametrize("module", ["typer", "rich", "safetensors", "ml_dtypes"])
def test_without_the_extra(python: Any, module: str) -> None:
    """Without its libraries the command says what to install."""
    result = python(f"import sys; sys.modules[{module!r}] = None; from libbnb.cli import main; main()")
    assert result.returncode == 1 and not result.stdout
    assert result.stderr == (
        f"libbnb: the command line needs {module}, which is not installed: pip install 'libbnb[cli]'\n"
    )


def test_module_is_a_program(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "libbnb", "quantize", str(model), str(tmp_path / "out"), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)["converted"] == 3 and not result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5GB", 5 * 10**9), ("500MiB", 500 << 20), ("1.5 kb", 1500), ("7", 7), ("2T", 2 * 10**12), ("3 KiB", 3 << 10)],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "5XB", "0", "1e9", "5 GB GB", "iB"])
def test_no_sizes(text: str) -> None:
    import typer

    with pytest.raises(typer.BadParameter):
        parse_bytes(text)


def test_numbers_for_people() -> None:
    assert [size(n) for n in (0, 999, 1536, 22_700_000, 5.5e12)] == ["0 B", "999 B", "1.54 kB", "22.7 MB", "5.50 TB"]
    assert [count(n) for n in (7, 8758, 22_713_728, 7.2e9)] == ["7", "8.76 k", "22.7 M", "7.20 G"]


# ---------------------------------------------------------------------------------------------------------------------
# Memory

_PEAK = """
import sys
sys.argv[1:] = {arguments!r}
from libbnb.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")).split()[1], file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("format", ["nf4", "int8", "fp8"])
def test_peak_memory(python: Any, format: str, tmp_path: Path) -> None:
    """A weight and an embedding of 320 MB each: below twice that plus 200 MB, and even below one of them."""
    largest = 320_000_000
    weight = np.ones((largest // 4 // 1000, 1000), np.float32)
    folder = save_model(tmp_path / "model", {"a.weight": weight, "wte.weight": weight}, shards=2, config=CONFIG)
    del weight
    code = _PEAK.format(arguments=["quantize", str(folder), str(tmp_path / "out"), "--format", format])
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert int(result.stderr.split()[-1]) * 1024 < min(2 * largest + 200_000_000, largest)
