# SPDX-License-Identifier: MIT
"""Every wrong argument is an error that names it, and nothing is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import libbnb

X = np.linspace(-1, 1, 256, dtype=np.float32)
CODE = libbnb.create_dynamic_map()


def quantize_4bit(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "A": X,
        "out": np.full((128, 1), 0xAB, np.uint8),
        "absmax": np.full(4, -7, np.float32),
        "quant_type": "nf4",
    } | changes
    call(libbnb.quantize_4bit, arguments)


def quantize_blockwise(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "A": X,
        "out": np.full(256, 0xAB, np.uint8),
        "absmax": np.full(4, -7, np.float32),
        "blocksize": 64,
    } | changes
    call(libbnb.quantize_blockwise, arguments)


def dequantize_4bit(**changes: Any) -> None:
    packed, state = libbnb.quantize_nf4(X)
    arguments: dict[str, Any] = {
        "A": packed,
        "absmax": state.absmax,
        "out": np.full(256, -7, np.float32),
        "quant_type": "nf4",
    } | changes
    call(libbnb.dequantize_4bit, arguments)


def dequantize_blockwise(**changes: Any) -> None:
    codes, state = libbnb.quantize_blockwise(X, blocksize=64)
    arguments: dict[str, Any] = {
        "A": codes,
        "absmax": state.absmax,
        "out": np.full(256, -7, np.float32),
        "blocksize": 64,
    } | changes
    call(libbnb.dequantize_blockwise, arguments)


def call(function: Any, arguments: dict[str, Any]) -> None:
    """Calls, and sees to it that outputs are as they were if that fails."""
    outputs = [name for name in ("out", "absmax") if isinstance(arguments.get(name), np.ndarray)]
    before = {name: arguments[name].copy() for name in outputs}
    try:
        function(**arguments)
    except Exception:
        for name in outputs:
            np.testing.assert_array_equal(arguments[name], before[name])
        raise


ALL = [quantize_4bit, quantize_blockwise, dequantize_4bit, dequantize_blockwise]


@pytest.mark.parametrize("function", ALL)
def test_the_right_arguments_are_right(function: Any) -> None:
    function()


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("blocksize", [0, -1, -64, 2**63, -(2**63), 2**64, 10**30])
def test_block_sizes_out_of_range(function: Any, blocksize: int) -> None:
    with pytest.raises(libbnb.InvalidArgument, match="blocksize"):
        function(blocksize=blocksize)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("blocksize", [64.0, "64", [64], True, 64 + 0j])
def test_block_sizes_of_other_types(function: Any, blocksize: Any) -> None:
    with pytest.raises(TypeError, match="blocksize"):
        function(blocksize=blocksize)


@pytest.mark.parametrize("blocksize", [1, 3, 63, 2**63 - 1])
def test_odd_block_sizes_of_4bit(blocksize: int) -> None:
    for function in (quantize_4bit, dequantize_4bit):
        with pytest.raises(libbnb.InvalidArgument, match=r"blocksize is \d+, must be even"):
            function(blocksize=blocksize)


def test_block_sizes_of_other_integer_types_are_right() -> None:
    packed, _ = libbnb.quantize_nf4(X, blocksize=np.int64(64))
    np.testing.assert_array_equal(packed, libbnb.quantize_nf4(X)[0])
    for huge in (2**62, 2**63 - 2):
        assert libbnb.quantize_nf4(X, blocksize=huge)[1].absmax.shape == (1,)
        assert libbnb.quantize_blockwise(X, blocksize=huge)[1].absmax.shape == (1,)


@pytest.mark.parametrize("quant_type", ["nf5", "NF4", "int4", "af4", "fp8_e4m3fn", "", 1, 2, None, b"nf4"])
def test_quant_types(quant_type: Any) -> None:
    with pytest.raises(libbnb.InvalidArgument, match="quant_type is"):
        quantize_4bit(quant_type=quant_type)
    if quant_type is not None:
        with pytest.raises(libbnb.InvalidArgument, match="quant_type is"):
            dequantize_4bit(quant_type=quant_type)


def unsorted() -> Any:
    code = CODE.copy()
    code[[10, 11]] = code[[11, 10]]
    return code


def with_value(value: float) -> Any:
    code = CODE.copy()
    code[200 if value > 0 else 0] = value
    return code


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (CODE[:255], "code has 255 elements, must have 256"),
        (CODE[:16], "code has 16 elements"),
        (np.append(CODE, np.float32(1)), "code has 257 elements"),
        (CODE.astype(np.float64), "code is float64, must be float32"),
        (CODE.astype(np.float16), "code is float16"),
        (unsorted(), r"code\[11\].*ascend"),
        (CODE[::-1], r"code\[1\].*ascend"),
        (with_value(np.nan), r"code\[0\] is nan"),
        (with_value(np.inf), r"code\[200\] is inf"),
        (with_value(-np.inf), r"code\[0\] is -inf"),
    ],
)
def test_codes(code: Any, message: str) -> None:
    with pytest.raises(libbnb.InvalidArgument, match=message):
        quantize_blockwise(code=code)


def test_defect_27_short_and_wrong_buffers_are_errors() -> None:
    """Defect 27: short code and absmax buffers read out of bounds, other dtypes read as if they were float32."""
    for short in (0, 3, 5):
        with pytest.raises(libbnb.InvalidArgument, match=f"absmax has {short} elements, must have 4"):
            dequantize_4bit(absmax=np.ones(short, np.float32))
        with pytest.raises(libbnb.InvalidArgument, match=f"absmax has {short} elements, must have 4"):
            dequantize_blockwise(absmax=np.ones(short, np.float32))
    with pytest.raises(libbnb.InvalidArgument, match="absmax is float16"):
        dequantize_4bit(absmax=np.ones(4, np.float16))
    with pytest.raises(libbnb.InvalidArgument, match="code is float64"):
        dequantize_blockwise(code=CODE.astype(np.float64))
    with pytest.raises(libbnb.InvalidArgument, match="code has 16 elements"):
        dequantize_blockwise(code=CODE[:16])
    strided = np.repeat(CODE, 2)[::2]  # a view is copied, not misread
    codes = libbnb.quantize_blockwise(X, code=strided)[0]
    np.testing.assert_array_equal(codes, libbnb.quantize_blockwise(X, code=CODE)[0])
    with pytest.raises(libbnb.InvalidArgument, match="A has 127 bytes, must have 128"):
        dequantize_4bit(A=libbnb.quantize_nf4(X)[0][:-1])
    with pytest.raises(libbnb.InvalidArgument, match="A has 129 bytes, must have 128"):
        dequantize_4bit(A=np.zeros(129, np.uint8))


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8", "bool", "complex64", "int64"])
def test_dtypes_of_the_input(dtype: str) -> None:
    for function in (quantize_4bit, quantize_blockwise):
        with pytest.raises(libbnb.InvalidArgument, match=f"A is {dtype}, must be float32, float16 or bfloat16"):
            function(A=X.astype(dtype))


def test_dtypes_that_c_has_no_word_for() -> None:
    for array in (X.astype(">f4"), X.astype("M8[s]"), np.array(["a"]), np.array([None]), np.zeros(3, [("a", "f4")])):
        for function in (quantize_4bit, quantize_blockwise):
            with pytest.raises(libbnb.InvalidArgument, match="A has dtype"):
                function(A=array)


def test_dtypes_of_outputs_and_codes() -> None:
    with pytest.raises(libbnb.InvalidArgument, match="out is float32, must be uint8"):
        quantize_blockwise(out=np.empty(256, np.float32))
    with pytest.raises(libbnb.InvalidArgument, match="absmax is float16"):
        quantize_4bit(absmax=np.empty(4, np.float16))
    with pytest.raises(libbnb.InvalidArgument, match="out is float64"):
        dequantize_4bit(out=np.empty(256, np.float64))
    with pytest.raises(libbnb.InvalidArgument, match="out is int32"):
        dequantize_blockwise(out=np.empty(256, np.int32))
    with pytest.raises(libbnb.InvalidArgument, match="A is int8, must be uint8"):
        dequantize_blockwise(A=np.zeros(256, np.int8))
    with pytest.raises(libbnb.InvalidArgument, match="out is complex128"):
        quantize_4bit(out=np.zeros(8, np.complex128))
    for storage in ("float7", 3, "S8", object):
        with pytest.raises(libbnb.InvalidArgument, match="quant_storage"):
            quantize_4bit(out=None, quant_storage=storage)
    with pytest.raises(libbnb.InvalidArgument, match="out is complex128"):
        quantize_4bit(out=None, quant_storage="complex128")


def test_sizes_of_outputs() -> None:
    for n in (0, 127, 129):
        with pytest.raises(libbnb.InvalidArgument, match=f"out has {n} bytes, must have 128"):
            quantize_4bit(out=np.zeros(n, np.uint8))
    for n in (255, 257):
        with pytest.raises(libbnb.InvalidArgument, match=f"out has {n} elements, must have 256"):
            quantize_blockwise(out=np.zeros(n, np.uint8))
        with pytest.raises(libbnb.InvalidArgument, match=f"out has {n} elements, must have 256"):
            dequantize_blockwise(out=np.zeros(n, np.float32))
    for n in (0, 254, 257):  # 255 elements would have as many bytes of codes
        with pytest.raises(libbnb.InvalidArgument, match=f"(A|absmax) has .*, must have .* {n} elements|one per block"):
            dequantize_4bit(out=np.zeros(n, np.float32))
    with pytest.raises(libbnb.InvalidArgument, match="absmax has 5 elements, must have 4"):
        quantize_4bit(absmax=np.zeros(5, np.float32))


@pytest.mark.parametrize("function", ALL)
def test_read_only_and_scattered_outputs(function: Any) -> None:
    dtype = np.float32 if "dequantize" in function.__name__ else np.uint8
    size = 128 if function is quantize_4bit else 256
    out = np.zeros(size, dtype)
    out.flags.writeable = False
    with pytest.raises(libbnb.InvalidArgument, match="out is read-only"):
        function(out=out)
    with pytest.raises(libbnb.InvalidArgument, match="out is not compact"):
        function(out=np.zeros(2 * size, dtype)[::2])
    if function in (quantize_4bit, quantize_blockwise):
        absmax = np.zeros(4, np.float32)
        absmax.flags.writeable = False
        with pytest.raises(libbnb.InvalidArgument, match="absmax is read-only"):
            function(absmax=absmax)


def test_outputs_that_overlap() -> None:
    memory = np.zeros(2048, np.uint8)
    x = memory[:1024].view(np.float32)
    with pytest.raises(libbnb.InvalidArgument, match="overlaps"):
        quantize_4bit(A=x, out=memory[1000 : 1000 + 128])
    with pytest.raises(libbnb.InvalidArgument, match="overlaps"):
        quantize_4bit(out=memory[:128], absmax=memory[100:116].view(np.float32))


def test_sizes_that_overflow() -> None:
    huge = np.broadcast_to(np.float32(1), (2**30, 2**30))
    with pytest.raises((MemoryError, ValueError)):
        libbnb.quantize_nf4(huge)
    packed, state = libbnb.quantize_nf4(X)
    state.shape = (2**62, 4)
    with pytest.raises((MemoryError, ValueError)):
        libbnb.dequantize_4bit(packed, state)


def test_states_that_lack_something() -> None:
    packed, state = libbnb.quantize_nf4(X)
    codes, state8 = libbnb.quantize_blockwise(X)
    with pytest.raises(libbnb.InvalidArgument, match="quant_type"):
        libbnb.dequantize_4bit(packed, state8)
    state.shape = None
    with pytest.raises(libbnb.InvalidArgument, match="no shape"):
        libbnb.dequantize_4bit(packed, state)
    out = np.empty(256, np.float32)
    assert libbnb.dequantize_4bit(packed, state, out=out) is out
    state8.blocksize = None
    with pytest.raises(TypeError, match="blocksize is None"):
        libbnb.dequantize_blockwise(codes, state8)


def test_ranks_of_int8() -> None:
    with pytest.raises(libbnb.InvalidArgument, match="A has no dimensions"):
        libbnb.int8_vectorwise_quant(np.float32(1))
    q, stats, _ = libbnb.int8_vectorwise_quant(X.reshape(16, 16))
    with pytest.raises(libbnb.InvalidArgument, match="row_stats has 15 elements, must have 16"):
        libbnb.int8_vectorwise_dequant(q, stats[:-1])
    with pytest.raises(libbnb.InvalidArgument, match="A is float32, must be int8"):
        libbnb.int8_vectorwise_dequant(X.reshape(16, 16), stats)
    with pytest.raises(libbnb.InvalidArgument, match="out has 8 elements, must have 256"):
        libbnb.int8_vectorwise_dequant(q, stats, out=np.empty(8, np.float32))
    with pytest.raises(libbnb.InvalidArgument, match="col_stats has 15 elements"):
        libbnb.int8_mm_dequant(q.astype(np.int32), stats, stats[:-1])
    with pytest.raises(libbnb.InvalidArgument, match="bias has 2 elements"):
        libbnb.int8_mm_dequant(q.astype(np.int32), stats, stats, bias=np.ones(2, np.float32))
    with pytest.raises(libbnb.InvalidArgument, match="A is int8, must be int32"):
        libbnb.int8_mm_dequant(q, stats, stats)


def test_errors_have_two_names() -> None:
    assert issubclass(libbnb.InvalidArgument, ValueError) and issubclass(libbnb.InvalidArgument, libbnb.Error)
    assert issubclass(libbnb.Unsupported, NotImplementedError)
    assert issubclass(libbnb.OutOfMemory, MemoryError)
    assert issubclass(libbnb.DeviceError, RuntimeError)
    assert issubclass(libbnb.LoadError, ImportError)
