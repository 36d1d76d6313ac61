# SPDX-License-Identifier: MIT
"""Arrays as they come: views, copies, read-only and unaligned memory, odd libraries, and what is no array."""

from __future__ import annotations

import array as stdlib_array
import gc
import sys
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import libbnb
from kinds import BF16, Exporter, Kind
from libbnb import _native, _views
from libbnb.arrays import as_matrix, kind_of
from libbnb.functional import fourbit

Pair = tuple[Any, Any]


def same(got: Pair, want: Pair, host: Callable[[Any], Any] = np.asarray) -> None:
    np.testing.assert_array_equal(host(got[0]), host(want[0]))
    np.testing.assert_array_equal(host(got[1].absmax), host(want[1].absmax))


@st.composite
def views(draw: st.DrawFn) -> Any:
    """A view of a larger array, with any order of axes, steps and directions."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    steps = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in shape]
    dtype = draw(st.sampled_from([np.dtype(np.float32), np.dtype(np.float16), BF16]))
    base = np.random.default_rng(draw(st.integers(0, 99))).standard_normal([3 * n for n in shape]).astype(dtype)
    view = base[tuple(slice(None, None, step) for step in steps)]
    return view.transpose(draw(st.permutations(range(len(shape)))))


@given(view=views())
def test_views_of_numpy(view: Any) -> None:
    compact = np.array(view, order="C")
    same(libbnb.quantize_nf4(view, blocksize=8), libbnb.quantize_nf4(compact, blocksize=8))
    same(libbnb.quantize_blockwise(view, blocksize=7), libbnb.quantize_blockwise(compact, blocksize=7))
    for got, want in zip(
        libbnb.int8_vectorwise_quant(view, 1.0), libbnb.int8_vectorwise_quant(compact, 1.0), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    codes, state = libbnb.quantize_blockwise(compact, blocksize=7)
    spread = np.repeat(codes[..., None], 2, axis=-1)[..., 0]
    np.testing.assert_array_equal(libbnb.dequantize_blockwise(spread, state), libbnb.dequantize_blockwise(codes, state))


@pytest.mark.torch
@given(view=views().filter(lambda view: all(stride > 0 for stride in view.strides)))
def test_views_of_torch(view: Any) -> None:
    torch = pytest.importorskip("torch")
    plain = torch.from_numpy(view.view(np.int16)).view(torch.bfloat16) if view.dtype == BF16 else torch.from_numpy(view)
    compact = plain.contiguous()
    same(libbnb.quantize_nf4(plain, blocksize=8), libbnb.quantize_nf4(compact, blocksize=8))
    for got, want in zip(libbnb.int8_vectorwise_quant(plain), libbnb.int8_vectorwise_quant(compact), strict=True):
        assert (got is None and want is None) or torch.equal(got, want)


def test_views_of_other_libraries(kind: Kind) -> None:
    x = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    if kind.name == "dlpack":
        got, want = Exporter(x.T), Exporter(x.T.copy())
    else:
        A = kind.make(x)
        got, want = A.T, kind.make(x.T.copy())
    same(libbnb.quantize_nf4(got, blocksize=8), libbnb.quantize_nf4(want, blocksize=8), kind.host)


def test_broadcast_and_reversed_views() -> None:
    row = np.arange(8, dtype=np.float32)
    same(libbnb.quantize_nf4(np.broadcast_to(row, (5, 8))), libbnb.quantize_nf4(np.tile(row, (5, 1))))
    same(libbnb.quantize_nf4(row[::-1]), libbnb.quantize_nf4(row[::-1].copy()))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_unaligned_memory(dtype: Any, offset: int) -> None:
    x = np.random.default_rng(1).standard_normal(300).astype(dtype)
    memory = np.zeros(x.nbytes + 8, np.uint8)
    unaligned = memory[offset : offset + x.nbytes].view(dtype)
    unaligned[:] = x
    want, want_state = libbnb.quantize_nf4(x)
    same(libbnb.quantize_nf4(unaligned), (want, want_state))
    same(libbnb.quantize_blockwise(unaligned), libbnb.quantize_blockwise(x))
    out = np.zeros(x.nbytes + 8, np.uint8)[offset : offset + x.nbytes].view(dtype)
    absmax = np.zeros(28, np.uint8)[offset : offset + 20].view(np.float32)
    absmax[:] = want_state.absmax
    libbnb.dequantize_4bit(want, absmax=absmax, out=out, quant_type="nf4")
    np.testing.assert_array_equal(out, libbnb.dequantize_4bit(want, want_state))


def test_read_only_inputs(kind: Kind) -> None:
    x = np.random.default_rng(2).standard_normal((4, 64)).astype(np.float32)
    x.flags.writeable = False
    packed, state = libbnb.quantize_nf4(kind.make(x))
    if kind.name == "numpy":
        packed.flags.writeable = False
        state.absmax.flags.writeable = False
    assert libbnb.dequantize_4bit(packed, state).shape == (4, 64)


def test_immutable_bytes_are_an_input_and_no_output() -> None:
    x = np.ones(64, np.float32)
    packed, state = libbnb.quantize_nf4(x)
    np.testing.assert_array_equal(libbnb.dequantize_4bit(packed.tobytes(), state), x)
    with pytest.raises(libbnb.InvalidArgument, match="out is read-only"):
        libbnb.quantize_nf4(x, out=bytes(32))
    out = bytearray(32)
    assert libbnb.quantize_nf4(x, out=out)[0] is out
    assert bytes(out) == packed.tobytes()


def test_anything_that_shows_its_memory() -> None:
    x = np.random.default_rng(3).standard_normal(64).astype(np.float32)
    want = libbnb.quantize_nf4(x)

    class Interface:
        __array_interface__ = x.__array_interface__

    standard = stdlib_array.array("f", x.tolist())
    for source in (
        Interface(),
        standard,
        memoryview(x),
        memoryview(standard),
        x.view(type("Subclass", (np.ndarray,), {})),
    ):
        got = libbnb.quantize_nf4(source)
        assert type(got[0]) is np.ndarray
        same(got, want)
    assert libbnb.quantize_nf4(np.float32(3.0))[1].shape == ()


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_objects(versioned: bool) -> None:
    x = np.random.default_rng(4).standard_normal((3, 50)).astype(np.float32)
    want = libbnb.quantize_nf4(x)
    got = libbnb.quantize_nf4(Exporter(x, versioned))
    assert type(got[0]) is np.ndarray
    same(got, want)
    out = np.empty((75, 1), np.uint8)
    libbnb.quantize_nf4(Exporter(x, versioned), out=Exporter(out, versioned))
    np.testing.assert_array_equal(out, want[0])


def test_dlpack_references_are_given_back() -> None:
    x = np.random.default_rng(5).standard_normal(64).astype(np.float32)
    exporter = Exporter(x)
    libbnb.quantize_nf4(exporter)
    before = sys.getrefcount(x)
    for _ in range(10):
        libbnb.quantize_nf4(exporter)
        libbnb.quantize_blockwise(exporter, code=libbnb.create_dynamic_map())
        libbnb.int8_vectorwise_quant(exporter)
    gc.collect()
    assert sys.getrefcount(x) == before


def test_a_compact_copy_lives_until_the_call_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = pytest.importorskip("array_api_strict")
    A = strict.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    kind: Any = kind_of(A, "A")
    flattened, call = kind.flattened, fourbit.call
    copies: list[weakref.ref[Any]] = []

    def remember(array: Any) -> Any:
        copy = flattened(array)
        copies.append(weakref.ref(copy))
        return copy

    def look(*arguments: Any) -> None:
        assert [copy() is not None for copy in copies] == [True]
        call(*arguments)

    monkeypatch.setattr(kind, "flattened", remember)
    monkeypatch.setattr(fourbit, "call", look)
    libbnb.quantize_nf4(A.T)
    gc.collect()
    assert copies[0]() is None


class OnDevice(Exporter):
    """Says that it is on a device of another kind."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **keywords: Any) -> Any:
        assert keywords.pop("stream") == 1
        return super().__dlpack__(**keywords)


