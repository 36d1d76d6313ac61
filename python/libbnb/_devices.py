# SPDX-License-Identifier: MIT
"""Where the library in use can compute."""

from __future__ import annotations

from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._native import BACKENDS, info

_GPUS = tuple(name for name in BACKENDS if name != "cpu")
# PyTorch's names for devices, where they are not ours; it calls AMD's GPUs "cuda", too.
_KINDS = {name: (name,) for name in BACKENDS} | {"cuda": ("cuda", "hip"), "mps": ("metal",)}


def _backends(device: Any) -> tuple[str, ...]:
    kind = str(device).partition(":")[0]
    if kind not in _KINDS:
        raise InvalidArgument(f"device is {str(device)!r}, must be one of {', '.join(sorted(_KINDS))}")
    return _KINDS[kind]


def backend_of(device: Any) -> str | None:
    """The backend of the library in use that works on a kind of device; None if it has none."""
    built = {row["name"] for row in info()["backends"]}
    return next((name for name in _backends(device) if name in built), None)


def is_available(device: Any = None) -> bool:
    """Whether the library in use can compute on a GPU, or on a given kind of device, of this machine now.

    Parameters
    ----------
    device
        "cpu", "cuda", "hip", "metal" or "mps", with or without a number behind a colon; or a `torch.device`. "cuda" is
        an AMD GPU, too, as it is to PyTorch; "mps" and "metal" are the same. None means any GPU.

    Returns
    -------
    bool
        One library is loaded for a process (`info` says which, and why not another one): if that is the one for CUDA,
        other GPUs are not available.

    Raises
    ------
    InvalidArgument
        There is no such kind of device.
    LoadError
        No library can be loaded.
    """
    wanted = _GPUS if device is None else _backends(device)
    return any(row["devices"] > 0 for row in info()["backends"] if row["name"] in wanted)


def has_native_kernels(device: Any = None) -> bool:
    """Whether the library in use has kernels that were written for a kind of device, be there such a device or not.

    Parameters
    ----------
    device
        As for `is_available`. None means a GPU if one is available, else the CPU.

    Returns
    -------
    bool
        For the CPU: whether operations use its vector instructions, and not the plain code that every CPU runs, the
        instruction set "reference" of `info`.

    Raises
    ------
    InvalidArgument
        There is no such kind of device.
    LoadError
        No library can be loaded.
    """
    found = info()
    built = {row["name"]: row["devices"] for row in found["backends"]}
    if device is None and any(built.get(name, 0) > 0 for name in _GPUS):
        return True
    wanted = ("cpu",) if device is None else _backends(device)
    if wanted == ("cpu",):
        return "cpu" in built and found["isa"] not in (None, "reference")
    return any(name in built for name in wanted)
