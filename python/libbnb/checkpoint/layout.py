# SPDX-License-Identifier: MIT
"""Which output tensor goes into which file at which byte, and the header that says so."""

from __future__ import annotations

import json
from dataclasses import dataclass

from libbnb.checkpoint import dtypes
from libbnb.checkpoint.step import Step, TensorSpec


@dataclass(frozen=True)
class Shard:
    """One file that will be written: its header, and where each tensor starts in the file."""

    file_name: str
    header: bytes
    offsets: dict[str, int]
    nbytes: int


def lay_out(steps: list[Step], stem: str, max_shard_bytes: int | None, metadata: dict[str, str]) -> list[Shard]:
    """Distribute the outputs of `steps` over files of at most `max_shard_bytes` (None: one file).

    The outputs of one step stay together; a step larger than the limit gets a file of its own.
    """
    groups: list[list[TensorSpec]] = [[]]
    filled = 0
    for step in steps:
        nbytes = sum(spec.nbytes for spec in step.outputs)
        if max_shard_bytes is not None and groups[-1] and filled + nbytes > max_shard_bytes:
            groups.append([])
            filled = 0
        groups[-1] += step.outputs
        filled += nbytes
    if len(groups) == 1:
        return [_shard(stem + ".safetensors", groups[0], metadata)]
    total = len(groups)
    return [
        _shard(f"{stem}-{number:05d}-of-{total:05d}.safetensors", group, metadata)
        for number, group in enumerate(groups, start=1)
    ]


def _shard(file_name: str, specs: list[TensorSpec], metadata: dict[str, str]) -> Shard:
    """Header and order are those that the safetensors package writes: aligned because the widest dtypes come first."""
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    begins: dict[str, int] = {}
    end = 0
    for spec in sorted(specs, key=lambda spec: (-dtypes.sort_key(spec.dtype), spec.name)):
        begins[spec.name], end = end, end + spec.nbytes
        entries[spec.name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": [begins[spec.name], end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return Shard(file_name, header, {name: len(header) + begin for name, begin in begins.items()}, len(header) + end)


def index_json(shards: list[Shard], steps: list[Step], stem: str) -> tuple[str, str] | None:
    """Name and text of the index of a sharded checkpoint; None for a single file."""
    if len(shards) == 1:
        return None
    total = sum(spec.nbytes for step in steps for spec in step.outputs)
    weight_map = {name: shard.file_name for shard in shards for name in shard.offsets}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return stem + ".safetensors.index.json", json.dumps(index, indent=2) + "\n"
