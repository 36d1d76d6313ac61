# SPDX-License-Identifier: MIT
"""Turning a quantized checkpoint back into a plain one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats import Packed, in_file_order
from libbnb.checkpoint.load import find_in, usual_dtype
from libbnb.checkpoint.progress import Progress, Silent
from libbnb.checkpoint.reader import TensorInfo
from libbnb.checkpoint.run import (
    MAX_SHARD_BYTES,
    Plan,
    Stopwatch,
    Summary,
    carry_out,
    checked_destination,
)
from libbnb.checkpoint.select import is_conv1d
from libbnb.checkpoint.source import Source, open_source
from libbnb.checkpoint.step import (
    CHUNK_BYTES,
    ByteArray,
    FloatArray,
    Piece,
    Step,
    TensorSpec,
    as_bytes,
    copy_step,
    reads_of,
    transpose,
)
from libbnb.checkpoint.team import Team


def dequantize_checkpoint(
    source: Path | str,
    destination: Path | str,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    resume: bool = False,
    progress: Progress | None = None,
    team: Team | None = None,
) -> Summary:
    """Write a plain copy of a quantized checkpoint.

    Parameters
    ----------
    source
        A checkpoint with weights that libbnb or bitsandbytes quantized.
    destination
        A folder, or for a single file a name that ends in .safetensors. It must not exist.
    dtype
        "float32", "float16" or "bfloat16" for all floats of the model; None gives each weight the dtype it had (as far
        as that was recorded) and leaves the others alone.
    max_shard_bytes, resume, progress, team
        As in `quantize_checkpoint`.

    Returns
    -------
    Summary
        Counts, sizes and time.

    Raises
    ------
    CheckpointError
        The source is corrupt or not quantized; the destination exists, or its disk is full.
    """
    watch = Stopwatch()
    opened = open_source(Path(source))
    target = checked_destination(opened, Path(destination))
    if dtype is not None and dtype not in dtypes.FROM_TORCH_NAMES:
        raise CheckpointError(f"dtype is {dtype!r}, must be one of {', '.join(dtypes.FROM_TORCH_NAMES)}")
    packed = find_in(opened)
    if not packed:
        raise CheckpointError(f"{opened.path}: nothing in it is quantized in a form that libbnb knows")
    wanted = dtypes.FROM_TORCH_NAMES[dtype] if dtype else None
    plan = Plan(
        opened, target, _steps(opened, packed, wanted), {"dtype": dtype}, _config(opened, wanted), max_shard_bytes
    )
    outcome = carry_out(plan, resume, progress or Silent(), team)
    tensors = opened.tensors
    return Summary(
        str(opened.path), str(target), dtype or "the dtypes from before",
        tensors=len(plan.steps), converted=len(packed),
        parameters=sum(spec.size for step in plan.steps for spec in step.outputs),
        parameters_converted=sum(weight.size for weight in packed.values()),
        bytes_before=sum(tensor.nbytes for tensor in tensors.values()), bytes_after=outcome.nbytes,
        seconds=watch.seconds(), notes=outcome.notes, files=outcome.files, resumed_steps=outcome.resumed_steps,
        processes=team.size if team else 1,
    )  # fmt: skip


def _steps(source: Source, packed: dict[str, Packed], wanted: str | None) -> list[Step]:
    fallback = wanted or usual_dtype(source)
    steps: list[Step] = []
    for name, weight in in_file_order(source.tensors, packed):
        if weight:
            steps.append(plain_step(weight, wanted or weight.dtype or fallback, source.config))
        else:
            tensor = source.tensors[name]
            converts = wanted is not None and tensor.dtype in dtypes.FLOAT_DTYPES and tensor.dtype != wanted
            steps.append(_cast_step(tensor, wanted) if converts and wanted else copy_step(tensor))
    return steps


def plain_step(weight: Packed, dtype: str, config: dict[str, Any] | None) -> Step:
    """The step that turns a quantized weight into what its module stores without quantization.

    Parameters
    ----------
    weight : Packed
        The weight.
    dtype : str
        In safetensors' spelling.
    config : dict or None
        config.json of the model.
    """
    step = weight.unpack(dtype)
    transposed = is_conv1d(weight.name, config) and weight.format in ("nf4", "fp4", "int8")
    return _transposed(step) if transposed else step


def _config(source: Source, wanted: str | None) -> dict[str, Any] | None:
    if source.config is None:
        return None
    config = {key: value for key, value in source.config.items() if key != "quantization_config"}
    if wanted:
        config.pop("torch_dtype", None)
        config["dtype"] = dtypes.TORCH_NAMES[wanted]
    return config


def _cast_step(tensor: TensorInfo, dtype: str) -> Step:
    """A step that changes the dtype of a plain tensor."""
    before, after = dtypes.numpy_dtype(tensor.dtype), dtypes.numpy_dtype(dtype)

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        begin = 0
        for chunk in chunks:
            values = chunk.view(before).astype(after)
            yield Piece(tensor.name, begin, values)
            begin += values.nbytes

    reads = reads_of(tensor, before.itemsize, CHUNK_BYTES // 2)
    return Step(tensor.name, reads, [TensorSpec(tensor.name, dtype, tensor.shape)], tensor.size, work)


def _transposed(step: Step) -> Step:
    """The same step for a module that stores [in, out] (transformers' Conv1D), where the codes are of [out, in]."""
    spec = step.outputs[0]
    itemsize = dtypes.bits(spec.dtype) // 8

    def work(chunks: Iterator[ByteArray]) -> Iterator[Piece]:
        whole: ByteArray = np.empty(spec.nbytes, np.uint8)
        for piece in step.work(chunks):
            data = as_bytes(piece)
            whole[piece.begin : piece.begin + data.size] = data
        matrix: FloatArray = whole.view(dtypes.numpy_dtype(spec.dtype)).reshape(spec.shape)
        rows = max(1, CHUNK_BYTES // (spec.shape[0] * itemsize))
        for first in range(0, spec.shape[1], rows):
            columns = transpose(matrix, first, min(first + rows, spec.shape[1]))
            yield Piece(spec.name, first * spec.shape[0] * itemsize, columns)

    return Step(step.name, step.reads, [TensorSpec(spec.name, spec.dtype, spec.shape[::-1])], step.elements, work)
