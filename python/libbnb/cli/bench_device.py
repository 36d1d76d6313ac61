# SPDX-License-Identifier: MIT
"""What libbnb bench measures on: arrays of a device, copies of them, and a clock that waits for their work."""

# PyTorch, which not everybody has, is not seen by the checker here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np

import libbnb
from libbnb._devices import backend_of
from libbnb.arrays.torch_metal import encodes
from libbnb.cli.machine import apple_chip, processor

Array: TypeAlias = Any
Call: TypeAlias = Callable[[], object]

_SHORTEST = 2e-3  # seconds between two looks at the clock of a GPU, which waiting for it should not be much of


class Device(ABC):
    """A place for arrays."""

    kind: str  # as PyTorch calls it
    name: str  # for people
    stream: str = ""  # where operations run, if that depends on the version of a library

    @abstractmethod
    def array(self, values: Any, dtype: str | None = None) -> Array:
        """A NumPy array there, in another dtype if that is given."""

    @abstractmethod
    def host(self, array: Array) -> Any:
        """An array of there as one of NumPy, FP8 as its codes."""

    @abstractmethod
    def copies(self, targets: Sequence[Array], sources: Sequence[Array]) -> list[Call]:
        """Calls that copy arrays, as fast as memory allows."""

    @abstractmethod
    def wait(self) -> None:
        """Returns when all calls are done."""

    @abstractmethod
    def median(self, calls: Sequence[Call], seconds: float) -> float:
        """Median seconds of one call; calls take turns, after each was called once."""


class Host(Device):
    """The CPU, with NumPy's arrays."""

    kind = "cpu"

    def __init__(self) -> None:
        self.name = processor()

    def array(self, values: Any, dtype: str | None = None) -> Array:
        if dtype == "bfloat16":
            import ml_dtypes

            return values.astype(ml_dtypes.bfloat16)
        return values if dtype is None else values.astype(dtype)

    def host(self, array: Array) -> Any:
        return array.view(np.uint8) if array.dtype.name.startswith("float8") else array

    def copies(self, targets: Sequence[Array], sources: Sequence[Array]) -> list[Call]:
        workers = min(libbnb.get_num_threads(), os.cpu_count() or 1)
        pool = ThreadPoolExecutor(workers)

        def call(target: Array, source: Array) -> Call:
            parts = np.array_split(target, workers), np.array_split(source, workers)
            return lambda: list(pool.map(np.copyto, *parts))

        return [call(target, source) for target, source in zip(targets, sources, strict=True)]

    def wait(self) -> None:
        pass

    def median(self, calls: Sequence[Call], seconds: float) -> float:
        for call in calls:
            call()
        times: list[float] = []
        stop = time.perf_counter() + seconds
        while len(times) < len(calls) or time.perf_counter() < stop:
            call = calls[len(times) % len(calls)]
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


class Gpu(Device):
    """A GPU, with PyTorch's tensors."""

    def __init__(self, torch: Any, kind: str) -> None:
        self._torch = torch
        self._device = torch.device(kind)
        self.kind = self._device.type
        if self.kind == "cuda":
            self.name = str(torch.cuda.get_device_name(self._device))
        else:
            self.name = f"{apple_chip() or 'Apple'} GPU"
            own = "computed on PyTorch's own stream"
            self.stream = own if encodes(torch) else "computed on a queue of libbnb's own: each call waits for PyTorch"

    def array(self, values: Any, dtype: str | None = None) -> Array:
        made = self._torch.from_numpy(values)
        return (made if dtype is None else made.to(getattr(self._torch, dtype))).to(self._device)

    def host(self, array: Array) -> Any:
        self.wait()
        is_fp8 = str(array.dtype).startswith("torch.float8")
        return (array.view(self._torch.uint8) if is_fp8 else array).cpu().numpy()

    def copies(self, targets: Sequence[Array], sources: Sequence[Array]) -> list[Call]:
        return [
            lambda target=target, source=source: target.copy_(source)
            for target, source in zip(targets, sources, strict=True)
        ]

    def wait(self) -> None:
        if self.kind == "cuda":
            self._torch.cuda.synchronize(self._device)
        else:
            self._torch.mps.synchronize()  # calls of libbnb are on the same stream, or done when they return

    def median(self, calls: Sequence[Call], seconds: float) -> float:
        """As of the host, but of many calls between two looks at the clock: waiting takes a GPU some time, too."""
        for call in calls:  # kernels are compiled and memory is found
            call()
        rounds = 1
        while (time_of_one := self._time(calls, rounds)) * rounds * len(calls) < min(_SHORTEST, seconds):
            rounds *= 2
        times = [time_of_one]
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            times.append(self._time(calls, rounds))
        return statistics.median(times)

    def _time(self, calls: Sequence[Call], rounds: int) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(rounds):
            for call in calls:
                call()
        self.wait()
        return (time.perf_counter() - start) / (rounds * len(calls))


def device_of(name: str) -> Device:
    """The device of a name that `libbnb.is_available` knows, or an error that says why it cannot be used."""
    if name == "cpu":
        return Host()
    if not libbnb.is_available(name):
        info = libbnb.info()
        why = "; ".join(f"{backend}: {reason}" for backend, reason in info["skipped"].items())
        raise libbnb.Unsupported(
            f"device {name}: the library in use, {info['library']}, finds no such device" + (f" ({why})" if why else "")
        )
    backend, *number = name.split(":")
    kind = ":".join([{"hip": "cuda", "metal": "mps"}.get(backend, backend), *number])
    try:
        import torch
    except ImportError as error:
        raise libbnb.Unsupported(f"device {name}: its arrays are PyTorch's: pip install torch") from error
    there: Any = torch.backends.mps if kind.startswith("mps") else torch.cuda
    if not there.is_available():
        raise libbnb.Unsupported(f"device {name}: libbnb has {backend_of(name)}, but this PyTorch does not")
    return Gpu(torch, kind)
