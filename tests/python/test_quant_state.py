# SPDX-License-Identifier: MIT
"""QuantState: bitsandbytes' serialized form, both ways."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import libbnb
from kinds import Kind
from libbnb import QuantState

PACKED = "quant_state.bitsandbytes__nf4"


def make(kind: Kind, nested: bool, quant_type: str = "nf4", dtype: Any = np.float32) -> tuple[Any, QuantState]:
    x = np.random.default_rng(3).standard_normal((64, 300)).astype(dtype)
    return libbnb.quantize_4bit(kind.make(x), quant_type=quant_type, compress_statistics=nested)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_round_trip_on_every_library(kind: Kind, nested: bool, packed: bool) -> None:
    for dtype in kind.dtypes:
        codes, state = make(kind, nested, dtype=dtype)
        fields = state.as_dict(packed=packed)
        before = dict(fields)
        again = QuantState.from_dict(fields)
        assert fields.keys() == before.keys() and all(fields[key] is before[key] for key in fields)
        assert again == state and again.nested == nested and type(again.shape) is type(state.shape)
        assert again.dtype == state.dtype
        np.testing.assert_array_equal(
            kind.host(libbnb.dequantize_4bit(codes, again)), kind.host(libbnb.dequantize_4bit(codes, state))
        )


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_as_bitsandbytes_has_it(dtype: str, quant_type: str, nested: bool, packed: bool) -> None:
    """The dict of one library, read by the other, written again: the same bytes."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes").functional
    A = torch.randn(96, 200, generator=torch.Generator().manual_seed(7)).to(getattr(torch, dtype))

    def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
        assert list(a) == list(b) if packed else a.keys() == b.keys()
        for name in a:
            if isinstance(a[name], torch.Tensor):
                assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name
            else:
                assert a[name] == b[name] and type(a[name]) is type(b[name]), name

    _, state = libbnb.quantize_4bit(A, quant_type=quant_type, compress_statistics=nested)
    ours = state.as_dict(packed=packed)
    their_state = theirs.QuantState.from_dict(dict(ours), device="cpu")
    assert_equal(ours, their_state.as_dict(packed=packed))
    _, their_state = theirs.quantize_4bit(A, quant_type=quant_type, compress_statistics=nested)
    their_dict = their_state.as_dict(packed=packed)
    again = QuantState.from_dict(dict(their_dict), device="cpu")
    assert_equal(again.as_dict(packed=packed), their_dict)
    assert their_state.shape == again.shape and their_state.dtype == again.dtype


def test_the_json_is_that_of_checkpoints() -> None:
    x = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    _, state = libbnb.quantize_nf4(x, compress_statistics=True)
    packed = state.as_dict(packed=True)
    text = packed[PACKED].tobytes().decode()
    assert text == (
        '{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [8, 64], "nested_blocksize": 256, '
        f'"nested_dtype": "float32", "nested_offset": {float(state.offset)!r}}}'
    )
    assert list(packed) == ["absmax", "quant_map", "nested_absmax", "nested_quant_map", PACKED]
    assert not np.shares_memory(packed["nested_quant_map"], state.state2.code)


