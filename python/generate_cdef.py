# SPDX-License-Identifier: MIT
"""Turns the preprocessed public headers into the cffi module libbnb._cdef (out of line, ABI mode).

Run by the Meson build: generate_cdef.py PREPROCESSED_HEADER OUTPUT
"""

import sys
from pathlib import Path

import cffi

source, output = sys.argv[1:]
# MSVC marks what a DLL exports and where lines come from; cffi wants plain C.
declarations = "\n".join(line for line in Path(source).read_text().splitlines() if not line.startswith("#"))
ffi = cffi.FFI()
ffi.cdef(declarations)
ffi.set_source("libbnb._cdef", None)
ffi.emit_python_code(output)
