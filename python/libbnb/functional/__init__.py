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
from libbnb.functional.fp8 import dequantize_fp8, quantize_fp8
from libbnb.functional.int8 import (
    int8_double_quant,
    int8_mm_dequant,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
)
from libbnb.functional.optimizer import gradient_norm, optimizer_update_8bit_blockwise, optimizer_update_32bit
from libbnb.quant_state import QuantState

__all__ = [
    "QuantState",
    "create_dynamic_map",
    "create_fp8_map",
    "create_linear_map",
    "create_normal_map",
    "dequantize_4bit",
    "dequantize_blockwise",
    "dequantize_fp4",
    "dequantize_fp8",
    "dequantize_nf4",
    "get_4bit_type",
    "gradient_norm",
    "int8_double_quant",
    "int8_mm_dequant",
    "int8_vectorwise_dequant",
    "int8_vectorwise_quant",
    "optimizer_update_8bit_blockwise",
    "optimizer_update_32bit",
    "quantize_4bit",
    "quantize_blockwise",
    "quantize_fp4",
    "quantize_fp8",
    "quantize_nf4",
]
