# SPDX-License-Identifier: MIT
"""k-bit quantization for everyone: arrays of NumPy, PyTorch, JAX, CuPy, MLX and DLPack in, the same out."""

from libbnb import functional
from libbnb._build import VERSION as __version__
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
    "info",
    "set_isa",
    "set_num_threads",
]
__all__ += functional.__all__
