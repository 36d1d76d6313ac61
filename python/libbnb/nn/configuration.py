# SPDX-License-Identifier: MIT
"""QuantizationConfig: how a model is quantized, in the words of transformers' BitsAndBytesConfig."""

# What PyTorch's classes have for subclasses is private or without types.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import torch

from libbnb._errors import InvalidArgument
from libbnb.functional._checks import even_block_length
from libbnb.integrations import introduce
from libbnb.nn.params_fp8 import DTYPES as FP8_DTYPES
from libbnb.quant_state import QuantState

_STORAGE = (torch.uint8, torch.int8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COMPUTE = (torch.float32, torch.float16, torch.bfloat16)
_BITSANDBYTES = "bitsandbytes"

# What one word stands for.
_FORMATS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
    "fp8": {"load_in_fp8": True},
    "fp8-e5m2": {"load_in_fp8": True, "fp8_quant_type": "fp8_e5m2"},
}


@dataclass
class QuantizationConfig:
    """How `quantize_model`, or `from_pretrained` of transformers, quantizes a model. One `load_in_...` must be True.

    Attributes
    ----------
    load_in_8bit, load_in_4bit, load_in_fp8
        Linear layers become `Linear8bitLt`, `Linear4bit` or `LinearFP8`.
    llm_int8_threshold
        Columns of activations with elements of this magnitude or more are not quantized; 0 means all are.
    llm_int8_skip_modules
        Modules that stay as they are, for every format: names as transformers matches them, the beginning or the end of
        a module's full name. None leaves alone what it leaves alone: heads, output embeddings, routers.
    llm_int8_enable_fp32_cpu_offload
        Has no effect: a CPU is as good as any device here.
    llm_int8_has_fp16_weight
        Int8 layers keep float weights, which can be trained.
    bnb_4bit_compute_dtype
        Dtype of products with 4-bit (and FP8) weights; None means that of the activations.
    bnb_4bit_quant_type
        "nf4" or "fp4".
    bnb_4bit_use_double_quant
        Whether absmax is quantized, too.
    bnb_4bit_quant_storage
        Dtype in which 4-bit codes are kept.
    bnb_4bit_blocksize
        Elements per block.
    bnb_4bit_experts
        Whether expert weights, three dimensions in one tensor, are quantized to 4 bits, too. None: yes, unless a
        checkpoint that is quantized already has them as floats. bitsandbytes leaves them alone.
    fp8_quant_type
        "fp8_e4m3fn" or "fp8_e5m2".
    fp8_blocksize
        Elements of a row that share a scale; None means the whole row.

    Notes
    -----
    Those of transformers and PEFT that are imported learn of libbnb when a config is made.
    """

    quant_method: ClassVar[str] = "libbnb"  # the name by which transformers finds the quantizer

    load_in_8bit: bool = False
    load_in_4bit: bool = False
    load_in_fp8: bool = False
    llm_int8_threshold: float = 6.0
    llm_int8_skip_modules: list[str] | None = None
    llm_int8_enable_fp32_cpu_offload: bool = False
    llm_int8_has_fp16_weight: bool = False
    bnb_4bit_compute_dtype: torch.dtype | str | None = None
    bnb_4bit_quant_type: str = "fp4"
    bnb_4bit_use_double_quant: bool = False
    bnb_4bit_quant_storage: torch.dtype | str | None = None
    bnb_4bit_blocksize: int = 64
    bnb_4bit_experts: bool | None = None
    fp8_quant_type: str = "fp8_e4m3fn"
    fp8_blocksize: int | None = None

    def __post_init__(self) -> None:
        for name in ("load_in_8bit", "load_in_4bit", "load_in_fp8", "llm_int8_has_fp16_weight",
                     "llm_int8_enable_fp32_cpu_offload", "bnb_4bit_use_double_quant"):  # fmt: skip
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}, must be a bool")
        if not isinstance(cast(Any, self.bnb_4bit_experts), (bool, type(None))):
            raise TypeError(f"bnb_4bit_experts is {self.bnb_4bit_experts!r}, must be a bool or None")
        if self.load_in_8bit + self.load_in_4bit + self.load_in_fp8 > 1:
            raise InvalidArgument("only one of load_in_8bit, load_in_4bit and load_in_fp8 can be True")
        self.llm_int8_threshold = float(self.llm_int8_threshold)
        skips = self.llm_int8_skip_modules
        if skips is not None and (
            isinstance(skips, str) or not all(isinstance(name, str) for name in cast(Any, skips))
        ):
            raise TypeError(f"llm_int8_skip_modules is {skips!r}, must be a list of names")
        self.llm_int8_skip_modules = None if skips is None else list(skips)
        self.bnb_4bit_compute_dtype = _dtype(self.bnb_4bit_compute_dtype, None, _COMPUTE, "bnb_4bit_compute_dtype")
        self.bnb_4bit_quant_storage = _dtype(
            self.bnb_4bit_quant_storage, torch.uint8, _STORAGE, "bnb_4bit_quant_storage"
        )
        _one_of(self.bnb_4bit_quant_type, QuantState.valid_quant_types, "bnb_4bit_quant_type")
        _one_of(self.fp8_quant_type, tuple(FP8_DTYPES), "fp8_quant_type")
        self.bnb_4bit_blocksize = even_block_length(self.bnb_4bit_blocksize, "bnb_4bit_blocksize")
        introduce()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> QuantizationConfig:
        """A config from a dict: that of `to_dict`, or the `quantization_config` of a model in transformers.

        Raises
        ------
        InvalidArgument
            It is for another method than bitsandbytes or libbnb, or a key is unknown or has a value it cannot have.
        """
        method = getattr(config_dict.get("quant_method"), "value", config_dict.get("quant_method"))
        if method not in (None, _BITSANDBYTES, cls.quant_method):
            raise InvalidArgument(f"quant_method is {method!r}, must be {_BITSANDBYTES!r} or {cls.quant_method!r}")
        if "format" in config_dict:
            return cls._of_checkpoint(config_dict)
        # transformers writes load_in_4bit a second time, as _load_in_4bit.
        values = {key: value for key, value in config_dict.items() if key != "quant_method" and key[:1] != "_"}
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise InvalidArgument(f"{sorted(unknown)} are no settings of a QuantizationConfig")
        return cls(**values)

    @classmethod
    def _of_checkpoint(cls, config_dict: dict[str, Any]) -> QuantizationConfig:
        """A config from what `libbnb quantize` writes for formats that only libbnb has."""
        made = cls.of(config_dict["format"])
        made.fp8_blocksize = config_dict.get("blocksize")
        made.llm_int8_skip_modules = config_dict.get("llm_int8_skip_modules")
        return made

    @classmethod
    def of(cls, config: Any) -> QuantizationConfig:
        """A config from whatever describes one.

        Parameters
        ----------
        config
            A QuantizationConfig, a dict, an object with `to_dict` such as BitsAndBytesConfig, or one word: "nf4",
            "fp4", "int8", "fp8" or "fp8-e5m2".
        """
        if isinstance(config, cls):
            return config
        if isinstance(config, str):
            _one_of(config, tuple(_FORMATS), "config")
            return cls(**_FORMATS[config])
        values: Any = config if isinstance(config, dict) else getattr(config, "to_dict", lambda: None)()
        if not isinstance(values, dict):
            raise TypeError(
                f"config is a {type(config).__name__}, must be a QuantizationConfig, a dict or a format's name"
            )
        return cls.from_dict(cast(dict[str, Any], values))

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON can hold it, with dtypes by their names.

        `quant_method` is "bitsandbytes" where that library, too, can load such weights: 4-bit ones but for those of
        experts, and int8 ones.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"):
            if values[name] is not None:
                values[name] = str(values[name]).removeprefix("torch.")
        is_ours_alone = self.load_in_fp8 or (self.load_in_4bit and self.bnb_4bit_experts is True)
        return {"quant_method": self.quant_method if is_ours_alone else _BITSANDBYTES} | values

    def is_quantizable(self) -> bool:
        """Whether there is a format."""
        return self.load_in_8bit or self.load_in_4bit or self.load_in_fp8

    def quantization_method(self) -> str | None:
        """ "llm_int8", "nf4", "fp4", "fp8_e4m3fn", "fp8_e5m2", or None."""
        if self.load_in_8bit:
            return "llm_int8"
        if self.load_in_4bit:
            return self.bnb_4bit_quant_type
        return self.fp8_quant_type if self.load_in_fp8 else None


def _dtype(value: Any, default: torch.dtype | None, allowed: tuple[torch.dtype, ...], name: str) -> torch.dtype | None:
    if value is None:
        return default
    dtype = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if dtype not in allowed:
        names = ", ".join(str(one).removeprefix("torch.") for one in allowed)
        raise InvalidArgument(f"{name} is {value!r}, must be one of {names}")
    return dtype


def _one_of(value: Any, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise InvalidArgument(f"{name} is {value!r}, must be one of {', '.join(allowed)}")
