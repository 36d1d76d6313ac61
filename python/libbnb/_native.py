# SPDX-License-Identifier: MIT
"""The C library: which file is loaded, calls into it, and status codes turned into exceptions.

No other module touches the library. It is loaded at the first use, never by `import libbnb`.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from libbnb import _build
from libbnb._cdef import ffi
from libbnb._errors import (
    DeviceError,
    Error,
    InternalError,
    InvalidArgument,
    LoadError,
    OutOfMemory,
    Unsupported,
)
from libbnb._views import BufferView, View

BACKENDS = ("cuda", "hip", "metal", "cpu")  # in the order in which the best one is looked for
NULL = ffi.NULL

# Formats by their Python names: the enumerators of bnb_quant_type, known without loading the library.
_FORMATS: dict[str, int] = ffi.typeof("bnb_quant_type").relements
QUANT_TYPES = {name.removeprefix("BNB_").lower(): number for name, number in _FORMATS.items()}

# ---------------------------------------------------------------------------------------------------------------------
# Loading


class Loaded(TypedDict):
    """How the library in use was found."""

    library: str
    chosen_by: str
    skipped: dict[str, str]


def _open(path: str, why: str) -> Any:
    try:
        library = ffi.dlopen(path)
    except OSError as error:
        raise LoadError(f"{why}: cannot load {path}: {error}") from error
    try:
        version = library.bnb_abi_version()
    except (AttributeError, ffi.error) as error:
        raise LoadError(f"{why}: {path} is not a libbnb: it has no bnb_abi_version") from error
    if version != library.BNB_ABI_VERSION:
        raise LoadError(f"{why}: {path} has ABI version {version}, this package needs {library.BNB_ABI_VERSION}")
    return library


def installed() -> dict[str, str]:
    """Backend name -> path of the library files that came with this package."""
    from importlib.resources import files  # not cheap, and `import libbnb` does not need it

    here = files("libbnb")  # in an editable installation, the folder in which libraries are built counts as this one
    return {name: str(here / file) for name, file in _build.LIBRARIES.items() if (here / file).is_file()}


def _open_named_backend(name: str, paths: dict[str, str]) -> tuple[Any, str]:
    if name not in BACKENDS:
        raise LoadError(f"BNB_BACKEND is {name!r}, must be one of {', '.join(sorted(BACKENDS))}")
    if name not in paths:
        raise LoadError(f"BNB_BACKEND is {name!r}, but this installation has only {', '.join(sorted(paths))}")
    library = _open(paths[name], "BNB_BACKEND")
    if library.bnb_device_count(name.encode()) < 1:
        raise LoadError(f"BNB_BACKEND is {name!r}, but {paths[name]} finds no device that it can use")
    return library, paths[name]


def _choose() -> tuple[Any, Loaded]:
    path = os.environ.get("BNB_LIB_PATH")
    if path:
        if not os.path.exists(path):
            raise LoadError(f"BNB_LIB_PATH: there is no file {path}")
        return _open(os.path.abspath(path), "BNB_LIB_PATH"), {
            "library": os.path.abspath(path),
            "chosen_by": "BNB_LIB_PATH",
            "skipped": {},
        }
    paths = installed()
    name = os.environ.get("BNB_BACKEND")
    if name:
        library, path = _open_named_backend(name, paths)
        return library, {"library": path, "chosen_by": "BNB_BACKEND", "skipped": {}}
    skipped: dict[str, str] = {}
    for name in BACKENDS:
        if name not in paths:
            continue
        try:
            library = _open(paths[name], "libbnb")
        except LoadError as error:
            if name == "cpu":
                raise
            skipped[name] = str(error)  # shown by info(): the installation is broken, the CPU library still works
            continue
        if library.bnb_device_count(name.encode()) > 0:
            why = "the best installed library whose device is present"
            return library, {"library": paths[name], "chosen_by": why, "skipped": skipped}
        skipped[name] = "no device that it can use"
    raise LoadError(
        f"this installation is broken: {Path(__file__).parent} has none of {sorted(_build.LIBRARIES.values())}"
    )


class _Library:
    """The functions of the C library as attributes; the first one asked for loads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Any, Loaded] | None = None

    def found(self) -> tuple[Any, Loaded]:
        with self._lock:
            if self._found is None:
                self._found = _choose()
            return self._found

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.found()[0], name)
        setattr(self, name, function)  # the next look-up does not come here
        return function


