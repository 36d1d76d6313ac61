# SPDX-License-Identifier: MIT
"""ggml's quantizers and quantized matrix products, as a peer: its shared libraries, called through ctypes.

The libraries come with llama-cpp-python, which compiles them when it is installed; any folder
that has them will do.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

POINTER, INT64, SIZE, INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_int
TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "IQ4_NL": 20, "TQ1_0": 34, "TQ2_0": 35}  # enum ggml_type
SLACK = 64 << 20, 1 << 20  # bytes for what a product needs beside its operands, and for each graph


class Parameters(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("mem_size", SIZE), ("mem_buffer", POINTER), ("no_alloc", ctypes.c_bool))


class Plan(ctypes.Structure):
    """struct ggml_cplan as far as it is needed, and room for the rest, which ggml fills."""

    _fields_ = (("work_size", SIZE), ("work_data", POINTER), ("more", INT64 * 16))


# name -> (library, result, arguments)
FUNCTIONS: dict[str, tuple[str, Any, tuple[Any, ...]]] = {
    "ggml_init": ("base", POINTER, (Parameters,)),
    "ggml_free": ("base", None, (POINTER,)),
    "ggml_new_tensor_2d": ("base", POINTER, (POINTER, INT, INT64, INT64)),
    "ggml_mul_mat": ("base", POINTER, (POINTER, POINTER, POINTER)),
    "ggml_new_graph": ("base", POINTER, (POINTER,)),
    "ggml_build_forward_expand": ("base", None, (POINTER, POINTER)),
    "ggml_get_data": ("base", POINTER, (POINTER,)),
    "ggml_row_size": ("base", SIZE, (INT, INT64)),
    "ggml_quantize_chunk": ("base", SIZE, (INT, POINTER, POINTER, INT64, INT64, INT64, POINTER)),
    "ggml_cpu_init": ("cpu", None, ()),
    "ggml_graph_plan": ("cpu", Plan, (POINTER, INT, POINTER)),
    "ggml_graph_compute": ("cpu", INT, (POINTER, POINTER)),
}


def library_folder() -> Path | None:
    """Where llama-cpp-python keeps ggml's libraries, None if it is not installed."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "lib"


class Ggml:
    """ggml's functions, from the libraries of a folder."""

    def __init__(self, folder: Path) -> None:
        base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        libraries = {"base": base, "cpu": ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)}
        for name, (library, result, arguments) in FUNCTIONS.items():
            function = getattr(libraries[library], name)
            function.restype, function.argtypes = result, list(arguments)
            setattr(self, name.removeprefix("ggml_"), function)
        self.cpu_init()

    def __getattr__(self, name: str) -> Any:  # the functions above; for type checkers
        raise AttributeError(name)

    def quantizer(self, weight: np.ndarray[Any, Any], kind: str, threads: int) -> Callable[[], object]:
        """A call that quantizes a float32 matrix, some rows on each thread, which ggml leaves to its callers."""
        rows, cols = weight.shape
        row_bytes = self.row_size(TYPES[kind], cols)
        out = np.empty(rows * row_bytes, np.uint8)
        starts = [rows * i // threads for i in range(threads + 1)]
        pool = ThreadPoolExecutor(threads)

        def chunk(i: int) -> None:
            first, count = starts[i], starts[i + 1] - starts[i]
            self.quantize_chunk(TYPES[kind], weight.ctypes.data, out.ctypes.data, first * cols, count, cols, None)

        return lambda: list(pool.map(chunk, range(threads)))

    def products(
        self, weight: np.ndarray[Any, Any], kind: str, rows: int, copies: int, threads: int
    ) -> tuple[list[Callable[[], object]], Callable[[], None]]:
        """Calls that multiply `rows` fp32 activations by copies of the quantized weight [N, K], and what frees them."""
        n, k = weight.shape
        number = TYPES[kind]
        weight_bytes = self.row_size(number, k) * n
        context = self.init(Parameters(SLACK[0] + copies * (SLACK[1] + weight_bytes + 4 * rows * (n + k)), None, False))
        calls: list[Callable[[], object]] = []
        first = 0
        for i in range(copies):
            a, b = self.new_tensor_2d(context, number, k, n), self.new_tensor_2d(context, TYPES["F32"], k, rows)
            if i == 0:
                first = self.get_data(a)
                self.quantize_chunk(number, weight.ctypes.data, first, 0, n, k, None)
            else:
                ctypes.memmove(self.get_data(a), first, weight_bytes)
            x = np.random.default_rng(i).standard_normal((rows, k), dtype=np.float32)
            ctypes.memmove(self.get_data(b), x.ctypes.data, x.nbytes)
            graph = self.new_graph(context)
            self.build_forward_expand(graph, self.mul_mat(context, a, b))
            plan = self.graph_plan(graph, threads, None)
            work = ctypes.create_string_buffer(plan.work_size)
            plan.work_data = ctypes.addressof(work)
            calls.append(lambda g=graph, p=plan, _keep=work: self.graph_compute(g, ctypes.addressof(p)))
        return calls, lambda: self.free(context)
