# SPDX-License-Identifier: MIT
"""libbnb in PEFT: LoRA on quantized layers, merged into quantized weights and taken out of them, without bitsandbytes.

Importing this module puts libbnb's subclass of PEFT's `LoraModel` into PEFT's table of methods. Other layers, and those
of bitsandbytes, are treated as before.
"""

from __future__ import annotations

try:
    import peft as _peft  # noqa: F401  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
except ImportError as error:
    raise ImportError("libbnb.integrations.peft needs PEFT: pip install peft") from error

from libbnb.integrations.peft._layers import LoraBitLinear, LoraLinear
from libbnb.integrations.peft._model import LoraModel, register

__all__ = ["LoraBitLinear", "LoraLinear", "LoraModel", "register"]

register()
