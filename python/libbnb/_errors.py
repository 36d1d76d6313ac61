# SPDX-License-Identifier: MIT
"""The exceptions of libbnb. Each is also the built-in exception that a Python programmer would expect in its place."""

__all__ = ["DeviceError", "Error", "InternalError", "InvalidArgument", "LoadError", "OutOfMemory", "Unsupported"]


class Error(Exception):
    """Base of the exceptions that libbnb raises on its own account, besides `TypeError` for things of a wrong kind."""


class InvalidArgument(Error, ValueError):
    """An argument is wrong: the message names it, what it is and what it must be. Nothing was written."""


class Unsupported(Error, NotImplementedError):
    """A right call that the loaded library, device or instruction set has no kernel for."""


class OutOfMemory(Error, MemoryError):
    """Host or device memory ran out."""


class DeviceError(Error, RuntimeError):
    """A GPU or its driver reported an error; the message carries its words."""


class InternalError(Error, RuntimeError):
    """A defect of libbnb: please report it."""


class LoadError(Error, ImportError):
    """The C library could not be loaded, or is not the one this package was made for."""
