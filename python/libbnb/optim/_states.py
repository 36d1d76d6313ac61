# SPDX-License-Identifier: MIT
"""Where optimizer states live: beside their parameter, in managed memory, or in a file that is mapped into memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from math import prod
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from libbnb import _native
from libbnb._errors import InvalidArgument
from libbnb._native import ffi, lib
from libbnb.arrays import kind_of, stream_of
from libbnb.optim import _sharded

PAGED_ELEMENTS = 100_000  # states of smaller parameters are not worth a mapping of their own
DIRECTORY_VARIABLE = "BNB_PAGED_DIRECTORY"

# Memory of the states that are pages. No attribute of theirs: tensors with attributes cannot be saved as plain tensors.
_pages: Any = WeakTensorKeyDictionary()


def zeros(p: torch.Tensor, averages: int, dtype: torch.dtype, paged: bool, directory: str | None) -> torch.Tensor:
    """A state of `p`: of its shape, or (averages, shape) for more than one average.

    With `paged`, the states of large parameters are pages that the system moves: to and from a GPU where the
    parameter is on one, else to and from a temporary file in `directory`. The file has no name and is gone when the
    tensor is. On a Mac, GPU and host share all memory, which the system moves as it is: there states stay tensors.
    """
    if _sharded.is_sharded(p):
        return _sharded.zeros(p, averages, dtype)
    shape = tuple(p.shape) if averages == 1 else (averages, *p.shape)
    if not paged or p.numel() < PAGED_ELEMENTS or p.device.type == "mps":
        return torch.zeros(shape, dtype=dtype, device=p.device)
    bytes_ = prod(shape) * dtype.itemsize
    memory = _mapped(bytes_, directory) if p.device.type == "cpu" else managed(p, bytes_)
    state = torch.frombuffer(memory, dtype=dtype).view(shape)
    _pages[state] = memory
    return state


def is_paged(state: Any) -> bool:
    """Whether a state is one of pages: its memory is good on the host and on the device of its parameter."""
    return state in _pages


def _mapped(bytes_: int, directory: str | None) -> mmap.mmap:
    place = directory or os.environ.get(DIRECTORY_VARIABLE) or tempfile.gettempdir()
    if not os.path.isdir(place):
        raise InvalidArgument(f"paged_directory: there is no directory {place}")
    with tempfile.TemporaryFile(dir=place, prefix="libbnb-states-") as file:
        # Blocks are reserved now: a disk that fills up while pages are written would be a bus error then.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, bytes_)
        else:
            file.truncate(bytes_)
        return mmap.mmap(file.fileno(), bytes_)


def managed(p: torch.Tensor, bytes_: int) -> Any:
    """Zeros in managed memory of the device of `p`, as a buffer that frees them with its last user."""
    device = _device(p)
    data = ffi.new("void **")
    _native.check(lib.bnb_allocate_managed(device[0], bytes_, data))

    def free(pointer: Any) -> None:
        lib.bnb_free(device[0], pointer)

    buffer = ffi.buffer(ffi.gc(data[0], free, bytes_), bytes_)
    torch.frombuffer(buffer, dtype=torch.uint8).zero_()
    return buffer


def _device(p: torch.Tensor) -> Any:
    """The device of a tensor as a C pointer to it."""
    _, view = kind_of(p, "p").read(p.detach(), "p")
    return ffi.new("DLDevice *", {"device_type": view[5] & 0xFFFFFFFF, "device_id": view[5] >> 32})


def prefetch(p: torch.Tensor, state: torch.Tensor) -> None:
    """Starts moving the pages of a state to where the step will need them. A hint, which may do nothing."""
    pages = _pages.get(state)
    if pages is None:
        return
    if isinstance(pages, mmap.mmap):
        if hasattr(mmap, "MADV_WILLNEED"):
            pages.madvise(mmap.MADV_WILLNEED)
        return
    kind = kind_of(p, "p")
    _, view = kind.read(p.detach(), "p")
    memory = ffi.from_buffer(pages)
    _native.check(lib.bnb_prefetch(memory, len(pages), _device(p)[0], stream_of(kind, p, view)))
