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
from libbnb import _native, _views, arrays
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

    def _pairs(self, storages: Any) -> Any:
        for storage in [s for s, _ in self._known.values()] if storages is None else storages:
            yield ffi.cast("void *", storage.data_ptr()), self.beside(storage), storage.nbytes()

    def upload(self, storages: Any = None) -> None:
        """PyTorch's work on all storages, or some, is done: kernels see it."""
        for memory, buffer, nbytes in self._pairs(storages):
            check(lib.bnb_copy(DEVICE.c, buffer, HOST, memory, nbytes, ffi.NULL))

    def download(self, storages: Any = None) -> None:
        """Kernels are done: PyTorch sees it."""
        for memory, buffer, nbytes in self._pairs(storages):
            check(lib.bnb_copy(HOST, memory, DEVICE.c, buffer, nbytes, ffi.NULL))


class Kernel:
    """What `torch.mps.compile_shader` makes of a kernel: called as PyTorch allows, it runs on the emulated device."""

    def __init__(self, buffers: Buffers, source: str, name: str) -> None:
        self._buffers, self._source, self._name = buffers, ffi.new("char[]", source.encode()), name

    def __call__(self, *arguments: Any, threads: int, group_size: int) -> None:
        first, *rest = arguments
        assert isinstance(first, list) and all(type(word) is int and -(2**63) <= word < 2**63 for word in first)
        assert threads % group_size == 0 and len(rest) < 31
        places = ffi.new("bnb_metal_buffer[]", max(len(rest), 1))
        bound: list[Any] = []
        for place, argument in zip(places, rest, strict=False):
            if isinstance(argument, list):
                assert argument and all(type(word) is int for word in argument)
                place.place = lib.BNB_METAL_NOTHING
            else:
                storage = argument.untyped_storage()
                place.place, place.buffer = lib.BNB_METAL_TENSOR, self._buffers.beside(storage)
                place.offset = argument.storage_offset() * argument.element_size()
                bound.append(storage)
        words, name = ffi.new("int64_t[]", first), ffi.new("char[]", self._name.encode())
        launch = ffi.new(
            "bnb_metal_launch *",
            {
                "source": self._source, "function": name, "groups": threads // group_size, "threads": group_size,
                "bytes": words, "byte_count": 8 * len(first), "buffers": places, "buffer_count": len(rest),
            },
        )  # fmt: skip
        self._buffers.upload(bound)
        check(lib.bnb_metal_play(DEVICE.c, launch, 1, ffi.NULL, ffi.NULL))
        check(lib.bnb_synchronize(DEVICE.c, ffi.NULL))
        self._buffers.download(bound)


class KernelFile:
    """What `torch.mps.compile_shader` returns."""

    def __init__(self, buffers: Buffers, source: str) -> None:
        self._buffers, self._source = buffers, source

    def __getattr__(self, name: str) -> Kernel:
        return Kernel(self._buffers, self._source, name)


def pretend(monkeypatch: pytest.MonkeyPatch, way: str) -> list[str]:
    """From now on every tensor is one on device "mps". Returns who waited for whom, call by call.

    `way` is "stream", that of a PyTorch which has `compile_shader`, or "queue".
    """
    buffers, waits = Buffers(), []

    def compile_shader(source: str) -> KernelFile:
        waits.append("compiler")
        return KernelFile(buffers, source.removesuffix("\n"))  # PyTorch has added one

    if way == "stream":
        monkeypatch.setattr(torch._C, "_mps_compileShader", compile_shader, raising=False)

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
    monkeypatch.setattr(torch_kind.TorchKind, "_device", lambda *_: _views.device_word(*device))
    monkeypatch.setitem(_native._waited, id(_native.METAL_STREAM), device)
    monkeypatch.setattr(torch_kind.TorchKind, "place", place)
    monkeypatch.setattr(torch.mps, "synchronize", wait_for_torch)
    monkeypatch.setattr(_native, "synchronize", wait_for_us)
    monkeypatch.setattr(arrays, "_kinds", {})
    monkeypatch.setattr(arrays, "_libraries", {})
    monkeypatch.setattr(blockwise, "_standard_codes", {})
    return waits
