# SPDX-License-Identifier: MIT
"""Layers for PyTorch with weights in NF4, FP4, int8 and FP8, with the classes and state dicts of bitsandbytes' `nn`,
and those of BitNet."""

try:
    import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise ImportError("libbnb.nn needs PyTorch: pip install libbnb[torch]") from error

from libbnb.nn import parametrize
from libbnb.nn._ternary import int8_ste, ternary_ste
from libbnb.nn.bit_linear import BitLinear, pack_model, replace_with_bitlinear
from libbnb.nn.bitnet_adapter import BitNetAdapter
from libbnb.nn.bitnet_config import BitNetConfig
from libbnb.nn.configuration import QuantizationConfig
from libbnb.nn.dequantize import dequantize_model
from libbnb.nn.embedding import Embedding, StableEmbedding
from libbnb.nn.experts import quantize_parameter_4bit
from libbnb.nn.linear_4bit import Linear4bit, LinearFP4, LinearNF4
from libbnb.nn.linear_8bit import Linear8bitLt
from libbnb.nn.linear_fp8 import LinearFP8
from libbnb.nn.outliers import OutlierAwareLinear, OutlierTracer, find_outlier_dims
from libbnb.nn.params_4bit import Params4bit
from libbnb.nn.params_fp8 import FP8Params
from libbnb.nn.params_int8 import Int8Params
from libbnb.nn.quantize import get_memory_footprint, quantize_model, quantized_layer
from libbnb.nn.quantized_embedding import Embedding4bit, Embedding8bit, EmbeddingFP4, EmbeddingNF4
from libbnb.nn.replicas import broadcast_quantized
from libbnb.nn.switchback import SwitchBackLinear, SwitchBackLinearGlobal, SwitchBackLinearVectorwise

__all__ = [
    "BitLinear",
    "BitNetAdapter",
    "BitNetConfig",
    "Embedding",
    "Embedding4bit",
    "Embedding8bit",
    "EmbeddingFP4",
    "EmbeddingNF4",
    "FP8Params",
    "Int8Params",
    "Linear4bit",
    "Linear8bitLt",
    "LinearFP4",
    "LinearFP8",
    "LinearNF4",
    "OutlierAwareLinear",
    "OutlierTracer",
    "Params4bit",
    "QuantizationConfig",
    "StableEmbedding",
    "SwitchBackLinear",
    "SwitchBackLinearGlobal",
    "SwitchBackLinearVectorwise",
    "broadcast_quantized",
    "dequantize_model",
    "find_outlier_dims",
    "get_memory_footprint",
    "int8_ste",
    "pack_model",
    "parametrize",
    "quantize_model",
    "quantize_parameter_4bit",
    "quantized_layer",
    "replace_with_bitlinear",
    "ternary_ste",
]
