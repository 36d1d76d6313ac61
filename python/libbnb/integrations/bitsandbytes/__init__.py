# SPDX-License-Identifier: MIT
"""The plug-in for bitsandbytes: its operators run on libbnb's kernels where tensors are on the CPU.

bitsandbytes turns it on itself, through the entry point group `bitsandbytes.backends`; nothing has to be called or
imported. docs/plugin.md says what is replaced and where results differ.
"""

from __future__ import annotations

from libbnb.integrations.bitsandbytes._plugin import Status, activate, deactivate, status

__all__ = ["Status", "activate", "deactivate", "status"]
