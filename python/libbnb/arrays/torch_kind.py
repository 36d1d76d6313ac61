# SPDX-License-Identifier: MIT
"""PyTorch tensors. The module never imports torch: it is made when the first tensor arrives."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from libbnb._errors import InvalidArgument
from libbnb._native import METAL, METAL_STREAM, NULL, ffi
from libbnb._views import View, buffer_view, device_word, seen_as
from libbnb.arrays.base import CPU, Array, ArrayKind, HostArray, as_matrix, rows_and_cols
from libbnb.arrays.dtypes import WORDS, matrix_word, name_of
from libbnb.arrays.memory import LARGE, prefer_huge_pages
from libbnb.arrays.torch_metal import TorchStream, encodes

_DEVICE_TYPES = {"cpu": 1, "cuda": 2, "mps": METAL, "xpu": 14}
_ROCM = 10  # what DLPack calls the devices that a HIP build of PyTorch calls "cuda"


class TorchKind(ArrayKind):
    """Tensors of PyTorch, subclasses such as Parameter included."""

    name: ClassVar[str] = "PyTorch"

    def __init__(self) -> None:
        torch = sys.modules["torch"]
        self._torch: Any = torch
        self._tensor: Any = torch.Tensor
        self._parameter: Any = torch.nn.Parameter
        self._empty: Any = torch.empty
        self._strided: Any = torch.strided
        self._words: dict[Any, int] = {}
        for name, word in WORDS.items():
            dtype = getattr(torch, name, None)
            if isinstance(dtype, torch.dtype):
                self._words[dtype] = word
        self.uint8 = torch.uint8
        self.int8 = torch.int8
        self.int32 = torch.int32
        self.float16 = torch.float16
        self.float32 = torch.float32
        self._grad_enabled: Any = torch.is_grad_enabled
        self._dispatch_modes: Any = torch._C._len_torch_dispatch_stack
        self._transforms: Any = torch._C._functorch.peek_interpreter_stack
        self._own_stream: Any = None  # on Metal: None until it is known, False if there is none
        self._device_types = dict(_DEVICE_TYPES)
        if torch.version.hip:
            self._device_types["cuda"] = _ROCM

    def accept(self, array: Array, name: str) -> Array:
        self._accept(array, name)
        return array

    def _accept(self, array: Any, name: str) -> None:
        if not isinstance(array, self._tensor):
            raise TypeError(f"{name} is a {type(array).__name__}, must be a torch.Tensor as A is")
        if array.layout is not self._strided:
            raise TypeError(f"{name} is a {array.layout} tensor, must be a dense one")
        if isinstance(array, self._torch._subclasses.FakeTensor):  # torch.compile looks for shapes
            raise TypeError(f"{name} is a FakeTensor, which has no memory")

    def _device(self, device: Any, name: str) -> int:
        if device.type not in self._device_types:
            raise InvalidArgument(f"{name} is on device {device}, where libbnb cannot work")
        return device_word(self._device_types[device.type], device.index or 0)

    def _view(self, tensor: Any, name: str) -> View:
        word = self._words.get(tensor.dtype)
        if word is None:
            raise InvalidArgument(f"{name} has dtype {tensor.dtype}, which no operation takes")
        device = CPU if tensor.is_cpu else self._device(tensor.device, name)
        try:
            if device != CPU and self.has_handle(tensor):
                handle, offset = self.place(tensor)
                return buffer_view((tensor.numel(), 0, 1, 1, handle, device, word), offset, tensor)
            return (tensor.numel(), 0, 1, 1, tensor.data_ptr(), device, word)
        except RuntimeError as error:  # those of functorch's transforms, for example
            raise TypeError(f"{name} is a {type(tensor).__name__} without memory of its own: {error}") from error

    def read(self, array: Array, name: str) -> tuple[Array, View]:
        if type(array) is not self._tensor or array.layout is not self._strided:
            self._accept(array, name)
        if not array.is_contiguous():
            array = array.contiguous()
        if array.is_neg():
            array = array.resolve_neg()
        return array, self._view(array, name)

    def has_handle(self, tensor: Array) -> bool:
        """Whether the memory of a tensor has a handle, to which nothing can be added: an MTLBuffer."""
        return tensor.is_mps

    def place(self, tensor: Array) -> tuple[int, int]:
        """The handle of a tensor's memory, and how many bytes behind its begin the tensor begins.

        ``data_ptr()`` is of no use there: it is the sum of both.
        """
        return tensor.untyped_storage().data_ptr(), tensor.storage_offset() * tensor.element_size()

    def write(self, array: Array, name: str) -> View:
        self._accept(array, name)
        if not array.is_contiguous() or array.is_neg():
            raise InvalidArgument(f"{name} is not compact and row-major (strides {tuple(array.stride())})")
        if array.requires_grad and self._torch.is_grad_enabled():
            raise InvalidArgument(f"{name} requires grad: write under torch.no_grad(), or to {name}.detach()")
        return self._view(array, name)

    def fresh(self, shape: tuple[int, ...], dtype: Any, like: Array) -> tuple[Array, View]:
        device = like.device
        # torch reads lengths one by one much faster than a tuple of them, and a Size slowest of all.
        tensor = self._empty(*(shape or ((),)), dtype=dtype, device=device)
        word = CPU if like.is_cpu else self._device(device, "result")
        if word != CPU:
            return tensor, self._view(tensor, "result")
        count, address = tensor.numel(), tensor.data_ptr()
        if count * 8 >= LARGE and tensor.nbytes >= LARGE:  # no dtype has more than 8 bytes here
            prefer_huge_pages(address, tensor.nbytes)
        return tensor, (count, 0, 1, 1, address, word, self._words[dtype])

    def read_rows(self, array: Array, name: str) -> tuple[Array, View]:
        if type(array) is not self._tensor or array.layout is not self._strided:
            self._accept(array, name)
        if array.dim() == 2 and not array.is_contiguous() and not array.is_neg():
            rows, cols = array.shape
            if rows > 1 and array.stride(1) == 1 and array.stride(0) >= cols:
                view = self._view(array, name)
                return array, seen_as(view, rows, cols, array.stride(0), matrix_word(view[6]))
        array, view = self.read(array, name)
        rows, cols = rows_and_cols(array.shape, name)
        return array, as_matrix(view, rows, cols)

    def dtype(self, spec: Any, name: str) -> Any:
        if isinstance(spec, self._torch.dtype):
            return spec
        dtype = getattr(self._torch, name_of(spec, name), None)
        if not isinstance(dtype, self._torch.dtype):
            raise InvalidArgument(f"{name} is {spec!r}, which this PyTorch does not have")
        return dtype

    def dtype_name(self, dtype: Any) -> str:
        return str(dtype).removeprefix("torch.")

    def from_numpy(self, array: HostArray, like: Array) -> Array:
        return self._torch.from_numpy(array.copy()).to(like.device)

    def to_numpy(self, array: Array) -> HostArray:
        return array.detach().cpu().numpy()

    def to_device(self, array: Array, device: Any) -> Array:
        return array.to(device)

    def shape(self, shape: tuple[int, ...]) -> Any:
        return self._torch.Size(shape)

    def indices(self, mask: Array) -> Array:
        return mask.nonzero().flatten()

    def is_transposed(self, array: Array) -> bool:
        return array.dim() == 2 and not array.is_contiguous() and array.t().is_contiguous()

    def wants_operator(self, *arrays: Array | None) -> bool:
        grad = self._grad_enabled()
        for array in arrays:
            if array is None:
                continue
            if type(array) is not self._tensor and type(array) is not self._parameter:
                if isinstance(array, self._tensor):
                    return True
            elif (grad and array.requires_grad) or array.is_meta:
                return True
        return self._dispatch_modes() > 0 or self._transforms() is not None

    def _metal_stream(self) -> Any:
        """PyTorch's own stream where it takes kernels, else one on which everybody waits for everybody."""
        if self._own_stream is None:
            self._own_stream = TorchStream(self._torch, self.place) if encodes(self._torch) else False
        if self._own_stream:
            return self._own_stream
        self._torch.mps.synchronize()
        return METAL_STREAM

    def stream(self, array: Array) -> Any:
        if array.is_mps:
            return self._metal_stream()
        if not array.is_cuda:
            return NULL
        return ffi.cast("void *", self._torch.cuda.current_stream(array.device).cuda_stream)