class NoCapsule(Exporter):
    def __dlpack__(self, **keywords: Any) -> Any:
        return "capsule"


def test_dlpack_objects_that_lie() -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(TypeError, match="not a DLPack capsule"):
        libbnb.quantize_nf4(NoCapsule(x))
    assert libbnb.quantize_nf4(OnDevice(x))[1].shape == (4,)  # the capsule says where the memory is


@pytest.mark.torch
def test_torch_tensors_of_all_sorts() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(8, 64)
    want = libbnb.quantize_nf4(x)
    same(libbnb.quantize_nf4(torch.nn.Parameter(x)), want)
    same(libbnb.quantize_nf4(x.clone().requires_grad_()), want)
    buffer = torch.nn.Buffer(x) if hasattr(torch.nn, "Buffer") else x
    same(libbnb.quantize_nf4(buffer), want)
    with torch.inference_mode():
        same(libbnb.quantize_nf4(x * 1), want)
    for negated in (torch.complex(x, -x).conj().imag, torch._neg_view(-x)):  # views whose sign is a flag
        assert negated.is_neg()
        same(libbnb.quantize_nf4(negated), want)
        same(libbnb.quantize_blockwise(negated), libbnb.quantize_blockwise(x))
        for got, expected in zip(libbnb.int8_vectorwise_quant(negated), libbnb.int8_vectorwise_quant(x), strict=True):
            assert (got is None and expected is None) or torch.equal(got, expected)
    packed, state = libbnb.quantize_nf4(torch.nn.Parameter(x))
    assert not packed.requires_grad and type(packed) is torch.Tensor
    assert isinstance(state.shape, torch.Size) and state.dtype == torch.float32


