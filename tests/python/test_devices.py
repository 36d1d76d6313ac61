# SPDX-License-Identifier: MIT
"""Whether there is a GPU, and whether the library has kernels for it: of this library and of ones that are made up."""

from __future__ import annotations

from typing import Any

import pytest

import libbnb
from libbnb import _devices


def test_this_library() -> None:
    info = libbnb.info()
    devices = {row["name"]: row["devices"] for row in info["backends"]}
    assert libbnb.is_available("cpu") is True
    assert libbnb.is_available() is any(count > 0 for name, count in devices.items() if name != "cpu")
    assert libbnb.has_native_kernels("cpu") is (info["isa"] != "reference")
    assert libbnb.has_native_kernels("metal") is ("metal" in devices)


def test_the_reference_code_is_no_native_kernel() -> None:
    try:
        libbnb.set_isa("reference")
        assert libbnb.is_available("cpu") and not libbnb.has_native_kernels("cpu")
        assert libbnb.has_native_kernels() is libbnb.is_available()
    finally:
        libbnb.set_isa(None)


# Backends of a library with their devices -> (the names of devices that are available, those that have kernels)
LIBRARIES = [
    ({"cpu": 1}, set(), set()),
    ({"cpu": 1, "metal": 1}, {"metal", "mps", "mps:0"}, {"metal", "mps", "mps:0"}),
    ({"cpu": 1, "cuda": 2}, {"cuda", "cuda:1"}, {"cuda", "cuda:1"}),
    ({"cpu": 1, "hip": 1}, {"cuda", "cuda:1", "hip"}, {"cuda", "cuda:1", "hip"}),
    ({"cpu": 1, "cuda": 0}, set(), {"cuda", "cuda:1"}),
]
NAMES = {"metal", "mps", "mps:0", "cuda", "cuda:1", "hip"}


@pytest.mark.parametrize(("backends", "available", "native"), LIBRARIES, ids=lambda value: "+".join(sorted(value)))
@pytest.mark.parametrize("isa", ["avx2", "reference", None])
def test_libraries_with_other_backends(
    monkeypatch: pytest.MonkeyPatch, backends: dict[str, int], available: set[str], native: set[str], isa: Any
) -> None:
    rows = [{"name": name, "devices": devices} for name, devices in backends.items()]
    monkeypatch.setattr(_devices, "info", lambda: {"backends": rows, "isa": isa})
    assert {name for name in NAMES if libbnb.is_available(name)} == available
    assert {name for name in NAMES if libbnb.has_native_kernels(name)} == native
    assert libbnb.is_available() is bool(available)
    assert libbnb.has_native_kernels() is (bool(available) or isa == "avx2")
    assert libbnb.has_native_kernels("cpu") is (isa == "avx2")


@pytest.mark.torch
def test_devices_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    assert libbnb.is_available(torch.device("cpu")) and not libbnb.is_available(torch.device("mps:0"))


@pytest.mark.parametrize("function", [libbnb.is_available, libbnb.has_native_kernels])
@pytest.mark.parametrize("device", ["tpu", "", 0])
def test_what_is_no_device(function: Any, device: Any) -> None:
    with pytest.raises(
        libbnb.InvalidArgument, match=f"device is '{device}', must be one of cpu, cuda, hip, metal, mps"
    ):
        function(device)
