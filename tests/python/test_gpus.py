# SPDX-License-Identifier: MIT
"""Operations on tensors of PyTorch on each kind of GPU that the library in use can compute on."""

from __future__ import annotations

import pytest

import libbnb

pytestmark = pytest.mark.torch

KINDS = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("cuda", "hip", "metal")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_on_the_cpu(kind: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("typer")
    pytest.importorskip("rich")
    if not libbnb.is_available(kind):
        pytest.skip(f"the library in use finds no device for {kind}: {libbnb.info()['skipped']}")
    from libbnb.cli.bench_device import device_of
    from libbnb.cli.self_test import differences

    assert differences(device_of(kind)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_of_the_benchmark_runs(kind: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("typer")
    pytest.importorskip("rich")
    if not libbnb.is_available(kind):
        pytest.skip(f"the library in use finds no device for {kind}: {libbnb.info()['skipped']}")
    from libbnb.cli.bench_device import device_of
    from libbnb.cli.bench_operations import Data, operations

    device = device_of(kind)
    data = Data.make(device, 16, "float32")
    for make in operations().values():
        assert device.median(make(data).calls, 0.0) > 0
    device.wait()
