# SPDX-License-Identifier: MIT
"""Where PEFT learns of libbnb's layers: a subclass of its `LoraModel` in its table of methods."""

# PEFT's classes are without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportIncompatibleMethodOverride=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

import peft
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

from libbnb.integrations.peft._layers import LoraBitLinear, LoraLinear
from libbnb.nn.bit_linear import BitLinear
from libbnb.nn.dequantize import QUANTIZED_LINEAR

_LAYERS: dict[Any, Any] = dict.fromkeys(QUANTIZED_LINEAR, LoraLinear) | {BitLinear: LoraBitLinear}


class LoraModel(peft.LoraModel):
    """PEFT's `LoraModel`, with `LoraLinear` and `LoraBitLinear` for libbnb's layers."""

    def _create_and_replace(self, lora_config: Any, *args: Any, **kwargs: Any) -> None:
        # Custom modules belong to a config and are not saved with it: one that was loaded has none.
        lora_config._register_custom_module(_LAYERS | (lora_config._custom_modules or {}))
        super()._create_and_replace(lora_config, *args, **kwargs)


def register() -> None:
    """Makes PEFT build LoRA models with libbnb's class."""
    table: Any = PEFT_TYPE_TO_TUNER_MAPPING
    if table[peft.PeftType.LORA] is peft.LoraModel:
        table[peft.PeftType.LORA] = LoraModel
