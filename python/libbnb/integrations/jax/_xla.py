# SPDX-License-Identifier: MIT
"""A function that XLA calls on the CPU with the addresses of its buffers (its foreign function interface, "FFI").

`jax.pure_callback` would copy every operand of every call, packed weights among them, which takes several times as long
as a product with one row. XLA's interface is a C ABI: below is our own declaration of the part that is used, fields at
the beginning of structs that later minor versions only append to.
"""

# JAX's functions are typed in parts.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from math import prod
from pathlib import Path
from typing import Any

import cffi
import jax
import numpy as np

from libbnb.arrays.numpy_kind import numpy_dtype
from libbnb.integrations.jax._host import HostArray, Static, run

TARGET = "libbnb_call"

_MAJOR_VERSION = 0
_METADATA = 1  # the type of the extension by which XLA asks for the version that a handler was made for
_INVALID_ARGUMENT, _INTERNAL = 3, 13  # codes of errors, those of absl::Status

_ABI = """
typedef struct extension { size_t struct_size; int type; struct extension *next; } extension;
typedef struct { size_t struct_size; extension *extensions; int major_version, minor_version; } api_version;
typedef struct { size_t struct_size; api_version version; uint32_t traits; } metadata;
typedef struct { extension base; metadata *wanted; } metadata_extension;
typedef struct { size_t struct_size; extension *extensions; const char *message; int code; } error_arguments;
typedef struct {
    size_t struct_size; extension *extensions; api_version version; void *internal;
    void *(*create_error)(error_arguments *);
} api;
typedef struct { size_t struct_size; extension *extensions; int dtype; void *data; int64_t rank, *dims; } buffer;
typedef struct { size_t struct_size; extension *extensions; int64_t size; int *types; buffer **buffers; } buffers;
typedef struct { const char *text; size_t length; } span;
typedef struct {
    size_t struct_size; extension *extensions; int64_t size; int *types; span **names, **values;
} attributes;
typedef struct {
    size_t struct_size; extension *extensions; const api *functions; void *context; int stage;
    buffers arguments, results; attributes given;
} call_frame;
"""

# Numbers of xla::PrimitiveType.
_DTYPES = {
    2: "int8", 4: "int32", 6: "uint8", 7: "uint16", 8: "uint32", 3: "int16", 10: "float16", 11: "float32",
    12: "float64", 16: "bfloat16", 19: "float8_e5m2", 20: "float8_e4m3fn",
}  # fmt: skip

_ffi: Any = cffi.FFI()
_ffi.cdef(_ABI)


@cache
def register() -> Any:
    """Make the handler known to XLA, once; what is returned keeps it alive."""
    handler = _ffi.callback("void *(call_frame *)", _handle)
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(int(_ffi.cast("uintptr_t", handler))), platform="cpu")
    return handler


def _handle(frame: Any) -> Any:
    functions = frame.functions
    asked = _metadata_asked_for(frame)
    if asked is not None:
        asked.version.major_version = _MAJOR_VERSION
        asked.version.minor_version = functions.version.minor_version if functions else _minor_version()
        asked.traits = 0
        return _ffi.NULL
    if functions.version.major_version != _MAJOR_VERSION:
        return _error(functions, f"XLA's FFI has version {functions.version.major_version}, not {_MAJOR_VERSION}")
    try:
        call = frame.given.values[0]
        run(_call_of(_ffi.buffer(call.text, call.length)[:]), _arrays(frame.arguments), _arrays(frame.results))
    except Exception as error:  # none may pass XLA, which turns what it gets into an exception of JAX
        return _error(functions, f"{type(error).__name__}: {error}", isinstance(error, (TypeError, ValueError)))
    return _ffi.NULL


def _minor_version() -> int:
    """What the header beside the installed XLA says, where XLA asks without saying its own version (JAX 0.5)."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    found = re.search(r"^#define XLA_FFI_API_MINOR (\d+)$", header.read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else 0


@lru_cache(maxsize=4096)
def _call_of(text: bytes) -> Static:
    return json.loads(text)


def _metadata_asked_for(frame: Any) -> Any:
    extension = frame.extensions
    while extension:
        if extension.type == _METADATA:
            return _ffi.cast("metadata_extension *", extension).wanted
        extension = extension.next
    return None


def _arrays(described: Any) -> list[HostArray]:
    return [_array(described.buffers[position]) for position in range(described.size)]


def _array(described: Any) -> HostArray:
    shape = tuple(described.dims[axis] for axis in range(described.rank))
    if described.dtype not in _DTYPES:
        raise TypeError(f"an array has dtype number {described.dtype} of XLA, which no operation takes")
    dtype = numpy_dtype(_DTYPES[described.dtype])
    nbytes = prod(shape) * dtype.itemsize
    if nbytes == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(_ffi.buffer(described.data, nbytes), np.uint8).view(dtype).reshape(shape)


def _error(functions: Any, message: str, is_argument: bool = False) -> Any:
    text = _ffi.new("char[]", message.encode())
    arguments = _ffi.new("error_arguments *")
    arguments.struct_size = _ffi.sizeof("error_arguments")
    arguments.message = text
    arguments.code = _INVALID_ARGUMENT if is_argument else _INTERNAL
    return functions.create_error(arguments)
