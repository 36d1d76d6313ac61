# SPDX-License-Identifier: MIT
"""Turning the plug-in on and off: all of it or nothing."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from libbnb import _native
from libbnb._errors import LoadError
from libbnb.integrations.bitsandbytes import _modules
from libbnb.integrations.bitsandbytes._kernels import KERNELS

NAMESPACE = "bitsandbytes"
DEVICE_TYPE, DISPATCH_KEY = "cpu", "CPU"
_library: Any = torch.library  # parts of it have no types


@dataclass
class Status:
    """What the plug-in does in this process."""

    active: bool = False
    operators: list[str] = field(default_factory=list[str])
    """The operators of bitsandbytes that run on libbnb's kernels."""
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """Operators that libbnb has a kernel for and this bitsandbytes has not, or not with these arguments: why."""
    replaced: list[str] = field(default_factory=list[str])
    """Functions of bitsandbytes that are not operators and were replaced."""


_status = Status()
_undo: list[Callable[[], None]] = []


def status() -> Status:
    """What the plug-in does in this process."""
    return _status


def activate() -> None:
    """Makes bitsandbytes' operators run on libbnb's kernels for CPU tensors. Does nothing if they do so already.

    bitsandbytes calls this at the end of its import, unless LIBBNB_PLUGIN is 0; after `deactivate` it turns the kernels
    on again.

    Raises
    ------
    ImportError
        There is no bitsandbytes.
    LoadError
        The C library cannot be loaded, or cannot work on this CPU. bitsandbytes is as it was.
    """
    global _status
    import bitsandbytes as package  # pyright: ignore[reportMissingTypeStubs]

    if _status.active:
        return
    found = _native.info()
    if found["isa"] is None:
        raise LoadError(f"no instruction set can be used: {found['isa_reason']}")
    new = Status(active=True)
    try:
        _register(new)
        for name, undo in _modules.replace(package):
            new.replaced.append(name)
            _undo.append(undo)
    except BaseException:
        deactivate()
        raise
    _status = new


def deactivate() -> None:
    """Gives bitsandbytes its own kernels back."""
    global _status
    while _undo:
        _undo.pop()()
    _status = Status()


def _register(new: Status) -> None:
    """Registers a kernel for each operator that this version of bitsandbytes has; tensors elsewhere keep theirs."""
    library = _library.Library(NAMESPACE, "IMPL")
    _undo.append(library._destroy)
    with warnings.catch_warnings():
        # PyTorch warns whoever takes the place of a kernel that is there. Here that is the purpose.
        warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel")
        for name, kernel in KERNELS.items():
            reason = _mismatch(name, kernel)
            if reason:
                new.skipped[name] = reason
                continue
            _allow_override(name)
            # It also keeps torch.compile from looking into the kernel, where graphs are broken.
            _library.register_kernel(f"{NAMESPACE}::{name}", DEVICE_TYPE, kernel, lib=library)
            new.operators.append(name)


def _mismatch(name: str, kernel: Callable[..., Any]) -> str:
    """Why an operator cannot have this kernel, or ""."""
    operator, _, overload = name.partition(".")
    packet = getattr(getattr(torch.ops, NAMESPACE), operator, None)
    found: Any = getattr(packet, overload or "default", None)
    if found is None:
        return "this bitsandbytes does not have it"
    given = [argument.name for argument in found._schema.arguments]
    wanted = list(inspect.signature(kernel).parameters.values())
    missing = [one.name for one in wanted[len(given) :] if one.default is inspect.Parameter.empty]
    if given != [one.name for one in wanted[: len(given)]] or missing:
        return f"its arguments are ({', '.join(given)})"
    return ""


def _allow_override(name: str) -> None:
    """PyTorch before 2.7 keeps a list of what was registered from Python, and refuses a second kernel."""
    registered = getattr(_library, "_impls", None)
    if isinstance(registered, set):
        registered.discard(f"{NAMESPACE}/{name}/{DISPATCH_KEY}")
