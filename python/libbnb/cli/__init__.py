# SPDX-License-Identifier: MIT
"""The command line `libbnb`. Its libraries are an extra: without them the command says what to install."""

from __future__ import annotations

import sys
from importlib import import_module

_LIBRARIES = ("typer", "rich", "safetensors", "ml_dtypes")


def main() -> None:
    """Run the command line; the console script and `python -m libbnb` come here."""
    for name in _LIBRARIES:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _LIBRARIES:
                raise
            message = f"libbnb: the command line needs {name}, which is not installed: pip install 'libbnb[cli]'"
            print(message, file=sys.stderr)
            raise SystemExit(1) from None
    from libbnb.cli.app import app

    app()