@pytest.mark.torch
def test_torch_tensors_without_memory() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(8, 64)
    with pytest.raises(TypeError, match=r"A is a torch\.sparse_coo tensor"):
        libbnb.quantize_nf4(x.to_sparse())
    with pytest.raises(libbnb.Error, match="A is on device meta"):
        libbnb.quantize_nf4(x.to("meta"))
    with torch._subclasses.FakeTensorMode(), pytest.raises(TypeError, match="A is a FakeTensor, which has no memory"):
        libbnb.quantize_nf4(torch.randn(4, 4))
    with pytest.raises(TypeError, match="without memory"):
        torch.func.vmap(lambda row: libbnb.quantize_nf4(row)[0])(x)


@pytest.mark.torch
def test_torch_outputs() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(8, 64)
    packed, state = libbnb.quantize_nf4(x)
    out = torch.empty(8, 64, requires_grad=True)
    with pytest.raises(libbnb.InvalidArgument, match="out requires grad"):
        libbnb.dequantize_4bit(packed, state, out=out)
    with torch.no_grad():
        assert libbnb.dequantize_4bit(packed, state, out=out) is out
    with pytest.raises(libbnb.InvalidArgument, match="out is not compact"):
        libbnb.dequantize_4bit(packed, state, out=torch.empty(64, 8).t())
    torch.set_default_device("meta")
    try:
        assert libbnb.dequantize_4bit(packed, state).device.type == "cpu"
    finally:
        torch.set_default_device(None)


def test_jax_arrays() -> None:
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(64.0)
    packed, state = libbnb.quantize_nf4(x)
    with pytest.raises(libbnb.InvalidArgument, match="cannot be written"):
        libbnb.quantize_nf4(x, out=packed)
    with pytest.raises(TypeError, match="traced by JAX"):
        jax.jit(lambda a: libbnb.quantize_nf4(a)[0])(x)
    shape = jax.ShapeDtypeStruct((64,), jax.numpy.float32)
    back = jax.jit(lambda p: jax.pure_callback(lambda q: libbnb.dequantize_4bit(q, state), shape, p))(packed)
    np.testing.assert_array_equal(back, libbnb.dequantize_4bit(packed, state))
    assert state.to("cpu") is state


def test_arrays_of_two_libraries_do_not_mix() -> None:
    torch = pytest.importorskip("torch")
    x = np.ones((4, 64), np.float32)
    packed, state = libbnb.quantize_nf4(x)
    tensor = torch.from_numpy(x)
    with pytest.raises(TypeError, match=r"absmax is a ndarray, must be a torch.Tensor"):
        libbnb.dequantize_4bit(torch.from_numpy(packed), state)
    with pytest.raises(TypeError, match="out is a ndarray"):
        libbnb.quantize_nf4(tensor, out=packed)
    # A code is a table that anybody may bring.
    code = libbnb.create_linear_map()
    codes, code_state = libbnb.quantize_blockwise(tensor, code=code)
    assert isinstance(code_state.code, torch.Tensor)
    np.testing.assert_array_equal(codes.numpy(), libbnb.quantize_blockwise(x, code=code)[0])


