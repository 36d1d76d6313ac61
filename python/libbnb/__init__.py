# SPDX-License-Identifier: MIT
"""k-bit quantization for everyone: arrays of NumPy, PyTorch, JAX, CuPy, MLX and DLPack in, the same out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from libbnb import functional
from libbnb._build import VERSION as __version__
from libbnb._devices import has_native_kernels, is_available
from libbnb._errors import DeviceError, Error, InternalError, InvalidArgument, LoadError, OutOfMemory, Unsupported
from libbnb._native import get_num_threads, info, set_isa, set_num_threads
from libbnb.functional import *  # noqa: F403  (its __all__ is the list)

__all__ = [
    "DeviceError",
    "Error",
    "InternalError",
    "InvalidArgument",
    "LoadError",
    "OutOfMemory",
    "Unsupported",
    "__version__",
    "functional",
    "get_num_threads",
    "has_native_kernels",
    "info",
    "is_available",
    "set_isa",
    "set_num_threads",
]
__all__ += functional.__all__

if TYPE_CHECKING:
    from libbnb.nn.configuration import QuantizationConfig as QuantizationConfig


def __getattr__(name: str) -> Any:
    """What needs PyTorch is imported when it is asked for."""
    if name == "QuantizationConfig":
        from libbnb.nn import QuantizationConfig

        return QuantizationConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
