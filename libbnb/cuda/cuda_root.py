# SPDX-License-Identifier: MIT
"""Prints the folder of the CUDA toolkit that an nvcc belongs to, as it says itself."""

import re
import subprocess
import sys

said = subprocess.run(
    [sys.argv[1], "--dryrun", "-E", "-x", "cu", "/dev/null"], capture_output=True, text=True, check=True
)
print(re.search(r"^#\$ TOP=(.*)$", said.stderr, re.MULTILINE).group(1))
