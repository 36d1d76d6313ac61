# SPDX-License-Identifier: MIT
"""Operations on tensors of PyTorch on each kind of GPU that the library in use can compute on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import libbnb
from device_functions import FUNCTIONS, TOLERANCE, is_product

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
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensors_inside_of_others(kind: str, name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("typer")
    pytest.importorskip("rich")
    if not libbnb.is_available(kind):
        pytest.skip(f"the library in use finds no device for {kind}: {libbnb.info()['skipped']}")
    from libbnb.cli.bench_device import device_of

    device = device_of(kind)

    def inside(array: Any) -> Any:
        memory = np.concatenate([np.zeros(5, array.dtype), np.ascontiguousarray(array).reshape(-1)])
        return device.array(memory)[5:].view(array.shape)

    x = rng.standard_normal((37, 64)).astype(np.float32)
    for found, want in zip(FUNCTIONS[name](inside, x), FUNCTIONS[name](torch.from_numpy, x), strict=True):
        if want is None:
            assert found is None
        elif is_product(name):
            np.testing.assert_allclose(device.host(found), want.numpy(), rtol=TOLERANCE, atol=TOLERANCE)
        else:
            np.testing.assert_array_equal(
                device.host(found).reshape(-1).view(np.uint8), want.reshape(-1).view(torch.uint8).numpy()
            )


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
