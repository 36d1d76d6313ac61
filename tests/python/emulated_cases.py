# SPDX-License-Identifier: MIT
"""Operations on arrays of a device, beside the same ones on NumPy's. Run by test_device_arrays.py in a process whose
library has an emulated device."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import emulated_arrays as emulated
import libbnb
from device_functions import FUNCTIONS, TOLERANCE, is_product
from emulated_arrays import CUDA, DEVICE, METAL, NAME, ROCM, TYPE, Array, Managed
from libbnb import _native
from libbnb._native import ffi, lib
from libbnb.arrays import dlpack_kind

DEFAULT_STREAM = {CUDA: 1, ROCM: 0, METAL: None}[TYPE]  # as exporters are told of it
pointers = pytest.mark.skipif(TYPE == METAL, reason="memory has handles there, and there is one queue")
DTYPES = [emulated.float32, emulated.float16, emulated.bfloat16]


@pytest.fixture
def x(rng: np.random.Generator) -> Any:
    return rng.standard_normal((37, 64)).astype(np.float32)


def on_device(array: Any) -> Any:
    assert type(array) is Array
    return array.host()


def state_on_host(state: libbnb.QuantState) -> Any:
    return [on_device(state.absmax)] + ([on_device(state.offset)] if state.state2 is not None else [])


def test_what_is_there() -> None:
    assert {"name": NAME, "devices": 2 if TYPE == METAL else 1} in libbnb.info()["backends"]
    assert libbnb.is_available(NAME) and libbnb.has_native_kernels(NAME)
    assert libbnb.info()["chosen_by"] == "BNB_LIB_PATH"


def test_arrays_of_the_host_are_computed_on_the_cpu(x: Any) -> None:
    codes, state = libbnb.quantize_4bit(x, quant_type="nf4")
    assert isinstance(codes, np.ndarray) and isinstance(state.absmax, np.ndarray)
    assert np.abs(libbnb.dequantize_4bit(codes, state) - x).max() < np.abs(x).max() / 5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_four_bits(x: Any, dtype: Any, nested: bool) -> None:
    here = x.astype(dtype)
    want, want_state = libbnb.quantize_4bit(here, quant_type="nf4", compress_statistics=nested)
    codes, state = libbnb.quantize_4bit(Array.of(here), quant_type="nf4", compress_statistics=nested)
    np.testing.assert_array_equal(on_device(codes), want)
    back = on_device(libbnb.dequantize_4bit(codes, state))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.view(np.uint8), libbnb.dequantize_4bit(want, want_state).view(np.uint8))


@pytest.mark.parametrize("own_code", [False, True])
def test_eight_bits(x: Any, own_code: bool) -> None:
    code = np.linspace(-1, 1, 256, dtype=np.float32) if own_code else None
    want, want_state = libbnb.quantize_blockwise(x, code, blocksize=64)
    codes, state = libbnb.quantize_blockwise(Array.of(x), None if code is None else Array.of(code), blocksize=64)
    np.testing.assert_array_equal(on_device(codes), want)
    np.testing.assert_array_equal(on_device(state.absmax), want_state.absmax)
    np.testing.assert_array_equal(
        on_device(libbnb.dequantize_blockwise(codes, state)), libbnb.dequantize_blockwise(want, want_state)
    )


def test_int8_and_its_product(x: Any) -> None:
    want, want_stats, want_cols = libbnb.int8_vectorwise_quant(x, threshold=2.5)
    found, stats, cols = libbnb.int8_vectorwise_quant(Array.of(x), threshold=2.5)
    np.testing.assert_array_equal(on_device(found), want)
    np.testing.assert_array_equal(on_device(stats), want_stats)
    np.testing.assert_array_equal(on_device(cols), want_cols)
    product = libbnb.int8_linear_matmul(Array.of(want), Array.of(want))
    np.testing.assert_array_equal(on_device(product), want.astype(np.int32) @ want.astype(np.int32).T)


def test_products_with_four_bit_weights(rng: np.random.Generator) -> None:
    weight, row = rng.standard_normal((48, 64)).astype(np.float32), rng.standard_normal((3, 64)).astype(np.float32)
    codes, state = libbnb.quantize_4bit(weight, quant_type="fp4")
    want = row @ libbnb.dequantize_4bit(codes, state).T
    codes, state = libbnb.quantize_4bit(Array.of(weight), quant_type="fp4")
    # Sums in two orders: bnb.h allows (K + 8) * 2^-24 of the sum of magnitudes, which is about 40 here: 1.7e-4.
    np.testing.assert_allclose(on_device(libbnb.matmul_4bit(Array.of(row), codes, state)), want, atol=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(x: Any, name: str) -> None:
    want = FUNCTIONS[name](lambda array: array, x)
    found = FUNCTIONS[name](Array.of, x)
    assert len(found) == len(want)
    for a, b in zip(found, want, strict=True):
        if b is None:
            assert a is None
            continue
        tolerance = TOLERANCE if is_product(name) else 0.0
        np.testing.assert_allclose(
            on_device(a).astype(np.float32), np.asarray(b, np.float32), rtol=tolerance, atol=tolerance
        )


def test_what_is_not_compact_is_copied(x: Any) -> None:
    want, _ = libbnb.quantize_4bit(np.ascontiguousarray(x.T))
    np.testing.assert_array_equal(on_device(libbnb.quantize_4bit(Array.of(x, transposed=True))[0]), want)


def test_results_go_where_the_caller_says(x: Any) -> None:
    out, absmax = Array.of(np.zeros(x.size // 2, np.uint8)), Array.of(np.zeros(37, np.float32))
    codes, state = libbnb.quantize_4bit(Array.of(x), absmax, out)
    assert codes is out and state.absmax is absmax
    np.testing.assert_array_equal(out.host(), libbnb.quantize_4bit(x)[0].ravel())


def test_views_of_one_buffer(x: Any) -> None:
    both = Array.of(np.concatenate([x.reshape(-1).view(np.uint8), np.full(x.size // 2 + 37 * 4 + 5, 7, np.uint8)]))
    here, out = both.part(0, x.shape, x.dtype), both.part(x.nbytes, (x.size // 2,), emulated.uint8)
    absmax = both.part(x.nbytes + x.size // 2, (37,), emulated.float32)
    codes, state = libbnb.quantize_4bit(here, absmax, out)
    want, want_state = libbnb.quantize_4bit(x)
    np.testing.assert_array_equal(codes.host(), want.ravel())
    np.testing.assert_array_equal(state.absmax.host(), want_state.absmax)
    np.testing.assert_array_equal(here.host(), x)
    np.testing.assert_array_equal(both.host()[-5:], 7)
    with pytest.raises(libbnb.InvalidArgument, match="out overlaps A"):
        libbnb.quantize_4bit(here, absmax, both.part(x.nbytes - 1, (x.size // 2,), emulated.uint8))
    # Descriptors of the next call know nothing of these offsets.
    np.testing.assert_array_equal(libbnb.quantize_4bit(x)[0], want)


def test_arrays_of_the_host_beside_those_of_the_device_are_refused(x: Any) -> None:
    with pytest.raises(TypeError, match="out is a ndarray, must be a Array as A is"):
        libbnb.quantize_4bit(Array.of(x), out=np.zeros(x.size // 2, np.uint8))


@pytest.mark.parametrize("memory", [Array, Managed], ids=["device", "managed"])
def test_an_optimizer_in_place(rng: np.random.Generator, memory: Any) -> None:
    g, p = rng.standard_normal(1000).astype(np.float32), rng.standard_normal(1000).astype(np.float32)
    numbers = {"beta1": 0.9, "eps": 1e-8, "step": 1, "lr": 0.1, "beta2": 0.999}
    states = [np.zeros(1000, np.float32) for _ in range(2)]
    far = [memory.of(s) for s in states]
    here = Array.of(p)
    libbnb.optimizer_update_32bit("adam", Array.of(g), here, far[0], state2=far[1], **numbers)
    libbnb.optimizer_update_32bit("adam", g, p, states[0], state2=states[1], **numbers)
    np.testing.assert_array_equal(here.host(), p)
    for found, want in zip(far, states, strict=True):
        np.testing.assert_array_equal(found.host(), want)


def test_norms(x: Any) -> None:
    want = libbnb.gradient_norm([x, x])
    np.testing.assert_array_equal(on_device(libbnb.gradient_norm([Array.of(x), Array.of(x)])), want)


def test_a_library_that_shows_no_stream_is_waited_for(x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[int, int]] = []
    monkeypatch.setattr(_native, "synchronize", lambda *device: waited.append(device))
    array = Array.of(x)
    emulated.streams.clear()
    libbnb.quantize_4bit(array)
    assert waited == [(TYPE, DEVICE.c.device_id)]
    assert len(emulated.streams) >= 3 and set(emulated.streams) == {DEFAULT_STREAM}
    libbnb.quantize_4bit(x)
    assert len(waited) == 1  # the CPU is done on return


@pointers
def test_cupy_computes_on_its_current_stream(x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class ndarray(Array):
        pass

    members = {name: value for name, value in vars(emulated).items() if not name.startswith("__")}
    namespace = SimpleNamespace(**members | {"empty": lambda shape, dtype, device: ndarray(shape, dtype)})
    stream = SimpleNamespace(ptr=0x1234560)
    cuda = SimpleNamespace(get_current_stream=lambda: stream)
    empty = ndarray((1,), emulated.float32)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=ndarray, empty=lambda _: empty, cuda=cuda))  # type: ignore[arg-type]
    monkeypatch.setattr(dlpack_kind.array_api_compat, "array_namespace", lambda _: namespace)
    used: list[int] = []
    quantize = lib.cquantize_4bit

    def spy(*arguments: Any) -> int:
        used.append(int(ffi.cast("uintptr_t", arguments[-1])))
        return quantize(*arguments)

    monkeypatch.setattr(lib, "cquantize_4bit", spy)
    waited: list[Any] = []
    monkeypatch.setattr(_native, "synchronize", lambda *device: waited.append(device))
    for pointer, told in ((0x1234560, 0x1234560), (0, DEFAULT_STREAM)):
        stream.ptr = pointer
        array = ndarray.of(x)
        emulated.streams.clear()
        codes, _ = libbnb.quantize_4bit(array)
        assert type(codes) is ndarray and used.pop() == pointer
        assert set(emulated.streams) == {told}
        np.testing.assert_array_equal(codes.host(), libbnb.quantize_4bit(x)[0])
        used.pop()
    assert waited == []  # whoever uses CuPy's stream waits for us there


@pointers
def test_workspaces_from_python(x: Any) -> None:
    array = Array.of(x)
    kept = Array.of(np.zeros(x.shape, np.int8))
    _native.check(lib.bnb_workspace_query(1))
    try:
        libbnb.int8_double_quant(array, threshold=2.5, out_row=kept)
    finally:
        _native.check(lib.bnb_workspace_query(0))
    assert not kept.host().any()
    needed = lib.bnb_workspace_bytes()
    assert needed > 0
    memory = Array((needed,), emulated.uint8)
    want = libbnb.int8_vectorwise_quant(x, threshold=2.5)[0]
    try:
        _native.check(lib.bnb_set_workspace(DEVICE.c, memory.data, needed))
        np.testing.assert_array_equal(libbnb.int8_vectorwise_quant(array, threshold=2.5)[0].host(), want)
        _native.check(lib.bnb_set_workspace(DEVICE.c, memory.data, 1))
        with pytest.raises(libbnb.OutOfMemory, match=f"needs a workspace of {needed} bytes, bnb_set_workspace gave 1$"):
            libbnb.int8_vectorwise_quant(array, threshold=2.5)
    finally:
        lib.bnb_set_workspace(DEVICE.c, ffi.NULL, 0)


@pointers
def test_symbols_of_bitsandbytes_take_pointers_of_both(x: Any) -> None:
    array, out = Array.of(x), np.zeros(x.size // 2, np.uint8)
    absmax = np.zeros(37, np.float32)
    copied = ffi.cast("uint8_t *", out.ctypes.data), ffi.cast("float *", absmax.ctypes.data)
    status = lib.cquantize_blockwise_fp32_nf4(
        ffi.NULL, ffi.cast("float *", array.data), copied[1], copied[0], 64, x.size
    )
    _native.check(status)
    want, state = libbnb.quantize_4bit(x, quant_type="nf4")
    np.testing.assert_array_equal(out, want.ravel())
    np.testing.assert_array_equal(absmax, state.absmax)
