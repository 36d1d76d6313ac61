# SPDX-License-Identifier: MIT
"""The C symbols of bitsandbytes by ctypes, as a program in another language would call them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

OK, INVALID_ARGUMENT, UNSUPPORTED = 0, 1, 2
FLOATS = ("fp32", "fp16", "bf16")

_TYPES = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "l": ctypes.c_long,
    "q": ctypes.c_longlong,
    "f": ctypes.c_float,
    "b": ctypes.c_bool,
    "B": ctypes.c_uint8,
    "z": ctypes.c_size_t,
}

# Argument lists, typed by hand from bitsandbytes' interface: the header under test is not asked.
QUANTIZE, DEQUANTIZE = "ppppii", "ppppiip"
SIGNATURES: dict[str, str] = {
    "cquantize": "pppi",
    "cdequantize": "pppip",
    "cdequantize_blockwise_cpu_fp32_nf4": "ppppii",
    "cdequantize_blockwise_cpu_fp32_fp4": "ppppii",
    "cint8_vector_quant": "pppfiip",
    "cget_row_stats": "ppfiip",
    "cget_col_row_stats": "ppppfii",
    "cdouble_rowcol_quant": "pppppppppfii",
    "cdequant_mm_int32_fp16": "pppppiip",
    "cestimate_quantiles_fp32": "ppfi",
    "cestimate_quantiles_fp16": "ppfi",
    "cpercentile_clipping_g32": "ppii",
    "cpercentile_clipping_g16": "ppii",
    "chistogram_scatter_add_2d": "ppppii",
    "cfill_fp32": "ppfl",
    "cfill_uint8": "ppBl",
    "carange_fp32": "ppfl",
    "c_mul_fp32": "ppfl",
    "cprefetch": "pzi",
    "cget_managed_ptr": "z",
    "get_context": "",
    "get_cusparse": "",
    "has_avx512f_cpu": "",
    "has_avx512bf16_cpu": "",
}
for _t in FLOATS:
    for _format in ("", "_fp4", "_nf4"):
        SIGNATURES[f"cquantize_blockwise_{_t}{_format}"] = QUANTIZE
        SIGNATURES[f"cdequantize_blockwise_{_t}{_format}"] = DEQUANTIZE
    SIGNATURES[f"cquantize_blockwise_cpu_{_t}"] = "ppppqq"
    SIGNATURES[f"cdequantize_blockwise_cpu_{_t}"] = "ppppqq"
    for _format in ("fp4", "nf4"):
        SIGNATURES[f"cdequantize_blockwise_cpu_{_format}_{_t}"] = "pppqqq"

# Products and optimizer steps.
PRODUCTS: dict[str, str] = {
    "cgemm_4bit_inference": "iiippppiiii",
    "gemv_4bit_inference_cpu_fp4_bf16": "qqqppppqqq",
    "gemv_4bit_inference_cpu_nf4_bf16": "qqqppppqqq",
    "cigemm": "pbbiiipppiii",
    "cbatched_igemm": "pbbiiipppiiillli",
    "cspmm_coo": "ppppiiiiipipb",
    "cspmm_coo_very_sparse_naive_fp16": "pppppppppiiiii",
    "cspmm_coo_very_sparse_naive_int8": "pppppppppiiiii",
}
for _t in FLOATS:
    PRODUCTS[f"cgemm_4bit_{_t}"] = "ppppppppiiiiip"
    PRODUCTS[f"cgemm_4bit_inference_naive_{_t}"] = "iiipppppiiiip"
    PRODUCTS[f"cgemv_4bit_inference_{_t}"] = "iiipppppiiiip"
IGEMMLT = {f"cigemmlt_{_kind}": "piiippppiiip" for _kind in ("32", "8", "8_rowscale")}
OPTIMIZERS: dict[str, str] = {}
for _optimizer in ("adam", "lion", "ademamix", "momentum", "rmsprop", "adagrad"):
    for _t in FLOATS:
        OPTIMIZERS[f"c{_optimizer}_8bit_blockwise_grad_{_t}"] = "ppppfffffifppppffbi"
    for _t in FLOATS if _optimizer in ("adam", "lion", "ademamix") else ("32", "16"):
        OPTIMIZERS[f"c{_optimizer}32bit_grad_{_t}"] = "pppppffffffffiffbi"

ALL = SIGNATURES | PRODUCTS | IGEMMLT | OPTIMIZERS


def bind(library: ctypes.CDLL, names: dict[str, str] = ALL) -> ctypes.CDLL:
    """Declares the arguments of those names that the library has."""
    for name, arguments in names.items():
        if hasattr(library, name):
            function = getattr(library, name)
            function.argtypes = [_TYPES[letter] for letter in arguments]
            if name in ("cget_managed_ptr", "get_context", "get_cusparse"):
                function.restype = ctypes.c_void_p
            elif name.startswith("has_"):
                function.restype = ctypes.c_bool
    return library


def our_library_path() -> str:
    """BNB_LIB_PATH, else the file beside the modules of the installed package (which is not imported)."""
    if path := os.environ.get("BNB_LIB_PATH"):
        return path
    spec = importlib.util.find_spec("libbnb")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    for name in ("libbnb.so", "libbnb.dylib"):
        if folder and (folder / name).exists():
            return str(folder / name)
    pytest.skip("BNB_LIB_PATH does not name the library file under test, and no libbnb package is installed")


def load_ours() -> ctypes.CDLL:
    library = bind(ctypes.CDLL(our_library_path()))
    library.bnb_last_error.restype = ctypes.c_char_p
    return library


def bitsandbytes_library_path() -> Path:
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or spec.origin is None:
        pytest.skip("the bitsandbytes package is not installed")
    path = Path(spec.origin).parent / "libbitsandbytes_cpu.so"
    if not path.exists():
        pytest.skip("the bitsandbytes package has no libbitsandbytes_cpu.so")
    return path


def load_theirs() -> ctypes.CDLL:
    return bind(ctypes.CDLL(str(bitsandbytes_library_path())))


def last_error(library: ctypes.CDLL) -> str:
    return library.bnb_last_error().decode()


def pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def dynamic_map(library: ctypes.CDLL, signed: bool = True) -> np.ndarray:
    code = np.empty(256, np.float32)
    assert library.bnb_create_dynamic_map(int(signed), ctypes.c_void_p(pointer(code))) == OK
    return code


def storage(t: str) -> type[np.generic]:
    return np.float32 if t == "fp32" else np.uint16


def narrow(x: np.ndarray, t: str) -> np.ndarray:
    """fp32 to the bits of `t`, rounded to nearest even."""
    x = np.ascontiguousarray(x, np.float32)
    if t == "fp32":
        return x
    if t == "fp16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).view(np.uint16)
    bits = x.view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def widen(x: np.ndarray, t: str) -> np.ndarray:
    if t == "fp32":
        return x
    if t == "fp16":
        return x.view(np.float16).astype(np.float32)
    return (x.astype(np.uint32) << 16).view(np.float32)


def scales(x: np.ndarray, blocksize: int) -> np.ndarray:
    """max |x| of each block."""
    padded = np.zeros(-(-x.size // blocksize) * blocksize, np.float32)
    padded[: x.size] = np.abs(x)
    return padded.reshape(-1, blocksize).max(axis=1, initial=0.0)


def normalised(x: np.ndarray, blocksize: int) -> np.ndarray:
    """x * (1 / absmax) in fp32; 0 in blocks of zeros."""
    absmax = scales(x, blocksize)
    with np.errstate(divide="ignore"):
        reciprocal = np.where(absmax > 0, np.float32(1) / absmax, np.float32(0)).astype(np.float32)
    return x * np.repeat(reciprocal, blocksize)[: x.size]


def nearest(code: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Index of the nearest entry: the number of fp32 midpoints strictly below."""
    midpoints = (code[:-1] + code[1:]) * np.float32(0.5)
    return np.searchsorted(midpoints, x, side="left").astype(np.uint8)
