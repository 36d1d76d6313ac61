# SPDX-License-Identifier: MIT
"""What the build writes from ../_build.py.in."""

VERSION: str
LIBRARIES: dict[str, str]
