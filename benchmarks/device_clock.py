# SPDX-License-Identifier: MIT
"""The clock of a GPU: a list of calls captured as one CUDA graph, replayed between two events.

A graph leaves out what the host does between calls, and capturing one is a test of its own: an operation that allocates
or synchronizes or uses another stream cannot be captured. Peers that cannot be captured are launched in a loop between
the events instead, and their rows say so. `--device cpu` runs the same code without a GPU, on the host's clock.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from common import median_seconds

Call = Callable[[], object]


@dataclass
class Measured:
    """The median time of one call, and whether the calls were replayed as a graph."""

    seconds: float
    graph: bool


class Clock:
    """Measures calls that run on one device."""

    def __init__(self, device: str, seconds: float) -> None:
        self.device = torch.device(device)
        self.seconds = seconds

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def cache_bytes(self) -> int:
        return torch.cuda.get_device_properties(self.device).L2_cache_size if self.is_gpu else 1 << 16

    def rotations(self, bytes_per_call: int, limit: int = 8 << 30) -> int:
        """How many sets of buffers make the work twice as large as the cache, within `limit` bytes."""
        wanted = 2 * self.cache_bytes() // bytes_per_call + 1
        return max(2, min(wanted, max(limit // bytes_per_call, 1)))

    def measure(self, calls: Sequence[Call]) -> Measured:
        if not self.is_gpu:
            return Measured(median_seconds(calls, self.seconds, least=3), False)
        for call in calls:  # the first calls load kernels and choose algorithms
            call()
        torch.cuda.synchronize(self.device)
        graph = self._captured(calls)
        run = graph.replay if graph is not None else (lambda: [call() for call in calls])
        return Measured(self._median(run) / len(calls), graph is not None)

    def _captured(self, calls: Sequence[Call]) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                for call in calls:
                    call()
        except RuntimeError:  # what the peer did is forbidden while a graph is captured
            torch.cuda.synchronize(self.device)
            return None
        return graph

    def _median(self, run: Call) -> float:
        run()
        times: list[float] = []
        while len(times) < 5 or (sum(times) < self.seconds and len(times) < 200):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return statistics.median(times)

    def copy_bandwidth(self, bytes_each: int) -> float:
        """Bytes read plus bytes written a second by torch copying a large array: the limit of this run."""
        pairs = [[torch.ones(bytes_each // 4, device=self.device) for _ in range(2)] for _ in range(2)]
        calls = [lambda source=source, target=target: target.copy_(source) for source, target in pairs]
        return 2 * bytes_each / self.measure(calls).seconds

    def machine(self) -> dict[str, object]:
        """What common.machine() does not say of a GPU."""
        if not self.is_gpu:
            return {"device": "none: a trial run on the host"}
        properties = torch.cuda.get_device_properties(self.device)
        return {
            "device": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
