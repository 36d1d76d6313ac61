# SPDX-License-Identifier: MIT
"""The quantizer: what `from_pretrained` asks to make, fill, save and undo quantized layers."""

# Most of transformers' classes are without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportIncompatibleMethodOverride=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers.quantizers.base import HfQuantizer

from libbnb._errors import InvalidArgument
from libbnb.nn.configuration import QuantizationConfig
from libbnb.nn.dequantize import QUANTIZED_LINEAR, dequantize_model
from libbnb.nn.params_4bit import Params4bit
from libbnb.nn.params_fp8 import DTYPES
from libbnb.nn.quantize import quantize_model

_FLAGS = {"load_in_4bit": "is_loaded_in_4bit", "load_in_8bit": "is_loaded_in_8bit", "load_in_fp8": "is_loaded_in_8bit"}


class LibbnbQuantizer(HfQuantizer):
    """Quantizes a model while transformers loads it, and loads quantized ones.

    Parameters
    ----------
    quantization_config
        A `libbnb.QuantizationConfig`, or what `QuantizationConfig.of` makes one of.
    """

    requires_calibration = False
    quantization_config: Any

    def __init__(self, quantization_config: Any, **kwargs: Any) -> None:
        config: Any = replace(QuantizationConfig.of(quantization_config))  # it will say what became of the model
        super().__init__(config, **kwargs)
        self.kept: list[str] = []  # layers that the checkpoint, against its config, has as floats
        self._skips: list[str] = []
        self._experts: set[str] = set()

    # -----------------------------------------------------------------------------------------------------------------
    # Before the weights

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Refuses what cannot work, with words."""
        del args, kwargs
        if not self.quantization_config.is_quantizable():
            raise InvalidArgument("quantization_config: one load_in_4bit, load_in_8bit or load_in_fp8 must be True")
        if isinstance(device_map, dict) and "disk" in device_map.values() and not self._keeps_floats_on_disk():
            raise InvalidArgument(
                "device_map puts modules on the disk: quantized weights must be in memory. With "
                "llm_int8_enable_fp32_cpu_offload=True, modules on the disk stay as they are"
            )

    def _keeps_floats_on_disk(self) -> bool:
        return self.quantization_config.llm_int8_enable_fp32_cpu_offload

    @property
    def quantized_element_size(self) -> float:
        """Bytes per weight, scales included."""
        config = self.quantization_config
        if config.load_in_4bit:
            scale = 1 if config.bnb_4bit_use_double_quant else 4
            return 0.5 + scale / config.bnb_4bit_blocksize
        return 1.0

    def _process_model_before_weight_loading(self, model: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Puts quantized layers into a model on the meta device."""
        del kwargs
        config = self.quantization_config
        self._skips = self.get_modules_to_not_convert(
            model, config.llm_int8_skip_modules, model._keep_in_fp32_modules
        ) + _tied(model)
        if isinstance(device_map, dict) and self._keeps_floats_on_disk():
            self._skips += [name for name, device in device_map.items() if device == "disk"]
        experts = config.bnb_4bit_experts if self.pre_quantized else config.bnb_4bit_experts is not False
        quantize_model(model, replace(config, llm_int8_skip_modules=self._skips, bnb_4bit_experts=bool(experts)))
        self._experts = {
            name
            for name, parameter in model.named_parameters()
            if isinstance(parameter, Params4bit) and parameter.dim() == 3
        }
        config.bnb_4bit_experts = bool(self._experts)
        if self.pre_quantized:
            self._expect_codes(model)

    def _expect_codes(self, model: Any) -> None:
        """Gives weights on the meta device the dtype of codes: older loaders convert what they read to it."""
        config = self.quantization_config
        if config.load_in_8bit and config.llm_int8_has_fp16_weight:
            return
        dtype = torch.int8 if config.load_in_8bit else config.bnb_4bit_quant_storage
        dtype = DTYPES[config.fp8_quant_type] if config.load_in_fp8 else dtype
        for name, parameter in model.named_parameters():
            if self.param_needs_quantization(model, name):
                parameter.data = parameter.data.to(dtype)

    # -----------------------------------------------------------------------------------------------------------------
    # The weights

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        """Whether a parameter is, or will be, quantized."""
        del kwargs
        if param_name in self._experts:
            return True
        module, _, name = param_name.rpartition(".")
        return name == "weight" and isinstance(model.get_submodule(module), QUANTIZED_LINEAR)

    def get_quantize_ops(self) -> Any:
        """What turns a float weight of a checkpoint into a quantized one."""
        from libbnb.integrations.transformers._load import Quantize

        return Quantize(self)

    def get_weight_conversions(self) -> list[Any]:
        """What gathers the tensors of each quantized weight in a checkpoint."""
        from libbnb.integrations.transformers._load import converters

        return converters(self, self._experts) if self.pre_quantized else []

    # -----------------------------------------------------------------------------------------------------------------
    # After the weights

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        del kwargs
        from libbnb.integrations import introduce
        from libbnb.integrations.transformers._load import saved_as_loaded
        from libbnb.integrations.transformers._parameters import ParameterCount

        introduce()
        config = self.quantization_config
        if self.kept:
            config.llm_int8_skip_modules = self._skips + self.kept
        # The state dict has the names that transformers is to save; it would take codes for weights.
        model._weight_conversions = saved_as_loaded(getattr(model, "_weight_conversions", None) or [], self._experts)
        setattr(model, next(flag for load, flag in _FLAGS.items() if getattr(config, load)), True)
        model.num_parameters = ParameterCount(model)
        return model

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """`save_pretrained` works."""
        del args, kwargs
        return True

    @property
    def is_trainable(self) -> bool:
        """Adapters on top can be trained."""
        return True

    @property
    def is_compileable(self) -> bool:
        """torch.compile works."""
        return True

    def _dequantize(self, model: Any, dtype: torch.dtype | str | None = None) -> Any:
        dequantize_model(model, getattr(torch, dtype) if isinstance(dtype, str) else dtype)  # `config.dtype` is either
        for flag in {*_FLAGS.values(), "num_parameters"} & vars(model).keys():
            delattr(model, flag)
        return model


def _tied(model: Any) -> list[str]:
    """Modules that share a weight: what one of them quantized, the other could not read."""
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    return sorted({name.removesuffix(".weight") for name in (*tied, *tied.values()) if name.endswith(".weight")})
