# SPDX-License-Identifier: MIT
"""What a checkpoint is on disk: one safetensors file, or a folder with its shards, config.json and other files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from libbnb.checkpoint.errors import CheckpointError, os_errors_name
from libbnb.checkpoint.reader import SafetensorsFile, TensorInfo, read_header

INDEX_SUFFIX = ".safetensors.index.json"

# Weights in other forms, and caches: everything else in a model folder is copied beside the new weights.
_NOT_COPIED_SUFFIXES = (
    ".safetensors", INDEX_SUFFIX, ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx",
    ".onnx_data", ".gguf", ".npz", ".tflite", ".mlmodel",
)  # fmt: skip
_NOT_COPIED_FOLDERS = ("__pycache__", "onnx", "openvino", "coreml")  # and whatever starts with a dot


@dataclass(frozen=True)
class Source:
    """An opened checkpoint: the headers have been read and checked, no tensor has been loaded.

    Attributes
    ----------
    path : Path
        What was opened: a file or a folder.
    files : list of SafetensorsFile
        The shards, in the order of their names.
    stem : str
        "model" for model.safetensors and model-00001-of-00002.safetensors.
    config : dict or None
        config.json, if there is one.
    companions : list of Path
        Other files of the folder (tokenizer, licence, ...), relative to it; weights in other forms are not among them.
    """

    path: Path
    files: list[SafetensorsFile]
    stem: str
    config: dict[str, Any] | None = None
    companions: list[Path] = field(default_factory=lambda: list[Path]())

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder, not a single file."""
        return self.path.is_dir()

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """All tensors, in the order in which a single pass over the files meets them."""
        return {name: tensor for file in self.files for name, tensor in file.tensors.items()}

    @property
    def metadata(self) -> dict[str, str]:
        """The `__metadata__` of the first shard."""
        return self.files[0].metadata


def open_source(path: Path) -> Source:
    """Open a safetensors file, or a folder with model.safetensors or a sharded checkpoint and its index.

    Raises
    ------
    CheckpointError
        There is no such checkpoint, or one of its files is unreadable, corrupt or missing.
    """
    with os_errors_name(path):
        if not path.is_dir():
            return Source(path, [read_header(path)], path.name.removesuffix(".safetensors"))
        index_path, shard_paths = _shards(path)
        files = [read_header(shard) for shard in shard_paths]
        _refuse_repeated_names(files)
        if index_path:
            _refuse_missing_tensors(index_path, files)
        stem = index_path.name.removesuffix(INDEX_SUFFIX) if index_path else shard_paths[0].stem
        return Source(path, files, stem, _config(path), _companions(path))


def _shards(folder: Path) -> tuple[Path | None, list[Path]]:
    """The index file, if any, and the weight files of a folder."""
    indices = sorted(folder.glob("*" + INDEX_SUFFIX))
    if len(indices) > 1:
        raise CheckpointError(f"{folder}: has {len(indices)} index files ({_names(indices)}); name one weight file")
    if indices:
        return indices[0], _shards_of_index(indices[0])
    weights = sorted(folder.glob("*.safetensors"))
    if folder / "model.safetensors" in weights:
        return None, [folder / "model.safetensors"]
    if len(weights) == 1:
        return None, weights
    if weights:
        raise CheckpointError(
            f"{folder}: has {len(weights)} safetensors files and no index ({_names(weights)}); name one"
        )
    others = sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
    found = f"; it has {_names(others)}: convert that to safetensors first" if others else ""
    raise CheckpointError(f"{folder}: no safetensors file in this folder{found}")


def _names(paths: list[Path]) -> str:
    shown = [path.name for path in paths[:3]] + ["..."] * (len(paths) > 3)
    return ", ".join(shown)


def _read_json(path: Path) -> Any:
    with os_errors_name(path):
        try:
            return json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: not valid JSON: {error}") from error


def _weight_map(index: Path) -> dict[str, str]:
    content = _read_json(index)
    weight_map: Any = cast(dict[str, Any], content).get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: has no weight_map")
    names = cast(dict[str, Any], weight_map)
    for file_name in names.values():
        # A file name only: an index from the internet must not reach out of its folder.
        if not isinstance(file_name, str) or Path(file_name).name != file_name or "\\" in file_name:
            raise CheckpointError(f"{index}: {file_name!r} in weight_map is not a file name")
    return names


def _shards_of_index(index: Path) -> list[Path]:
    paths = [index.parent / name for name in sorted(set(_weight_map(index).values()))]
    for path in paths:
        if not path.exists():
            raise CheckpointError(f"{path}: no such file, but {index.name} names it")
    return paths


def _refuse_missing_tensors(index: Path, files: list[SafetensorsFile]) -> None:
    found = {file.path.name: file.tensors for file in files}
    for name, file_name in _weight_map(index).items():
        if name not in found[file_name]:
            raise CheckpointError(f"{index.parent / file_name}: has no tensor {name!r}, but {index.name} says so")


def _refuse_repeated_names(files: list[SafetensorsFile]) -> None:
    owner: dict[str, Path] = {}
    for file in files:
        for name in file.tensors:
            if name in owner:
                raise CheckpointError(f"{file.path}: tensor {name!r} is in {owner[name].name}, too")
            owner[name] = file.path


def _config(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    if not path.exists():
        return None
    config = _read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: is not a JSON object")
    return cast(dict[str, Any], config)


def _companions(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden_or_cache = any(part in _NOT_COPIED_FOLDERS or part.startswith(".") for part in relative.parts)
        if hidden_or_cache or relative == Path("config.json"):
            continue
        if path.is_file() and not path.name.endswith(_NOT_COPIED_SUFFIXES):
            found.append(relative)
    return found
