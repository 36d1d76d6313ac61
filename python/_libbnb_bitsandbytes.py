# SPDX-License-Identifier: MIT
"""The entry point that bitsandbytes calls at the end of its import: turns libbnb's kernels on, whatever happens.

It is no part of the package `libbnb`, so that not even a libbnb that cannot be imported keeps bitsandbytes from being
imported, and so that LIBBNB_PLUGIN=0 costs nothing.
"""

from __future__ import annotations

import logging
import os
import warnings


def autoload() -> None:
    """Turns the plug-in on. If that fails there is one warning, and bitsandbytes works as it does without libbnb."""
    if os.environ.get("LIBBNB_PLUGIN") == "0":
        return
    try:
        from libbnb.integrations.bitsandbytes import activate

        activate()
    except Exception as error:  # bitsandbytes would make any of them an error of its import
        message = (
            f"libbnb's kernels are not used by bitsandbytes: {type(error).__name__}: {error} "
            f"(`libbnb doctor` says more; LIBBNB_PLUGIN=0 turns this plug-in off)"
        )
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        except Warning:  # where warnings are errors
            logging.getLogger("libbnb").warning(message)