def test_keys_with_prefixes() -> None:
    _, state = libbnb.quantize_nf4(np.ones((4, 64), np.float32), compress_statistics=True)
    fields = {f"model.layers.0.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    assert QuantState.from_dict(fields) == state


def test_8bit_states_have_a_dict_too() -> None:
    _, state = libbnb.quantize_blockwise(np.ones(100, np.float32), nested=True)
    fields = state.as_dict(packed=True)
    assert fields["quant_type"] is None and fields["shape"] is None
    assert QuantState.from_dict(fields) == state


def test_the_legacy_list() -> None:
    _, state = libbnb.quantize_nf4(np.ones((4, 64), np.float32))
    assert [state[i] is x for i, x in enumerate((state.absmax, state.shape, state.dtype))] == [True] * 3
    assert state[3:] == [64, None, "nf4"]
    _, nested = libbnb.quantize_nf4(np.ones((4, 64), np.float32), compress_statistics=True)
    assert nested[4][0] is nested.offset and nested[4][1] is nested.state2
    with pytest.raises(IndexError):
        state[6]


def test_attributes_for_fsdp() -> None:
    _, state = libbnb.quantize_nf4(np.ones((4, 64), np.float32))
    np.testing.assert_array_equal(state.bitsandbytes__nf4, state.as_dict(packed=True)[PACKED])
    assert not hasattr(state, "bitsandbytes__fp4") and not hasattr(state, "nonsense")


@pytest.mark.parametrize("nested", [False, True])
def test_copies_and_pickles(nested: bool) -> None:
    codes, state = libbnb.quantize_nf4(np.random.default_rng(1).random((4, 64)).astype("f"), compress_statistics=nested)
    for other in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert other == state
        np.testing.assert_array_equal(libbnb.dequantize_4bit(codes, other), libbnb.dequantize_4bit(codes, state))


def test_equality() -> None:
    x = np.random.default_rng(1).random((4, 64)).astype(np.float32)
    state = libbnb.quantize_nf4(x)[1]
    assert state == libbnb.quantize_nf4(x)[1]
    assert state != libbnb.quantize_fp4(x)[1]
    assert state != libbnb.quantize_nf4(x + 1)[1]
    assert state != libbnb.quantize_nf4(x, compress_statistics=True)[1]
    assert state != libbnb.quantize_nf4(x.T)[1]
    assert state != libbnb.quantize_nf4(x, blocksize=32)[1]
    assert state != "state"
    nan = libbnb.quantize_nf4(np.full((4, 64), np.nan, np.float32))[1]
    assert nan != state
    assert "nf4" in repr(state)


@pytest.mark.torch
def test_to_device() -> None:
    torch = pytest.importorskip("torch")
    A = torch.randn(4, 300)
    codes, state = libbnb.quantize_nf4(A, compress_statistics=True)
    assert state.to("cpu") is state
    for array in (state.absmax, state.offset, state.code, state.state2.absmax, state.state2.code):
        assert array.device.type == "cpu"
    moved = copy.deepcopy(state).to("meta")
    for array in (moved.absmax, moved.offset, moved.code, moved.state2.absmax, moved.state2.code):
        assert array.device.type == "meta"
    with pytest.raises(libbnb.Error, match="meta"):
        libbnb.dequantize_4bit(codes.to("meta"), moved)


def test_numpy_states_stay_on_the_cpu() -> None:
    _, state = libbnb.quantize_nf4(np.ones(64, np.float32))
    state.to("cpu")
    with pytest.raises(NotImplementedError, match="cuda"):
        state.to("cuda")


def change(**values: Any) -> dict[str, Any]:
    """A packed dict with some of its JSON changed; None takes a key out."""
    fields = libbnb.quantize_nf4(np.ones((4, 300), np.float32), compress_statistics=True)[1].as_dict(packed=True)
    plain = json.loads(fields[PACKED].tobytes()) | values
    text = json.dumps({key: value for key, value in plain.items() if value is not None})
    return fields | {PACKED: np.frombuffer(text.encode(), np.uint8)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quant_type": "nf5"}, "quant_type"),
        ({"blocksize": 0}, "blocksize"),
        ({"blocksize": -64}, "blocksize"),
        ({"blocksize": 64.0}, "blocksize"),
        ({"blocksize": "64"}, "blocksize"),
        ({"blocksize": 2**63}, "blocksize"),
        ({"blocksize": None}, "blocksize"),
        ({"dtype": "float64"}, "dtype"),
        ({"dtype": "os.system"}, "dtype"),
        ({"dtype": 3}, "dtype"),
        ({"dtype": None}, "dtype"),
        ({"shape": [4, -300]}, "shape"),
        ({"shape": [4, "300"]}, "shape"),
        ({"shape": 1200}, "shape"),
        ({"shape": [2**40, 2**40]}, "shape"),
        ({"nested_blocksize": 0}, "nested_blocksize"),
        ({"nested_dtype": "int8"}, "nested_dtype"),
        ({"nested_offset": "1"}, "nested_offset"),
        ({"nested_offset": None}, "nested_offset"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_corrupt_fields(values: dict[str, Any], message: str) -> None:
    with pytest.raises(libbnb.InvalidArgument, match=message):
        QuantState.from_dict(change(**values))


def test_corrupt_dicts() -> None:
    fields = change()
    for key in ("absmax", "quant_map", "nested_quant_map"):
        with pytest.raises(libbnb.InvalidArgument, match=key):
            QuantState.from_dict({k: v for k, v in fields.items() if k != key})
    for text in (b"", b"{", b"[1, 2]", b"\xff\xfe", b"3"):
        with pytest.raises(libbnb.InvalidArgument, match="JSON"):
            QuantState.from_dict(fields | {PACKED: np.frombuffer(text, np.uint8)})
    with pytest.raises(libbnb.InvalidArgument, match="one key"):
        QuantState.from_dict({"absmax": fields["absmax"]})
    with pytest.raises(libbnb.InvalidArgument, match="one key"):
        QuantState.from_dict(fields | {"quant_state.bitsandbytes__fp4": fields[PACKED]})
    with pytest.raises(libbnb.InvalidArgument, match="must end in"):
        QuantState.from_dict({"quant_state.bitsandbytes__nf7": fields[PACKED], "absmax": fields["absmax"]})


def test_a_state_that_does_not_fit_its_codes() -> None:
    x = np.ones((4, 64), np.float32)
    codes, state = libbnb.quantize_nf4(x)
    for shape in ((4, 65), (4, 63), (2**20, 2**20), (0,)):
        wrong = copy.copy(state)
        wrong.shape = shape
        with pytest.raises((libbnb.InvalidArgument, MemoryError)):
            libbnb.dequantize_4bit(codes, wrong)
    wrong = copy.copy(state)
    wrong.absmax = state.absmax[:-1]
    with pytest.raises(libbnb.InvalidArgument, match="absmax has 3 elements, must have 4"):
        libbnb.dequantize_4bit(codes, wrong)
    wrong.absmax = state.absmax.astype(np.uint8)
    with pytest.raises(libbnb.InvalidArgument, match="absmax is uint8"):
        libbnb.dequantize_4bit(codes, wrong)
