# SPDX-License-Identifier: MIT
"""Gradients of products with quantized weights, and the operators `torch.ops.libbnb` that torch.compile sees.

Importing this module defines the operators; the functions of `libbnb` do so themselves when they need them.
"""

try:
    import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise ImportError("libbnb.autograd needs PyTorch: pip install libbnb[torch]") from error

from libbnb.autograd import (  # noqa: F401  (they define the operators)
    _ops_4bit,  # pyright: ignore[reportUnusedImport]
    _ops_blockwise,  # pyright: ignore[reportUnusedImport]
    _ops_fp8,  # pyright: ignore[reportUnusedImport]
    _ops_int8,  # pyright: ignore[reportUnusedImport]
    _ops_mx,  # pyright: ignore[reportUnusedImport]
    _ops_ternary,  # pyright: ignore[reportUnusedImport]
    _ops_ternary_products,  # pyright: ignore[reportUnusedImport]
)
from libbnb.autograd._functions import (
    MatMul4Bit,
    MatMul8bitFp,
    MatMul8bitLt,
    MatmulLtState,
    matmul,
    matmul_4bit,
)

__all__ = ["MatMul4Bit", "MatMul8bitFp", "MatMul8bitLt", "MatmulLtState", "matmul", "matmul_4bit"]
