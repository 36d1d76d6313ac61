# SPDX-License-Identifier: MIT
"""MXFP4, MXFP8 (E4M3) and NVFP4, as the compressed-tensors package stores them.

- mxfp4 is its "mxfp4-pack-quantized": `weight_packed` [N, K / 2] and `weight_scale` [N, K / 32], both uint8
- mxfp8 is its "mxfp8-quantized": `weight` [N, K] float8_e4m3fn, `weight_scale` [N, K / 32] uint8
- nvfp4 is its "nvfp4-pack-quantized": `weight_packed` [N, K / 2] uint8, `weight_scale` [N, K / 16] float8_e4m3fn, and
  `weight_global_scale` [1] float32, which scales are divided by: 1 / tensor_scale

transformers (with that package) and vLLM load them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from libbnb import dequantize_mx, quantize_mx
from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats.base import Format, Load, Packed, float_chunks, float_reads
from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.select import Choice, ignore_patterns
from libbnb.checkpoint.step import CHUNK_BYTES, ByteArray, FloatArray, Piece, Read, Step, TensorSpec, reads_of

_RULE = "even"  # that of compressed-tensors' own tools


@dataclass(frozen=True)
class _Kind:
    """How one of the formats is stored."""

    quant_type: str  # in quantize_mx
    block: int
    per_byte: int
    codes: str  # what the tensor of codes has in place of ".weight", and its dtype
    codes_dtype: str
    scale_dtype: str
    format: str  # in the config
    strategy: str
    torch_scale_dtype: str

    @property
    def two_level(self) -> bool:
        """Whether there is a scale of the tensor."""
        return self.quant_type == "nvfp4"


_KINDS = {
    "mxfp4": _Kind(
        "mxfp4", 32, 2, "weight_packed", "U8", "U8", "mxfp4-pack-quantized", "group", "torch.uint8"
    ),
    "mxfp8": _Kind("mxfp8_e4m3fn", 32, 1, "weight", "F8_E4M3", "U8", "mxfp8-quantized", "group", "torch.uint8"),
    "nvfp4": _Kind(
        "nvfp4", 16, 2, "weight_packed", "U8", "F8_E4M3", "nvfp4-pack-quantized", "tensor_group", "torch.float8_e4m3fn"
    ),
}  # fmt: skip


class Microscaling(Format):
    """MXFP4, MXFP8 or NVFP4.

    Parameters
    ----------
    name : str
        "mxfp4", "mxfp8" or "nvfp4".
    """

    transposes: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name

    def why_not(self, tensor: TensorInfo, transposed: bool) -> str:
        del transposed
        block = _KINDS[self.name].block
        if not tensor.name.endswith("weight"):
            return "its name does not end in weight"
        return f"rows of {tensor.shape[1]}, not a multiple of {block}" if tensor.shape[1] % block else ""

    def options(self) -> dict[str, Any]:
        return {"format": self.name}

    def quantization_config(self, dtype: str, choices: dict[str, Choice]) -> dict[str, Any]:
        kind = _KINDS[self.name]
        weights = {
            "num_bits": 8 // kind.per_byte,
            "type": "float",
            "symmetric": True,
            "strategy": kind.strategy,
            "group_size": kind.block,
            "dynamic": False,
            "scale_dtype": kind.torch_scale_dtype,
        }
        group = {
            "targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None,
            "format": kind.format,
        }  # fmt: skip
        return {
            "config_groups": {"group_0": group},
            "format": kind.format,
            "ignore": ignore_patterns(choices),
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
        }

    def step(self, tensor: TensorInfo, transposed: bool) -> Step:
        kind = _KINDS[self.name]
        rows, cols = tensor.shape
        stem = tensor.name.removesuffix("weight")
        outputs = [
            TensorSpec(stem + kind.codes, kind.codes_dtype, (rows, cols // kind.per_byte)),
            TensorSpec(stem + "weight_scale", kind.scale_dtype, (rows, cols // kind.block)),
        ]
        if kind.two_level:
            outputs.append(TensorSpec(stem + "weight_global_scale", "F32", (1,)))
        reads = float_reads(tensor, False, kind.block)

        def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
            largest = None
            if kind.two_level:  # it decides about all blocks: a first pass
                largest, tensor_scale = _largest(tensor, (next(chunks) for _ in reads))
                with np.errstate(divide="ignore"):
                    yield Piece(outputs[2].name, 0, np.float32(1) / tensor_scale)
            begin = 0
            for chunk in float_chunks(tensor, False, kind.block, chunks):
                codes, scale = _quantize(chunk, kind, largest)
                yield Piece(outputs[0].name, begin // kind.per_byte, codes)
                yield Piece(outputs[1].name, begin // kind.block, scale)
                begin += chunk.size

        del transposed
        return Step(tensor.name, reads * 2 if kind.two_level else reads, outputs, tensor.size, work)


def _largest(tensor: TensorInfo, chunks: Iterator[ByteArray]) -> tuple[FloatArray, FloatArray]:
    """The largest magnitude of a tensor, as a block of its own with zeros, and the tensor scale that it makes."""
    bits = dtypes.bits(tensor.dtype)
    block = np.zeros(_KINDS["nvfp4"].block, f"u{bits // 8}")
    for chunk in float_chunks(tensor, False, block.size, chunks):
        # Without the sign, floats are ordered as their bits are, and NaN is above infinity.
        magnitudes = chunk.view(block.dtype) & block.dtype.type((1 << (bits - 1)) - 1)
        block[0] = max(block[0], magnitudes.max(initial=0))
    largest = block.view(dtypes.numpy_dtype(tensor.dtype))
    tensor_scale = quantize_mx(largest, "nvfp4")[2]
    assert tensor_scale is not None
    return largest, tensor_scale


def _quantize(chunk: FloatArray, kind: _Kind, largest: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Codes and scales of some blocks; with the largest magnitude of the tensor beside them, by the tensor's scale."""
    if largest is None:
        codes, scale, _ = quantize_mx(chunk, kind.quant_type, _RULE)
        return codes, scale
    codes, scale, _ = quantize_mx(np.concatenate([chunk, largest]), kind.quant_type)
    return codes[: -largest.size // kind.per_byte], scale[:-1]


def find(tensors: dict[str, TensorInfo], load: Load) -> list[Packed]:
    """The weights of these formats among some tensors.

    Raises
    ------
    CheckpointError
        Codes have scales of a shape that libbnb does not write.
    """
    del load
    found: list[Packed] = []
    for name, scale in tensors.items():
        if not name.endswith("weight_scale"):
            continue
        stem = name.removesuffix("weight_scale")
        total = tensors.get(stem + "weight_global_scale")
        for format, kind in _KINDS.items():
            codes = tensors.get(stem + kind.codes)
            fits = codes is not None and codes.dtype == kind.codes_dtype and scale.dtype == kind.scale_dtype
            if codes is None or not fits or kind.two_level != (total is not None) or len(codes.shape) != 2:
                continue
            rows, cols = codes.shape[0], codes.shape[1] * kind.per_byte
            if cols % kind.block or scale.shape != (rows, cols // kind.block) or (total and total.size != 1):
                raise CheckpointError(
                    f"{scale.path}: {scale.name} has shape {list(scale.shape)}: not one scale per {kind.block} codes "
                    f"of {codes.name}, shape {list(codes.shape)}"
                )
            found.append(_packed(stem + "weight", format, codes, scale, total))
    return found


def _packed(name: str, format: str, codes: TensorInfo, scale: TensorInfo, total: TensorInfo | None) -> Packed:
    kind = _KINDS[format]
    shape = (codes.shape[0], codes.shape[1] * kind.per_byte)
    return Packed(
        name, format, f"block {kind.block}", shape, None, [codes, scale, *([total] if total else [])],
        lambda dtype: _unpack_step(name, kind, shape, codes, scale, total, dtype),
    )  # fmt: skip


def _unpack_step(
    name: str, kind: _Kind, shape: tuple[int, int], codes: TensorInfo, scale: TensorInfo, total: TensorInfo | None,
    dtype: str,
) -> Step:  # fmt: skip
    itemsize = dtypes.bits(dtype) // 8

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        tensor_scale = None
        if total is not None:
            with np.errstate(divide="ignore"):
                tensor_scale = np.float32(1) / next(chunks).view(np.float32)
        scales = next(chunks).copy()
        begin = 0
        for chunk in chunks:
            out = np.empty(chunk.size * kind.per_byte, dtypes.numpy_dtype(dtype))
            first = begin // kind.block
            of_chunk = scales[first : first + out.size // kind.block]
            dequantize_mx(chunk, of_chunk, tensor_scale, kind.quant_type, out=out)
            yield Piece(name, begin * itemsize, out)
            begin += out.size

    unit = kind.block // kind.per_byte
    small = [scale] if total is None else [total, scale]
    reads = [Read(part, 0, part.nbytes) for part in small]
    reads += reads_of(codes, unit, CHUNK_BYTES // itemsize // kind.per_byte)
    return Step(name, reads, [TensorSpec(name, dtype, shape)], shape[0] * shape[1], work)
