# SPDX-License-Identifier: MIT
"""The tensor types that libbnb writes into GGUF files: one row each."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np

from libbnb import get_num_threads, quantize_ternary
from libbnb.integrations.gguf import _iq4_nl
from libbnb.integrations.gguf._errors import GGUFError

_ELEMENTS_PER_THREAD = 1 << 18  # fewer are not worth a thread

_Quantizer = Callable[[Any], Any]


@dataclass(frozen=True)
class Type:
    """A tensor type.

    Attributes
    ----------
    name : str
        As on the command line: "q8_0", ...
    ggml : gguf.GGMLQuantizationType
        Its number in a file.
    file_type : gguf.LlamaFileType
        What a file with mostly this type calls itself.
    quantize_rows : callable
        float32 [n, k] to uint8 [n, bytes].
    scale_at : int or None
        Where in the bytes of a block the float16 scale begins; from the end if negative.
    is_ternary : bool
        Whether only -d, 0 and d survive.
    """

    name: str
    ggml: gguf.GGMLQuantizationType
    file_type: gguf.LlamaFileType
    quantize_rows: _Quantizer
    scale_at: int | None = None
    is_ternary: bool = False

    @property
    def block(self) -> int:
        """Elements of a block; a row must be a multiple of it."""
        return gguf.GGML_QUANT_SIZES[self.ggml][0]

    @property
    def type_size(self) -> int:
        """Bytes of a block."""
        return gguf.GGML_QUANT_SIZES[self.ggml][1]

    def scales(self, packed: Any) -> Any:
        """The float16 scales in the bytes of blocks, one for each; empty for types without."""
        if self.scale_at is None:
            return np.empty(0, np.float16)
        blocks = packed.reshape(-1, self.type_size)
        first = self.scale_at % self.type_size
        return np.ascontiguousarray(blocks[:, first : first + 2]).view("<f2")[:, 0]

    @property
    def is_float(self) -> bool:
        """Whether elements are plain floats, without blocks."""
        return self.block == 1

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row."""
        return columns // self.block * self.type_size


def _with_gguf(ggml: gguf.GGMLQuantizationType) -> _Quantizer:
    """The gguf package's own quantizer: its bits are what there is to agree with."""

    def quantize(rows: Any) -> Any:
        return gguf.quantize(rows, ggml).view(np.uint8).reshape(len(rows), -1)

    return quantize


def _with_ours(name: str) -> _Quantizer:
    """libbnb's quantizer, which has the bits of the gguf package's and is several times as fast."""

    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]][0]

    def quantize(rows: Any) -> Any:
        return quantize_ternary(rows, block, name, "absmax")[0]

    return quantize


_FRONT, _BACK = 0, -2
_G, _F = gguf.GGMLQuantizationType, gguf.LlamaFileType

_ROWS = (
    Type("f32", _G.F32, _F.ALL_F32, _with_gguf(_G.F32)),
    Type("f16", _G.F16, _F.MOSTLY_F16, _with_gguf(_G.F16)),
    Type("bf16", _G.BF16, _F.MOSTLY_BF16, _with_gguf(_G.BF16)),
    Type("q8_0", _G.Q8_0, _F.MOSTLY_Q8_0, _with_gguf(_G.Q8_0), _FRONT),
    Type("q4_0", _G.Q4_0, _F.MOSTLY_Q4_0, _with_gguf(_G.Q4_0), _FRONT),
    Type("iq4_nl", _G.IQ4_NL, _F.MOSTLY_IQ4_NL, _iq4_nl.quantize, _FRONT),
    Type("mxfp4", _G.MXFP4, _F.MOSTLY_MXFP4_MOE, _with_gguf(_G.MXFP4)),
    Type("tq1_0", _G.TQ1_0, _F.MOSTLY_TQ1_0, _with_ours("tq1_0"), _BACK, True),
    Type("tq2_0", _G.TQ2_0, _F.MOSTLY_TQ2_0, _with_ours("tq2_0"), _BACK, True),
)
TYPES = {row.name: row for row in _ROWS}
TYPE_NAMES = tuple(TYPES)


