# SPDX-License-Identifier: MIT
"""Where transformers learns of libbnb's quantizer: its registries of configs and quantizers."""

# Most of transformers' classes are without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from transformers.quantizers import auto
from transformers.utils.import_utils import is_bitsandbytes_available
from transformers.utils.quantization_config import QuantizationConfigMixin

from libbnb.integrations.transformers._quantizer import LibbnbQuantizer
from libbnb.nn.configuration import QuantizationConfig

_CONFIGS: Any = auto.AUTO_QUANTIZATION_CONFIG_MAPPING
_QUANTIZERS: Any = auto.AUTO_QUANTIZER_MAPPING
_BITSANDBYTES = ("bitsandbytes_4bit", "bitsandbytes_8bit")  # transformers' names for the two


class _Reader(QuantizationConfigMixin):
    """What transformers makes a config of a dict with: a `QuantizationConfig`, which is no class of transformers."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        made = QuantizationConfig.from_dict(config_dict)
        return (made, kwargs) if return_unused_kwargs else made


def register() -> None:
    """Registers the quantizer with transformers, once."""
    if QuantizationConfig.quant_method not in _QUANTIZERS:
        auto.register_quantization_config(QuantizationConfig.quant_method)(_Reader)
        auto.register_quantizer(QuantizationConfig.quant_method)(LibbnbQuantizer)
        if not is_bitsandbytes_available():
            load_bitsandbytes_checkpoints(True)


_stock: dict[str, tuple[Any, Any]] = {}


def load_bitsandbytes_checkpoints(on: bool = True) -> None:
    """Makes libbnb, and not bitsandbytes, load what bitsandbytes saved, in this process.

    It is on where bitsandbytes is not installed, or is too old for transformers. A `BitsAndBytesConfig` for a model
    that is not quantized yet makes layers of libbnb, too.

    Parameters
    ----------
    on
        False gives those checkpoints back to transformers' own quantizers.
    """
    for name in _BITSANDBYTES:
        if on and name not in _stock:
            _stock[name] = _CONFIGS[name], _QUANTIZERS[name]
            _CONFIGS[name], _QUANTIZERS[name] = _Reader, LibbnbQuantizer
        elif not on and name in _stock:
            _CONFIGS[name], _QUANTIZERS[name] = _stock.pop(name)
