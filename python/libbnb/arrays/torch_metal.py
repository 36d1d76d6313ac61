# SPDX-License-Identifier: MIT
"""Operations on PyTorch's own stream on a Mac: `torch.mps.compile_shader` encodes their kernels among PyTorch's work.

Nobody waits for anybody then. The C library says what it would launch (bnb/metal.h), after all checks; here it is only
handed on. Not yet run on a Mac: the tests have a stand-in behind `compile_shader`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from libbnb._errors import InternalError
from libbnb._native import ffi, lib
from libbnb.arrays.base import Array

_FIRST_VERSION = (2, 7)  # of PyTorch whose kernels take lists of numbers, and are told the size of threadgroups
_PLACES: dict[str, int] = ffi.typeof("bnb_metal_place").relements
_NOTHING, _TEMPORARY = _PLACES["BNB_METAL_NOTHING"], _PLACES["BNB_METAL_TEMPORARY"]
_UNUSED = [0, 0]  # what a kernel gets that does not look at it


def encodes(torch: Any) -> bool:
    """Whether this PyTorch takes kernels on its stream; else operations go to a queue of their own, and wait.

    With PYTORCH_MPS_FAST_MATH it compiles them so that they do not give the bits that are promised.
    """
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    recent = version is not None and tuple(map(int, version.groups())) >= _FIRST_VERSION
    fast_math = os.environ.get("PYTORCH_MPS_FAST_MATH", "0") != "0"
    return recent and not fast_math and hasattr(torch._C, "_mps_compileShader")


class TorchStream:
    """PyTorch's stream on a Mac, in the place of a stream of the C library.

    Parameters
    ----------
    torch
        The module.
    place
        `TorchKind.place`.
    """

    def __init__(self, torch: Any, place: Callable[[Array], tuple[int, int]]) -> None:
        self._torch = torch
        self._place = place
        self._files: dict[int, Any] = {}  # compiled kernel files by the addresses of their texts
        self._kernels: dict[tuple[int, bytes], Any] = {}

    def run(self, function: Any, values: Iterable[Any], arrays: Iterable[Array]) -> int:
        """Calls an operation with all arguments but the stream, encodes what it launches, and returns its status.

        `arrays` are the tensors of the call.
        """
        count, bytes_ = ffi.new("int64_t *"), ffi.new("size_t *")
        try:
            status: int = function(*values, lib.bnb_metal_recorder())
        finally:
            launches = lib.bnb_metal_take(count, bytes_)
        if status == 0 and count[0]:
            self._encode(launches[0 : count[0]], bytes_[0], arrays)
        return status

    def _encode(self, launches: Iterable[Any], temporary_bytes: int, arrays: Iterable[Array]) -> None:
        known: dict[tuple[int, int], Array] = {}  # by handle and offset
        bases: dict[int, Array] = {}
        for array in arrays:
            place = self._place(array)
            known[place] = bases[place[0]] = array
        torch, device = self._torch, next(iter(bases.values())).device
        temporary: Any = torch.empty(temporary_bytes, dtype=torch.uint8, device=device) if temporary_bytes else None

        def argument(buffer: Any) -> Any:
            if buffer.place == _NOTHING:
                return _UNUSED
            if buffer.place == _TEMPORARY:
                return temporary[buffer.offset :]
            place = int(ffi.cast("uintptr_t", buffer.buffer)), int(buffer.offset)
            if place not in known:
                memory = bases[place[0]].untyped_storage()
                known[place] = torch.empty(0, dtype=torch.uint8, device=device).set_(memory, place[1], (1,), (1,))
            return known[place]

        for launch in launches:
            arguments = [argument(buffer) for buffer in launch.buffers[0 : launch.buffer_count]]
            threads = int(launch.threads)
            self._kernel(launch)(_words(launch), *arguments, threads=launch.groups * threads, group_size=threads)

    def _kernel(self, launch: Any) -> Any:
        text, name = int(ffi.cast("uintptr_t", launch.source)), ffi.string(launch.function)
        kernel = self._kernels.get((text, name))
        if kernel is None:
            if text not in self._files:
                self._files[text] = self._compile(launch)
            kernel = self._kernels[text, name] = getattr(self._files[text], name.decode())
        return kernel

    def _compile(self, launch: Any) -> Any:
        try:
            return self._torch.mps.compile_shader(ffi.string(launch.source).decode())
        except (RuntimeError, SyntaxError) as error:
            name = ffi.string(launch.function).decode()
            raise InternalError(f"PyTorch does not compile the file of the kernel {name}: {error}") from error


def _words(launch: Any) -> list[int]:
    """The arguments of a kernel as PyTorch takes them: whole words of 8 bytes."""
    raw = bytes(ffi.buffer(launch.bytes, launch.byte_count))
    return memoryview(raw.ljust(-(-len(raw) // 8) * 8, b"\0")).cast("q").tolist()
