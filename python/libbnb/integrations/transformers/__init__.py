# SPDX-License-Identifier: MIT
"""libbnb in transformers: `from_pretrained` with a `libbnb.QuantizationConfig`, without bitsandbytes.

Importing this module registers the quantizer under the name "libbnb". Where bitsandbytes is not installed, its
checkpoints are loaded by libbnb, too.
"""

from __future__ import annotations

try:
    import transformers as _transformers
except ImportError as error:
    raise ImportError("libbnb.integrations.transformers needs transformers: pip install transformers") from error

if int(_transformers.__version__.partition(".")[0]) < 5:
    raise ImportError(f"libbnb quantizes models in transformers 5 and newer, this is {_transformers.__version__}")

from libbnb.integrations.transformers._optimizers import optimizer_cls_and_kwargs
from libbnb.integrations.transformers._register import load_bitsandbytes_checkpoints, register

__all__ = ["load_bitsandbytes_checkpoints", "optimizer_cls_and_kwargs", "register"]

del _transformers
register()
