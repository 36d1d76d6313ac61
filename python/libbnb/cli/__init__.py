# SPDX-License-Identifier: MIT
"""The command line `libbnb`. Its libraries are an extra: without them the command says what to install."""

from __future__ import annotations

import sys

_LIBRARIES = ("typer", "rich", "safetensors", "ml_dtypes")


def main() -> None:
    """Run the command line; the console script and `python -m libbnb` come here."""
    try:
        from libbnb.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in _LIBRARIES:
            raise
        print(
            f"libbnb: the command line needs {error.name}, which is not installed: pip install 'libbnb[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    app()
