# SPDX-License-Identifier: MIT
"""Reading GGUF files: what the gguf package reads, and a clear error for everything that is broken, wherever it is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors")
pytest.importorskip("gguf")

import gguf
from hypothesis import given
from hypothesis import strategies as st

from libbnb.integrations.gguf import GGUFError, GGUFFile, quantize, sparsity

VALUES: dict[str, tuple[str, Any]] = {
    "uint8": ("add_uint8", 200),
    "int8": ("add_int8", -100),
    "uint16": ("add_uint16", 60000),
    "int16": ("add_int16", -30000),
    "uint32": ("add_uint32", 4_000_000_000),
    "int32": ("add_int32", -2_000_000_000),
    "uint64": ("add_uint64", 2**63 + 1),
    "int64": ("add_int64", -(2**62)),
    "float32": ("add_float32", 0.5),
    "float64": ("add_float64", 0.1),
    "bool": ("add_bool", True),
    "string": ("add_string", "ünïcode\nlines"),
    "integers": ("add_array", [1, 2, 3]),
    "floats": ("add_array", [0.5, -0.25]),
    "strings": ("add_array", ["a", "", "日本"]),
    "flags": ("add_array", [True, False]),
}


def write(path: Path, alignment: int | None = None) -> dict[str, Any]:
    """A file with values and tensors of all sorts; what dequantizing gives."""
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, "test")
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, (add, value) in VALUES.items():
        getattr(writer, add)(f"values.{key}", value)
    rows = rng.standard_normal((3, 2, 256)).astype(np.float32)
    wanted: dict[str, Any] = {"floats": rows, "halves": rows[0].astype(np.float16), "counts": np.arange(5)}
    for name, array in wanted.items():
        writer.add_tensor(name, array)
    for name in ("q8_0", "iq4_nl", "tq1_0", "tq2_0", "mxfp4"):
        ggml = gguf.GGMLQuantizationType[name.upper()]
        writer.add_tensor(name, quantize(rows, name), raw_dtype=ggml)
        wanted[name] = gguf.dequantize(quantize(rows, name), ggml).reshape(rows.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return wanted


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "good.gguf"
    write(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def open_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], GGUFFile]:
    """Opens a file with this content, and reads all of it."""
    path = tmp_path_factory.mktemp("gguf") / "file.gguf"

    def call(data: bytes) -> GGUFFile:
        path.write_bytes(data)
        file = GGUFFile(path)
        for name in file.tensors:
            assert file.read(name).nbytes == file.tensors[name].nbytes
            sparsity(file, name)
        return file

    return call


@pytest.mark.parametrize("alignment", [None, 8, 256])
def test_everything_is_read(alignment: int | None, tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    wanted = write(path, alignment)
    file, reader = GGUFFile(path), gguf.GGUFReader(path)
    assert file.version == 3 and file.alignment == (alignment or 32)
    fields = {key: part for key, part in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(file.metadata) == list(fields)
    for key, part in fields.items():
        assert file.metadata[key] == part.contents() and file.types[key] == part.types[0].name
    for key, (_, value) in VALUES.items():
        assert file.metadata[f"values.{key}"] == value
    assert list(file.tensors) == [tensor.name for tensor in reader.tensors] == list(wanted)
    for tensor in reader.tensors:
        ours = file.tensors[tensor.name]
        assert (ours.offset, ours.nbytes, ours.size) == (tensor.data_offset, tensor.n_bytes, tensor.n_elements)
        assert file.read(tensor.name).tobytes() == tensor.data.tobytes()
        found = file.dequantize(tensor.name)
        assert found.shape == wanted[tensor.name].shape and (found == wanted[tensor.name]).all()


def test_empty_files_of_the_format(open_bytes: Any) -> None:
    file = open_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    assert not file.metadata and not file.tensors


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"nothing\.gguf: no such file"):
        GGUFFile(tmp_path / "nothing.gguf")
    with pytest.raises(GGUFError, match="not a file"):
        GGUFFile(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Broken files


def test_every_truncation(good: bytes, open_bytes: Any) -> None:
    """A file that was cut off anywhere is an error that says so. Behind the last tensor is padding only."""
    file = open_bytes(good)
    header = min(tensor.offset for tensor in file.tensors.values())
    end = max(tensor.offset + tensor.nbytes for tensor in file.tensors.values())
    for length in [*range(0, header, 7), *range(header, end, 997), end - 1]:
        with pytest.raises(GGUFError, match=r"ends at byte|for which it is too short|cut off"):
            open_bytes(good[:length])
    open_bytes(good[:end])


def test_every_byte_of_the_header(good: bytes, open_bytes: Any) -> None:
    """Any byte may be wrong: then the file is refused, or reads as something else; never another error."""
    header = min(tensor.offset for tensor in open_bytes(good).tensors.values())
    refused = 0
    for position in range(header):
        data = bytearray(good)
        data[position] ^= 0xFF if position % 2 else 0x80
        try:
            open_bytes(bytes(data))
        except GGUFError:
            refused += 1
    assert refused > header // 4


@given(st.binary(max_size=200), st.sampled_from([2, 3]))
def test_random_bytes(open_bytes: Any, rest: bytes, version: int) -> None:
    for data in (
        rest,
        b"GGUF" + struct.pack("<I", version) + rest,
        b"GGUF" + struct.pack("<IQQ", version, 1, 1) + rest,
    ):
        try:
            open_bytes(data)
        except GGUFError as error:
            assert "\n" not in str(error)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def with_pairs(*pairs: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)


def with_tensors(*tensors: bytes, data: int = 4096, pairs: tuple[bytes, ...] = ()) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ALIGNMENT = text("general.alignment")
MALFORMED = {
    "magic": (b"GGML" + bytes(20), "does not start with GGUF"),
    "old version": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1; only 2 and 3"),
    "byte order": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "many pairs": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "says that 9223372036854775808 key-value pairs follow"),
    "many tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), "says that 1099511627776 tensors follow"),
    "long key": (with_pairs(struct.pack("<Q", 2**50) + bytes(100)), "bytes of a metadata key follow"),
    "long array": (with_pairs(text("a") + struct.pack("<IIQ", 9, 4, 2**61)), "elements of a follow"),
    "long strings": (with_pairs(text("a") + struct.pack("<IIQQ", 9, 8, 1, 2**62)), "bytes of a follow"),
    "nested array": (with_pairs(text("a") + struct.pack("<IIQ", 9, 9, 0)), "array of arrays"),
    "value type": (with_pairs(text("a") + struct.pack("<IQ", 99, 0)), "a has type 99, which does not exist"),
    "array type": (with_pairs(text("a") + struct.pack("<IIQ", 9, 99, 0)), "a has type 99"),
    "key twice": (with_pairs(*[text("a") + struct.pack("<IB", 0, 1) + b""] * 2), "key 'a' occurs twice"),
    "key encoding": (with_pairs(struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<IQ", 0, 0)), "not UTF-8"),
    "alignment": (with_pairs(ALIGNMENT + struct.pack("<II", 4, 3)), "general.alignment is 3, must be a power of two"),
    "alignment 0": (with_pairs(ALIGNMENT + struct.pack("<II", 4, 0)), "must be a power of two"),
    "alignment type": (with_pairs(ALIGNMENT + struct.pack("<I", 8) + text("32")), "must be a power of two"),
    "name twice": (with_tensors(tensor("t", (4,)), tensor("t", (4,), offset=32)), "tensor 't' occurs twice"),
    "dimensions": (with_tensors(tensor("t", (1,) * 5)), "tensor 't' has 5 dimensions"),
    "tensor type": (with_tensors(tensor("t", (4,), kind=250)), "type 250, which this gguf package does not know"),
    "rows": (with_tensors(tensor("t", (100,), kind=35)), "rows of 100, TQ2_0 needs a multiple of 256"),
    "huge": (with_tensors(tensor("t", (2**40, 2**40))), "it was cut off"),
    "far": (with_tensors(tensor("t", (4,), offset=2**62)), "it was cut off"),
    "offset": (with_tensors(tensor("t", (4,), offset=3)), "offset 3, not a multiple of 32"),
    "overlap": (with_tensors(tensor("a", (16,)), tensor("b", (16,), offset=32)), "tensors 'a' and 'b' overlap"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case: str, open_bytes: Any) -> None:
    data, words = MALFORMED[case]
    with pytest.raises(GGUFError, match=f"not a readable GGUF file: .*{words}"):
        open_bytes(data)


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    write(path)
    file = GGUFFile(path)
    path.write_bytes(path.read_bytes()[: file.tensors["mxfp4"].offset])
    with pytest.raises(ValueError, match="truncated while it was read"):
        file.read("mxfp4")


def test_types_that_have_no_values(open_bytes: Any) -> None:
    """They are listed, and their bytes can be had."""
    ggml = gguf.GGMLQuantizationType.Q8_1
    block, nbytes = gguf.GGML_QUANT_SIZES[ggml]
    file = open_bytes(with_tensors(tensor("t", (block,), kind=ggml), data=nbytes))
    assert file.read("t").nbytes == nbytes
    with pytest.raises(GGUFError, match="tensor 't': gguf cannot dequantize Q8_1"):
        file.dequantize("t")
