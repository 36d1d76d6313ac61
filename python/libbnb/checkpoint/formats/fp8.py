# SPDX-License-Identifier: MIT
"""FP8 with one scale per row or per block of a row: `weight` (float8) and `weight_scale` (float32).

bitsandbytes has no such format. For E4M3 these are the names, shapes and config of a compressed-tensors checkpoint of
the kind "float-quantized", which transformers (with that package) and vLLM load; for E5M2 the names are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from libbnb import dequantize_fp8, quantize_fp8
from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats.base import Format, Load, Packed, float_chunks, float_reads
from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.select import Choice, ignore_patterns, skip_modules
from libbnb.checkpoint.step import CHUNK_BYTES, ByteArray, Piece, Read, Step, TensorSpec, reads_of

# name of the format: (name in quantize_fp8, dtype in a safetensors file)
_KINDS = {"fp8": ("fp8_e4m3fn", "F8_E4M3"), "fp8-e5m2": ("fp8_e5m2", "F8_E5M2")}
_NAMES = {dtype: name for name, (_, dtype) in _KINDS.items()}


class FP8(Format):
    """FP8 E4M3 or E5M2.

    Parameters
    ----------
    name : str
        "fp8" (E4M3) or "fp8-e5m2".
    blocksize : int or None
        Elements of a row per scale; None for one scale per row.
    """

    transposes: ClassVar[bool] = False

    def __init__(self, name: str = "fp8", blocksize: int | None = None) -> None:
        if blocksize is not None and blocksize < 1:
            raise CheckpointError(f"block size is {blocksize}, must be at least 1")
        self.name = name
        self.blocksize = blocksize

    def why_not(self, tensor: TensorInfo, transposed: bool) -> str:
        del transposed
        if self.blocksize and tensor.shape[1] % self.blocksize:
            return f"rows of {tensor.shape[1]}, not a multiple of the block size"
        return ""

    def options(self) -> dict[str, Any]:
        return {"format": self.name, "block size": self.blocksize}

    def quantization_config(self, dtype: str, choices: dict[str, Choice]) -> dict[str, Any]:
        if self.name != "fp8":
            options = {"format": self.name, "blocksize": self.blocksize}
            return {"quant_method": "libbnb", **options, "llm_int8_skip_modules": skip_modules(choices)}
        weights = {
            "num_bits": 8,
            "type": "float",
            "symmetric": True,
            "strategy": "group" if self.blocksize else "channel",
            "group_size": self.blocksize,
            "dynamic": False,
        }
        group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
        return {
            "config_groups": {"group_0": group},
            "format": "float-quantized",
            "ignore": ignore_patterns(choices),
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        }

    def step(self, tensor: TensorInfo, transposed: bool) -> Step:
        quant_type, dtype = _KINDS[self.name]
        rows, cols = tensor.shape
        block = self.blocksize or cols
        outputs = [
            TensorSpec(tensor.name, dtype, tensor.shape),
            TensorSpec(tensor.name + "_scale", "F32", (rows, cols // block)),
        ]

        def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
            begin = 0
            for chunk in float_chunks(tensor, False, block, chunks):
                codes, scale = quantize_fp8(chunk, blocksize=block, quant_type=quant_type)
                yield Piece(outputs[0].name, begin, codes)
                yield Piece(outputs[1].name, begin // block * 4, scale)
                begin += chunk.size

        del transposed
        return Step(tensor.name, float_reads(tensor, False, block), outputs, tensor.size, work)


def find(tensors: dict[str, TensorInfo], load: Load) -> list[Packed]:
    """The FP8 weights among some tensors.

    Raises
    ------
    CheckpointError
        A float8 matrix has a scale of a shape or dtype that libbnb does not write.
    """
    del load
    found: list[Packed] = []
    for name, codes in tensors.items():
        scale = tensors.get(name + "_scale")
        if codes.dtype not in _NAMES or scale is None or len(codes.shape) != 2 or not codes.size:
            continue
        if scale.dtype == "U8":  # MXFP8
            continue
        rows, cols = codes.shape
        blocks = scale.size // rows
        if scale.dtype != "F32" or scale.size not in range(rows, rows * cols + 1, rows) or cols % blocks:
            raise CheckpointError(
                f"{scale.path}: {scale.name} is {scale.dtype} of shape {list(scale.shape)}: not one float32 per row or "
                f"per block of {name}, shape {list(codes.shape)}"
            )
        found.append(_packed(name, codes, scale, cols // blocks))
    return found


def _packed(name: str, codes: TensorInfo, scale: TensorInfo, block: int) -> Packed:
    detail = "per row" if block == codes.shape[1] else f"block {block}"
    return Packed(
        name, _NAMES[codes.dtype], detail, codes.shape, None, [codes, scale],
        lambda dtype: _unpack_step(name, codes, scale, block, dtype),
    )  # fmt: skip


def _unpack_step(name: str, codes: TensorInfo, scale: TensorInfo, block: int, dtype: str) -> Step:
    quant_type = _KINDS[_NAMES[codes.dtype]][0]
    itemsize = dtypes.bits(dtype) // 8

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        scales = next(chunks).view(np.float32).copy()
        begin = 0
        for chunk in chunks:
            out = np.empty(chunk.size, dtypes.numpy_dtype(dtype))
            first = begin // block
            dequantize_fp8(chunk, scales[first : first + -(-chunk.size // block)], out, block, quant_type)
            yield Piece(name, begin * itemsize, out)
            begin += chunk.size

    reads = [Read(scale, 0, scale.nbytes), *reads_of(codes, block, CHUNK_BYTES // itemsize)]
    return Step(name, reads, [TensorSpec(name, dtype, codes.shape)], codes.size, work)
