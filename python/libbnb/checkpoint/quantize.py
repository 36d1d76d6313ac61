# SPDX-License-Identifier: MIT
"""Quantizing a checkpoint: choose the weights, plan the files, carry it out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.errors import CheckpointError
from libbnb.checkpoint.formats import Format
from libbnb.checkpoint.load import find_in
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
from libbnb.checkpoint.select import Choice, choose, is_embedding
from libbnb.checkpoint.source import Source, open_source
from libbnb.checkpoint.step import copy_step
from libbnb.checkpoint.team import Team

_BITSANDBYTES_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # what its functions take


def quantize_checkpoint(
    source: Path | str,
    destination: Path | str,
    format: Format,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    resume: bool = False,
    progress: Progress | None = None,
    team: Team | None = None,
) -> Summary:
    """Write a quantized copy of a checkpoint.

    The weights of Linear layers are quantized; embeddings, norms, biases and heads are copied as they are. Memory stays
    bounded by a few chunks of 16 MB plus the scales of the largest tensor.

    Parameters
    ----------
    source
        A safetensors file, or a folder with a (sharded) safetensors checkpoint and, for a model, config.json.
    destination
        A folder, or for a single file a name that ends in .safetensors. It must not exist.
    format
        From `make_format`.
    include, exclude
        Globs on tensor names, with or without ".weight". `include` replaces the rule above: every float matrix that
        matches is quantized, no other. What matches `exclude` never is.
    max_shard_bytes
        Largest size of one weight file.
    resume
        Go on with what an interrupted run left.
    progress
        Is told what happens.
    team
        From `joined`: the processes that share the work. Each of them calls this function with the same arguments; the
        result has the bytes of a run without a team. Only the first process tells its `progress` anything.

    Returns
    -------
    Summary
        Counts, sizes, time, and what was left alone and why.

    Raises
    ------
    CheckpointError
        The source is corrupt, quantized already, or has nothing to quantize; the destination exists; the disk is full;
        another process of the team failed.
    """
    watch = Stopwatch()
    opened = open_source(Path(source))
    target = checked_destination(opened, Path(destination))
    refuse_quantized(opened)
    choices = decide(opened, format, include or [], exclude or [])
    plan = _plan(opened, target, format, choices, max_shard_bytes)
    plan.options |= {"include": include or [], "exclude": exclude or []}
    outcome = carry_out(plan, resume, progress or Silent(), team)
    summary = _summary(opened, target, format, choices)
    summary.bytes_after, summary.files, summary.resumed_steps = outcome.nbytes, outcome.files, outcome.resumed_steps
    summary.notes += outcome.notes
    summary.processes = team.size if team else 1
    summary.seconds = watch.seconds()
    return summary


def decide(source: Source, format: Format, include: list[str], exclude: list[str]) -> dict[str, Choice]:
    """What happens to each tensor.

    Raises
    ------
    CheckpointError
        Nothing would be quantized.
    """
    tensors = source.tensors
    choices = choose(tensors, source.config, include, exclude)
    for name, choice in choices.items():
        reason = format.why_not(tensors[name], choice.transposed) if choice.quantize else ""
        if reason:
            choices[name] = Choice(False, reason, is_linear=True)
    if not any(choice.quantize for choice in choices.values()):
        reasons = Counter(choice.reason for choice in choices.values())
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
        raise CheckpointError(
            f"{source.path}: no tensor to quantize ({told or 'it is empty'}); --include names what to take"
        )
    return choices


def refuse_quantized(source: Source) -> None:
    """Raise if a checkpoint holds quantized weights, or its config says so."""
    method: Any = (source.config or {}).get("quantization_config")
    packed = find_in(source)
    if packed or method:
        what = next(iter(packed.values())).format if packed else method.get("quant_method", "?")
        raise CheckpointError(f"{source.path}: is quantized already ({what}); `libbnb dequantize` turns it back first")


def _plan(source: Source, target: Path, format: Format, choices: dict[str, Choice], max_shard_bytes: int) -> Plan:
    tensors = source.tensors
    steps = [
        format.step(tensors[name], choice.transposed and format.transposes)
        if choice.quantize
        else copy_step(tensors[name])
        for name, choice in choices.items()
    ]
    _refuse_collisions(source, [spec.name for step in steps for spec in step.outputs])
    config = None
    if source.config is not None:
        dtype = _usual_dtype([tensors[name] for name, choice in choices.items() if choice.quantize])
        config = dict(source.config)
        if not ("dtype" in config or "torch_dtype" in config):
            config["dtype"] = dtypes.TORCH_NAMES[dtype]  # a loader would take that of the scales
        config["quantization_config"] = format.quantization_config(dtype, choices)
    return Plan(source, target, steps, format.options(), config, max_shard_bytes)


def _refuse_collisions(source: Source, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise CheckpointError(f"{source.path}: the quantized checkpoint would have two tensors {twice[0]!r}")


def _usual_dtype(tensors: list[TensorInfo]) -> str:
    """The dtype of most elements."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += tensor.size
    return counts.most_common(1)[0][0]


def _summary(source: Source, target: Path, format: Format, choices: dict[str, Choice]) -> Summary:
    tensors = source.tensors
    quantized = [tensors[name] for name, choice in choices.items() if choice.quantize]
    summary = Summary(str(source.path), str(target), format.name)
    summary.tensors, summary.converted = len(tensors), len(quantized)
    summary.parameters = sum(tensor.size for tensor in tensors.values())
    summary.parameters_converted = sum(tensor.size for tensor in quantized)
    summary.bytes_before = sum(tensor.nbytes for tensor in tensors.values())
    for name, choice in choices.items():
        if not choice.quantize and len(tensors[name].shape) >= 2:
            summary.kept.setdefault(choice.reason, []).append(name)
    embeddings = [tensor.name for tensor in quantized if is_embedding(tensor.name)]
    if embeddings:
        summary.notes.append(f"{embeddings[0]} looks like an embedding: transformers cannot load it quantized")
    if "expert" in summary.kept:
        summary.notes.append(
            f"{len(summary.kept['expert'])} expert matrices were left alone, as transformers 5 does with bitsandbytes; "
            "--include takes them"
        )
    blocksize = format.options().get("block size")
    if "double quantization" in format.options() and blocksize not in _BITSANDBYTES_BLOCKS:
        summary.notes.append(f"bitsandbytes cannot read a block size of {blocksize}; libbnb can")
    return summary
