# SPDX-License-Identifier: MIT
"""The gradient of a product with a sparse matrix."""

from __future__ import annotations

from typing import Any

import torch

from libbnb.autograd._library import torch_kind
from libbnb.autograd._traced import finish
from libbnb.functional.sparse import COOSparseTensor, multiply_sparse

Tensor = torch.Tensor


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, B: Tensor, A: COOSparseTensor, scale: Any, col_stats: Tensor | None, like: bool) -> Tensor:
        ctx.A, ctx.scale, ctx.dtype = A, scale, B.dtype
        return multiply_sparse(torch_kind(B), A, B, None, scale, col_stats, like)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        A = ctx.A
        transposed = COOSparseTensor(A.cols, A.rows, A.nnz, A.colidx, A.rowidx, A.values)
        return (
            multiply_with_gradients(transposed, grad, None, ctx.scale, None, False).to(ctx.dtype),
            None,
            None,
            None,
            None,
        )


_multiply: Any = _Product.apply  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def multiply_with_gradients(
    A: COOSparseTensor, B: Tensor, out: Tensor | None, values_scale: Any, col_stats: Tensor | None, like_values: bool
) -> Tensor:
    """`libbnb.spmm_coo` with a gradient for B: the product of the transposed sparse matrix with that of the result."""
    return finish(_multiply(B, A, values_scale, col_stats, like_values), out)
