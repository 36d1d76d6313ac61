# SPDX-License-Identifier: MIT
"""Quantization functions on arrays, with the names and signatures of bitsandbytes' `functional`."""

from libbnb.codebooks import (
    create_dynamic_map,
    create_fp8_map,
    create_linear_map,
    create_normal_map,
    get_4bit_type,
)
from libbnb.functional.blockwise import dequantize_blockwise, quantize_blockwise
from libbnb.functional.fourbit import (
    dequantize_4bit,
    dequantize_fp4,
    dequantize_nf4,
    quantize_4bit,
    quantize_fp4,
    quantize_nf4,
)
from libbnb.functional.fourbit_products import gemv_4bit, matmul_4bit
from libbnb.functional.fp8 import dequantize_fp8, quantize_fp8
from libbnb.functional.fp8_products import matmul_fp8
from libbnb.functional.int8 import (
    int8_double_quant,
    int8_mm_dequant,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
)
from libbnb.functional.int8_products import (
    batched_igemm,
    igemm,
    int8_linear_matmul,
    int8_mixed_scaled_mm,
    int8_scaled_mm,
    linear_int8,
    matmul,
)
from libbnb.functional.mx import dequantize_mx, quantize_mx
from libbnb.functional.mx_products import gemm_mx
from libbnb.functional.optimizer import gradient_norm, optimizer_update_8bit_blockwise, optimizer_update_32bit
from libbnb.functional.sparse import COOSparseTensor, coo_zeros, spmm_coo, spmm_coo_very_sparse
from libbnb.functional.ternary import dequantize_ternary, quantize_ternary
from libbnb.functional.ternary_products import gemm_ternary, linear_ternary
from libbnb.matmul_state import MatmulLtState
from libbnb.quant_state import QuantState

__all__ = [
    "COOSparseTensor",
    "MatmulLtState",
    "QuantState",
    "batched_igemm",
    "coo_zeros",
    "create_dynamic_map",
    "create_fp8_map",
    "create_linear_map",
    "create_normal_map",
    "dequantize_4bit",
    "dequantize_blockwise",
    "dequantize_fp4",
    "dequantize_fp8",
    "dequantize_mx",
    "dequantize_nf4",
    "dequantize_ternary",
    "gemm_mx",
    "gemm_ternary",
    "gemv_4bit",
    "get_4bit_type",
    "gradient_norm",
    "igemm",
    "int8_double_quant",
    "int8_linear_matmul",
    "int8_mixed_scaled_mm",
    "int8_mm_dequant",
    "int8_scaled_mm",
    "int8_vectorwise_dequant",
    "int8_vectorwise_quant",
    "linear_int8",
    "linear_ternary",
    "matmul",
    "matmul_4bit",
    "matmul_fp8",
    "optimizer_update_8bit_blockwise",
    "optimizer_update_32bit",
    "quantize_4bit",
    "quantize_blockwise",
    "quantize_fp4",
    "quantize_fp8",
    "quantize_mx",
    "quantize_nf4",
    "quantize_ternary",
    "spmm_coo",
    "spmm_coo_very_sparse",
]
