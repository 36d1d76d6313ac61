# SPDX-License-Identifier: MIT
"""libbnb inspect for GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from libbnb.cli.console import out, size, table

if TYPE_CHECKING:
    from libbnb.integrations.gguf import GGUFFile, GGUFTensor

_LONG = 8  # elements of an array, or characters of ten, that are shown whole
_LONG_TEXT = 80


def describe(path: Path, with_sparsity: bool = True) -> dict[str, Any]:
    """What is in a GGUF file, for JSON.

    Raises
    ------
    GGUFError
        The file cannot be read, or is corrupt.
    """
    from libbnb.integrations.gguf import GGUFFile, sparsity

    file = GGUFFile(path)
    tensors: list[dict[str, Any]] = []
    for tensor in file.tensors.values():
        zeros = sparsity(file, tensor.name) if with_sparsity else None
        tensors.append(_entry(tensor) | {"sparsity": zeros})
    return {
        "version": file.version,
        "alignment": file.alignment,
        "metadata": {key: _short(value) for key, value in file.metadata.items()},
        "metadata_types": dict(file.types),
        "tensors": tensors,
        "totals": _totals(file),
    }


def _entry(tensor: GGUFTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "format": tensor.type,
        "shape": list(tensor.shape),
        "elements": tensor.size,
        "nbytes": tensor.nbytes,
        "bits_per_weight": _bits(tensor.nbytes, tensor.size),
    }


def _bits(nbytes: int, elements: int) -> float:
    return 8 * nbytes / elements if elements else 0.0


def _short(value: Any) -> Any:
    """Arrays of many elements (a vocabulary has a hundred thousand) with their length and their first ones."""
    if not isinstance(value, list):
        return value
    elements = cast(list[Any], value)
    return elements if len(elements) <= _LONG else {"length": len(elements), "first": elements[:_LONG]}


def _totals(file: GGUFFile) -> list[dict[str, Any]]:
    """One row per type, the largest first, then one for all."""
    groups: dict[str, list[GGUFTensor]] = {}
    for tensor in file.tensors.values():
        groups.setdefault(tensor.type, []).append(tensor)
    rows = [_total(name, group) for name, group in groups.items()]
    rows.sort(key=lambda row: -row["nbytes"])
    return [*rows, _total("all", list(file.tensors.values()))]


def _total(name: str, tensors: list[GGUFTensor]) -> dict[str, Any]:
    elements, nbytes = sum(one.size for one in tensors), sum(one.nbytes for one in tensors)
    bits = _bits(nbytes, elements)
    return {"format": name, "tensors": len(tensors), "elements": elements, "nbytes": nbytes, "bits_per_weight": bits}


def print_metadata(description: dict[str, Any]) -> None:
    """Format, and keys with their values."""
    out.print(f"GGUF version {description['version']}, data aligned to {description['alignment']} bytes\n")
    rows = table("key", "value")
    rows.columns[1].justify = "left"
    rows.columns[1].no_wrap = False
    for key, value in description["metadata"].items():
        rows.add_row(key, _text(value))
    out.print(rows, markup=False)
    out.print()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        summary = cast(dict[str, Any], value)
        shown = ", ".join(repr(one) for one in summary["first"])
        return f"{summary['length']} elements: {shown}, ..."
    text = value if isinstance(value, str) else repr(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= _LONG_TEXT else text[:_LONG_TEXT] + "..."


def print_tensors(description: dict[str, Any]) -> None:
    """A line per tensor; a column with the share of zeros if there are ternary ones."""
    has_ternary = any(tensor["sparsity"] is not None for tensor in description["tensors"])
    rows = table("tensor", "format", "shape", "bits/weight", "size", *(["zeros"] if has_ternary else []))
    for tensor in description["tensors"]:
        zeros = "" if tensor["sparsity"] is None else f"{100 * tensor['sparsity']:.1f}%"
        rows.add_row(
            tensor["name"], tensor["format"], " x ".join(map(str, tensor["shape"])),
            f"{tensor['bits_per_weight']:.2f}", size(tensor["nbytes"]), *([zeros] if has_ternary else []),
        )  # fmt: skip
    out.print(rows)
    out.print()