@pytest.mark.parametrize(
    "thing", [None, 3, 1.5, "text", [1.0, 2.0], (1.0,), {"a": 1}, object(), np.float32, {1.0, 2.0}], ids=repr
)
def test_things_that_are_no_arrays(thing: Any) -> None:
    x = np.ones(64, np.float32)
    state = libbnb.quantize_nf4(x)[1]
    for call in (
        lambda: libbnb.quantize_4bit(thing),
        lambda: libbnb.dequantize_4bit(thing, state),
        lambda: libbnb.quantize_blockwise(thing),
        lambda: libbnb.dequantize_blockwise(thing, state),
        lambda: libbnb.int8_vectorwise_quant(thing),
        lambda: libbnb.quantize_fp8(thing),
        lambda: libbnb.quantize_ternary(thing),
    ):
        with pytest.raises(TypeError, match="A is a "):
            call()
    if thing is not None:
        with pytest.raises(TypeError, match="out is a"):
            libbnb.quantize_4bit(x, out=thing)
        with pytest.raises(TypeError, match="code is a"):
            libbnb.quantize_blockwise(x, code=thing)


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="masked"):
        libbnb.quantize_nf4(np.ma.masked_array(np.ones(4, np.float32), [0, 1, 0, 0]))


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (2, 0, 5)])
def test_empty_arrays(kind: Kind, shape: tuple[int, ...]) -> None:
    A = kind.make(np.empty(shape, np.float32))
    for nested in (False, True):
        packed, state = libbnb.quantize_nf4(A, compress_statistics=nested)
        assert packed.shape == (0, 1) and state.absmax.shape == (0,)
        assert libbnb.dequantize_4bit(packed, state).shape == shape
        codes, state = libbnb.quantize_blockwise(A, nested=nested)
        assert codes.shape == shape and libbnb.dequantize_blockwise(codes, state).shape == shape
    q, stats, _ = libbnb.int8_vectorwise_quant(A)
    assert q.shape == shape and libbnb.int8_vectorwise_dequant(q, stats).shape == shape


def test_results_do_not_share_memory() -> None:
    x = np.random.default_rng(6).standard_normal(640).astype(np.float32)
    first = libbnb.quantize_nf4(x)
    kept = first[0].copy(), first[1].absmax.copy()
    libbnb.quantize_nf4(-x)
    np.testing.assert_array_equal(first[0], kept[0])
    np.testing.assert_array_equal(first[1].absmax, kept[1])


class OnMetal:
    """What libbnb looks at of a tensor on device "mps", of which there are none here."""

    is_cpu, is_mps, is_cuda = False, True, False
    device = SimpleNamespace(type="mps", index=0)

    def __init__(self, dtype: Any, offset: int = 0) -> None:
        self.dtype, self._offset = dtype, offset

    def storage_offset(self) -> int:
        return self._offset

    def numel(self) -> int:
        return 10

    def element_size(self) -> int:
        return self.dtype.itemsize

    def untyped_storage(self) -> Any:
        return SimpleNamespace(data_ptr=lambda: 4096)

    def data_ptr(self) -> int:
        return 4096 + self._offset * self.element_size()


@pytest.mark.torch
def test_metal_tensors_that_begin_inside_a_buffer() -> None:
    torch = pytest.importorskip("torch")
    from libbnb.arrays.torch_kind import TorchKind

    kind = TorchKind()
    for dtype, offset, want in ((torch.float32, 0, 0), (torch.float32, 3, 12), (torch.bfloat16, 5, 10)):
        tensor = OnMetal(dtype, offset)
        view = kind._view(tensor, "A")
        assert isinstance(view, _views.BufferView) and view.byte_offset == want and view.array is tensor
        assert view[4] == 4096 and view[5] == _views.device_word(8, 0)
        matrix = as_matrix(view, 2, 5)
        assert isinstance(matrix, _views.BufferView) and matrix.byte_offset == want and matrix[:5] == (2, 5, 5, 1, 4096)


@pytest.mark.torch
def test_queues_of_metal_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's before the call, ours after it; on other devices nobody waits."""
    torch = pytest.importorskip("torch")
    from libbnb.arrays.torch_kind import TorchKind

    events: list[Any] = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: events.append("torch"))
    monkeypatch.setattr(_native, "synchronize", lambda *device: events.append(device))
    stream = TorchKind().stream(OnMetal(torch.float32))
    assert events == ["torch"] and stream == _native.NULL
    _native.call(lambda *arguments: events.append(arguments) or 0, stream, 5)
    assert events[1:] == [(5, _native.NULL), (8, 0)]
    _native.call(lambda *arguments: 0, _native.NULL, 5)
    assert len(events) == 3


def test_synchronize() -> None:
    _native.synchronize(1)
    with pytest.raises(libbnb.Error):
        _native.synchronize(8 if not libbnb.is_available("metal") else 99)
