# SPDX-License-Identifier: MIT
"""Corrupt, truncated and hostile files: a clear error that names the file, and nothing written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")

from checkpoints import CONFIG, safetensors_bytes, save_model, small_model
from libbnb.checkpoint import Checkpoint, CheckpointError, make_format, quantize_checkpoint

_A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _one(**changes: Any) -> dict[str, Any]:
    return {"a": _A | changes}


# what: (the file, words of the message)
_BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "header too small|mmap|empty"),
    "five bytes": (b"\x08\0\0\0\0", "header too small"),
    "header of 2^62 bytes": (safetensors_bytes(_one(), bytes(8), 2**62), "header too large"),
    "header of 2^64 - 1 bytes": (safetensors_bytes(_one(), bytes(8), 2**64 - 1), "header too large"),
    "header longer than the file": (safetensors_bytes(_one(), bytes(8), 5000), "header"),
    "truncated data": (safetensors_bytes(_one(), bytes(4)), "not fully covered"),
    "bytes behind the data": (safetensors_bytes(_one(), bytes(12)), "not fully covered"),
    "offsets outside": (safetensors_bytes(_one(data_offsets=[2**40, 2**40 + 8]), bytes(8)), "offset"),
    "offsets backwards": (safetensors_bytes(_one(data_offsets=[8, 0]), bytes(8)), "offset"),
    "offsets negative": (safetensors_bytes(_one(data_offsets=[-8, 0]), bytes(8)), "JSON"),
    "overlap": (safetensors_bytes({"a": _A, "b": _A}, bytes(8)), "offset"),
    "hole": (safetensors_bytes(_one(data_offsets=[8, 16]), bytes(16)), "offset"),
    "not JSON": (safetensors_bytes(b'{"a":', bytes(8)), "JSON"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}', bytes(8)), "UTF-8"),
    "a list": (safetensors_bytes([]), "JSON"),
    "deeply nested": (safetensors_bytes(b"[" * 100_000), "JSON"),
    "shape does not fit": (safetensors_bytes(_one(shape=[3]), bytes(8)), "shape"),
    "dtype does not fit": (safetensors_bytes(_one(dtype="F64"), bytes(8)), "shape"),
    "shape overflows": (safetensors_bytes(_one(shape=[2**40, 2**40]), bytes(8)), "overflow"),
    "shape negative": (safetensors_bytes(_one(shape=[-2]), bytes(8)), "JSON"),
    "unknown dtype": (safetensors_bytes(_one(dtype="Q9"), bytes(8)), "JSON"),
    "no offsets": (safetensors_bytes({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "JSON"),
    "metadata not text": (safetensors_bytes({"__metadata__": {"x": 1}} | _one(), bytes(8)), "JSON"),
    "same name twice": (
        safetensors_bytes(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
            bytes(8),
        ),
        "'a' occurs twice",
    ),
}


@pytest.mark.parametrize("what", _BAD_FILES)
@pytest.mark.parametrize("in_folder", [False, True], ids=["file", "folder"])
def test_bad_file(what: str, in_folder: bool, tmp_path: Path) -> None:
    content, words = _BAD_FILES[what]
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.safetensors"
    path.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=words) as caught:
        quantize_checkpoint(folder if in_folder else path, tmp_path / "out", make_format("nf4"))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("length", [*range(40), 100, 1000])
def test_every_truncation(length: int, tmp_path: Path, rng: np.random.Generator) -> None:
    """However short a file is cut: an error, never a crash or half a result."""
    folder = save_model(tmp_path / "model", small_model(rng))
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: length if length < 40 else -length])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_random_damage(tmp_path: Path, rng: np.random.Generator) -> None:
    """Bytes changed anywhere in the header: an error or a result, nothing else."""
    folder = save_model(tmp_path / "model", small_model(rng))
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for round in range(200):
        damaged = bytearray(content)
        for position in rng.integers(0, header, 2):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            quantize_checkpoint(folder, tmp_path / f"out{round}", make_format("nf4"))
        except CheckpointError:
            assert not (tmp_path / f"out{round}").exists()
        assert not (tmp_path / f"out{round}.partial").exists()


def test_truncated_while_it_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    """A file that shrinks after its header was read: an error, not a crash (a memory map would end in SIGBUS)."""
    folder = save_model(tmp_path / "model", small_model(rng))

    class Truncates:
        def start(self, total_bytes: int, done_bytes: int) -> None:
            os.truncate(folder / "model.safetensors", 1000)

        def advance(self, name: str, nbytes: int, elements: int) -> None: ...

    with pytest.raises(CheckpointError, match="truncated while it was read"):
        quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"), progress=Truncates())
    assert not (tmp_path / "out").exists()


_BAD_INDICES: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "not valid JSON"),
    "nested beyond reason": (b"[" * 200_000, "not valid JSON"),
    "no weight_map": ({}, "has no weight_map"),
    "a list": ([], "has no weight_map"),
    "empty weight_map": ({"weight_map": {}}, "has no weight_map"),
    "file missing": ({"weight_map": {"a": "model-1.safetensors"}}, "no such file"),
    "path upwards": ({"weight_map": {"a": "../secret.safetensors"}}, "is not a file name"),
    "absolute path": ({"weight_map": {"a": "/etc/passwd"}}, "is not a file name"),
    "backslashes": ({"weight_map": {"a": "..\\x"}}, "is not a file name"),
    "not text": ({"weight_map": {"a": 3}}, "is not a file name"),
    "tensor missing": ({"weight_map": {"nowhere.weight": "one.safetensors"}}, "has no tensor 'nowhere.weight'"),
}


@pytest.mark.parametrize("what", _BAD_INDICES)
def test_bad_index(what: str, tmp_path: Path, rng: np.random.Generator) -> None:
    content, words = _BAD_INDICES[what]
    folder = save_model(tmp_path / "model", small_model(rng))
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(CheckpointError, match=words) as caught:
        quantize_checkpoint(folder, tmp_path / "out", make_format("nf4"))
    assert str(folder) in str(caught.value)


def test_same_tensor_in_two_shards(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng), shards=2)
    first, second = sorted(folder.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match=r"is in model-00001-of-00002\.safetensors, too"):
        Checkpoint(folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no safetensors file in this folder"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "it has pytorch_model.bin: convert"),
        (
            lambda folder: [(folder / f"{x}.safetensors").write_bytes(b"") for x in "ab"],
            "2 safetensors files and no index",
        ),
        (lambda folder: [(folder / f"{x}.safetensors.index.json").write_text("{}") for x in "ab"], "has 2 index files"),
    ],
)
def test_folder_without_one_checkpoint(make: Any, words: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        Checkpoint(tmp_path)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file or directory"):
        Checkpoint(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file/below"):
        Checkpoint(tmp_path / "file" / "below")
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for ever
    with pytest.raises(CheckpointError, match="not a file"):
        Checkpoint(tmp_path / "fifo")
    with pytest.raises(CheckpointError, match="not a file"):
        Checkpoint("/dev/zero")
    if Path("/proc/self/mem").exists():  # can be opened, cannot be read
        with pytest.raises(CheckpointError, match="/proc/self/mem: "):
            Checkpoint("/proc/self/mem")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng))
    (folder / "model.safetensors").chmod(0)
    with pytest.raises(CheckpointError, match="permission denied"):
        Checkpoint(folder)


def test_bad_config(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = save_model(tmp_path / "model", small_model(rng))
    for content in ("{", "[]"):
        (folder / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            Checkpoint(folder)


# ---------------------------------------------------------------------------------------------------------------------
# Quantized checkpoints whose parts do not fit together


def _damaged(folder: Path, result: Path, change: Any) -> Path:
    tensors = {}
    source = Checkpoint(folder).source
    from libbnb.checkpoint import dtypes
    from libbnb.checkpoint.load import load_bytes

    for name, tensor in source.tensors.items():
        array = np.frombuffer(load_bytes(tensor), dtypes.numpy_dtype(tensor.dtype)).reshape(tensor.shape)
        tensors[name] = array.copy()
    change(tensors)
    return save_model(result, tensors, config=source.config)


_Q = "model.layers.0.attn.q_proj"
_STATE = _Q + ".weight.quant_state.bitsandbytes__nf4"


def _json(values: Any) -> Any:
    return np.frombuffer(values if isinstance(values, bytes) else json.dumps(values).encode(), np.uint8)


def _set(name: str, value: Any) -> Any:
    return lambda tensors: tensors.__setitem__(name, value)


def _edit(**values: Any) -> Any:
    def change(tensors: dict[str, Any]) -> None:
        tensors[_STATE] = _json(json.loads(tensors[_STATE].tobytes()) | values)

    return change


_BAD_PARTS: dict[str, tuple[str, Any, str]] = {
    "no absmax": ("nf4", lambda t: t.pop(_Q + ".weight.absmax"), "has no .*absmax"),
    "short absmax": ("nf4", _set(_Q + ".weight.absmax", np.zeros(3, np.float32)), "must be F32 with 128"),
    "absmax of another dtype": ("nf4", _set(_Q + ".weight.absmax", np.zeros(128, np.float64)), "must be F32"),
    "short codes": ("nf4", _set(_Q + ".weight", np.zeros((9, 1), np.uint8)), "has 9 bytes, must have 4096"),
    "no codes": ("nf4", lambda t: t.pop(_Q + ".weight"), "has no"),
    "other map": ("nf4", _set(_Q + ".weight.quant_map", np.ones(16, np.float32)), "quant_map is not that of nf4"),
    "state not JSON": ("nf4", _set(_STATE, _json(b"{")), "not a JSON object"),
    "state a list": ("nf4", _set(_STATE, _json([])), "not a JSON object"),
    "state too large": ("nf4", _set(_STATE, np.zeros(1 << 17, np.uint8)), "not a JSON object"),
    "huge shape": ("nf4", _edit(shape=[2**40, 2**40]), "must have"),
    "shape of text": ("nf4", _edit(shape=["a"]), "shape is"),
    "negative shape": ("nf4", _edit(shape=[-1, 5]), "shape is"),
    "no block size": ("nf4", _edit(blocksize=None), "block size is None"),
    "block size 0": ("nf4", _edit(blocksize=0), "block size is 0"),
    "odd block size": ("nf4", _edit(blocksize=3), "block size is 3"),
    "block size true": ("nf4", _edit(blocksize=True), "block size is True"),
    "unknown dtype": ("nf4", _edit(dtype="float8"), "dtype is 'float8'"),
    "nested but not": ("nf4", _edit(nested_offset=1.0, nested_blocksize=256, nested_dtype="float32"), "must be U8"),
    "nested block size 0": ("nf4+dq", _edit(nested_blocksize=0), "nested block size is 0"),
    "int8 without weight": ("int8", lambda t: t.pop(_Q + ".weight"), "no int8 matrix"),
    "int8 short scales": ("int8", _set(_Q + ".SCB", np.zeros(3, np.float32)), "one float32 for each row"),
    "int8 tiles": ("int8", _set(_Q + ".weight_format", np.array(1, np.uint8)), "not stored row by row"),
    "fp8 scales": ("fp8", _set(_Q + ".weight_scale", np.zeros(3, np.float32)), "not one float32 per row"),
}


@pytest.mark.parametrize("what", _BAD_PARTS)
def test_quantized_parts_that_do_not_fit(what: str, tmp_path: Path, rng: np.random.Generator) -> None:
    from libbnb.checkpoint import dequantize_checkpoint
    from libbnb.checkpoint.formats import parse_format

    format, change, words = _BAD_PARTS[what]
    folder = save_model(tmp_path / "model", small_model(rng), config=CONFIG)
    quantize_checkpoint(folder, tmp_path / "good", parse_format(format))
    bad = _damaged(tmp_path / "good", tmp_path / "bad", change)
    for use in (Checkpoint, lambda path: dequantize_checkpoint(path, tmp_path / "out")):
        with pytest.raises(CheckpointError, match=words) as caught:
            use(bad)
        assert _Q in str(caught.value) or str(bad) in str(caught.value)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
