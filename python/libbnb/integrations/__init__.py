# SPDX-License-Identifier: MIT
"""libbnb in other people's libraries. Each module needs the library it is named after, but for mps_bitsandbytes."""

from __future__ import annotations

import sys
from importlib import import_module

_OLDEST = {"transformers": 5, "peft": 0}  # major versions


def introduce() -> None:
    """Registers libbnb with those of transformers and PEFT that are imported already.

    Whoever quantizes a model with libbnb comes by here. Importing `libbnb.integrations.transformers` or
    `libbnb.integrations.peft` does the same for one of them, and imports it.
    """
    for name, oldest in _OLDEST.items():
        version = getattr(sys.modules.get(name), "__version__", "")
        if version and int(version.partition(".")[0]) >= oldest:
            import_module(f"libbnb.integrations.{name}")
