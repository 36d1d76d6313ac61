# SPDX-License-Identifier: MIT
"""Embedding tables in 4 and 8 bits, of which only the rows that are asked for are dequantized."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from math import gcd
from typing import Any, TypeVar

import torch

import libbnb.autograd  # noqa: F401  # pyright: ignore[reportUnusedImport]  # it defines torch.ops.libbnb
from libbnb._errors import InvalidArgument
from libbnb.nn._four_bit import FourBitModule
from libbnb.nn._int8 import Int8Module
from libbnb.nn._parts import gather_absmax
from libbnb.nn.params_int8 import Int8Params
from libbnb.quant_state import QuantState

Table4 = TypeVar("Table4", bound="Embedding4bit")
Table8 = TypeVar("Table8", bound="Embedding8bit")


class Embedding4bit(FourBitModule, torch.nn.Embedding):
    """An embedding table in NF4 or FP4.

    The table is made with float weights, which are quantized when it is moved to a device (`.to("cpu")` is enough), or
    by the first call of `forward`. Its state dict is like that of `Linear4bit`.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table, and elements of a row.
    dtype
        Dtype of the float weights and of the rows that come out.
    quant_type
        "nf4" or "fp4".
    quant_storage
        Dtype in which codes are kept.
    device
        Where the float weights are made.
    blocksize
        Elements per block; 64 if None. Rows need not be multiples of it.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        dtype: torch.dtype | None = None,
        quant_type: str = "fp4",
        quant_storage: torch.dtype = torch.uint8,
        device: Any = None,
        blocksize: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.dtype = self.weight.dtype
        self._use_4bit_weight(False, quant_type, quant_storage, blocksize)

    @classmethod
    def from_embedding(cls: type[Table4], embedding: torch.nn.Embedding, **options: Any) -> Table4:
        """A quantized table with the weights of another one, on its device.

        Parameters
        ----------
        embedding
            A table with float weights. It is not changed.
        options
            Those of the constructor, but for sizes, dtype and device.

        Raises
        ------
        InvalidArgument
            It renormalizes its rows (`max_norm`), which cannot be done to codes.
        """
        made = cls(*sizes_of(embedding), dtype=embedding.weight.dtype, device="meta", **options)
        made.padding_idx = embedding.padding_idx
        made.weight = made._as_params(embedding.weight.detach())
        made.train(embedding.training)
        if embedding.weight.device.type != "meta":
            made.weight.quantize()
        return made

    def _weight_shape(self) -> tuple[int, int]:
        return self.num_embeddings, self.embedding_dim

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.dtype = dtype_after(fn, self.dtype)
        return super()._apply(fn, recurse)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        state = self._ready()
        n = self.num_embeddings * self.embedding_dim
        codes = self.weight.codes.view(torch.uint8).flatten()[: (n + 1) // 2]
        if self.embedding_dim % 2:  # rows share bytes
            return torch.nn.functional.embedding(input, dequantize(codes, state, self._weight_shape(), self.dtype))
        rows = torch.nn.functional.embedding(input, codes.view(self.num_embeddings, -1))
        # Where rows are no multiple of blocks, these are cut into pieces that no row's end cuts any more.
        blocksize: Any = state.blocksize
        length = gcd(self.embedding_dim, blocksize)
        begins = torch.arange(0, self.embedding_dim, length, device=codes.device)
        blocks = (input[..., None] * self.embedding_dim + begins) // blocksize
        absmax = gather_absmax(state, blocks).flatten()
        shape = (*input.shape, self.embedding_dim)
        return torch.ops.libbnb.dequantize_4bit(rows, absmax, length, state.quant_type, shape, self.dtype)


class EmbeddingFP4(Embedding4bit):
    """`Embedding4bit` with FP4 weights."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        dtype: torch.dtype | None = None,
        quant_storage: torch.dtype = torch.uint8,
        device: Any = None,
        blocksize: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, dtype, "fp4", quant_storage, device, blocksize)


class EmbeddingNF4(Embedding4bit):
    """`Embedding4bit` with NF4 weights."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        dtype: torch.dtype | None = None,
        quant_storage: torch.dtype = torch.uint8,
        device: Any = None,
        blocksize: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, dtype, "nf4", quant_storage, device, blocksize)


class Embedding8bit(Int8Module, torch.nn.Embedding):
    """An embedding table in int8, one scale per row.

    The table is made with float weights, which are quantized when it is moved to a device (`.to("cpu")` is enough), or
    by the first call of `forward`. Its state dict is like that of `Linear8bitLt`.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table, and elements of a row.
    device
        Where the float weights are made.
    dtype
        Dtype of the float weights and of the rows that come out.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, device: Any = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, device=device, dtype=dtype)
        self.dtype = self.weight.dtype
        self.weight = Int8Params(self.weight.data, False)

    @classmethod
    def from_embedding(cls: type[Table8], embedding: torch.nn.Embedding) -> Table8:
        """A quantized table with the weights of another one, on its device.

        Parameters
        ----------
        embedding
            A table with float weights. It is not changed.

        Raises
        ------
        InvalidArgument
            It renormalizes its rows (`max_norm`), which cannot be done to codes.
        """
        made = cls(*sizes_of(embedding), dtype=embedding.weight.dtype, device="meta")
        made.padding_idx = embedding.padding_idx
        made.weight = Int8Params(embedding.weight.detach(), False)
        made.train(embedding.training)
        if embedding.weight.device.type != "meta":
            made.weight.quantize()
        return made

    def _weight_shape(self) -> tuple[int, int]:
        return self.num_embeddings, self.embedding_dim

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.dtype = dtype_after(fn, self.dtype)
        return super()._apply(fn, recurse)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight = self._ready()
        scales: Any = weight.SCB
        rows = torch.nn.functional.embedding(input, weight.data)
        return torch.ops.libbnb.int8_vectorwise_dequant(rows, scales[input].flatten()).to(self.dtype)


def sizes_of(embedding: torch.nn.Embedding) -> tuple[int, int]:
    """Rows, and elements of a row, of a table that can be quantized."""
    if embedding.max_norm is not None:
        raise InvalidArgument("the embedding has a max_norm: codes cannot be renormalized")
    return embedding.num_embeddings, embedding.embedding_dim


def dtype_after(fn: Any, dtype: torch.dtype) -> torch.dtype:
    """What a conversion of a module makes of a dtype."""
    return fn(torch.empty(0, dtype=dtype)).dtype


def dequantize(codes: torch.Tensor, state: QuantState, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """A whole table as floats."""
    blocks = torch.arange(state.absmax.numel(), device=codes.device)
    absmax = gather_absmax(state, blocks)
    return torch.ops.libbnb.dequantize_4bit(codes, absmax, state.blocksize, state.quant_type, shape, dtype)
