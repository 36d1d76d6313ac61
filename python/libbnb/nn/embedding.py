# SPDX-License-Identifier: MIT
"""Embedding tables that are trained with 32-bit optimizer states (arXiv:2110.02861, section 2.3)."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from typing import Any, TypeVar

import torch

from libbnb.optim import GlobalOptimManager

Table = TypeVar("Table", bound="Embedding")


class Embedding(torch.nn.Embedding):
    """`torch.nn.Embedding` that begins with Xavier's uniform numbers and whose optimizer states are never 8-bit.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table, and elements of a row.
    padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device
        As in `torch.nn.Embedding`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: torch.Tensor | None = None,
        device: Any = None,
    ) -> None:
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            device=device,
        )  # fmt: skip
        keep_states_in_fp32(self)

    @classmethod
    def from_embedding(cls: type[Table], embedding: torch.nn.Embedding) -> Table:
        """A table with the weight and the settings of another one, which it shares the weight with."""
        made = cls(*arguments_of(embedding), device="meta")
        made.weight = embedding.weight
        return made

    def reset_parameters(self) -> None:
        """Xavier's uniform numbers (a padding row of zeros)."""
        reset_table(self)


class StableEmbedding(torch.nn.Embedding):
    """`Embedding` with a layer norm behind it, for stable training with 8-bit optimizers.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows of the table, and elements of a row.
    padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device, dtype
        As in `torch.nn.Embedding`.

    Notes
    -----
    Rows are normalized in the default dtype of PyTorch and converted back to that of the table.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: torch.Tensor | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.norm = torch.nn.LayerNorm(embedding_dim, device=device)
        keep_states_in_fp32(self)

    @classmethod
    def from_embedding(cls, embedding: torch.nn.Embedding) -> StableEmbedding:
        """A table with the weight and the settings of another one, which it shares the weight with; the norm is new."""
        made = cls(*arguments_of(embedding), device="meta")
        made.weight = embedding.weight
        made.norm = torch.nn.LayerNorm(embedding.embedding_dim, device=embedding.weight.device)
        return made

    def reset_parameters(self) -> None:
        """Xavier's uniform numbers (a padding row of zeros)."""
        reset_table(self)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(input).to(torch.get_default_dtype())).to(self.weight.dtype)


def keep_states_in_fp32(embedding: torch.nn.Embedding) -> None:
    """Tells 8-bit optimizers to keep the states of a table in 32 bits."""
    GlobalOptimManager.get_instance().register_module_override(embedding, "weight", {"optim_bits": 32})


def reset_table(embedding: torch.nn.Embedding) -> None:
    """Xavier's uniform numbers (a padding row of zeros)."""
    torch.nn.init.xavier_uniform_(embedding.weight)
    if embedding.padding_idx is not None:
        with torch.no_grad():
            embedding.weight[embedding.padding_idx].fill_(0)


def arguments_of(embedding: torch.nn.Embedding) -> tuple[Any, ...]:
    """The arguments that made a table, up to `sparse`."""
    return (
        embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, embedding.max_norm,
        embedding.norm_type, embedding.scale_grad_by_freq, embedding.sparse,
    )  # fmt: skip