lib = _Library()

# ---------------------------------------------------------------------------------------------------------------------
# Errors

_EXCEPTIONS: dict[int, type[Error]] = {
    1: InvalidArgument,
    2: Unsupported,
    3: OutOfMemory,
    4: DeviceError,
    5: InternalError,
}


def fail(status: int) -> NoReturn:
    """Raises the exception of a status that is not BNB_OK, with the library's words."""
    message = ffi.string(lib.bnb_last_error()).decode(errors="replace")
    raise _EXCEPTIONS.get(status, InternalError)(message)


# Streams for array libraries that do not show their own: a device's default one under an address of Python's own, so
# that those who get it know that `settle` waits for it. Metal's is one of them; whoever gives it out has waited for the
# library before. In the place of a stream there may also be an object that runs operations itself:
# arrays/torch_metal.py.
METAL = 8  # the kind of device in DLPack
METAL_STREAM = ffi.cast("void *", 0)
_waited: dict[int, tuple[int, ...]] = {id(METAL_STREAM): (METAL, 0)}  # stream -> its device, for `synchronize`
_waited_streams: dict[tuple[int, int], Any] = {(METAL, 0): METAL_STREAM}


def waited_stream(device_type: int, device_id: int) -> Any:
    """The default stream of a device, of which `settle` knows that nobody else can wait for it."""
    device = (device_type, device_id)
    stream = _waited_streams.get(device)
    if stream is None:
        stream = _waited_streams.setdefault(device, ffi.cast("void *", 0))
        _waited[id(stream)] = device
    return stream


def settle(stream: Any) -> None:
    """Returns when others may see what was queued on a stream: at once, unless it is one that must be waited for."""
    device = _waited.get(id(stream))
    if device is not None:
        synchronize(*device)


def check(status: int) -> None:
    """Raises the exception of a status, or returns if it is BNB_OK."""
    if status:
        fail(status)


# ---------------------------------------------------------------------------------------------------------------------
# Calls on tensors
#
# The seven integers of a View are written as they are in front of and into a DLTensor that lives in a Frame; the
# other members of that DLTensor (pointers to shape and strides, offset 0) never change, but for the offset of a
# BufferView. A call takes a Frame from the pool and puts it back, so no memory is allocated for descriptors, and calls
# from other threads or from a signal handler have Frames of their own.

_VIEW = struct.Struct("=qqqqQQQ")
_CONSTANTS = struct.Struct("=QQQ")
_OFFSET = struct.Struct("=Q")
SLOT = _VIEW.size + _CONSTANTS.size
OFFSET_AT = SLOT - _OFFSET.size  # of the byte offset, the last member
TENSOR_OFFSET = 4 * 8  # behind shape and strides
_TENSORS_PER_FRAME = 12
_NESTED_TENSORS = 3  # behind them: code, absmax and offset of a bnb_nested
_NESTED_START = _TENSORS_PER_FRAME * SLOT

if SLOT - TENSOR_OFFSET != ffi.sizeof("DLTensor"):
    raise LoadError("libbnb needs a 64-bit platform")


