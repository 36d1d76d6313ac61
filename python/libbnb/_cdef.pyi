# SPDX-License-Identifier: MIT
"""What the build generates from the C headers."""

from typing import Any

ffi: Any
