# SPDX-License-Identifier: MIT
"""Arrays that are on a device: their streams, and operations on them with libraries whose device is emulated."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from libbnb import _native, _views
from libbnb._native import ffi

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="devices are emulated on Linux")
@pytest.mark.parametrize(
    ("name", "device", "cases", "skipped"),
    [
        ("simt32", "0", "emulated_cases.py", 0),
        ("simt64", "0", "emulated_cases.py", 0),
        ("metal_host", "0", "emulated_cases.py", 3),  # those that are about pointers
        ("metal_host", "1", "emulated_cases.py", 3),
        ("metal_host", "0", "emulated_mps_cases.py", 0),
        ("metal_host", "1", "emulated_mps_cases.py", 0),
    ],
    ids=["cuda", "hip", "metal 0", "metal 1", "mps 0", "mps 1"],
)
def test_operations_on_an_emulated_device(native_build: Path, name: str, device: str, cases: str, skipped: int) -> None:
    if "mps" in cases:
        pytest.importorskip("torch")
    library = native_build / "libbnb" / f"libbnb_{name}.so"
    if not library.exists():
        pytest.skip(f"{native_build} was built without {library.name}: this machine's processor is not emulated on")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BNB_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cases]
    done = subprocess.run(
        command,
        cwd=HERE,
        env=clean | {"BNB_LIB_PATH": str(library), "BNB_TEST_DEVICE": device},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and (f" {skipped} skipped" in done.stdout or not skipped)
    assert skipped or "skipped" not in done.stdout


def test_streams_that_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[int, int]] = []
    monkeypatch.setattr(_native, "synchronize", lambda *device: waited.append(device))
    stream = _native.waited_stream(2, 1)
    assert stream is _native.waited_stream(2, 1) and stream is not _native.waited_stream(2, 0)
    assert stream == ffi.NULL and _native.METAL_STREAM == ffi.NULL  # to C they are default streams
    for one in (stream, _native.METAL_STREAM, ffi.NULL, ffi.cast("void *", 0), ffi.cast("void *", 64)):
        _native.settle(one)
    assert waited == [(2, 1), (8, 0)]


@pytest.mark.torch
@pytest.mark.parametrize(("hip", "type_"), [(None, 2), ("6.2", 10)], ids=["cuda", "hip"])
def test_tensors_of_pytorch_go_to_the_current_stream(monkeypatch: pytest.MonkeyPatch, hip: Any, type_: int) -> None:
    torch = pytest.importorskip("torch")
    from libbnb.arrays import stream_of
    from libbnb.arrays.torch_kind import TorchKind

    monkeypatch.setattr(torch.version, "hip", hip)
    kind = TorchKind()
    asked: list[Any] = []

    def current_stream(device: Any) -> Any:
        asked.append(device)
        return SimpleNamespace(cuda_stream=0xABC0)

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    device = torch.device("cuda:1")
    tensor: Any = SimpleNamespace(
        is_cpu=False, is_mps=False, is_cuda=True, device=device, dtype=torch.float32, storage_offset=lambda: 0,
        numel=lambda: 6, data_ptr=lambda: 4096, is_contiguous=lambda: True, is_neg=lambda: False, layout=torch.strided,
    )  # fmt: skip
    view = kind._view(tensor, "A")
    assert view[5] == _views.device_word(type_, 1) and view[4] == 4096
    assert int(ffi.cast("uintptr_t", stream_of(kind, tensor, view))) == 0xABC0 and asked == [device]


@pytest.mark.torch
def test_operators_of_pytorch_are_those_of_every_device() -> None:
    torch = pytest.importorskip("torch")
    import libbnb.autograd  # noqa: F401  # defines them

    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("libbnb::")]
    assert len(names) > 20
    for name in names:
        for key in ("CPU", "CUDA", "MPS"):
            assert torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, key), f"{name} has no kernel for {key}"