class Frame:
    """Memory for the descriptors of one call."""

    __slots__ = ("arrays", "buffer", "memory", "nested", "offsets", "tensors")

    def __init__(self) -> None:
        size = _NESTED_START + _NESTED_TENSORS * SLOT
        self.memory = ffi.new("int64_t[]", size // 8)
        self.buffer = ffi.buffer(self.memory)
        self.arrays: list[Any] = []  # behind the BufferViews of the call
        self.offsets: list[int] = []  # that are to be 0 again after the call
        start = int(ffi.cast("uintptr_t", self.memory))
        self.tensors: list[Any] = []
        for slot in range(start, start + size, SLOT):
            self.tensors.append(ffi.cast("DLTensor *", slot + TENSOR_OFFSET))
            _CONSTANTS.pack_into(self.buffer, slot - start + _VIEW.size, slot, slot + 16, 0)
        self.nested = ffi.new("bnb_nested *")
        self.nested.code, self.nested.absmax, self.nested.offset = self.tensors[_TENSORS_PER_FRAME:]

    def write(self, place: int, view: View) -> None:
        """Describes a tensor in the slot that begins at a byte of the buffer."""
        _write_view(self.buffer, place, *view)
        if isinstance(view, BufferView):
            self.arrays.append(view.array)
            _OFFSET.pack_into(self.buffer, place + OFFSET_AT, view.byte_offset)
            self.offsets.append(place + OFFSET_AT)

    def clear(self) -> None:
        """What BufferViews left."""
        for place in self.offsets:
            _OFFSET.pack_into(self.buffer, place, 0)
        self.offsets.clear()
        self.arrays.clear()


frames: list[Frame] = []
_write_view = _VIEW.pack_into
_CDATA = NULL.__class__  # of all streams of C


def call(function: Any, stream: Any, *arguments: Any) -> None:
    """Calls an operation of the library and raises if it fails.

    `arguments` are the C arguments but for the stream, in order: a `View` for every tensor, `None` for a NULL tensor, a
    `Nested`, or a number. The arrays behind the views must be kept alive by the caller.
    """
    try:
        frame = frames.pop()
    except IndexError:
        frame = Frame()
    buffer = frame.buffer
    tensors = frame.tensors
    write = _write_view
    values: list[Any] = []
    used = 0
    for argument in arguments:
        if argument.__class__ is tuple:
            write(buffer, used * SLOT, *argument)
            argument = tensors[used]
            used += 1
        elif argument is None:
            argument = NULL
        elif argument.__class__ is Nested:
            argument = _write_nested(frame, argument)
        elif argument.__class__ is BufferView:
            frame.write(used * SLOT, argument)
            argument = tensors[used]
            used += 1
        values.append(argument)
    if stream is NULL or stream.__class__ is _CDATA:
        status = function(*values, stream)
    else:
        status = stream.run(function, values, frame.arrays)
    if frame.offsets:
        frame.clear()
    frames.append(frame)
    if status:
        fail(status)
    if stream is not NULL:
        settle(stream)


def invoke(function: Any, stream: Any, values: Sequence[Any], arrays: Sequence[Any]) -> None:
    """`call` with tensors that are described already: `values` are of C, `arrays` what `arrays_of` gives."""
    if stream.__class__ is _CDATA:
        check(function(*values, stream))
        settle(stream)
    else:
        check(stream.run(function, values, arrays))


class Nested:
    """A bnb_nested: how a compressed absmax is read."""

    __slots__ = ("absmax", "blocksize", "code", "offset")

    def __init__(self, code: View, absmax: View, offset: View, blocksize: int) -> None:
        self.code = code
        self.absmax = absmax
        self.offset = offset
        self.blocksize = blocksize


def _write_nested(frame: Frame, nested: Nested) -> Any:
    frame.write(_NESTED_START, nested.code)
    frame.write(_NESTED_START + SLOT, nested.absmax)
    frame.write(_NESTED_START + 2 * SLOT, nested.offset)
    frame.nested.blocksize = nested.blocksize
    return frame.nested


_address_type = ffi.typeof("uintptr_t")
_cast = ffi.cast
_from_buffer = ffi.from_buffer


def address_of(buffer: Any) -> int:
    """Address of the memory of an object with a C-contiguous buffer."""
    return int(_cast(_address_type, _from_buffer(buffer)))


def dynamic_map(signed: bool) -> Any:
    """A dynamic map of the library as 256 floats of memory (a cffi array)."""
    code = ffi.new("float[256]")
    check(lib.bnb_create_dynamic_map(int(signed), code))
    return code


# ---------------------------------------------------------------------------------------------------------------------
# Services


class Backend(TypedDict):
    """A backend of the loaded library and the number of devices it can use now."""

    name: str
    devices: int


class Isa(TypedDict):
    """An instruction set of the loaded library and whether this CPU has it."""

    name: str
    available: bool


class Info(TypedDict):
    """What `info` returns."""

    version: str
    library: str
    library_version: str
    abi_version: int
    chosen_by: str
    installed: dict[str, str]
    skipped: dict[str, str]
    backends: list[Backend]
    isa: str | None
    isa_reason: str
    isas: list[Isa]
    num_threads: int


def _text(pointer: Any) -> str:
    return ffi.string(pointer).decode(errors="replace")


def _names(function: Any) -> list[str]:
    names: list[str] = []
    while (pointer := function(len(names))) != NULL:
        names.append(_text(pointer))
    return names


def info() -> Info:
    """What is installed, what is used, and why.

    Returns
    -------
    dict
        ``version`` of the package; ``library``, the path of the C library in use, with ``library_version``,
        ``abi_version`` and ``chosen_by``; ``installed`` library files by backend and the ``skipped`` ones with the
        reason; ``backends`` of the library with their number of usable devices; the CPU instruction set ``isa`` that
        operations use (None if ``BNB_CPU_ISA`` is wrong), ``isa_reason``, and all ``isas``; ``num_threads``.

    Raises
    ------
    LoadError
        No library can be loaded.
    """
    _, loaded = lib.found()
    isa = lib.bnb_isa_active()
    return {
        "version": _build.VERSION,
        "library": loaded["library"],
        "library_version": _text(lib.bnb_version()),
        "abi_version": lib.bnb_abi_version(),
        "chosen_by": loaded["chosen_by"],
        "installed": installed(),
        "skipped": loaded["skipped"],
        "backends": [
            {"name": name, "devices": lib.bnb_device_count(name.encode())} for name in _names(lib.bnb_backend_name)
        ],
        "isa": None if isa == NULL else _text(isa),
        "isa_reason": _text(lib.bnb_isa_reason()),
        "isas": [
            {"name": name, "available": bool(lib.bnb_isa_available(name.encode()))} for name in _names(lib.bnb_isa_name)
        ],
        "num_threads": lib.bnb_get_num_threads(),
    }


def synchronize(device_type: int, device_id: int = 0) -> None:
    """Waits until the work on a device is done that was queued without a stream.

    Parameters
    ----------
    device_type
        The number of its kind in DLPack.
    device_id
        Its own number.
    """
    check(lib.bnb_synchronize(ffi.new("DLDevice *", (device_type, device_id))[0], NULL))


def set_num_threads(num_threads: int) -> None:
    """Sets the number of threads that one operation may use, for the whole process. Results do not depend on it.

    Parameters
    ----------
    num_threads
        1 or more; 0 goes back to the default (``BNB_NUM_THREADS``, else the CPUs this process may run on).

    Raises
    ------
    InvalidArgument
        `num_threads` is negative or beyond 32 bits.
    """
    if isinstance(num_threads, bool) or not hasattr(num_threads, "__index__"):
        raise TypeError(f"num_threads is a {type(num_threads).__name__}, must be an int")
    if not -(2**31) <= num_threads < 2**31:
        raise InvalidArgument(f"num_threads is {num_threads}, must fit in 32 bits")
    check(lib.bnb_set_num_threads(num_threads))


def get_num_threads() -> int:
    """The number of threads that one operation may use."""
    return lib.bnb_get_num_threads()


def set_isa(name: str | None) -> None:
    """Makes CPU operations use the named instruction set in this process, for tests and measurements.

    Parameters
    ----------
    name
        One of ``info()["isas"]`` that is available; None goes back to the choice made at first use.

    Raises
    ------
    InvalidArgument, Unsupported
        There is no such instruction set in the library, or this CPU does not have it.
    """
    check(lib.bnb_set_isa(NULL if name is None else name.encode()))