def find_type(name: str, what: str = "type") -> Type:
    """A type by its name.

    Raises
    ------
    GGUFError
        There is none; `what` names the argument in the message.
    """
    found = TYPES.get(name.lower())
    if found is None:
        raise GGUFError(f"{what} is {name!r}, must be one of {', '.join(TYPE_NAMES)}")
    return found


def quantize(array: Any, quant_type: str) -> Any:
    """Quantize an array to the bytes of a GGUF tensor.

    Parameters
    ----------
    array : ndarray
        Floats, shape [..., k]; k a multiple of the block size: 256 for tq1_0 and tq2_0, 32 for the other block formats.
    quant_type : str
        One of `TYPE_NAMES`.

    Returns
    -------
    ndarray
        uint8, shape [..., bytes of a row].

    Raises
    ------
    GGUFError
        Rows of a wrong length, or numbers that the type cannot hold: NaN and infinity in a block format, magnitudes
        beyond a float16 (its scale).
    """
    chosen = find_type(quant_type, "quant_type")
    floats: Any = np.asarray(array, np.float32, order="C")
    if not floats.ndim or floats.shape[-1] % chosen.block:
        got = f"rows of {floats.shape[-1]} elements" if floats.ndim else "no rows: it is a scalar"
        raise GGUFError(f"array has {got}; {chosen.name} needs rows of a multiple of {chosen.block}")
    rows = floats.reshape(math.prod(floats.shape[:-1]), floats.shape[-1])
    packed = quantize_checked(rows, chosen, "array")
    return packed.reshape(*floats.shape[:-1], chosen.row_bytes(floats.shape[-1]))


def dequantize(packed: Any, quant_type: str) -> Any:
    """The float32 values of a GGUF tensor's bytes, by the gguf package.

    Parameters
    ----------
    packed : ndarray
        uint8, shape [..., bytes of a row].
    quant_type : str
        One of `TYPE_NAMES`.

    Raises
    ------
    GGUFError
        The last dimension is not a multiple of the bytes of a block.
    """
    chosen = find_type(quant_type, "quant_type")
    data: Any = np.asarray(packed, np.uint8, order="C")
    if not data.ndim or data.shape[-1] % chosen.type_size:
        raise GGUFError(f"packed needs rows of a multiple of {chosen.type_size} bytes, the blocks of {chosen.name}")
    return gguf.dequantize(data, chosen.ggml)


def quantize_checked(rows: Any, chosen: Type, name: str) -> Any:
    """Rows of a tensor in its type; `name` is the tensor's, for messages.

    Raises
    ------
    GGUFError
        NaN or infinity in a block format, or a magnitude that a float16 cannot hold.
    """
    if not chosen.is_float and not np.isfinite(rows).all():
        raise GGUFError(f"{name}: contains NaN or infinity, which {chosen.name} has no code for")
    if not len(rows):
        return np.empty((0, chosen.row_bytes(rows.shape[1])), np.uint8)
    packed = _in_threads(rows, chosen)
    if chosen.ggml is gguf.GGMLQuantizationType.F16:
        overflows = np.isinf(packed.view("<f2")) & np.isfinite(rows)
    else:
        overflows = np.isinf(chosen.scales(packed))
    if overflows.any():
        raise GGUFError(f"{name}: contains magnitudes beyond what {chosen.name} holds (float16)")
    return packed


def _in_threads(rows: Any, chosen: Type) -> Any:
    """Quantize rows with as many threads as libbnb uses: NumPy lets go of the interpreter while it computes."""
    threads = min(get_num_threads(), rows.size // _ELEMENTS_PER_THREAD, len(rows))
    if threads < 2:
        return _quiet(rows, chosen)
    with ThreadPoolExecutor(threads) as pool:
        parts: list[Any] = np.array_split(rows, threads)
        return np.concatenate(list(pool.map(_quiet, parts, [chosen] * threads)))


def _quiet(rows: Any, chosen: Type) -> Any:
    """Without NumPy's warnings: what overflows is found in the result."""
    with np.errstate(over="ignore"):
        return chosen.quantize_rows(rows)
