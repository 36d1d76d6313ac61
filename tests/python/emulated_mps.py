# SPDX-License-Identifier: MIT
"""Tensors of PyTorch that take themselves for tensors on a Mac's GPU: memory with handles, on an emulated Metal device.

They are tensors on the CPU. Every storage has a buffer of the device beside it; where somebody waits for a GPU on a
Mac, storages are copied to their buffers, or back.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emulated_arrays import DEVICE, HOST
from libbnb import _native, arrays
from libbnb._native import METAL, check, ffi, lib
from libbnb.arrays import torch_kind
from libbnb.functional import blockwise


class Buffers:
    """The buffers beside storages."""

    def __init__(self) -> None:
        # By the address of a storage: the storage itself, which lives on, and its buffer.
        self._known: dict[int, tuple[Any, Any]] = {}

    def beside(self, storage: Any) -> Any:
        """The buffer of a storage."""
        if storage.data_ptr() not in self._known:
            pointer = ffi.new("void **")
            check(lib.bnb_allocate(DEVICE.c, max(storage.nbytes(), 1), pointer))
            buffer = ffi.gc(pointer[0], lambda data: lib.bnb_free(DEVICE.c, data))
            self._known[storage.data_ptr()] = (storage, buffer)
        return self._known[storage.data_ptr()][1]

    def upload(self) -> None:
        """PyTorch's work is done: kernels see it."""
        for address, (storage, buffer) in self._known.items():
            check(lib.bnb_copy(DEVICE.c, buffer, HOST, ffi.cast("void *", address), storage.nbytes(), ffi.NULL))

    def download(self) -> None:
        """Kernels are done: PyTorch sees it."""
        for address, (storage, buffer) in self._known.items():
            check(lib.bnb_copy(HOST, ffi.cast("void *", address), DEVICE.c, buffer, storage.nbytes(), ffi.NULL))


def pretend(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on every tensor is one on device "mps". Returns who waited for whom, call by call."""
    buffers, waits = Buffers(), []

    def place(_: Any, tensor: Any) -> tuple[int, int]:
        storage = tensor.untyped_storage()
        return int(ffi.cast("uintptr_t", buffers.beside(storage))), tensor.storage_offset() * tensor.element_size()

    def wait_for_torch() -> None:
        waits.append("torch")
        buffers.upload()

    synchronize = _native.synchronize

    def wait_for_us(*device: int) -> None:
        waits.append("libbnb")
        synchronize(*device)
        buffers.download()

    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    monkeypatch.setattr(torch.Tensor, "is_mps", True)
    device = (METAL, DEVICE.c.device_id)  # PyTorch knows of one device only, the tests of two
    monkeypatch.setattr(torch_kind.TorchKind, "_device", lambda *_: _native.device_word(*device))
    monkeypatch.setitem(_native._waited, id(_native.METAL_STREAM), device)
    monkeypatch.setattr(torch_kind.TorchKind, "place", place)
    monkeypatch.setattr(torch.mps, "synchronize", wait_for_torch)
    monkeypatch.setattr(_native, "synchronize", wait_for_us)
    monkeypatch.setattr(arrays, "_kinds", {})
    monkeypatch.setattr(arrays, "_libraries", {})
    monkeypatch.setattr(blockwise, "_standard_codes", {})
    return waits
