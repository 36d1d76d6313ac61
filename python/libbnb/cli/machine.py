# SPDX-License-Identifier: MIT
"""What the operating system says of processors and GPUs."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

_SECONDS = 20  # nvidia-smi takes a few where a driver has to be loaded


def output(*command: str) -> str:
    """What a program prints; nothing if there is no such program or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return ""


def cpu_fields() -> dict[str, str]:
    """The fields of /proc/cpuinfo, of the last CPU."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def apple_chip() -> str:
    """ "Apple M2 Pro" on a Mac with such a chip."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return ""
    return output("sysctl", "-n", "machdep.cpu.brand_string").strip()


def processor() -> str:
    """The name of the CPU."""
    return cpu_fields().get("model name") or apple_chip() or platform.processor() or platform.machine()


def gpus() -> dict[str, str]:
    """What there is for a backend: its name -> what the system says of such GPUs."""
    found: dict[str, str] = {}
    listed = [line.partition(" (UUID")[0].strip() for line in output("nvidia-smi", "-L").splitlines()]
    nodes = sorted(glob.glob("/dev/nvidia[0-9]*"))
    if listed or nodes:
        found["cuda"] = ", ".join(listed or nodes)
    if os.path.exists("/dev/kfd"):
        found["hip"] = "ROCm (/dev/kfd)"
    if apple_chip():
        found["metal"] = f"{apple_chip()}, macOS {platform.mac_ver()[0]}"
    return found
