# SPDX-License-Identifier: MIT
"""What the figures of an example were measured on, and how much memory its process takes."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import torch

import libbnb


def machine() -> dict[str, Any]:
    """The CPU, and the versions of what takes part."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found = {
        "cpu": names[0] if names else platform.machine(),
        "cores": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "libbnb": libbnb.__version__,
        "torch": torch.__version__,
        "instruction_set": libbnb.info()["isa"],
    }
    others = ("bitsandbytes", "transformers", "peft")
    return found | {name: sys.modules[name].__version__ for name in others if name in sys.modules}


def resident_bytes() -> int:
    """Memory of this process now (Linux)."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most memory that this process had since it began, or since `forget_peak` (Linux)."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Lets the peak begin with the memory of now."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))
