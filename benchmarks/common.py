# SPDX-License-Identifier: MIT
"""What every benchmark shares: the clock, rotation over more data than caches hold, the machine and its memory limits.

A measurement is a list of callables that do the same work on different buffers. They are called in turn, so that each
call finds its data in memory and not in a cache, and the median over the calls is kept. Ratios are only ever taken
between measurements of one run.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

RESULTS = Path(__file__).parent / "results"


def cache_bytes() -> int:
    """Size of the last-level cache that the system reports, in bytes (64 MiB if it reports none)."""
    sizes = [64 << 20]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    return max(sizes)


def rotations(bytes_per_call: int, limit: int = 3 << 30) -> int:
    """How many sets of buffers make the work larger than the last-level cache, within `limit` bytes of memory."""
    wanted = int(1.25 * cache_bytes() / bytes_per_call) + 1
    return max(2, min(wanted, limit // bytes_per_call))


def median_seconds(calls: Sequence[Callable[[], object]], seconds: float = 1.0, least: int = 7) -> float:
    """Median time of one call, the calls taken in turn for about `seconds`, after each was called once."""
    for call in calls:
        call()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < stop:
        call = calls[len(times) % len(calls)]
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def interleaved_medians(
    groups: dict[str, Sequence[Callable[[], object]]], seconds: float = 1.0, least: int = 5, rounds: int = 3
) -> dict[str, float]:
    """Medians of several measurements taken in alternating rounds, so that a noisy minute hits all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in groups}
    for _ in range(rounds):
        for name, calls in groups.items():
            times[name].append(median_seconds(calls, seconds / rounds, least))
    return {name: statistics.median(values) for name, values in times.items()}


def bitsandbytes() -> ModuleType:
    """bitsandbytes with its own kernels, which is a peer only without the plug-in."""
    os.environ["LIBBNB_PLUGIN"] = "0"
    module = importlib.import_module("bitsandbytes")
    plugin = sys.modules.get("libbnb.integrations.bitsandbytes")
    if plugin is not None and plugin.status().active:
        raise RuntimeError("bitsandbytes was imported before this call and runs libbnb's kernels")
    return module


def copy_bandwidth(bytes_each: int = 256 << 20) -> float:
    """Bytes read plus bytes written a second by torch copying a large array on all cores: the limit for such work."""
    import torch

    sources = [torch.ones(bytes_each // 4) for _ in range(2)]
    targets = [torch.empty_like(s).fill_(0) for s in sources]
    calls = [lambda s=s, t=t: t.copy_(s) for s, t in zip(sources, targets, strict=True)]
    return 2 * bytes_each / median_seconds(calls, 1.0)


def read_bandwidth(bytes_each: int = 256 << 20) -> float:
    """Bytes read a second by a sum over a large array on all cores. The limit for work that only reads."""
    import torch

    sources = [torch.ones(bytes_each // 4) for _ in range(2)]
    return bytes_each / median_seconds([lambda s=s: s.sum() for s in sources], 1.0)


def machine() -> dict[str, object]:
    """A description of the machine and the software that were measured."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    described: dict[str, object] = {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "last_level_cache_bytes": cache_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for module in ("libbnb", "numpy", "torch", "bitsandbytes", "torchao"):
        if module in sys.modules:
            described[module] = str(getattr(sys.modules[module], "__version__", "unknown"))
    if "libbnb" in sys.modules:
        described["instruction_set"] = sys.modules["libbnb"].info()["isa"]
    return described


def save(name: str, results: dict[str, object]) -> Path:
    """Writes benchmarks/results/<name>.json with the machine and the date."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), **results}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
